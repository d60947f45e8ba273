//! What must hold after every event. The ids are those of the project's contract.

use std::collections::BTreeMap;
use std::time::Duration;

use tinykv_raft::{
    Configuration, Entry, EntryId, HardState, LogIndex, Message, MessageBody, Payload, PeerId,
    ReadId, ReadReady, Ready, Role, Term, VoteKind,
};

use crate::node::Node;

/// The history that the invariants are about.
#[derive(Default)]
pub struct Checks {
    /// R1: who led each term.
    leaders: BTreeMap<Term, PeerId>,
    /// R2: every entry ever written, with the id before it.
    entries: BTreeMap<EntryId, (Entry, EntryId)>,
    /// R3, R6: what leaders have committed.
    committed: BTreeMap<LogIndex, EntryId>,
    /// R4: what was applied, with the digest of the state after it.
    applied: BTreeMap<LogIndex, (Entry, u64)>,
    /// R5: votes that left their voter.
    votes: BTreeMap<(PeerId, Term), PeerId>,
    /// R5: the hard state on each disk.
    disks: BTreeMap<PeerId, HardState>,
    /// R5: term, commit and applied of each running node.
    seen: BTreeMap<PeerId, (Term, LogIndex, LogIndex)>,
    /// C1: what a leader has applied, and so answered to clients.
    acknowledged: LogIndex,
    /// R10: what was committed when each read arrived.
    reads: BTreeMap<ReadId, LogIndex>,
}

impl Checks {
    pub fn committed_last(&self) -> u64 {
        self.committed.keys().next_back().map_or(0, |index| index.0)
    }

    /// The node crashed: what was volatile starts anew.
    pub fn forget(&mut self, id: PeerId) {
        self.seen.remove(&id);
    }

    /// R5: what is on disk never goes back, and a term's vote never changes.
    pub fn disk(&mut self, node: &Node) {
        let new = node.disk.hard_state;
        let old = self.disks.insert(node.id, new).unwrap_or_default();
        assert!(
            new.term >= old.term,
            "R5: {} went from {old:?} to {new:?}",
            node.id
        );
        if new.term == old.term {
            let is_kept = old.vote.is_none() || old.vote == new.vote;
            assert!(is_kept, "R5: {} went from {old:?} to {new:?}", node.id);
        }
    }

    /// R5: one vote per voter and term, across restarts.
    pub fn sent(&mut self, message: &Message) {
        let (voter, candidate, term) = match &message.body {
            MessageBody::VoteRequest(it) if it.kind == VoteKind::Vote => {
                (message.from, message.from, it.campaign)
            }
            MessageBody::VoteReply(it) if it.kind == VoteKind::Vote && it.refusal.is_none() => {
                (message.from, message.to, it.campaign)
            }
            _ => return,
        };
        let vote = *self.votes.entry((voter, term)).or_insert(candidate);
        assert_eq!(vote, candidate, "R5: {voter} votes twice in term {term}");
    }

    /// R2: an entry's id names its content and everything before it.
    pub fn ready(&mut self, node: &mut Node, ready: &Ready) {
        for entry in &ready.entries {
            let previous = entry.id.index.previous();
            let term = node
                .raft()
                .term_at(previous)
                .expect("right before an entry of the log");
            let new = (
                entry.clone(),
                EntryId {
                    term,
                    index: previous,
                },
            );
            let known = self.entries.entry(entry.id).or_insert_with(|| new.clone());
            assert_eq!(*known, new, "R2: {}", entry.id);
        }
        for entry in &ready.committed {
            let is_durable = node.disk.entries.iter().any(|it| it.id == entry.id);
            let is_past = node.disk.truncated.index >= entry.id.index;
            assert!(
                is_durable || is_past,
                "{} applies {} before it is durable",
                node.id,
                entry.id
            );
        }
    }

    /// R4: the same entries are applied everywhere, and lead to the same state.
    pub fn applied(&mut self, entry: &Entry, digest: u64, role: Role) {
        let new = (entry.clone(), digest);
        let known = self
            .applied
            .entry(entry.id.index)
            .or_insert_with(|| new.clone());
        assert_eq!(*known, new, "R4: at {}", entry.id.index);
        let committed = self.committed.get(&entry.id.index);
        assert_eq!(committed, Some(&entry.id), "R6: applied, not committed");
        if role == Role::Leader {
            self.acknowledged = self.acknowledged.max(entry.id.index);
        }
    }

    pub fn read_arrived(&mut self, read: ReadId) {
        let committed = self
            .committed
            .keys()
            .next_back()
            .copied()
            .unwrap_or_default();
        self.reads.insert(read, committed);
    }

    /// R10: a read sees all that was committed when it arrived.
    pub fn read_confirmed(&mut self, read: ReadReady) {
        let least = self.reads.remove(&read.id).expect("asked for once");
        assert!(
            read.index >= least,
            "R10: read at {} after commit of {least}",
            read.index
        );
    }

