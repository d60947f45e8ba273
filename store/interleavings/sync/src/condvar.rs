//! `parking_lot::Condvar` on shuttle's.

use std::time::Duration;

use shuttle::sync;

use crate::{Fault, MutexGuard, planted};

/// As `parking_lot::Condvar`.
#[derive(Debug, Default)]
pub struct Condvar(sync::Condvar);

/// Whether a wait ended by its limit.
#[derive(Clone, Copy, Debug)]
pub struct WaitTimeoutResult(());

impl Condvar {
    /// Nobody waits.
    pub const fn new() -> Condvar {
        Condvar(sync::Condvar::new())
    }

    /// Lets go of the lock until somebody wakes this thread.
    pub fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        let held = guard.held.take().expect("who waits holds the lock");
        guard.held = Some(match self.0.wait(held) {
            Ok(held) => held,
            Err(poisoned) => poisoned.into_inner(),
        });
    }

    /// Lets go of the lock for a while. Nobody can say how many steps of the others a time is, so
    /// it is over whenever the schedule comes back here.
    pub fn wait_for<T>(&self, guard: &mut MutexGuard<'_, T>, _: Duration) -> WaitTimeoutResult {
        drop(guard.held.take().expect("who waits holds the lock"));
        shuttle::thread::yield_now();
        guard.held = Some(guard.mutex.acquire());
        WaitTimeoutResult(())
    }

    /// Wakes everybody who waits.
    pub fn notify_all(&self) {
        if !planted(Fault::WakesAreLost) {
            self.0.notify_all();
        }
    }
}

impl WaitTimeoutResult {
    /// Always true.
    pub fn timed_out(&self) -> bool {
        true
    }
}
