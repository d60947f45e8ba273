//! The state machine itself: what goes in and what comes out.

use std::time::Duration;

use bytes::Bytes;

use crate::config::{Config, Initial};
use crate::error::{ProposeError, ReadError, SnapshotFailed, StepError, TransferError};
use crate::message::Message;
use crate::ready::{Fetch, ReadId, Ready, ReadyNumber};
use crate::status::{Lease, Role, Status};
use crate::types::{
    Configuration, Entry, EntryId, LogIndex, MembershipChange, PeerId, SnapshotMetadata, Term,
};

/// One peer of one Raft group.
#[derive(Debug)]
pub struct Raft {}

#[expect(unused_variables, reason = "signatures first")]
#[expect(clippy::unimplemented, reason = "signatures first")]
#[expect(clippy::needless_pass_by_value, reason = "signatures first")]
impl Raft {
    /// Starts a peer from recovered state. Panics if `config` or `initial` contradicts itself.
    pub fn new(config: Config, initial: Initial) -> Raft {
        unimplemented!()
    }

    /// One tick of the group's timers (elections, heartbeats, check-quorum).
    pub fn tick(&mut self, now: Duration) {
        unimplemented!()
    }

    /// Processes a message of another peer. On an error nothing has changed.
    pub fn step(&mut self, message: Message, now: Duration) -> Result<(), StepError> {
        unimplemented!()
    }

    /// Appends a command to the log, if this is the leader. The returned id is the command's for
    /// ever: it is done when an entry of that id is applied, and was not done when another
    /// entry is applied at that index.
    pub fn propose(&mut self, command: Bytes) -> Result<EntryId, ProposeError> {
        unimplemented!()
    }

    /// Appends a change of one step to the log.
    pub fn propose_membership(
        &mut self,
        change: MembershipChange,
    ) -> Result<EntryId, ProposeError> {
        unimplemented!()
    }

    /// Asks for the index from which a read that arrived now is current (§6.4). The answer is
    /// in [`Ready::reads`] or [`Ready::failed_reads`].
    pub fn read_index(&mut self, id: ReadId, now: Duration) -> Result<(), ReadError> {
        unimplemented!()
    }

    /// Hands leadership to another voter: stops proposing, voids the lease, lets the target catch
    /// up, then tells it to campaign. Given up after `election_ticks_min` ticks.
    pub fn transfer_leader(&mut self, target: PeerId, now: Duration) -> Result<(), TransferError> {
        unimplemented!()
    }

    /// Campaigns as soon as the own promise allows: the driver knows that the leader is gone
    /// (staggered by the driver, so that not all campaign at once). Ignored by leaders,
    /// candidates, and peers that are no voters.
    pub fn campaign(&mut self, now: Duration) {
        unimplemented!()
    }

    /// What is to be done now; `None` if nothing. Drains everything.
    pub fn ready(&mut self, now: Duration) -> Option<Ready> {
        unimplemented!()
    }

    /// All Readys up to `number` are durable here.
    pub fn on_persisted(&mut self, number: ReadyNumber) {
        unimplemented!()
    }

    /// The state machine has applied everything up to `index`.
    pub fn on_applied(&mut self, index: LogIndex) {
        unimplemented!()
    }

    /// A committed membership entry is being applied: the configuration that is in force from now
    /// on. Called in the order of the log, before [`on_applied`](Raft::on_applied) of its index.
    pub fn apply_membership(&mut self, change: &MembershipChange) -> Configuration {
        unimplemented!()
    }

    /// Answers a [`Fetch`]: entries from `fetch.from` on without a gap; empty if they are gone.
    pub fn provide(&mut self, fetch: Fetch, entries: Vec<Entry>) {
        unimplemented!()
    }

    /// The transport lost its connection to this peer; what was in flight may be lost.
    pub fn on_unreachable(&mut self, peer: PeerId) {
        unimplemented!()
    }

    /// Answers a [`SnapshotRequest`](crate::SnapshotRequest): the snapshot ending in this entry
    /// was handed to the peer, or failed to be.
    pub fn on_snapshot_status(&mut self, peer: PeerId, result: Result<EntryId, SnapshotFailed>) {
        unimplemented!()
    }

    /// The snapshot of [`Ready::install`] is installed and durable.
    pub fn on_snapshot_installed(&mut self, metadata: &SnapshotMetadata) {
        unimplemented!()
    }

    /// The log on disk was cut: entries up to `upto` (at most applied) are gone.
    pub fn compact(&mut self, upto: LogIndex) {
        unimplemented!()
    }

    /// The lease, if there is one; compare `valid_until` with the clock *after* taking the
    /// read's snapshot. `None` before the first entry of the term is applied here.
    pub fn lease(&self) -> Option<Lease> {
        unimplemented!()
    }

    /// A picture of the group.
    pub fn status(&self) -> Status {
        unimplemented!()
    }

    /// This peer's id.
    pub fn id(&self) -> PeerId {
        unimplemented!()
    }

    /// The role of this peer.
    pub fn role(&self) -> Role {
        unimplemented!()
    }

    /// The current term.
    pub fn term(&self) -> Term {
        unimplemented!()
    }

    /// The leader of the current term, if known.
    pub fn leader(&self) -> Option<PeerId> {
        unimplemented!()
    }

    /// Known committed up to here.
    pub fn commit(&self) -> LogIndex {
        unimplemented!()
    }

    /// Applied up to here.
    pub fn applied(&self) -> LogIndex {
        unimplemented!()
    }

    /// The last entry of the log.
    pub fn last(&self) -> EntryId {
        unimplemented!()
    }

    /// The term of the entry at `index`, if it is in the log (or is the one it was cut at).
    pub fn term_at(&self, index: LogIndex) -> Option<Term> {
        unimplemented!()
    }

    /// The membership in force.
    pub fn configuration(&self) -> &Configuration {
        unimplemented!()
    }
}
