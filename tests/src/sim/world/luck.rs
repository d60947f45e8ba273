//! Bad luck, as the plan of the seed has it.

use tinykv_replica::StoreId;

use super::super::faults::Fault;
use super::super::happening::{Happening, client_address};
use super::super::network::Weather;
use super::World;

impl World {
    pub(super) fn next_fault(&mut self) {
        let (wait, fault) = self.plan.next();
        self.context.schedule.after(wait, Happening::Fault(fault));
    }

    pub(super) fn on_fault(&mut self, fault: Fault) {
        if self.healed.is_some() {
            return;
        }
        self.context.trace(format_args!("fault {fault:?}"));
        self.next_fault();
        if self.strike(fault) {
            self.context.report.fault(fault.name());
        }
    }

    /// Whether it had anything to strike.
    fn strike(&mut self, fault: Fault) -> bool {
        let addresses = self.addresses();
        match fault {
            Fault::Partition => {
                let mut addresses: Vec<u64> = addresses.iter().map(|id| id.0).collect();
                addresses.extend((0..self.clients.len()).map(client_address));
                let context = &mut self.context;
                let kind = context.network.partition(&addresses, &mut context.random);
                context.report.probe(kind);
                true
            }
            Fault::Heal => {
                let weather = Weather::draw(&mut self.context.random);
                self.context.network.heal(Some(weather));
                true
            }
            Fault::Crash { process, mode } => {
                let at = addresses[process];
                let runs = self.process(at).is_running();
                if runs {
                    self.crash(at, mode);
                }
                runs
            }
            Fault::CrashAtIo { process, ios, mode } => {
                let process = self.process(addresses[process]);
                if process.is_running() {
                    process.crash_at_io(ios, mode);
                }
                process.is_running()
            }
            Fault::Pause { process, for_ } => {
                let until = self.context.now() + for_;
                let process = self.process(addresses[process]);
                process.pause_until(until);
                process.is_running()
            }
            Fault::SlowDisk { process, sync } => {
                self.process(addresses[process]).set_sync_time(sync);
                true
            }
            Fault::PowerLoss { mode } => {
                let running: Vec<StoreId> = addresses
                    .into_iter()
                    .filter(|at| self.process(*at).is_running())
                    .collect();
                for at in running {
                    self.crash(at, mode);
                }
                true
            }
            Fault::ClockJump { process, offset_ms } => {
                self.process(addresses[process]).set_wall_offset(offset_ms);
                true
            }
            Fault::Transfer => self.transfer(),
            Fault::Move => self.move_a_peer(),
            Fault::Split => self.split_a_region(),
        }
    }
}
