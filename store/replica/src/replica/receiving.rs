//! What reaches one group from outside: messages, time, answers of the shell.

use std::time::Duration;

use bytes::Bytes;
use tinykv_raft::{Entry, EntryId, LogIndex, Message, MessageBody, ReadyNumber, Role};
use tinykv_wal::Record;

use super::{Replica, STRANGERS_MAX};
use crate::command::is_readable;
use crate::effects::{DropReason, EntryFetch, RegionChange};
use crate::event::{MergeWord, PeerBody, PeerMessage, Rest};
use crate::machine::{ReadError, StateMachine};
use crate::outcome::{Doubt, Outcome, Refusal};
use crate::region::{Peer, RegionEpoch, StoreId};
use crate::run::Run;

impl<S: StateMachine> Replica<S> {
    /// A message whose envelope names this peer.
    pub(crate) fn on_message(&mut self, message: PeerMessage, run: &mut Run<'_, S::Reply>) {
        let (group, from) = (self.group, message.from);
        if let Err(reason) = self.take_message(message, run) {
            run.drop_message(group, from.id, reason);
        }
    }

    fn take_message(
        &mut self,
        message: PeerMessage,
        run: &mut Run<'_, S::Reply>,
    ) -> Result<(), DropReason> {
        let is_silent = self.is_leaving || self.leaves_after_split || self.is_stopped();
        if is_silent || (self.awaits_parent && !self.damaged) {
            return Err(DropReason::OutOfService);
        }
        // Also for a damaged peer: that it is replaced and removed is what it waits for.
        if let PeerBody::Gone = message.body {
            return self.on_gone(&message);
        }
        if let PeerBody::Merge(MergeWord::Merged { into }) = message.body {
            self.on_merged_elsewhere(into, run);
            return Ok(());
        }
        if self.damaged {
            if let PeerBody::Rest(Rest::Wake) = message.body {
                self.on_rest(message.from, Rest::Wake, run);
            }
            // It is somebody to ask.
            self.remember(message.from);
            return Err(DropReason::OutOfService);
        }
        let asker = match message.body {
            PeerBody::AskedBy(removed) => removed,
            _ => message.from,
        };
        if self.knows_removed(asker, message.epoch) {
            if self.is_leader() && self.raft.may_dismiss() {
                let gone = self.envelope(asker, PeerBody::Gone);
                run.effects.messages.push(gone);
                return Err(DropReason::NotMember);
            }
            self.pass_on(&message, run);
            // Its vote may be needed, and so may be its questions for one.
            if let PeerBody::Probe | PeerBody::AskedBy(_) = message.body {
                return Err(DropReason::NotMember);
            }
        }
        if let PeerBody::Rest(rest) = message.body {
            self.on_rest(message.from, rest, run);
            return Ok(());
        }
        let is_asked_asleep = self.is_asked_asleep(&message);
        let raft = match message.body {
            PeerBody::Raft(raft) => raft,
            PeerBody::Merge(word) => {
                self.on_merge_word(word, run);
                return Ok(());
            }
            _ => return Ok(()),
        };
        if raft.from != message.from.id || raft.to != self.peer.id {
            return Err(DropReason::Misaddressed);
        }
        self.check_content(&raft, run)?;
        self.remember(message.from);
        let from = raft.from;
        self.raft.step(raft, run.now).map_err(DropReason::Refused)?;
        if is_asked_asleep {
            self.rouse(run);
        }
        if self.raft.leader() == Some(from) {
            self.log.leader_keeps_after = message.keep_after;
        }
        if let Some(heard) = self.heard.get_mut(&from) {
            *heard = run.now;
        }
        Ok(())
    }

    /// Somebody with a newer membership says that this peer is not in it. Ids are never used
    /// again, so that is final.
    fn on_gone(&mut self, message: &PeerMessage) -> Result<(), DropReason> {
        let here = self.epoch().conf_ver;
        let knows = self.state.is_some() && self.region.peer(self.peer.id).is_none();
        if message.epoch.conf_ver < here || (message.epoch.conf_ver == here && !knows) {
            return Err(DropReason::NotMember);
        }
        if self.installing.is_some() {
            return Err(DropReason::OutOfService);
        }
        self.on_removed();
        Ok(())
    }

    /// Whether a peer was a member once and, as applied here, is not any more. The epoch is that of
    /// whoever mentions it.
    fn knows_removed(&self, peer: Peer, epoch: RegionEpoch) -> bool {
        self.state.is_some()
            && self.region.peer(peer.id).is_none()
            && epoch.conf_ver <= self.region.epoch.conf_ver
    }

