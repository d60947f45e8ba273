//! `parking_lot::Mutex` on shuttle's.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use shuttle::sync;

use crate::{Fault, planted};

/// As `parking_lot::Mutex`: no poison.
#[derive(Default)]
pub struct Mutex<T>(sync::Mutex<T>);

/// Lets go of the lock when dropped.
pub struct MutexGuard<'a, T> {
    pub(crate) mutex: &'a Mutex<T>,
    /// `None` while its thread waits for a wake, and for a lock that excludes nobody.
    pub(crate) held: Option<sync::MutexGuard<'a, T>>,
}

impl<T> Mutex<T> {
    /// A free lock around a value.
    pub const fn new(value: T) -> Mutex<T> {
        Mutex(sync::Mutex::new(value))
    }

    /// Waits until it is free.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        let excludes = size_of::<T>() > 0 || !planted(Fault::EmptyLocksExcludeNobody);
        MutexGuard {
            mutex: self,
            held: excludes.then(|| self.acquire()),
        }
    }

    pub(crate) fn acquire(&self) -> sync::MutexGuard<'_, T> {
        match self.0.lock() {
            Ok(held) => held,
            Err(poisoned) => poisoned.into_inner(),
        }
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        match &self.held {
            Some(held) => held,
            None => {
                assert_eq!(size_of::<T>(), 0, "only such a lock excludes nobody");
                // SAFETY: a value without bytes is anywhere, and the lock does hold one.
                unsafe { NonNull::dangling().as_ref() }
            }
        }
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.held.as_mut().expect("nobody changes nothing")
    }
}

impl<T> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mutex").finish_non_exhaustive()
    }
}

impl<T: fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
