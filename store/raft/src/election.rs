//! Elections: who may campaign, who may vote, and what a promise forbids.

use std::time::Duration;

use tinykv_mutants::{Mutant, planted};

use crate::error::StepError;
use crate::leadership::Leadership;
use crate::message::{
    Force, MessageBody, Pulse, Refusal, Seq, TimeoutNow, VoteKind, VoteReply, VoteRequest,
};
use crate::quorum::Verdict;
use crate::raft::{Campaign, Office, Raft, Wait};
use crate::types::{EntryId, Payload, PeerId, Term};

impl Raft {
    /// How long a promise still forbids to vote or campaign; `None` if it does not. A force
    /// lifts a promise made up to its round, but never one that was forgotten in a restart. The
    /// first candidate of a range lifts what a newborn owes the parent's leader.
    fn bound_for(&self, force: Option<Force>, is_first: bool) -> Option<Duration> {
        let by_restart = self.restart_until.saturating_sub(self.now);
        let by_birth = if is_first {
            Duration::ZERO
        } else {
            self.newborn_until.saturating_sub(self.now)
        };
        let is_lifted = force.is_some_and(|force| self.promise.to.is_none_or(|to| to <= force))
            || planted(Mutant::PromiseBroken);
        let by_echo = if is_lifted {
            Duration::ZERO
        } else {
            self.promise.until.saturating_sub(self.now)
        };
        let by_sleep = if self.asleep && !is_lifted {
            self.config.promise
        } else {
            Duration::ZERO
        };
        let bound = by_restart.max(by_birth).max(by_echo).max(by_sleep);
        (bound > Duration::ZERO).then_some(bound)
    }

    /// Echoing the pulse binds this peer; returns what to echo. A promise longer than a restart
    /// would keep is not given.
    pub(crate) fn promise(&mut self, pulse: Pulse) -> Seq {
        if pulse.promise > self.config.promise {
            return Seq(0);
        }
        let to = Force {
            term: self.term,
            seq: pulse.seq,
        };
        self.promise.to = self.promise.to.max(Some(to));
        self.promise.until = self
            .promise
            .until
            .max(self.now.saturating_add(pulse.promise));
        pulse.seq
    }

    /// A committed change that is not applied here makes the own configuration too old to count
    /// votes by (R8).
    fn has_unapplied_membership(&self) -> bool {
        let (applied, commit) = (self.log.applied(), self.log.commit());
        let is_seen = self
            .memberships
            .first()
            .is_some_and(|first| *first <= commit);
        is_seen || applied < self.unseen_upto.min(commit)
    }

    fn may_campaign(&self) -> bool {
        self.configuration.is_voter(self.config.id) && self.installing.is_none()
    }

    /// Campaigns now, or as soon as what forbids it is over.
    pub(crate) fn try_campaign(&mut self) {
        self.begin_campaign(false);
    }

    pub(crate) fn begin_campaign(&mut self, is_first: bool) {
        self.take_office(Office::Follower);
        if !self.may_campaign() {
            // Neither does a learner, or a peer that was removed, hear of a leader any more; its
            // driver has to know that, to ask around.
            self.leader = None;
            return;
        }
        if self.has_unapplied_membership() {
            self.wake_at = Some(self.now);
            return;
        }
        let is_alone = self.configuration.is_only_voter(self.config.id);
        if let Some(bound) = self.bound_for(None, is_first) {
            // Others were bound by the same round; whoever asks first should be alone.
            let spread = if is_alone {
                Duration::ZERO
            } else {
                self.spread()
            };
            self.wake_at = Some(self.now + bound + spread);
            return;
        }
        self.leader = None;
        if is_alone {
            self.stand(None, is_first);
            return;
        }
        let mut campaign = Campaign {
            is_first,
            ..Campaign::default()
        };
        campaign.votes.insert(self.config.id, true);
        self.take_office(Office::PreCandidate(campaign));
        self.ask_for_votes(VoteKind::PreVote, None, is_first);
    }

    /// Becomes a candidate of the next term.
    fn stand(&mut self, force: Option<Force>, is_first: bool) {
        self.enter(Term(self.term.0 + 1));
        self.vote = Some(self.config.id);
        self.take_office(Office::Candidate(Campaign {
            is_first,
            ..Campaign::default()
        }));
        self.ask_for_votes(VoteKind::Vote, force, is_first);
    }

