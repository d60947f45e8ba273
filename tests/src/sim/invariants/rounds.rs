//! What a leader may rest on its voters: the rounds it sent, who echoed them, and what an echo
//! binds its sender to.
//!
//! Everything is seen from outside, when a message leaves: a leader cannot know more than that. So
//! what it claims, a lease or leave to read, is held against the most that it could know.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tinykv_raft::{
    Configuration, Force, GroupId, LogIndex, Message, MessageBody, Payload, PeerId, Seq, Term,
    VoteKind, VoteRequest,
};
use tinykv_replica::{LeaseCell, PeerBody, PeerMessage, StoreId};

use super::super::host::Clock;

/// What the clocks' figures may be off by: they are rounded.
const ROUNDING: Duration = Duration::from_micros(1);

/// How much a clock may drift, in percent, by the contract.
const DRIFT_PERCENT: u32 = 20;

/// The kind of command that splits a region, in its second byte.
const KIND_SPLIT: u8 = 2;

/// All rounds of all leaders.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    clocks: BTreeMap<StoreId, Clock>,
    reigns: BTreeMap<GroupId, BTreeMap<Term, Reign>>,
    /// What lifts promises, by who campaigns with it for which term.
    forced: BTreeMap<(GroupId, PeerId, Term), Force>,
}

/// What one leader did in its term.
#[derive(Debug)]
struct Reign {
    leader: PeerId,
    /// In order.
    rounds: Vec<Round>,
    /// The last round that each peer echoed, and where the peer lives.
    echoed: BTreeMap<PeerId, (StoreId, Seq)>,
    /// The last split it proposed, and how far its lease reached then.
    split: Option<(LogIndex, Duration)>,
    /// How far its lease reaches on its own clock.
    lease: Duration,
}

/// When a round was first sent, in true time, and for how long an echo of it binds.
#[derive(Clone, Copy, Debug)]
struct Round {
    seq: Seq,
    sent_at: Duration,
    promise: Duration,
}

impl Rounds {
    /// A machine has this clock.
    pub(super) fn on_clock(&mut self, store: StoreId, clock: Clock) {
        self.clocks.insert(store, clock);
    }

    /// C2: whoever echoed a round votes for nobody else in a later term, nor stands for election,
    /// while the echo binds it, over restarts, unless the leader itself handed over.
    pub(super) fn on_send(&mut self, now: Duration, message: &PeerMessage) -> Result<(), String> {
        let PeerBody::Raft(raft) = &message.body else {
            return Ok(());
        };
        let (group, store) = (message.group, message.from.store);
        match &raft.body {
            MessageBody::Append(_) => self.on_append(now, group, raft),
            MessageBody::AppendReply(reply) => {
                let reigns = self.reigns.get_mut(&group);
                if let Some(reign) = reigns.and_then(|reigns| reigns.get_mut(&raft.term)) {
                    let (_, echoed) = reign.echoed.entry(raft.from).or_insert((store, Seq(0)));
                    *echoed = (*echoed).max(reply.seq);
                }
            }
            MessageBody::VoteRequest(request) if request.kind == VoteKind::Vote => {
                self.on_campaign(group, raft.from, request);
                return self.check_free(now, group, raft.from, raft.from, request.campaign);
            }
            MessageBody::VoteReply(reply)
                if reply.kind == VoteKind::Vote && reply.refusal.is_none() =>
            {
                return self.check_free(now, group, raft.from, raft.to, reply.campaign);
            }
            _ => {}
        }
        Ok(())
    }

    fn on_campaign(&mut self, group: GroupId, candidate: PeerId, request: &VoteRequest) {
        if let Some(force) = request.force {
            let known = self.forced.entry((group, candidate, request.campaign));
            let known = known.or_insert(force);
            *known = (*known).max(force);
        }
    }

    fn on_append(&mut self, now: Duration, group: GroupId, raft: &Message) {
        let MessageBody::Append(append) = &raft.body else {
            return;
        };
        let reigns = self.reigns.entry(group).or_default();
        let reign = reigns.entry(raft.term).or_insert_with(|| Reign {
            leader: raft.from,
            rounds: Vec::new(),
            echoed: BTreeMap::new(),
            split: None,
            lease: Duration::ZERO,
        });
        if reign.last() < append.pulse.seq {
            reign.rounds.push(Round {
                seq: append.pulse.seq,
                sent_at: now,
                promise: append.pulse.promise,
            });
        }
        let known = reign.split.map_or(LogIndex(0), |(index, _)| index);
        let news = append.entries.iter();
        let mut news = news.filter(|entry| entry.id.term == raft.term && entry.id.index > known);
        if let Some(split) = news.rfind(|entry| is_split(&entry.payload)) {
            reign.split = Some((split.id.index, reign.lease));
        }
    }

