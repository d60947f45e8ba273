//! What is durable where, and what was promised on the strength of it.
//!
//! The logs of all stores are followed from outside: whatever a sync has covered is noted here, so
//! that a promise can be held against it at the moment it leaves, and a restart against what was
//! durable before.

use std::collections::{BTreeMap, BTreeSet};

use tinykv_raft::{
    AppendOutcome, Configuration, Entry, EntryId, GroupId, HardState, LogIndex, MessageBody,
    Payload, PeerId, Term, VoteKind,
};
use tinykv_replica::{
    BirthRecord, FIRST_ENTRY, PeerBody, PeerMessage, PeerRole, Region, StoreId, TombstoneRecord,
};
use tinykv_wal::{Batch, Record, RecoveredGroup};

/// All logs, as their syncs made them.
#[derive(Debug, Default)]
pub(super) struct Durable {
    kept: BTreeMap<(StoreId, GroupId), Kept>,
    /// R6: where nothing of a group is needed any more, because another has absorbed it there. A leader
    /// elsewhere that lags acknowledges after that.
    merged: BTreeSet<(StoreId, GroupId)>,
    /// D5: the last entry, by term and index, that a store's log of a group has had in this life,
    /// durable or not.
    written: BTreeMap<(StoreId, GroupId), EntryId>,
    /// R2: what an entry holds and the term of the one before it, wherever it is durable.
    entries: BTreeMap<(GroupId, LogIndex, Term), (u64, Option<Term>)>,
    /// R5: whom a peer has voted for in a term.
    votes: BTreeMap<(GroupId, PeerId, Term), PeerId>,
    /// D6: peers whose log broke its word.
    damaged: BTreeSet<(GroupId, PeerId)>,
}

/// What a store's log holds of a group, durably.
#[derive(Clone, Copy, Debug, Default)]
struct Kept {
    /// Whose log it is.
    peer: PeerId,
    hard_state: HardState,
    last: EntryId,
    /// What the tree holds of it, durably.
    flushed: LogIndex,
}

/// What a restart finds in the log of a store.
#[derive(Debug)]
pub(in crate::sim) struct Found<'a> {
    /// Whoever lives.
    pub(in crate::sim) groups: BTreeMap<GroupId, &'a RecoveredGroup>,
    /// Whose tombstone is there.
    pub(in crate::sim) dead: BTreeSet<GroupId>,
    /// The disk broke its word: something durable cannot be read.
    pub(in crate::sim) is_damaged: bool,
}

impl Durable {
    /// These records are being written: a sync may cover them, or a crash cut them off.
    pub(super) fn on_written(&mut self, store: StoreId, batch: &Batch) {
        for record in &batch.records {
            let last = match record {
                Record::Birth { truncated, .. } => Some(*truncated),
                Record::Entries { entries, .. } => entries.last().map(|entry| entry.id),
                Record::Truncated { upto, .. } => Some(*upto),
                Record::Installing { snapshot, .. } => Some(*snapshot),
                _ => None,
            };
            if let Some(last) = last {
                let known = self.written.entry((store, record.group())).or_default();
                *known = (*known).max(last);
            }
        }
    }

    /// A sync has covered these records; `last` tells the last entry of a group's log.
    pub(super) fn on_durable(
        &mut self,
        store: StoreId,
        batch: &Batch,
        last: impl Fn(GroupId) -> Option<EntryId>,
    ) -> Result<(), String> {
        for record in &batch.records {
            let group = record.group();
            match record {
                Record::Birth {
                    birth,
                    hard_state,
                    truncated,
                    ..
                } => {
                    let birth = BirthRecord::decode(birth).map_err(|error| {
                        format!("store {store} writes a birth of group {group} with {error}")
                    })?;
                    let kept = Kept {
                        peer: birth.peer.id,
                        hard_state: *hard_state,
                        last: *truncated,
                        flushed: LogIndex(0),
                    };
                    self.kept.insert((store, group), kept);
                }
                Record::HardState { hard_state, .. } => {
                    self.on_hard_state(store, group, *hard_state)?;
                }
                Record::Entries { entries, .. } => {
                    self.on_entries(group, entries)?;
                    if let (Some(kept), Some(entry)) =
                        (self.kept.get_mut(&(store, group)), entries.last())
                    {
                        kept.last = entry.id;
                    }
                }
                Record::Tombstone { payload, .. } => {
                    self.kept.remove(&(store, group));
                    let tombstone = TombstoneRecord::decode(payload).map_err(|error| {
                        format!("store {store} writes a tombstone of group {group} with {error}")
                    })?;
                    if tombstone.merged_into.is_some() {
                        self.merged.insert((store, group));
                    }
                }
                Record::Truncated { upto, .. } | Record::Installing { snapshot: upto, .. } => {
                    if let Some(kept) = self.kept.get_mut(&(store, group)) {
                        // Where the log had another entry, all of it is gone.
                        let is_beyond = upto.index >= kept.last.index;
                        let rest = last(group).filter(|_| !is_beyond);
                        kept.last = match is_beyond {
                            true => *upto,
                            false => rest.unwrap_or(kept.last),
                        };
                    }
                }
                Record::Installed { .. } | Record::ForgetTombstone { .. } => {}
            }
        }
        Ok(())
    }

