//! The inboxes of all shards, and which group belongs to which.

use std::collections::BTreeMap;
use std::sync::Arc;

use tinykv_raft::{GroupId, LogIndex, MessageBody};
use tinykv_replica::{Event, PeerBody, PeerMessage, StateMachine, StoreId};

use crate::admission::Admission;
use crate::homes::Homes;
use crate::inbox::Inbox;
use crate::transport::Sink;
use crate::wal_thread::Notice;

/// All shards of a process.
pub(crate) struct Shards<S: StateMachine> {
    inboxes: Vec<Arc<Inbox<S>>>,
    homes: Arc<Homes>,
    admission: Arc<Admission>,
}

impl<S: StateMachine> Shards<S> {
    pub(crate) fn new(count: usize, admission: Arc<Admission>) -> Shards<S> {
        assert!(count > 0, "a process has at least one shard");
        Shards {
            inboxes: (0..count).map(|_| Arc::new(Inbox::new())).collect(),
            homes: Arc::new(Homes::new(count)),
            admission,
        }
    }

    /// The number of the shard that owns a group.
    pub(crate) fn number(&self, group: GroupId) -> usize {
        self.homes.of(group)
    }

    /// Which group belongs to which shard.
    pub(crate) fn homes(&self) -> &Arc<Homes> {
        &self.homes
    }

    pub(crate) fn of(&self, group: GroupId) -> &Arc<Inbox<S>> {
        &self.inboxes[self.number(group)]
    }

    pub(crate) fn all(&self) -> &[Arc<Inbox<S>>] {
        &self.inboxes
    }

    /// Tells every shard.
    pub(crate) fn broadcast(&self, event: impl Fn() -> Event) {
        for inbox in &self.inboxes {
            inbox.push_notice(event());
        }
    }

    /// Passes on what the log's thread says.
    pub(crate) fn hear(&self, notice: Notice) {
        match notice {
            Notice::Persisted(shard, token) => {
                self.inboxes[shard].push_notice(Event::Persisted(token));
            }
            Notice::Cut(cuts) => {
                let mut parts = vec![Vec::new(); self.inboxes.len()];
                for (group, upto) in cuts {
                    parts[self.number(group)].push((group, upto));
                }
                for (inbox, part) in self.inboxes.iter().zip(parts) {
                    if !part.is_empty() {
                        inbox.push_notice(Event::LogCut(part));
                    }
                }
            }
        }
    }

    /// Tells each shard up to where its groups are flushed.
    pub(crate) fn flushed(&self, flushed: &BTreeMap<GroupId, LogIndex>) {
        let mut parts = vec![BTreeMap::new(); self.inboxes.len()];
        for (group, index) in flushed {
            parts[self.number(*group)].insert(*group, *index);
        }
        for (inbox, part) in self.inboxes.iter().zip(parts) {
            if !part.is_empty() {
                inbox.push_notice(Event::Flushed(part));
            }
        }
    }
}

impl<S: StateMachine> Sink for Shards<S> {
    fn deliver(&self, messages: Vec<PeerMessage>) {
        let log_keeps_up = self.admission.messages();
        let mut parts: Vec<Vec<PeerMessage>> = Vec::new();
        parts.resize_with(self.inboxes.len(), Vec::new);
        for message in messages {
            if !log_keeps_up && carries_entries(&message) {
                continue;
            }
            parts[self.number(message.group)].push(message);
        }
        for (inbox, part) in self.inboxes.iter().zip(parts) {
            if !part.is_empty() {
                inbox.push_messages(part);
            }
        }
    }

    fn unreachable(&self, store: StoreId) {
        self.broadcast(|| Event::StoreUnreachable(store));
    }

    fn dead(&self, store: StoreId) {
        self.broadcast(|| Event::StoreDead(store));
    }

    fn fresh(&self, store: StoreId) {
        self.broadcast(|| Event::StoreFresh(store));
    }

    fn lost(&self, store: StoreId) {
        self.broadcast(|| Event::StoreLost(store));
    }
}

/// What makes the log longer. All else (heartbeats, votes, replies) is taken in whatever the log
/// does, so that a slow disk costs nobody its leader.
fn carries_entries(message: &PeerMessage) -> bool {
    match &message.body {
        PeerBody::Raft(raft) => match &raft.body {
            MessageBody::Append(append) => !append.entries.is_empty(),
            _ => false,
        },
        PeerBody::Gone
        | PeerBody::Probe
        | PeerBody::AskedBy(_)
        | PeerBody::Rest(_)
        | PeerBody::Merge(_) => false,
    }
}