    fn ask_for_votes(&mut self, kind: VoteKind, force: Option<Force>, first: bool) {
        let (campaign, wait) = match kind {
            VoteKind::PreVote => (Term(self.term.0 + 1), Wait::No),
            VoteKind::Vote => (self.term, Wait::Persist),
        };
        let last = self.log.last();
        for peer in self.configuration.all_voters() {
            if peer != self.config.id {
                let request = VoteRequest {
                    kind,
                    campaign,
                    last,
                    force,
                    first,
                };
                self.send(peer, MessageBody::VoteRequest(request), wait);
            }
        }
    }

    pub(crate) fn on_vote_request(
        &mut self,
        from: PeerId,
        term: Term,
        request: &VoteRequest,
    ) -> Result<(), StepError> {
        let is_sound = match request.kind {
            VoteKind::PreVote => term.0 + 1 == request.campaign.0,
            VoteKind::Vote => term == request.campaign,
        };
        if !is_sound {
            return Err(StepError::Malformed(
                "a campaign for another term than the sender's",
            ));
        }
        let refusal = self.judge(from, request);
        // A candidate does not hear this leader, which slept.
        self.wake_leader();
        match (refusal, request.kind) {
            (None, VoteKind::Vote) => {
                self.vote = Some(from);
                self.elapsed = 0;
            }
            (None, VoteKind::PreVote) => self.give_way(),
            (Some(_), _) => {}
        }
        let wait = match (refusal, request.kind) {
            (None, VoteKind::Vote) => Wait::Persist,
            _ => Wait::No,
        };
        let (kind, campaign) = (request.kind, request.campaign);
        let commit = self.log.id(self.log.commit());
        let reply = VoteReply {
            kind,
            campaign,
            refusal,
            commit,
        };
        self.send(from, MessageBody::VoteReply(reply), wait);
        Ok(())
    }

    /// Who grants a pre-vote lets its candidate go first: two that stand in the same term only take
    /// votes from each other.
    fn give_way(&mut self) {
        if let Some(at) = self.wake_at {
            self.wake_at = Some(at.max(self.now + self.spread_max()));
        }
        let ticks = self.config.heartbeat_ticks + 1;
        self.elapsed = self.elapsed.min(self.timeout.saturating_sub(ticks));
    }

    /// Time enough for an election among peers that are well, and little against a promise.
    fn spread_max(&self) -> Duration {
        self.config.promise / 5
    }

    fn spread(&mut self) -> Duration {
        const STEPS: u32 = 64;
        self.spread_max() * self.prng.between(0, STEPS) / STEPS
    }

    /// Whether to refuse the vote; enters the term of a vote that no promise forbids.
    fn judge(&mut self, from: PeerId, request: &VoteRequest) -> Option<Refusal> {
        if let Some(bound) = self.bound_for(request.force, request.first) {
            return Some(Refusal::Promised(bound));
        }
        let is_behind = request.last < self.log.last() && !planted(Mutant::VoteForShorterLog);
        match request.kind {
            VoteKind::PreVote => {
                (request.campaign <= self.term || is_behind).then_some(Refusal::Behind)
            }
            VoteKind::Vote if request.campaign < self.term => Some(Refusal::Behind),
            VoteKind::Vote => {
                if request.campaign > self.term {
                    self.enter(request.campaign);
                }
                let is_free = match self.vote {
                    None => self.leader.is_none(),
                    Some(vote) => vote == from || planted(Mutant::VotedTwice),
                };
                match (is_behind, is_free) {
                    (true, _) => Some(Refusal::Behind),
                    (false, false) => Some(Refusal::Voted),
                    (false, true) => None,
                }
            }
        }
    }

    pub(crate) fn on_vote_reply(
        &mut self,
        from: PeerId,
        term: Term,
        reply: &VoteReply,
    ) -> Result<(), StepError> {
        if !self.configuration.is_voter(from) {
            return Ok(());
        }
        if term > self.term {
            self.enter(term);
        }
        self.learn_commit(reply.commit);
        let (now, limit) = (self.now, self.config.promise);
        let next = Term(self.term.0 + 1);
        // A pre-candidate may have stood in its term before: late votes answer another question.
        let campaign = match (&mut self.office, reply.kind) {
            (Office::PreCandidate(it), VoteKind::PreVote) if reply.campaign == next => it,
            (Office::Candidate(it), VoteKind::Vote) if reply.campaign == self.term => it,
            _ => return Ok(()),
        };
        campaign.votes.insert(from, reply.refusal.is_none());
        if let Some(Refusal::Promised(bound)) = reply.refusal {
            let at = now + bound.min(limit);
            campaign.retry_at = Some(campaign.retry_at.map_or(at, |earlier| earlier.min(at)));
        }
        // Somebody may never answer: the retry does not wait until the campaign is lost.
        self.wake_at = campaign.retry_at;
        self.count_votes();
        Ok(())
    }