    /// R5: term and vote of a peer never go back, over restarts.
    fn on_hard_state(
        &mut self,
        store: StoreId,
        group: GroupId,
        hard_state: HardState,
    ) -> Result<(), String> {
        let kept = self.kept.entry((store, group)).or_default();
        let before = std::mem::replace(&mut kept.hard_state, hard_state);
        let has_other_vote = before.term == hard_state.term
            && before.vote.is_some()
            && before.vote != hard_state.vote;
        match hard_state.term < before.term || has_other_vote {
            true => Err(format!(
                "R5: store {store} wrote {hard_state:?} of group {group} after {before:?}"
            )),
            false => Ok(()),
        }
    }

    /// R2: an index and a term name one entry, with one entry before it.
    fn on_entries(&mut self, group: GroupId, entries: &[Entry]) -> Result<(), String> {
        let mut previous = None;
        for entry in entries {
            let EntryId { term, index } = entry.id;
            let found = (fingerprint(&entry.payload), previous);
            let known = self.entries.entry((group, index, term)).or_insert(found);
            let differs = known.0 != found.0
                || matches!((known.1, found.1), (Some(one), Some(other)) if one != other);
            if differs {
                return Err(format!(
                    "R2: group {group} has two entries {:?}, or two different ones before it",
                    entry.id
                ));
            }
            known.1 = known.1.or(found.1);
            previous = Some(term);
        }
        Ok(())
    }

    /// The tree has made this much durable.
    pub(super) fn on_flushed(&mut self, store: StoreId, group: GroupId, flushed: LogIndex) {
        if let Some(kept) = self.kept.get_mut(&(store, group)) {
            kept.flushed = kept.flushed.max(flushed);
        }
    }

    /// D1, D6, R5: what leaves is true already. What a region begins with is no entry of its log.
    pub(super) fn on_send(&mut self, message: &PeerMessage) -> Result<(), String> {
        let PeerBody::Raft(raft) = &message.body else {
            return Ok(());
        };
        let (group, from, to) = (message.group, message.from, message.to.id);
        let kept = self.kept.get(&(from.store, group)).copied();
        let is_promise = match &raft.body {
            MessageBody::AppendReply(reply) => match reply.outcome {
                AppendOutcome::Accepted { durable, .. } => {
                    if kept.is_some_and(|kept| kept.last.index.max(FIRST_ENTRY.index) < durable) {
                        return Err(format!(
                            "D1: peer {} of group {group} acknowledges {durable}, durable is \
                             {kept:?}",
                            from.id
                        ));
                    }
                    true
                }
                _ => false,
            },
            MessageBody::VoteReply(reply) if reply.refusal.is_none() => {
                if reply.kind == VoteKind::Vote {
                    self.on_vote(group, from.id, reply.campaign, to, kept)?;
                }
                true
            }
            MessageBody::VoteRequest(request) if request.kind == VoteKind::Vote => {
                self.on_vote(group, from.id, request.campaign, from.id, kept)?;
                true
            }
            _ => false,
        };
        match is_promise && self.damaged.contains(&(group, from.id)) {
            true => Err(format!(
                "D6: damaged peer {} of group {group} says {raft:?}",
                from.id
            )),
            false => Ok(()),
        }
    }

    /// R5: one vote in a term, over restarts. D1: durable before anybody hears of it.
    fn on_vote(
        &mut self,
        group: GroupId,
        voter: PeerId,
        term: Term,
        candidate: PeerId,
        kept: Option<Kept>,
    ) -> Result<(), String> {
        if let Some(kept) = kept {
            let hard_state = kept.hard_state;
            let is_durable = hard_state.term > term
                || (hard_state.term == term && hard_state.vote == Some(candidate));
            if !is_durable {
                return Err(format!(
                    "D1: peer {voter} of group {group} votes for {candidate} in term {term}, \
                     durable is {hard_state:?}"
                ));
            }
        }
        let known = self.votes.entry((group, voter, term)).or_insert(candidate);
        match *known == candidate {
            true => Ok(()),
            false => Err(format!(
                "R5: peer {voter} of group {group} votes for {known} and for {candidate} in term \
                 {term}"
            )),
        }
    }

    /// R8: a leader was elected by a majority of voters of the configuration in force.
    pub(super) fn check_election(
        &self,
        group: GroupId,
        term: Term,
        leader: PeerId,
        configuration: &Configuration,
    ) -> Result<(), String> {
        let granted = |peer: &PeerId| {
            *peer == leader || self.votes.get(&(group, *peer, term)) == Some(&leader)
        };
        let halves = [&configuration.voters, &configuration.voters_outgoing];
        let elected = halves.into_iter().all(|voters| {
            let votes = voters.iter().filter(|peer| granted(peer)).count();
            voters.is_empty() || votes > voters.len() / 2
        });
        match elected {
            true => Ok(()),
            false => Err(format!(
                "R8: peer {leader} leads group {group} in term {term} without a majority of \
                 {configuration:?}"
            )),
        }
    }

