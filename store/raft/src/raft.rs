//! The state machine itself: what goes in. The parts of it stand in `election`, `follower`,
//! `replication` and `membership`; what comes out in `drain`.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::time::Duration;

use bytes::Bytes;

use crate::config::{Birth, Config, Initial};
use crate::error::{ProposeError, ReadError, StepError, TransferError};
use crate::leadership::{Leadership, READS_MAX, Transfer};
use crate::log::Log;
use crate::message::{Force, Message, MessageBody};
use crate::persistence::Persistence;
use crate::prng::Prng;
use crate::ready::{Fetch, LeadershipChange, ReadId, ReadReady, SnapshotRequest};
use crate::status::{Lease, Role, Status};
use crate::types::{
    Configuration, Entry, EntryId, HardState, LogIndex, Payload, PeerId, SnapshotMetadata, Term,
};

/// One peer of one Raft group.
#[derive(Debug)]
pub struct Raft {
    pub(crate) config: Config,
    pub(crate) prng: Prng,
    /// The latest time heard of.
    pub(crate) now: Duration,
    /// The latest term seen.
    pub(crate) term: Term,
    /// Whom this peer voted for in `term`.
    pub(crate) vote: Option<PeerId>,
    /// Who leads `term`, if known.
    pub(crate) leader: Option<PeerId>,
    pub(crate) office: Office,
    /// The membership in force: as of the applied index.
    pub(crate) configuration: Configuration,
    pub(crate) log: Log,
    pub(crate) persistence: Persistence,
    /// Ticks since the leader was heard, a vote was given, or a campaign began.
    pub(crate) elapsed: u32,
    /// Ticks after which to campaign; drawn anew for every wait.
    pub(crate) timeout: u32,
    /// Campaign at the first tick from here on, whatever `elapsed` says.
    pub(crate) wake_at: Option<Duration>,
    /// The promise by echo. Never shortened; survives terms and roles.
    pub(crate) promise: Promise,
    /// Until then this peer keeps promises made before it restarted.
    pub(crate) restart_until: Duration,
    /// Membership entries behind the applied index that were seen, committed or not.
    pub(crate) memberships: BTreeSet<LogIndex>,
    /// Entries up to here were not seen since the start and may be membership entries.
    pub(crate) unseen_upto: LogIndex,
    /// A snapshot is being installed.
    pub(crate) installing: Option<SnapshotMetadata>,
    pub(crate) outbox: Outbox,
}

/// The role, with what belongs to it.
#[derive(Debug)]
pub(crate) enum Office {
    Follower,
    PreCandidate(Campaign),
    Candidate(Campaign),
    Leader(Box<Leadership>),
}

/// A (pre-)candidate's state.
#[derive(Debug, Default)]
pub(crate) struct Campaign {
    /// Who answered what. A candidate's own vote is there once it is durable.
    pub(crate) votes: BTreeMap<PeerId, bool>,
    /// When the first of those who are bound by a promise will be free.
    pub(crate) retry_at: Option<Duration>,
}

/// A promise to a leader.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Promise {
    pub(crate) until: Duration,
    /// The latest leader and round echoed.
    pub(crate) to: Option<Force>,
}

/// What waits for the next Ready.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    /// Messages in order, and whether each waits for the disk.
    pub(crate) messages: Vec<(Message, Wait)>,
    pub(crate) fetch: Vec<Fetch>,
    pub(crate) snapshots: Vec<SnapshotRequest>,
    pub(crate) reads: Vec<ReadReady>,
    pub(crate) failed_reads: Vec<ReadId>,
    pub(crate) install: Option<SnapshotMetadata>,
    /// Committed entries are being read from disk.
    pub(crate) is_fetching: bool,
    /// Committed entries read from disk.
    pub(crate) provided: Vec<Entry>,
    /// What was last reported.
    pub(crate) reported: Option<LeadershipChange>,
}

/// Whether a message waits for the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// It may leave at once (but not before the term it is sent in is durable).
    No,
    /// It acknowledges what is being written.
    Persist,
}

impl Raft {
    /// Starts a peer from recovered state. Panics if `config` or `initial` contradicts itself.
    pub fn new(config: Config, initial: Initial) -> Raft {
        if let Err(sentence) = config.validate() {
            panic!("{sentence}");
        }
        let log = Log::new(&initial);
        let in_tail = initial.tail.iter().filter(|entry| is_membership(entry));
        let memberships = in_tail
            .map(|entry| entry.id.index)
            .filter(|it| *it > log.applied());
        let memberships = memberships.collect();
        let unseen_upto = log.memory_first().previous();
        let restart_until = match initial.birth {
            Birth::New => Duration::ZERO,
            Birth::Restarted => initial.started_at.saturating_add(config.promise),
        };
        let is_alone = initial.configuration.all_voters() == BTreeSet::from([config.id]);
        let mut raft = Raft {
            prng: Prng::new(config.seed),
            now: initial.started_at,
            term: initial.hard_state.term,
            vote: initial.hard_state.vote,
            leader: None,
            office: Office::Follower,
            configuration: initial.configuration,
            persistence: Persistence::new(initial.hard_state, log.last().index),
            elapsed: 0,
            timeout: 0,
            wake_at: is_alone.then_some(restart_until),
            promise: Promise::default(),
            restart_until,
            memberships,
            unseen_upto,
            installing: None,
            outbox: Outbox::default(),
            log,
            config,
        };
        assert!(
            raft.term >= raft.log.last().term,
            "the log is of a later term than {}",
            raft.term
        );
        raft.draw_timeout();
        if is_alone && initial.birth == Birth::New {
            raft.campaign(initial.started_at);
        }
        raft
    }