    /// What is committed stays so, whoever says it: another group's log may know it as well (a merge).
    /// Of an entry that is not in the log nothing is learnt. A campaign ends if it turns out that its
    /// votes were counted by a configuration that is over.
    pub fn learn_commit(&mut self, commit: EntryId) {
        let is_leader = matches!(self.office, Office::Leader(_));
        if is_leader || self.log.term(commit.index) != Some(commit.term) {
            return;
        }
        self.log.raise_commit(commit.index);
        if !matches!(self.office, Office::Follower) && self.has_unapplied_membership() {
            self.take_office(Office::Follower);
            self.wake_at = Some(self.now);
        }
    }

    /// Moves on if the election is decided.
    pub(crate) fn count_votes(&mut self) {
        let is_own_durable = self.persistence.is_vote_durable(self.term, self.vote);
        let (campaign, is_real) = match &mut self.office {
            Office::PreCandidate(campaign) => (campaign, false),
            Office::Candidate(campaign) => (campaign, true),
            Office::Follower | Office::Leader(_) => return,
        };
        if is_real {
            // The others' grants can overtake the notice that the own vote is durable; nobody
            // leads a term that it might vote in again (section 5.2, D1).
            if !is_own_durable {
                return;
            }
            campaign.votes.insert(self.config.id, true);
        }
        let (retry_at, is_first) = (campaign.retry_at, campaign.is_first);
        match self.configuration.verdict(&campaign.votes) {
            Verdict::Open => {}
            Verdict::Won if is_real => self.lead(),
            Verdict::Won => self.stand(None, is_first),
            Verdict::Lost => {
                self.take_office(Office::Follower);
                self.wake_at = retry_at;
            }
        }
    }

    /// Becomes the leader of the term.
    fn lead(&mut self) {
        assert!(
            self.persistence
                .is_vote_durable(self.term, Some(self.config.id)),
            "leads term {} before its own vote is durable",
            self.term
        );
        let term_start = self.log.last().index.next();
        let lead = Leadership::new(self.config.id, &self.configuration, term_start);
        self.take_office(Office::Leader(Box::new(lead)));
        self.leader = Some(self.config.id);
        self.append_own(Payload::Empty);
    }

    /// Enters a later term as a follower, its leader not known yet.
    pub(crate) fn enter(&mut self, term: Term) {
        assert!(term > self.term, "term {term} after term {}", self.term);
        // What waits for the disk was said in an older term and is moot.
        self.outbox.messages.retain(|(_, wait)| *wait == Wait::No);
        self.term = term;
        self.vote = None;
        self.leader = None;
        self.summoned = None;
        if !matches!(self.office, Office::Follower) {
            self.take_office(Office::Follower);
        }
    }

    /// Gives up the office, in the same term.
    pub(crate) fn step_down(&mut self) {
        self.take_office(Office::Follower);
        self.leader = None;
    }

    /// Heard from the leader of `term`, which is not older than the own.
    pub(crate) fn follow(&mut self, leader: PeerId, term: Term) {
        if term > self.term {
            self.enter(term);
        }
        if !matches!(self.office, Office::Follower) {
            self.take_office(Office::Follower);
        }
        self.leader = Some(leader);
        self.asleep = false;
        self.elapsed = 0;
        self.wake_at = None;
    }

    /// The leader hands its office over.
    pub(crate) fn on_timeout_now(
        &mut self,
        from: PeerId,
        term: Term,
        timeout: TimeoutNow,
    ) -> Result<(), StepError> {
        let force = timeout.force;
        if force.term != term {
            return Err(StepError::Malformed(
                "a force of another term than the sender's",
            ));
        }
        let is_from_leader = term == self.term && self.leader == Some(from);
        if is_from_leader && matches!(self.office, Office::Follower) {
            self.awake();
            self.summoned = Some(force);
            self.follow_summons();
        }
        Ok(())
    }

    /// Stands for election as the leader wished, once every change is applied that is known to be
    /// committed; not if a later round has bound this peer again.
    pub(crate) fn follow_summons(&mut self) {
        if self.has_unapplied_membership() {
            return;
        }
        if let Some(force) = self.summoned.take()
            && self.may_campaign()
            && self.is_willing()
            && self.bound_for(Some(force), false).is_none()
        {
            self.stand(Some(force), false);
        }
    }
}
