//! The seam between replication and what is replicated.

use std::sync::Arc;

use bytes::Bytes;
use tinykv_raft::{EntryId, GroupId};

use crate::apply::Overlay;
use crate::outcome::Refusal;
use crate::region::{Region, RegionState};

/// What a group replicates. One value per group, owned by its [`crate::Replica`].
///
/// Everything here is deterministic: the same commands in the same order give the same writes,
/// replies and events on every replica. No clock, no randomness, no configuration, no I/O.
///
/// Data lives in the LSM, not in `self`. A machine that keeps a cache in `self` changes it only in
/// [`StateMachine::apply`] when it answers `Ok`, and rebuilds it in [`StateMachine::restore`].
pub trait StateMachine: Sized + Send + 'static {
    /// What the waiter of a command gets.
    type Reply: Clone + Send + 'static;

    /// The engine ranges that hold a region's data, without its metadata key: what snapshots
    /// carry, installs replace, and destruction drops.
    fn ranges(region: &Region) -> Vec<KeyRange>;

    /// The engine key under which a group's [`RegionState`] is kept; outside all ranges.
    fn state_key(group: GroupId) -> Bytes;

    /// Whether a command is well formed and lies within the region. Asked at propose and again at
    /// apply, so it must depend on nothing but its arguments.
    fn check(region: &Arc<Region>, command: &Bytes) -> Result<(), Refusal>;

    /// Engine keys whose values [`StateMachine::apply`] will need to decide. The shell reads them
    /// into the cache while the entry replicates; purely a hint.
    fn wanted(_command: &Bytes) -> Vec<Bytes> {
        Vec::new()
    }

    /// Whether two regions that meet at this routing key may become one.
    fn may_join(_border: &[u8]) -> bool {
        true
    }

    /// Whether a stored pair is part of what replicas have in common. What replicas may drop from
    /// their disks each at its own time (values that expired) is not.
    fn is_content(_state: &RegionState, _key: &[u8], _value: &Bytes) -> bool {
        true
    }

    /// What the machine keeps in the state of a region ([`ApplyContext::set_machine`]) that has just
    /// absorbed another, from what both kept. The default is for machines that keep nothing there.
    fn join(target: &Bytes, _source: &Bytes) -> Bytes {
        target.clone()
    }

    /// The state was replaced as a whole: after creation, restart, a merge or an installed snapshot. A
    /// machine that caches its (small) state reads it here; one that does not returns `Ok`.
    fn restore(&mut self, state: &RegionState, reader: &dyn Reader) -> Result<(), ReadError>;

    /// Applies one committed command.
    ///
    /// On [`NeedsKeys`] nothing may have changed in `self`; what was written to `context` is
    /// undone by the caller, the group waits until the shell has read the keys, and the command is
    /// applied again from the start. Keys once asked for are answered from then on.
    fn apply(
        &mut self,
        region: &Arc<Region>,
        entry: EntryId,
        command: &Bytes,
        context: &mut ApplyContext<'_>,
    ) -> Result<Self::Reply, NeedsKeys>;
}

/// A range of engine keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    /// First key, inclusive.
    pub start: Bytes,
    /// End, exclusive. Never empty: every range of the engine has an end.
    pub end: Bytes,
}

/// Engine keys that are neither in the batch nor in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NeedsKeys(pub Vec<Bytes>);

/// The shell's view of the LSM. It shows every batch of earlier [`crate::Effects`].
pub trait Reader {
    /// What memory knows about an engine key. Never does I/O.
    fn get(&self, key: &[u8]) -> Lookup;

    /// The value of an engine key, from disk if need be. Only while a shard starts.
    fn load(&self, key: &[u8]) -> Result<Option<Bytes>, ReadError>;

    /// All pairs of a range, from disk if need be. For machines whose whole state is small, in
    /// [`StateMachine::restore`].
    fn scan(&self, range: &KeyRange) -> Result<Vec<(Bytes, Bytes)>, ReadError>;
}

/// What memory knows about a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// Its value.
    Found(Bytes),
    /// That it does not exist.
    Missing,
    /// Nothing: the answer is on disk.
    NotCached,
}

/// The engine could not read: damage, or an I/O error. The text names file and offset.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ReadError(pub String);

/// What applying a command may read and write.
///
/// Reads see, newest first: what this command wrote, what this run wrote so far, what was fetched
/// for this command, and the shell's view. Writes go to the one batch of the run, together with
/// the group's applied index.
pub struct ApplyContext<'a> {
    pub(crate) reader: &'a dyn Reader,
    pub(crate) overlay: &'a Overlay,
    pub(crate) fetched: &'a std::collections::BTreeMap<Bytes, Option<Bytes>>,
    pub(crate) state: &'a RegionState,
    pub(crate) staged: Staged,
}

/// What one command wrote so far.
#[derive(Default)]
pub(crate) struct Staged {
    pub(crate) writes: Vec<Write>,
    pub(crate) machine: Option<Bytes>,
    pub(crate) observed: Vec<Observation>,
}

pub(crate) enum Write {
    Put(Bytes, Bytes),
    Delete(Bytes),
    DeleteRange(KeyRange),
}

/// Something a command did to a key, for watch, change feeds and the flight recorder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// The key as the state machine calls it.
    pub key: Bytes,
    /// What happened.
    pub kind: ObservationKind,
}

/// What happened to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObservationKind {
    /// It got a value.
    Put,
    /// It was removed.
    Delete,
    /// It is the start of a range that was removed; the end follows as the next observation.
    DeleteRange,
}
