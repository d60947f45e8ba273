//! One Raft group as a pure state machine: ticks and messages in, [`Ready`]s out.
//!
//! The core does no I/O, reads no clock and keeps no entry that is durable and applied beyond a
//! bounded tail. Its owner (the *driver*, `tinykv-replica`) passes time in and does what each
//! [`Ready`] says. The algorithm is Raft (Ongaro, "Consensus: Bridging Theory and Practice")
//! with pre-vote (§9.6), check-quorum (§6.2), leader transfer (§3.10), learners, joint consensus
//! (§4.3) with changes in force when applied, pipelined appends, and a lease by promise.
//!
//! # The driver's loop
//!
//! 1. Feed everything there is: [`Raft::tick`], [`Raft::step`], [`Raft::propose`], …
//! 2. Take one [`Ready`] (repeat until there is none) and, in this order: publish what
//!    [`Raft::lease`] says *now*; send `send`; write `hard_state`, `entries` and `install` as one
//!    atomic batch; once that batch and all earlier ones are durable, send `send_after_persist`
//!    and call [`Raft::on_persisted`]. Several Readys may be under way at once.
//! 3. Apply `committed` in order; for every membership entry call [`Raft::apply_membership`];
//!    then [`Raft::on_applied`].
//!
//! `now` is a monotonic clock that counts suspension, read after the input it comes with has arrived
//! and before the output it leads to is sent.
//!
//! # Leadership, reads and the lease
//!
//! Every message of a leader carries a [`Pulse`]: a `seq` that rises within the term, and a
//! promise. A follower echoes the `seq`, and for the promised time on its own clock it neither
//! grants (pre-)votes nor campaigns. A quorum of echoes of `seq` therefore confirms the reads that
//! came before that `seq` was first sent, and gives a lease counted from when it was sent,
//! shortened by the drift of both clocks. A restarted peer has forgotten its promises and so
//! keeps the longest possible one.
//!
//! # Invariants (ids as in the project's contract)
//!
//! * R1 one leader a term; R2 log matching; R3 leader completeness; R7 only entries of the own term
//!   are committed by counting. The leader counts itself only up to what is durable here.
//! * R5 term, commit and applied index never go back; a vote leaves only after it is durable.
//! * R6 an acknowledgement of entries leaves only after they are durable.
//! * R8 one membership change at a time, after an entry of the own term is committed. A peer does
//!   not campaign while it knows of a committed change that it has not applied: together with the
//!   commit index that is written with the entries, this makes quorums of consecutive
//!   configurations overlap although changes take force only when applied.
//! * R9 a snapshot never replaces a newer state. R10 reads wait for a commit in the own term.
//!   R12 no lease once a transfer has begun.
//!
//! Several steps at once go through a joint configuration, in which a majority of the voters there
//! were *and* one of the voters there will be decide everything: elections, commits, reads, leases,
//! check-quorum. It overlaps with what was before and with what comes after, so the argument of R8
//! holds for it as for single steps. The leader leaves it as soon as it is in force there, and any
//! leader after it does the same. A leader that is no voter afterwards hands over and steps down.
//!
//! A peer that was removed keeps its log and its vote until it is dismissed: a majority that has the
//! removal in its logs and crashes before it knows that it is committed still needs that vote. A
//! leader may dismiss ([`Raft::may_dismiss`]) once an entry is committed that it appended after
//! the removal was applied: whoever has that entry has, in the same write, a commit index that
//! covers the removal.
//!
//! Asserts on these stay on in release. Bytes from the network are never asserted on:
//! [`Raft::step`] returns a [`StepError`] and changes nothing.
//!
//! # Left out
//!
//! Follower-forwarded reads and proposals. Who sleeps when is agreed by the drivers: here is only
//! [`Raft::hibernate`], which refuses as long as there is something to do.

mod types;

mod config;
mod error;
mod message;
mod ready;
mod status;

mod raft;
mod requests;
mod view;

mod configuration;
mod drain;
mod election;
mod follower;
mod hibernation;
mod leadership;
mod membership;
mod replication;
mod sending;

mod log;
mod persistence;
mod prng;
mod progress;
mod quorum;

pub use config::{Birth, Config, Initial, JointExit, Willingness};
pub use error::{ProposeError, ReadError, SnapshotFailed, StepError, TransferError};
pub use message::{
    Append, AppendOutcome, AppendReply, Force, Message, MessageBody, Pulse, Refusal, Seq, Snapshot,
    TimeoutNow, VoteKind, VoteReply, VoteRequest,
};
pub use raft::Raft;
pub use ready::{
    Fetch, FetchPurpose, LeadershipChange, ReadId, ReadReady, Ready, ReadyNumber, SnapshotRequest,
};
pub use status::{Lease, PeerState, PeerStatus, Role, Status};
pub use types::{
    Configuration, Entry, EntryId, GroupId, HardState, LogIndex, MembershipChange, MembershipStep,
    Payload, PeerId, SnapshotMetadata, Term, TermStart,
};