    /// One tick of the group's timers (elections, heartbeats, check-quorum).
    pub fn tick(&mut self, now: Duration) {
        self.observe(now);
        if matches!(self.office, Office::Leader(_)) {
            self.tick_leader();
            return;
        }
        self.elapsed += 1;
        if self.elapsed >= self.timeout || self.wake_at.is_some_and(|at| at <= self.now) {
            self.try_campaign();
        }
    }

    /// Processes a message of another peer. On an error nothing has changed.
    pub fn step(&mut self, message: Message, now: Duration) -> Result<(), StepError> {
        self.observe(now);
        let Message {
            from,
            to,
            term,
            body,
        } = message;
        /// Far beyond what any group reaches, and far from overflow.
        const TERM_MAX: Term = Term(1 << 62);
        if to != self.config.id || from == self.config.id {
            return Err(StepError::WrongReceiver { from, to });
        }
        if term > TERM_MAX {
            return Err(StepError::Malformed("term out of range"));
        }
        match body {
            MessageBody::VoteRequest(request) => self.on_vote_request(from, term, &request),
            MessageBody::VoteReply(reply) => self.on_vote_reply(from, term, &reply),
            MessageBody::Append(append) => self.on_append(from, term, append),
            MessageBody::AppendReply(reply) => self.on_append_reply(from, term, &reply),
            MessageBody::Snapshot(snapshot) => self.on_snapshot(from, term, snapshot.metadata),
            MessageBody::TimeoutNow(timeout) => self.on_timeout_now(from, term, timeout),
        }
    }

    /// Appends a command to the log, if this is the leader. The returned id is the command's for
    /// ever: it is done when an entry of that id is applied, and was not done when another
    /// entry is applied at that index.
    pub fn propose(&mut self, command: Bytes) -> Result<EntryId, ProposeError> {
        let leader = self.leader;
        let Office::Leader(lead) = &self.office else {
            return Err(ProposeError::NotLeader { leader });
        };
        if lead.transfer.is_some() {
            return Err(ProposeError::Transferring);
        }
        let payload = Payload::Command(command);
        let size = Entry {
            id: EntryId::default(),
            payload: payload.clone(),
        }
        .size();
        let full = lead.uncommitted_bytes + size > self.config.uncommitted_bytes_max;
        if full && lead.uncommitted_bytes > 0 {
            return Err(ProposeError::Busy);
        }
        Ok(self.append_own(payload))
    }

    /// Asks for the index from which a read that arrived now is current (§6.4). The answer is
    /// in [`Ready::reads`](crate::Ready) or [`Ready::failed_reads`](crate::Ready).
    pub fn read_index(&mut self, id: ReadId, now: Duration) -> Result<(), ReadError> {
        self.observe(now);
        let leader = self.leader;
        let Office::Leader(lead) = &mut self.office else {
            return Err(ReadError::NotLeader { leader });
        };
        if lead.transfer.is_some() {
            return Err(ReadError::Transferring);
        }
        if lead.pending_reads() >= READS_MAX {
            return Err(ReadError::Busy);
        }
        lead.push_read(id, self.log.commit());
        Ok(())
    }

    /// Hands leadership to another voter: stops proposing and reading, voids the lease, lets the
    /// target catch up, then tells it to campaign. Given up after `election_ticks_min` ticks.
    pub fn transfer_leader(&mut self, target: PeerId, now: Duration) -> Result<(), TransferError> {
        self.observe(now);
        let leader = self.leader;
        let Office::Leader(lead) = &mut self.office else {
            return Err(TransferError::NotLeader { leader });
        };
        if let Some(transfer) = &lead.transfer {
            return Err(TransferError::Transferring(transfer.target));
        }
        if target == self.config.id || !self.configuration.is_voter(target) {
            return Err(TransferError::NotAVoter(target));
        }
        lead.transfer = Some(Transfer {
            target,
            elapsed: 0,
            released: None,
            is_due: true,
        });
        Ok(())
    }

    /// Campaigns as soon as the own promise allows: the driver knows that the leader is gone
    /// (staggered by the driver, so that not all campaign at once). Ignored by leaders,
    /// candidates, and peers that are no voters.
    pub fn campaign(&mut self, now: Duration) {
        self.observe(now);
        if matches!(self.office, Office::Follower) {
            self.try_campaign();
        }
    }

    /// The state machine has applied everything up to `index`.
    pub fn on_applied(&mut self, index: LogIndex) {
        self.log.set_applied(index);
        self.memberships = self.memberships.split_off(&index.next());
    }

