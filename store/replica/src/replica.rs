//! One group's peer on this store.

use std::marker::PhantomData;

use crate::machine::StateMachine;

/// One group's peer: its Raft core, its region, its state machine and everybody who waits.
pub struct Replica<S: StateMachine> {
    machine: PhantomData<S>,
}