    /// R6: what is acknowledged is durable on a majority of one of these regions: as it was before
    /// the run that acknowledged it, or after it.
    pub(super) fn check_acknowledged(
        &self,
        entry: EntryId,
        regions: [Option<&Region>; 2],
    ) -> Result<(), String> {
        let mut known = regions.into_iter().flatten().peekable();
        if known.peek().is_none() || known.any(|region| self.has_majority(entry, region)) {
            return Ok(());
        }
        Err(format!(
            "R6: {entry:?} is acknowledged and not durable on a majority of {regions:?}"
        ))
    }

    fn has_majority(&self, entry: EntryId, region: &Region) -> bool {
        let holds = |store: StoreId| {
            let kept = self.kept.get(&(store, region.id));
            kept.is_some_and(|kept| kept.last.index >= entry.index && kept.last.term >= entry.term)
                || self.merged.contains(&(store, region.id))
        };
        let is_majority = |counts: fn(PeerRole) -> bool| {
            let voters = region.peers.iter().filter(|peer| counts(peer.role));
            let (all, with) = voters.fold((0, 0), |(all, with), peer| {
                (all + 1, with + usize::from(holds(peer.store)))
            });
            all == 0 || with > all / 2
        };
        is_majority(is_incoming) && is_majority(is_outgoing)
    }

    /// D3, R5: a restart finds all that was durable, unless the disk broke its word. Where that
    /// took the only record of a peer, nobody there knows of it any more, and it is damaged like
    /// the others (D6).
    pub(super) fn on_recovered(
        &mut self,
        store: StoreId,
        found: &Found<'_>,
        applied: impl Fn(GroupId) -> LogIndex,
    ) -> Result<(), String> {
        let mut taken = Vec::new();
        let here = self
            .kept
            .range_mut((store, GroupId(0))..=(store, GroupId(u64::MAX)));
        for ((_, group), kept) in here {
            let Some(log) = found.groups.get(group) else {
                if found.dead.contains(group) {
                    continue;
                }
                if !found.is_damaged {
                    return Err(format!("D3: store {store} lost group {group}, {kept:?}"));
                }
                taken.push((*group, kept.peer));
                continue;
            };
            if log.damaged {
                continue;
            }
            let hard_state = log.hard_state;
            let lost_vote = hard_state.term == kept.hard_state.term
                && kept.hard_state.vote.is_some()
                && hard_state.vote != kept.hard_state.vote;
            if hard_state.term < kept.hard_state.term || lost_vote {
                return Err(format!(
                    "R5: store {store} recovers {hard_state:?} of group {group} after {kept:?}"
                ));
            }
            // A later term may have replaced the end of the log without a sync being noted.
            let is_whole = log.last.index >= kept.last.index || log.last.term > kept.last.term;
            if !is_whole {
                return Err(format!(
                    "D3: store {store} recovers group {group} up to {:?} of {kept:?}",
                    log.last
                ));
            }
            let written = self.written.insert((store, *group), log.last);
            if written.is_some_and(|written| log.last > written) {
                return Err(format!(
                    "D5: store {store} recovers group {group} up to {:?}, and its log went up to \
                     {written:?} at most since an earlier recovery",
                    log.last
                ));
            }
            if applied(*group) < kept.flushed {
                return Err(format!(
                    "L1: store {store} has applied group {group} up to {} of {kept:?}",
                    applied(*group)
                ));
            }
            kept.hard_state = hard_state;
            kept.last = log.last;
        }
        for (group, peer) in taken {
            self.kept.remove(&(store, group));
            self.damaged.insert((group, peer));
        }
        Ok(())
    }

    /// A peer knows that acknowledged data of it may be lost.
    pub(super) fn on_damaged(&mut self, group: GroupId, peer: PeerId) {
        self.damaged.insert((group, peer));
    }

    /// Of an elder peer something may be kept although a restart found it dead: that its tombstone is
    /// durable was not noted before.
    pub(super) fn is_kept(&self, store: StoreId, group: GroupId, peer: PeerId) -> bool {
        let kept = self.kept.get(&(store, group));
        kept.is_some_and(|kept| kept.peer == peer)
    }

    pub(super) fn is_damaged(&self, group: GroupId, peer: PeerId) -> bool {
        self.damaged.contains(&(group, peer))
    }
}

/// R12: who tells a successor to campaign has no lease.
pub(super) fn hands_over(message: &PeerMessage) -> bool {
    match &message.body {
        PeerBody::Raft(raft) => matches!(raft.body, MessageBody::TimeoutNow(_)),
        _ => false,
    }
}

fn is_incoming(role: PeerRole) -> bool {
    matches!(role, PeerRole::Voter | PeerRole::IncomingVoter)
}

fn is_outgoing(role: PeerRole) -> bool {
    matches!(
        role,
        PeerRole::Voter | PeerRole::DemotingVoter | PeerRole::LeavingVoter
    )
}

fn fingerprint(payload: &Payload) -> u64 {
    let bytes: &[u8] = match payload {
        Payload::Empty => &[],
        Payload::Command(command) => command,
        Payload::Membership(change) => &change.context,
    };
    super::fnv(bytes.iter().copied())
}
