//! One Raft group as a pure state machine: values in, [`Entry`]s and messages out.

mod types;

pub use types::{
    Configuration, Entry, EntryId, GroupId, HardState, LogIndex, MembershipChange, MembershipStep,
    Payload, PeerId, SnapshotMetadata, Term,
};
