//! Who may propose: a budget of bytes, the pressure of the engine, and room on the disk.
//!
//! Everything is checked before a command is proposed, so that a refusal means "definitely not
//! applied". Short shortages are waited out here, because several clients hand a busy server
//! straight to their user; longer ones are refused with a hint when to come back (F2, D8). The
//! smooth braking long before the engine's limit is the node's.

use std::sync::Arc;
use std::time::Duration;

use tinykv_lsm::{Lsm, Pressure, PressureCause};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::checks::RegionError;
use crate::command::Operation;
use crate::limits::COMMAND_BYTES_MAX;

/// Bytes of commands that may be under way in this store at once.
pub const IN_FLIGHT_BYTES_MAX: usize = 64 << 20;

/// What a command costs beside its bytes.
const COMMAND_OVERHEAD: usize = 512;

/// The budget is counted in units of so many bytes.
const UNIT: usize = 1 << 10;

/// Longest time a command waits for admission.
const WAIT_MAX: Duration = Duration::from_millis(800);

/// Time between two looks at the engine while it admits nothing.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// When to come back after a refusal.
const COME_BACK: Duration = Duration::from_millis(200);

/// Admits commands.
#[derive(Debug)]
pub struct Admission {
    lsm: Lsm,
    budget: Arc<Semaphore>,
}

/// Held while a command is under way.
#[derive(Debug)]
pub struct Permit {
    _budget: OwnedSemaphorePermit,
}

impl Admission {
    /// Nothing is under way.
    pub fn new(lsm: Lsm) -> Admission {
        Admission {
            lsm,
            budget: Arc::new(Semaphore::new(IN_FLIGHT_BYTES_MAX / UNIT)),
        }
    }

    /// Waits, but not past `patience`, until a command of so many bytes may be proposed.
    pub async fn admit(&self, bytes: usize, patience: Duration) -> Result<Permit, RegionError> {
        debug_assert!(bytes <= COMMAND_BYTES_MAX, "refused by limits before");
        let admitted = async {
            while self.lsm.pressure().fraction >= 1.0 {
                tokio::time::sleep(LOOK_INTERVAL).await;
            }
            let units = (bytes + COMMAND_OVERHEAD).div_ceil(UNIT);
            let units = u32::try_from(units).expect("commands are limited");
            let permit = Arc::clone(&self.budget).acquire_many_owned(units).await;
            permit.expect("the budget is never closed")
        };
        match tokio::time::timeout(patience.min(WAIT_MAX), admitted).await {
            Ok(permit) => Ok(Permit { _budget: permit }),
            Err(_) => Err(RegionError::Busy {
                reason: shortage(self.lsm.pressure()),
                wait: COME_BACK,
            }),
        }
    }
}

/// Whether a command may be proposed while the disk is nearly full: what frees space goes on.
pub fn frees_space(operation: &Operation) -> bool {
    match operation {
        Operation::Put(_)
        | Operation::BatchPut(_)
        | Operation::CompareAndSwap { .. }
        | Operation::Increment { .. }
        | Operation::Append { .. }
        | Operation::PutIf { .. }
        | Operation::Expire { .. } => false,
        Operation::AdvanceTime
        | Operation::Delete { .. }
        | Operation::BatchDelete { .. }
        | Operation::Remove { .. }
        | Operation::DeleteRange { .. } => true,
    }
}

fn shortage(pressure: Pressure) -> &'static str {
    match pressure.cause {
        PressureCause::None => "too many bytes are being written to this store",
        PressureCause::Memtables => "flushing to disk is behind",
        PressureCause::LevelZero | PressureCause::Debt => "compaction is behind",
    }
}

#[cfg(test)]
mod tests {
    use tinykv_env::OsEnv;
    use tinykv_lsm::LsmOptions;

    use super::*;

    #[tokio::test]
    async fn the_budget_is_given_back_and_nobody_waits_past_patience() {
        let dir = tempfile::tempdir().expect("temp dir");
        let lsm = Lsm::open(OsEnv::shared(), dir.path(), LsmOptions::default()).expect("open");
        let admission = Admission::new(lsm);
        let large = COMMAND_BYTES_MAX;
        let patience = Duration::from_secs(10);
        let mut permits = Vec::new();
        for _ in 0..IN_FLIGHT_BYTES_MAX / (large + COMMAND_OVERHEAD) {
            permits.push(admission.admit(large, patience).await.expect("room"));
        }
        let refused = admission.admit(large, Duration::from_millis(5)).await;
        let refused = refused.expect_err("no room");
        assert!(matches!(refused, RegionError::Busy { .. }), "{refused:?}");
        permits.pop();
        admission.admit(large, patience).await.expect("room again");
    }
}
