//! Who may propose: a budget of bytes, the pressure of the engine, and room on the disk.
//!
//! Everything is checked before a command is proposed, so that a refusal means "definitely not
//! applied". Short shortages are waited out here, because several clients hand a busy server
//! straight to their user; longer ones are refused with a hint when to come back (F2, D8).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tinykv_lsm::{Lsm, Pressure, PressureCause};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::checks::RegionError;
use crate::command::Operation;
use crate::limits::COMMAND_BYTES_MAX;
use tinykv_replica::StoreId;

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

/// Delay of a command under the greatest pressure that still admits any.
const BRAKE_MAX: Duration = Duration::from_millis(40);

/// When to come back after a refusal.
const COME_BACK: Duration = Duration::from_millis(200);

/// Below so many free bytes nothing that needs room is proposed.
pub const FREE_BYTES_MIN: u64 = 96 << 20;

/// Below so many free bytes deletes are not proposed either. What lies between is their headroom.
pub const FREE_BYTES_MIN_DELETES: u64 = 32 << 20;

/// Admits commands.
#[derive(Debug)]
pub struct Admission {
    store: StoreId,
    lsm: Lsm,
    budget: Arc<Semaphore>,
    free_bytes: AtomicU64,
}

/// Held while a command is under way.
#[derive(Debug)]
pub struct Permit {
    _budget: OwnedSemaphorePermit,
}

impl Admission {
    /// Admits all until told otherwise.
    pub fn new(store: StoreId, lsm: Lsm) -> Admission {
        Admission {
            store,
            lsm,
            budget: Arc::new(Semaphore::new(IN_FLIGHT_BYTES_MAX / UNIT)),
            free_bytes: AtomicU64::new(u64::MAX),
        }
    }

    /// Takes note of the room left on the disk.
    pub fn observe_free_bytes(&self, free_bytes: u64) {
        self.free_bytes.store(free_bytes, Ordering::Relaxed);
    }

    /// Whether the disk has room for values.
    pub fn has_room(&self) -> bool {
        self.free_bytes.load(Ordering::Relaxed) >= FREE_BYTES_MIN
    }

    /// Waits, but not past `patience`, until a command of so many bytes may be proposed.
    pub async fn admit(
        &self,
        operation: &Operation,
        bytes: usize,
        patience: Duration,
    ) -> Result<Permit, RegionError> {
        debug_assert!(bytes <= COMMAND_BYTES_MAX, "refused by limits before");
        if self.free_bytes.load(Ordering::Relaxed) < room_needed(operation) {
            return Err(RegionError::DiskFull { store: self.store });
        }
        let admitted = async {
            self.brake().await;
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

    /// Delays a command by how much the engine lags behind.
    async fn brake(&self) {
        let mut pressure = self.lsm.pressure().fraction;
        while pressure >= 1.0 {
            tokio::time::sleep(LOOK_INTERVAL).await;
            pressure = self.lsm.pressure().fraction;
        }
        if pressure > 0.0 {
            tokio::time::sleep(BRAKE_MAX.mul_f64(pressure * pressure)).await;
        }
    }
}

fn room_needed(operation: &Operation) -> u64 {
    match operation {
        Operation::Put(_) | Operation::BatchPut(_) | Operation::CompareAndSwap { .. } => {
            FREE_BYTES_MIN
        }
        Operation::AdvanceTime
        | Operation::Delete { .. }
        | Operation::BatchDelete { .. }
        | Operation::DeleteRange { .. } => FREE_BYTES_MIN_DELETES,
    }
}

fn shortage(pressure: Pressure) -> &'static str {
    match pressure.cause {
        PressureCause::None => "too many bytes are being written to this store",
        PressureCause::Memtables => "flushing to disk is behind",
        PressureCause::LevelZero | PressureCause::Debt => "compaction is behind",
    }
}