    /// A removed peer that campaigns or asks may know none of those who can dismiss it: whoever leads
    /// now may have been a learner in its time, or nobody. So a follower tells its leader.
    fn pass_on(&self, message: &PeerMessage, run: &mut Run<'_, S::Reply>) {
        let asks = match &message.body {
            PeerBody::Probe => true,
            PeerBody::Raft(raft) => matches!(raft.body, MessageBody::VoteRequest(_)),
            PeerBody::Gone | PeerBody::AskedBy(_) | PeerBody::Rest(_) | PeerBody::Merge(_) => false,
        };
        let leader = self.leader().filter(|leader| leader.id != self.peer.id);
        if let (true, Some(leader)) = (asks, leader) {
            let asked = self.envelope(leader, PeerBody::AskedBy(message.from));
            run.effects.messages.push(asked);
        }
    }

    fn check_content(&self, raft: &Message, run: &Run<'_, S::Reply>) -> Result<(), DropReason> {
        match &raft.body {
            // Its data did not come along: only the shell's receiver may hand in snapshots.
            MessageBody::Snapshot(_) => Err(DropReason::Misaddressed),
            MessageBody::Append(append)
                if !append.entries.is_empty()
                    && self.committed_bytes > run.config.apply_backlog_bytes_max =>
            {
                Err(DropReason::Backlog)
            }
            MessageBody::Append(append) => {
                let bad = append.entries.iter().find(|entry| !is_readable(entry));
                bad.map_or(Ok(()), |entry| Err(DropReason::BadEntry(entry.id)))
            }
            _ => Ok(()),
        }
    }

    /// Keeps the address of a peer that the region (as applied here) does not name.
    pub(super) fn remember(&mut self, peer: Peer) {
        if self.region.peer(peer.id).is_some() {
            self.strangers.remove(&peer.id);
        } else if self.strangers.len() < STRANGERS_MAX || self.strangers.contains_key(&peer.id) {
            self.strangers.insert(peer.id, peer);
        }
    }

    pub(crate) fn on_tick(&mut self, run: &mut Run<'_, S::Reply>) {
        self.expire_requests(run);
        self.leaving_ticks += u32::from(self.is_leaving);
        if self.damaged && !self.is_leaving {
            self.leaderless_ticks = self.leaderless_ticks.saturating_add(1);
            self.probe_membership(run);
        }
        if self.damaged || self.awaits_parent || self.is_leaving || self.is_stopped() {
            return;
        }
        self.tick_merge(run);
        self.raft.tick(run.now);
        self.retry_install(run);
        if self.campaign_at.is_some_and(|at| at <= run.now) {
            self.campaign_at = None;
            self.raft.campaign(run.now);
        }
        self.campaign_as_heir(run);
        if self.raft.leader().is_some() {
            self.leaderless_ticks = 0;
        } else {
            self.leaderless_ticks += 1;
            self.probe_membership(run);
        }
        self.doze(run);
    }

    /// Who cannot campaign would never learn that it was removed while away, or that the word of it
    /// was lost. So it asks.
    fn probe_membership(&mut self, run: &mut Run<'_, S::Reply>) {
        let own = self.region.peer(self.peer.id);
        let is_voter = self.state.is_some() && own.is_some_and(|own| own.role.votes());
        let campaigns = is_voter && !self.damaged;
        let every = run.config.election_ticks_max * 2;
        if campaigns || !self.birth_is_durable || !self.leaderless_ticks.is_multiple_of(every) {
            return;
        }
        let known = self.region.peers.iter().chain(self.strangers.values());
        let others: Vec<Peer> = known
            .filter(|peer| peer.id != self.peer.id)
            .copied()
            .collect();
        for peer in others {
            run.effects
                .messages
                .push(self.envelope(peer, PeerBody::Probe));
        }
    }

    fn expire_requests(&mut self, run: &mut Run<'_, S::Reply>) {
        let (proposed, reads) = self.requests.take_expired(run.now);
        for waiting in proposed {
            let doubt = Outcome::Undetermined(Doubt::DeadlineExceeded);
            run.reply(Some(waiting.waiter), doubt);
        }
        for waiting in reads {
            run.refuse(Some(waiting.waiter), Refusal::DeadlineExceeded);
        }
    }

