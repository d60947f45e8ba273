//! The replication driver: what turns Raft's `Ready` into persist, send, apply and reply.
//!
//! It is written once and used twice: a store runs thousands of groups through it, placement runs
//! one. It does no I/O, reads no clock and draws no randomness: [`Shard::run_once`] takes what
//! happened and the time, and returns what is to be done as [`Effects`].

mod codec;

mod command;
mod outcome;
mod region;

mod config;
mod effects;
mod event;
mod machine;
mod record;

mod apply;
mod grave;
mod replica;
mod run;
mod shard;

pub use codec::FormatError;
pub use command::{AdminCommand, Command, PeerChange};
pub use config::ShardConfig;
pub use effects::{
    Destroy, DropReason, Dropped, Effects, EntryFetch, LeaseCell, Observed, PersistToken,
    RegionChange, SnapshotHandle, SnapshotInstall, SnapshotSend, ValueFetch,
};
pub use event::{
    AdminAction, AdminRequest, Birth, Event, InstallError, PeerBody, PeerMessage, Proposal,
    ReadRequest, ReceivedSnapshot,
};
pub use machine::{
    ApplyContext, KeyRange, Lookup, NeedsKeys, Observation, ObservationKind, ReadError, Reader,
    StateMachine,
};
pub use outcome::{
    Answer, BusyReason, Doubt, MembershipRefusal, Outcome, ReadGrant, Refusal, WaiterId,
};
pub use record::{BirthRecord, InstallRecord, TombstoneRecord};
pub use region::{FIRST_ENTRY, Peer, PeerRole, Region, RegionEpoch, RegionState, StoreId};
pub use replica::{GroupStatus, Replica};
pub use shard::{Factory, RecoverError, RecoveredReplica, RecoveredTombstone, Shard};