    /// R8: a change needs a commit in the term, and no other change pending.
    pub fn change(&self, node: &mut Node) {
        let raft = node.raft();
        let term = raft.term_at(raft.commit());
        assert_eq!(
            term,
            Some(raft.term()),
            "R8: a change before a commit in the term"
        );
        for index in raft.applied().0 + 1..raft.last().index.0 {
            let index = LogIndex(index);
            let id = EntryId {
                term: raft.term_at(index).expect("in the log"),
                index,
            };
            let entry = self.entries.get(&id).map(|(entry, _)| &entry.payload);
            let is_change = matches!(entry, Some(Payload::Membership(_)));
            assert!(!is_change, "R8: a change while {id} is pending");
        }
    }

    /// What one node says about itself; whether it holds a lease.
    pub fn node(&mut self, node: &mut Node, now: Duration) -> bool {
        let Some(raft) = &node.raft else { return false };
        let id = node.id;
        let new = (raft.term(), raft.commit(), raft.applied());
        let old = self.seen.insert(id, new).unwrap_or(new);
        let is_kept = new.0 >= old.0 && new.1 >= old.1 && new.2 >= old.2;
        assert!(is_kept, "R5: {id} went from {old:?} to {new:?}");
        if raft.role() == Role::Leader && self.leaders.get(&raft.term()) != Some(&id) {
            self.elected(node);
        }
        let Some(raft) = &node.raft else { return false };
        let Some(lease) = raft.lease().filter(|lease| now < lease.valid_until) else {
            return false;
        };
        assert_eq!(lease.term, raft.term());
        assert_eq!(raft.transferring(), None, "R12: a lease during a transfer");
        assert_eq!(raft.role(), Role::Leader, "a lease without an office");
        let (applied, acknowledged) = (node.machine.applied.index, self.acknowledged);
        assert!(
            applied >= acknowledged,
            "C2: {id} at {applied} may miss {acknowledged}"
        );
        true
    }

    /// R1, R3, R8: how a leader came to its office.
    fn elected(&mut self, node: &Node) {
        let raft = node.raft.as_ref().expect("it leads");
        let (id, term) = (node.id, raft.term());
        let other = *self.leaders.entry(term).or_insert(id);
        assert_eq!(other, id, "R1: two leaders in term {term}");
        let is_for = |voter: PeerId| {
            let own = voter == id && node.disk.hard_state.vote == Some(id);
            own || self.votes.get(&(voter, term)) == Some(&id)
        };
        let configuration = raft.configuration();
        assert!(
            is_majority(configuration, is_for),
            "R8: {id} leads term {term} without a majority of {configuration:?}"
        );
        for committed in self.committed.values() {
            self.check_has(node, *committed);
        }
    }

    /// R3: a leader's log holds what was committed before.
    fn check_has(&self, node: &Node, committed: EntryId) {
        let raft = node.raft.as_ref().expect("it leads");
        let is_there = raft.term_at(committed.index) == Some(committed.term)
            || committed.index < raft.status().truncated.index;
        assert!(
            is_there,
            "R3: leader {} of term {} lacks {committed}",
            node.id,
            raft.term()
        );
    }

    /// R3, R6, R7: what leaders have committed since the last event.
    pub fn commits(&mut self, nodes: &mut BTreeMap<PeerId, Node>) {
        let known = self
            .committed
            .keys()
            .next_back()
            .copied()
            .unwrap_or_default();
        let mut news = Vec::new();
        for node in nodes.values() {
            let Some(raft) = &node.raft else { continue };
            if raft.commit() <= known {
                continue;
            }
            assert_eq!(
                raft.role(),
                Role::Leader,
                "R6: {} commits what no leader did",
                node.id
            );
            let id = |index| EntryId {
                term: raft.term_at(index).expect("in the log"),
                index,
            };
            let last = id(raft.commit());
            assert_eq!(
                last.term,
                raft.term(),
                "R7: {} committed by counting {last}",
                node.id
            );
            let has = |voter: PeerId| {
                let disk = &nodes[&voter].disk;
                disk.truncated.index >= last.index || disk.entries.iter().any(|it| it.id == last)
            };
            let configuration = raft.configuration();
            assert!(
                is_majority(configuration, has),
                "R6: {last} is not on a majority of {configuration:?}"
            );
            news.extend((known.0 + 1..=last.index.0).map(|index| id(LogIndex(index))));
        }
        for new in news {
            let old = *self.committed.entry(new.index).or_insert(new);
            assert_eq!(old, new, "R3: committed twice");
            let later = nodes.values().filter(|node| {
                let raft = node.raft.as_ref();
                raft.is_some_and(|it| it.role() == Role::Leader && it.term() > new.term)
            });
            later.for_each(|node| self.check_has(node, new));
        }
    }
}

/// Whether this holds for a majority of the voters, of both halves while they are joint. Written
/// apart from the core's own count.
pub fn is_majority(configuration: &Configuration, holds: impl Fn(PeerId) -> bool) -> bool {
    let halves = [&configuration.voters, &configuration.voters_outgoing];
    halves.into_iter().all(|half| {
        let count = half.iter().filter(|peer| holds(**peer)).count();
        half.is_empty() || 2 * count > half.len()
    })
}
