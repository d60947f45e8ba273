//! `arc_swap::ArcSwap` on a lock of shuttle's that is held for a pointer's time.

use std::fmt;
use std::sync::Arc;

use crate::Mutex;

/// As `arc_swap::ArcSwap`; each load and each store is one step.
pub struct ArcSwap<T>(Mutex<Arc<T>>);

impl<T> ArcSwap<T> {
    /// Holds a value.
    pub fn from_pointee(value: T) -> ArcSwap<T> {
        ArcSwap(Mutex::new(Arc::new(value)))
    }

    /// What it holds now.
    pub fn load(&self) -> Arc<T> {
        self.load_full()
    }

    /// What it holds now.
    pub fn load_full(&self) -> Arc<T> {
        self.0.lock().clone()
    }

    /// Replaces what it holds.
    pub fn store(&self, value: Arc<T>) {
        let before = std::mem::replace(&mut *self.0.lock(), value);
        // After the lock: whatever goes with the old value may have steps of its own.
        drop(before);
    }
}

impl<T> fmt::Debug for ArcSwap<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ArcSwap").finish_non_exhaustive()
    }
}
