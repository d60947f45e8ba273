//! Bad luck, as the plan of the seed has it.

use tinykv_env::CrashMode;
use tinykv_raft::{GroupId, Willingness};
use tinykv_replica::{Peer, PeerRole, StoreId};

use super::super::faults::Fault;
use super::super::happening::{Happening, client_address};
use super::super::network::{Cut, Weather};
use super::World;

impl World {
    pub(super) fn next_fault(&mut self) {
        let processes = self.addresses().len();
        let (wait, fault) = self.plan.next(processes);
        self.context.schedule.after(wait, Happening::Fault(fault));
    }

    pub(super) fn on_fault(&mut self, fault: Fault) {
        if self.healed.is_some() {
            return;
        }
        self.next_fault();
        self.struck += 1;
        let is_beyond = self.setup.faults.is_some_and(|most| self.struck > most);
        if is_beyond || !self.setup.allows(fault.name()) {
            return;
        }
        self.context.trace(format_args!("fault {fault:?}"));
        if self.strike(fault) {
            self.context.report.fault(fault.name());
        }
    }

    /// Whether it had anything to strike.
    fn strike(&mut self, fault: Fault) -> bool {
        let addresses = self.addresses();
        // Members may have left since the fault was drawn.
        let address = |process: usize| addresses[process % addresses.len()];
        match fault {
            Fault::Partition(cut) => self.partition(cut, &addresses),
            Fault::Heal => {
                let weather = Weather::draw(&mut self.context.random).limited(&self.setup);
                self.context.network.heal(Some(weather));
                true
            }
            Fault::Crash { process, mode } => {
                let at = address(process);
                let runs = self.process(at).is_running();
                if runs {
                    self.crash(at, mode);
                }
                runs
            }
            Fault::CrashAtIo { process, ios, mode } => {
                let process = self.process(address(process));
                if process.is_running() {
                    process.crash_at_io(ios, mode);
                }
                process.is_running()
            }
            Fault::Pause { process, for_ } => {
                let until = self.context.now() + for_;
                let process = self.process(address(process));
                process.pause_until(until);
                process.is_running()
            }
            Fault::SlowDisk { process, sync } => {
                self.process(address(process)).set_sync_time(sync);
                true
            }
            Fault::PowerLoss { mode } => {
                for at in addresses {
                    if self.process(at).is_running() {
                        self.crash(at, mode);
                    }
                }
                true
            }
            Fault::ClockJump { process, offset_ms } => {
                self.process(address(process)).set_wall_offset(offset_ms);
                true
            }
            Fault::DiskFull {
                process,
                slack,
                for_,
            } => {
                let at = address(process);
                self.process(at).fill_disk(slack);
                let free = Happening::FreeDisk { at };
                self.context.schedule.after(for_, free);
                true
            }
            Fault::SyncError { process, syncs } => {
                let at = address(process);
                let may = self.may_hurt(at);
                if may {
                    self.process(at).fail_sync(syncs);
                }
                may
            }
            Fault::LogDamage { process, place } => {
                let at = address(process);
                let damaged = self.may_hurt(at) && self.process(at).damage_log(place);
                if damaged {
                    self.crash(at, CrashMode::KeepAll);
                }
                damaged
            }
            Fault::Reluctance { process, for_ } => {
                let at = address(process);
                let (process, context) = self.process_and_context(at);
                process.set_willingness(context, Willingness::Reluctant);
                context.schedule.after(for_, Happening::Willing { at });
                true
            }
            Fault::Transfer => self.transfer(),
            Fault::Move => self.move_a_peer(),
            Fault::Split => self.split_a_region(),
            Fault::Merge => self.merge_a_region(),
            Fault::AddMember => self.add_member(),
            Fault::RemoveMember => self.remove_member(),
        }
    }

    /// The time of its reluctance is over. It led nothing by then, or only what nobody else could.
    pub(super) fn become_willing(&mut self, at: StoreId) {
        let (process, context) = self.process_and_context(at);
        if process.is_running() && !process.leads() {
            context.report.probe("reluctant_process_led_nothing");
        }
        process.set_willingness(context, Willingness::Willing);
    }

    /// Whether the disk of a process may break its word: a majority of every region has to keep
    /// its own.
    fn may_hurt(&mut self, at: StoreId) -> bool {
        if self.member_index(at).is_some() {
            return self.may_hurt_member(at);
        }
        let hurt = self.is_anyone_hurt();
        let is_voter = |role: PeerRole| role == PeerRole::Voter;
        let regions = self.newest_regions();
        let is_safe = regions.iter().all(|(id, region)| {
            let voters = region.peers.iter().filter(|peer| is_voter(peer.role));
            let removal = self.removals.get(id);
            let are_there = voters.clone().all(|peer| !self.may_be_lost(*id, peer));
            are_there
                && voters.count() > 2
                && removal.is_none_or(|asked| *asked < region.epoch.conf_ver)
        });
        !hurt && is_safe
    }

    /// Whether a peer will be called damaged when it is called, because damage of the log may have taken
    /// all there was of it.
    fn may_be_lost(&self, group: GroupId, peer: &Peer) -> bool {
        let store = self.stores.iter().find(|it| it.host.id == peer.store);
        store.is_some_and(|store| {
            let running = store.host.running.as_ref();
            let lives = running.and_then(|running| running.shard.peer(group));
            store.host.config.log_was_damaged && lives.is_none_or(|lives| lives.id != peer.id)
        })
    }

    /// Whether acknowledged data of a store may be lost, or it is down.
    pub(super) fn is_anyone_hurt(&self) -> bool {
        self.stores.iter().any(|store| store.host.is_hurt())
    }

    fn partition(&mut self, cut: Cut, processes: &[StoreId]) -> bool {
        let mut addresses: Vec<u64> = processes.iter().map(|id| id.0).collect();
        if cut == Cut::Leader {
            let Some((leader, _)) = self.pick_region() else {
                return false;
            };
            let leader = self.stores[leader].host.id.0;
            addresses.retain(|address| *address != leader);
            addresses.insert(0, leader);
        } else if matches!(cut, Cut::Link | Cut::LinkOneWay) {
            addresses.retain(|address| self.member_index(StoreId(*address)).is_none());
        } else {
            addresses.extend((0..self.clients.len()).map(client_address));
        }
        let context = &mut self.context;
        context
            .network
            .partition(cut, &addresses, &mut context.random);
        context.report.probe(cut.name());
        true
    }
}