    /// The log on disk was cut: entries up to `upto` (at most applied) are gone.
    pub fn compact(&mut self, upto: LogIndex) {
        self.log.compact(upto);
    }

    /// The lease, if there is one; compare `valid_until` with the clock *after* taking the
    /// read's snapshot. `None` before the first entry of the term is applied here. It changes with
    /// any input: publish it after every batch of input, before sending what that caused.
    pub fn lease(&self) -> Option<Lease> {
        let Office::Leader(lead) = &self.office else {
            return None;
        };
        if self.log.applied() < lead.term_start || !self.configuration.is_voter(self.config.id) {
            return None;
        }
        let drift = self.config.drift_percent;
        let length = self.config.promise * (100 - drift) / (100 + drift);
        Some(Lease {
            term: self.term,
            valid_until: lead.lease_since()? + length,
        })
    }

    /// A picture of the group.
    pub fn status(&self) -> Status {
        let lead = match &self.office {
            Office::Leader(lead) => Some(lead),
            _ => None,
        };
        let peers = lead.iter().flat_map(|lead| &lead.progress);
        Status {
            id: self.config.id,
            role: self.role(),
            leader: self.leader,
            hard_state: self.hard_state(),
            applied: self.log.applied(),
            durable: self.persistence.durable(),
            last: self.log.last(),
            truncated: self.log.truncated(),
            memory_bytes: self.log.memory_bytes(),
            uncommitted_bytes: lead.map_or(0, |lead| lead.uncommitted_bytes),
            configuration: self.configuration.clone(),
            peers: peers
                .map(|(id, progress)| (*id, progress.status()))
                .collect(),
            transfer: self.transferring(),
            seq: lead.map_or_else(Default::default, |lead| lead.seq),
            confirmed: lead.map_or_else(Default::default, |lead| lead.confirmed.seq),
            lease: self.lease(),
            promised_until: self.promise.until.max(self.restart_until),
        }
    }

    /// This peer's id.
    pub fn id(&self) -> PeerId {
        self.config.id
    }

    /// The role of this peer.
    pub fn role(&self) -> Role {
        match self.office {
            Office::Follower => Role::Follower,
            Office::PreCandidate(_) => Role::PreCandidate,
            Office::Candidate(_) => Role::Candidate,
            Office::Leader(_) => Role::Leader,
        }
    }

    /// The current term.
    pub fn term(&self) -> Term {
        self.term
    }

    /// The leader of the current term, if known.
    pub fn leader(&self) -> Option<PeerId> {
        self.leader
    }

    /// To whom this leader is handing its office.
    pub fn transferring(&self) -> Option<PeerId> {
        match &self.office {
            Office::Leader(lead) => lead.transfer.as_ref().map(|transfer| transfer.target),
            _ => None,
        }
    }

    /// Known committed up to here.
    pub fn commit(&self) -> LogIndex {
        self.log.commit()
    }

    /// Applied up to here.
    pub fn applied(&self) -> LogIndex {
        self.log.applied()
    }

    /// The last entry of the log.
    pub fn last(&self) -> EntryId {
        self.log.last()
    }

    /// The term of the entry at `index`, if it is in the log (or is the one it was cut at).
    pub fn term_at(&self, index: LogIndex) -> Option<Term> {
        self.log.term(index)
    }

    /// The membership in force.
    pub fn configuration(&self) -> &Configuration {
        &self.configuration
    }

    /// Time never goes back.
    pub(crate) fn observe(&mut self, now: Duration) {
        self.now = self.now.max(now);
    }

    pub(crate) fn hard_state(&self) -> HardState {
        HardState {
            term: self.term,
            vote: self.vote,
            commit: self.log.commit(),
        }
    }

    pub(crate) fn send(&mut self, to: PeerId, body: MessageBody, wait: Wait) {
        let message = Message {
            from: self.config.id,
            to,
            term: self.term,
            body,
        };
        self.outbox.messages.push((message, wait));
    }

    /// Appends an entry as leader.
    pub(crate) fn append_own(&mut self, payload: Payload) -> EntryId {
        let id = EntryId {
            term: self.term,
            index: self.log.last().index.next(),
        };
        let entry = Entry { id, payload };
        if is_membership(&entry) {
            self.memberships.insert(id.index);
        }
        if let Office::Leader(lead) = &mut self.office {
            lead.uncommitted_bytes += entry.size();
        }
        self.log.push(entry);
        id
    }

    pub(crate) fn draw_timeout(&mut self) {
        let (min, max) = (
            self.config.election_ticks_min,
            self.config.election_ticks_max,
        );
        self.elapsed = 0;
        self.timeout = self.prng.between(min, max);
    }

    /// Leaves the role there was. Everything that belonged to it goes with it.
    pub(crate) fn take_office(&mut self, office: Office) {
        let before = mem::replace(&mut self.office, office);
        if let Office::Leader(lead) = before {
            self.outbox.failed_reads.extend(lead.abandon_reads());
        }
        self.wake_at = None;
        self.draw_timeout();
    }
}

pub(crate) fn is_membership(entry: &Entry) -> bool {
    matches!(entry.payload, Payload::Membership(_))
}
