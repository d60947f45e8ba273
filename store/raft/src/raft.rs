//! The state machine itself and what drives it. Its parts stand in `election`, `follower`,
//! `replication`, `sending` and `membership`, what clients ask in `requests`, what comes out in
//! `drain`.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::time::Duration;

use tinykv_mutants::{Mutant, planted};

use crate::config::{Birth, Config, Initial, Willingness};
use crate::error::StepError;
use crate::leadership::Leadership;
use crate::log::Log;
use crate::message::{Force, Message, MessageBody};
use crate::persistence::Persistence;
use crate::prng::Prng;
use crate::ready::{Fetch, LeadershipChange, ReadId, ReadReady, SnapshotRequest};
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
    /// Until then this peer, born in a split, helps nobody but the heir of the parent's leader.
    pub(crate) newborn_until: Duration,
    /// Membership entries behind the applied index that were seen, committed or not.
    pub(crate) memberships: BTreeSet<LogIndex>,
    /// Entries up to here were not seen since the start and may be membership entries.
    pub(crate) unseen_upto: LogIndex,
    /// The leader has told this peer to campaign, which must apply a committed change first.
    pub(crate) summoned: Option<Force>,
    /// Ticks have no effect.
    pub(crate) asleep: bool,
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
    /// Whether requests say so ([`VoteRequest::first`](crate::VoteRequest::first)).
    pub(crate) is_first: bool,
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
        let after_promise = initial.started_at.saturating_add(config.promise);
        let (restart_until, newborn_until) = match initial.birth {
            Birth::New => (Duration::ZERO, Duration::ZERO),
            Birth::Split if !planted(Mutant::NewbornUnbound) => (Duration::ZERO, after_promise),
            Birth::Restarted if !planted(Mutant::PromiseForgotten) => {
                (after_promise, Duration::ZERO)
            }
            Birth::Split | Birth::Restarted => (Duration::ZERO, Duration::ZERO),
        };
        let is_alone = initial.configuration.is_only_voter(config.id);
        let is_bold = planted(Mutant::NewbornUnbound) && initial.birth == Birth::Split;
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
            wake_at: (is_alone || is_bold).then_some(restart_until.max(newborn_until)),
            promise: Promise::default(),
            restart_until,
            newborn_until,
            memberships,
            unseen_upto,
            summoned: None,
            asleep: false,
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
        if self.asleep {
            return;
        }
        if matches!(self.office, Office::Leader(_)) {
            self.tick_leader();
            return;
        }
        self.elapsed += 1;
        if self.elapsed >= self.timeout || self.wake_at.is_some_and(|at| at <= self.now) {
            self.try_campaign();
        }
    }

    /// Processes a message of another peer. On an error nothing has changed. `now` must have been
    /// read after the message arrived: a promise given for it counts from there.
    pub fn step(&mut self, message: Message, now: Duration) -> Result<(), StepError> {
        self.observe(now);
        let Message {
            from,
            to,
            term,
            body,
        } = message;
        /// With one election a second nobody misses more terms than these in a century; and at this
        /// pace nobody is led to the end of the numbers.
        const TERM_LEAP_MAX: u64 = 1 << 32;
        const TERM_MAX: Term = Term(1 << 62);
        if to != self.config.id || from == self.config.id {
            return Err(StepError::WrongReceiver { from, to });
        }
        if term > TERM_MAX || term.0 > self.term.0 + TERM_LEAP_MAX {
            return Err(StepError::AbsurdTerm {
                from,
                term,
                here: self.term,
            });
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

    /// Campaigns as soon as the own promise allows: the driver knows that the leader is gone
    /// (staggered by the driver, so that not all campaign at once). Ignored by leaders,
    /// candidates, peers that are no voters, and reluctant ones, whose timeout comes in the end.
    pub fn campaign(&mut self, now: Duration) {
        self.observe(now);
        self.awake();
        if matches!(self.office, Office::Follower) && self.is_willing() {
            self.try_campaign();
        }
    }

    /// The driver knows that the leader will not come back: clients are no longer sent there. What
    /// was promised to it binds as before; whoever leads is known again by the next message.
    pub fn forget_leader(&mut self) {
        if matches!(self.office, Office::Follower) {
            self.awake();
            self.leader = None;
        }
    }

    /// Whether this peer wants to lead, from now on.
    pub fn set_willingness(&mut self, willingness: Willingness) {
        if self.config.willingness == willingness {
            return;
        }
        self.config.willingness = willingness;
        match &mut self.office {
            Office::Leader(lead) => lead.offered.clear(),
            Office::Follower => self.draw_timeout(),
            Office::PreCandidate(_) | Office::Candidate(_) => {}
        }
    }

    /// Whether it wants to lead, or nobody else can.
    pub(crate) fn is_willing(&self) -> bool {
        self.config.willingness == Willingness::Willing
            || self.configuration.is_only_voter(self.config.id)
    }

    /// Campaigns at once although newly born in a split ([`Birth::Split`]): the parent's leader
    /// stands beside this peer and has applied the split. Asked again as long as nobody leads, it
    /// reaches those who are born a moment later.
    pub fn campaign_first(&mut self, now: Duration) {
        self.observe(now);
        let may = matches!(self.office, Office::Follower | Office::PreCandidate(_));
        if may && self.leader.is_none() {
            self.begin_campaign(true);
        }
    }

    /// The state machine has applied everything up to `index`.
    pub fn on_applied(&mut self, index: LogIndex) {
        self.log.set_applied(index);
        self.memberships = self.memberships.split_off(&index.next());
        self.follow_summons();
    }

    /// The log on disk was cut: entries up to `upto` (at most applied) are gone.
    pub fn compact(&mut self, upto: LogIndex) {
        self.log.compact(upto);
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
        self.awake();
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
        if !self.is_willing() {
            // All others have had their turn twice by then.
            self.timeout += 2 * max;
        }
    }

    /// Leaves the role there was. Everything that belonged to it goes with it.
    pub(crate) fn take_office(&mut self, office: Office) {
        let before = mem::replace(&mut self.office, office);
        if let Office::Leader(lead) = before {
            self.outbox.failed_reads.extend(lead.abandon_reads());
        }
        self.wake_at = None;
        self.summoned = None;
        self.asleep = false;
        self.draw_timeout();
    }
}

pub(crate) fn is_membership(entry: &Entry) -> bool {
    matches!(entry.payload, Payload::Membership(_))
}