    fn check_free(
        &self,
        now: Duration,
        group: GroupId,
        voter: PeerId,
        candidate: PeerId,
        campaign: Term,
    ) -> Result<(), String> {
        let Some(reigns) = self.reigns.get(&group) else {
            return Ok(());
        };
        let force = self.forced.get(&(group, candidate, campaign)).copied();
        for (term, reign) in reigns.range(..campaign) {
            let Some((store, seq)) = reign.echoed.get(&voter).copied() else {
                continue;
            };
            let is_lifted = force.is_some_and(|force| force >= Force { term: *term, seq });
            let (Some(round), Some(clock)) = (reign.round(seq), self.clocks.get(&store)) else {
                continue;
            };
            let until = clock.true_instant(clock.local(round.sent_at) + round.promise);
            if !is_lifted && reign.leader != candidate && now + ROUNDING < until {
                return Err(format!(
                    "C2: peer {voter} of group {group} votes for {candidate} in term {campaign} \
                     at {now:?}, though round {seq} of term {term} binds it until {until:?}"
                ));
            }
        }
        Ok(())
    }

    /// C2: a lease counts from when a round was sent that a majority of voters echoed. M4: it is
    /// not renewed while the region splits. The configurations are those that may be in force;
    /// `applied` is how far the leader has applied.
    pub(super) fn on_lease(
        &mut self,
        store: StoreId,
        lease: &LeaseCell,
        configurations: &[&Configuration],
        applied: LogIndex,
    ) -> Result<(), String> {
        if configurations.iter().any(|it| is_alone(it)) {
            return Ok(());
        }
        let reigns = self.reigns.get_mut(&lease.group);
        let reign = reigns.and_then(|reigns| reigns.get_mut(&lease.term));
        let (Some(reign), Some(clock)) = (reign, self.clocks.get(&store)) else {
            return Err(format!(
                "C2: store {store} has a lease and sent no round: {lease:?}"
            ));
        };
        let confirmed = configurations.iter().filter_map(|it| reign.confirmed(it));
        let until = confirmed.max().and_then(|seq| reign.round(seq)).map(|it| {
            clock.local(it.sent_at) + it.promise * (100 - DRIFT_PERCENT) / (100 + DRIFT_PERCENT)
        });
        let until = until.unwrap_or_default();
        if lease.valid_until > until + ROUNDING {
            return Err(format!(
                "C2: the lease {lease:?} of store {store} ends at {until:?} by the last round \
                 that a majority has echoed"
            ));
        }
        reign.lease = lease.valid_until;
        match reign.split {
            Some((index, limit)) if applied < index && lease.valid_until > limit => Err(format!(
                "M4: store {store} renews the lease {lease:?} beyond {limit:?}, and a split \
                     at {index} is proposed and not applied: {applied}"
            )),
            _ => Ok(()),
        }
    }

    /// R10: leave to read rests on a round that began after the read was asked for, at `asked`.
    pub(super) fn check_read(
        &self,
        group: GroupId,
        term: Term,
        configuration: &Configuration,
        asked: Duration,
    ) -> Result<(), String> {
        let reign = self.reigns.get(&group).and_then(|it| it.get(&term));
        if is_alone(configuration) {
            return Ok(());
        }
        let confirmed = reign.and_then(|reign| reign.round(reign.confirmed(configuration)?));
        match confirmed {
            Some(round) if round.sent_at >= asked => Ok(()),
            other => Err(format!(
                "R10: group {group} in term {term} lets read what was asked for at {asked:?}; the \
                 last round that a majority has echoed is {other:?}"
            )),
        }
    }
}

impl Reign {
    fn last(&self) -> Seq {
        self.rounds.last().map_or(Seq(0), |round| round.seq)
    }

    /// The last round up to this one.
    fn round(&self, seq: Seq) -> Option<Round> {
        let known = self.rounds.partition_point(|round| round.seq <= seq);
        self.rounds[..known].last().copied()
    }

    /// The last round that a majority of voters has echoed, of each half.
    fn confirmed(&self, configuration: &Configuration) -> Option<Seq> {
        let echoed = |peer: &PeerId| match *peer == self.leader {
            true => self.last(),
            false => self.echoed.get(peer).map_or(Seq(0), |(_, seq)| *seq),
        };
        let reached = |voters: &BTreeSet<PeerId>| {
            let mut all: Vec<Seq> = voters.iter().map(echoed).collect();
            all.sort_unstable();
            // So many have less, which is no majority, and the others are one.
            let fewer = all.len().saturating_sub(1) / 2;
            all.get(fewer).copied()
        };
        let incoming = reached(&configuration.voters)?;
        let outgoing = reached(&configuration.voters_outgoing);
        Some(outgoing.map_or(incoming, |outgoing| outgoing.min(incoming)))
    }
}

/// A single voter needs nobody's echo.
fn is_alone(configuration: &Configuration) -> bool {
    configuration.voters.len() == 1 && configuration.voters_outgoing.is_empty()
}

fn is_split(payload: &Payload) -> bool {
    match payload {
        Payload::Command(command) => command.get(1) == Some(&KIND_SPLIT),
        Payload::Empty | Payload::Membership(_) => false,
    }
}