    pub(crate) fn on_birth_durable(&mut self, run: &mut Run<'_, S::Reply>) {
        self.birth_is_durable = true;
        if self.awaits_parent {
            return;
        }
        if let Some(state) = self.state.clone() {
            // Only now: an engine that knows the group while the log does not would be a riddle.
            self.write_applied(run);
            run.announce(RegionChange::Region {
                peer: self.peer.id,
                state,
            });
            self.announce_leader(run);
        }
    }

    pub(crate) fn on_ready_durable(&mut self, number: ReadyNumber) {
        if !self.damaged {
            self.raft.on_persisted(number);
        }
    }

    pub(crate) fn on_entries(
        &mut self,
        request: EntryFetch,
        entries: Result<Vec<Entry>, ReadError>,
        run: &mut Run<'_, S::Reply>,
    ) {
        if self.damaged || request.peer != self.peer.id {
            return;
        }
        match entries {
            Ok(entries) => self.raft.provide(request.fetch, entries),
            Err(error) => self.on_damage(error, run),
        }
    }

    pub(crate) fn on_values(
        &mut self,
        entry: EntryId,
        values: Result<Vec<(Bytes, Option<Bytes>)>, ReadError>,
        run: &mut Run<'_, S::Reply>,
    ) {
        let Some(parked) = self.parked.as_mut().filter(|parked| parked.entry == entry) else {
            return;
        };
        match values {
            Ok(values) => {
                parked.fetched.extend(values);
                parked.is_waiting = false;
            }
            Err(error) => self.on_damage(error, run),
        }
    }

    /// The transport lost its connection to a store.
    pub(crate) fn on_store_unreachable(&mut self, store: StoreId) {
        if self.damaged {
            return;
        }
        if let Some(peer) = self
            .region
            .peer_on(store)
            .filter(|peer| peer.id != self.peer.id)
        {
            self.raft.on_unreachable(peer.id);
        }
    }

    /// The leader's store is dead. This group's turn comes after `wait`, and its peers take turns.
    /// Nobody is sent to that leader any more, but what was promised to it holds: the core waits
    /// that out.
    pub(crate) fn on_leader_dead(
        &mut self,
        wait: Duration,
        dead: StoreId,
        run: &Run<'_, S::Reply>,
    ) {
        if self.damaged {
            return;
        }
        self.raft.forget_leader();
        let voters = self.region.peers.iter().filter(|peer| peer.role.votes());
        let alive: Vec<Peer> = voters.filter(|peer| peer.store != dead).copied().collect();
        let Some(rank) = alive.iter().position(|peer| peer.id == self.peer.id) else {
            return;
        };
        let turn = (rank as u64 + self.group.0) % alive.len() as u64;
        let turn_ticks = u32::try_from(turn)
            .unwrap_or(u32::MAX)
            .saturating_mul(TURN_TICKS);
        self.campaign_at = Some(run.now + wait + run.config.tick * turn_ticks);
    }

    /// The LSM is durable up to here: cut the log behind what nobody needs.
    pub(crate) fn on_flushed(&mut self, flushed: LogIndex, run: &mut Run<'_, S::Reply>) {
        self.log.flushed = self.log.flushed.max(flushed);
        self.bury_absorbed(run);
        let is_out = self.damaged || self.is_leaving || self.awaits_parent || self.is_stopped();
        if is_out || self.installing.is_some() || self.state.is_none() {
            return;
        }
        let floor = if self.raft.role() == Role::Leader {
            let peers = self.raft.status().peers;
            self.log.leader_floor(&peers, &self.sending, run.config)
        } else {
            self.log.follower_floor(run.config)
        };
        let Some(upto) = self.log.cut(self.applied.index, floor) else {
            return;
        };
        let Some(term) = self.raft.term_at(upto) else {
            return;
        };
        let upto = EntryId { term, index: upto };
        self.raft.compact(upto.index);
        self.log.on_cut(upto, self.raft.last().index);
        run.record(Record::Truncated {
            group: self.group,
            upto,
        });
    }

    /// The engine has cut the log by itself.
    pub(crate) fn on_log_cut(&mut self, upto: EntryId) {
        let is_news = upto.index > self.log.truncated.index && upto.index <= self.applied.index;
        if is_news && !self.damaged && self.installing.is_none() {
            self.raft.compact(upto.index);
            self.log.on_cut(upto, self.raft.last().index);
        }
    }
}

/// Ticks between the campaigns of two peers of one group: longer than an election takes.
const TURN_TICKS: u32 = 4;
