//! From events to groups: who is meant, who may be born, who is dead.

use std::collections::BTreeMap;
use std::sync::Arc;

use tinykv_mutants::{Mutant, planted};
use tinykv_raft::{GroupId, LogIndex, MessageBody, PeerId};

use tinykv_wal::Record;

use super::Shard;
use crate::effects::{DropReason, PersistToken};
use crate::event::{AdminRequest, Birth, Event, PeerBody, PeerMessage, Rest};
use crate::grave::{Grave, Stage};
use crate::machine::StateMachine;
use crate::outcome::{Doubt, Refusal, WaiterId};
use crate::region::{Peer, RegionEpoch, StoreId};
use crate::replica::Replica;
use crate::run::{Durable, Run};

impl<S: StateMachine> Shard<S> {
    pub(super) fn dispatch(&mut self, event: Event, run: &mut Run<'_, S::Reply>) {
        match event {
            Event::Tick => self.on_tick(run),
            Event::Message(message) => self.on_message(message, run),
            Event::Propose(proposal) => {
                if let Some(replica) = self.serve(proposal.group, Some(proposal.waiter), run) {
                    replica.on_propose(proposal, run);
                }
            }
            Event::Read(request) => {
                if let Some(replica) = self.serve(request.group, Some(request.waiter), run) {
                    replica.on_read(&request, run);
                }
            }
            Event::Admin(request) => self.on_admin(request, run),
            Event::Persisted(token) => self.on_persisted(token, run),
            Event::Local(message) => self.on_local(message, run),
            Event::EntriesFetched { request, entries } => {
                if let Some(replica) = self.touch(request.group) {
                    replica.on_entries(request, entries, run);
                }
            }
            Event::ValuesFetched {
                group,
                entry,
                values,
            } => {
                if let Some(replica) = self.touch(group) {
                    replica.on_values(entry, values, run);
                }
            }
            Event::SnapshotReceived(received) => self.on_snapshot_received(*received, run),
            Event::SnapshotInstalled {
                group,
                peer,
                snapshot,
                result,
            } => {
                if let Some(replica) = self.touch(group).filter(|r| r.peer().id == peer) {
                    replica.on_snapshot_installed(snapshot, result, run);
                }
            }
            Event::SnapshotSent {
                group,
                to,
                delivered,
            } => {
                if let Some(replica) = self.touch(group) {
                    replica.on_snapshot_sent(to, delivered);
                }
            }
            Event::Destroyed { group, peer } => {
                if let Some(grave) = self.grave_of(group, peer) {
                    grave.on_dropped(group, run);
                    self.territory.release(group);
                }
            }
            Event::Flushed(flushed) => self.on_flushed(&flushed, run),
            Event::ReadInLease(group) => {
                if let Some(replica) = self.replicas.get_mut(&group) {
                    replica.on_read_in_lease();
                }
            }
            Event::LogCut(cuts) => {
                for (group, upto) in cuts {
                    if let Some(replica) = self.touch(group) {
                        replica.on_log_cut(upto);
                    }
                }
            }
            Event::Create(birth) => self.on_create(birth, run),
            Event::Destroy { group, peer } => {
                if let Some(replica) = self.touch(group).filter(|r| r.peer().id == peer) {
                    replica.leave();
                }
            }
            Event::ForgetTombstone { group, peer } => self.on_forget(group, peer, run),
            Event::StoreUnreachable(store) => self.on_store_unreachable(store),
            Event::StoreDead(store) => self.on_store_dead(store, run),
            Event::StoreFresh(store) => {
                run.fresh.insert(store);
            }
            Event::StoreLost(store) => self.on_store_lost(store, run),
            Event::SetWillingness(willingness) => {
                for (group, replica) in &mut self.replicas {
                    replica.set_willingness(willingness, run);
                    self.touched.insert(*group);
                }
            }
            Event::NewPeersFrom(first) => {
                self.new_peers_from.get_or_insert(first);
            }
            Event::EvictLeaders { deadline } => {
                for (group, replica) in &mut self.replicas {
                    replica.evict(deadline, run);
                    self.touched.insert(*group);
                }
            }
            Event::Shutdown => self.on_shutdown(run),
        }
    }

    pub(super) fn touch(&mut self, group: GroupId) -> Option<&mut Replica<S>> {
        let replica = self.replicas.get_mut(&group)?;
        self.touched.insert(group);
        Some(replica)
    }

    /// The replica that a request is for; if there is none, the request is answered.
    fn serve(
        &mut self,
        group: GroupId,
        waiter: Option<WaiterId>,
        run: &mut Run<'_, S::Reply>,
    ) -> Option<&mut Replica<S>> {
        if self.is_shut_down {
            run.refuse(waiter, Refusal::ShuttingDown);
            return None;
        }
        if !self.replicas.contains_key(&group) {
            run.refuse(waiter, Refusal::RegionNotFound);
            return None;
        }
        self.touch(group)
    }

    fn on_admin(&mut self, request: AdminRequest, run: &mut Run<'_, S::Reply>) {
        if let Some(replica) = self.serve(request.group, request.waiter, run) {
            replica.on_admin(request, run);
        }
    }

    fn on_tick(&mut self, run: &mut Run<'_, S::Reply>) {
        if self.is_shut_down {
            return;
        }
        // Whoever is still awake at the end of the run is noted again.
        for group in std::mem::take(&mut self.sleepers.awake) {
            if let Some(replica) = self.touch(group) {
                replica.on_tick(run);
            }
        }
    }

    fn on_persisted(&mut self, token: PersistToken, run: &mut Run<'_, S::Reply>) {
        while self
            .unpersisted
            .front()
            .is_some_and(|(first, _)| *first <= token)
        {
            let Some((_, awaiting)) = self.unpersisted.pop_front() else {
                break;
            };
            for waiting in awaiting {
                let (group, peer) = (waiting.group, waiting.peer);
                if let Durable::Tombstone = waiting.what {
                    self.on_tombstone_durable(group, peer, run);
                    continue;
                }
                let Some(replica) = self.touch(group).filter(|r| r.peer().id == peer) else {
                    continue;
                };
                let parent = replica.parent().map(|parent| parent.group);
                match waiting.what {
                    Durable::Birth => {
                        replica.on_birth_durable(run);
                        // The parent can apply the split now.
                        self.touched.extend(parent);
                    }
                    Durable::Ready(number) => replica.on_ready_durable(number),
                    Durable::Installing(snapshot) => replica.on_installing_durable(snapshot, run),
                    Durable::Tombstone => {}
                }
            }
        }
    }

    fn on_tombstone_durable(&mut self, group: GroupId, peer: PeerId, run: &mut Run<'_, S::Reply>) {
        let Some(grave) = self.grave_of(group, peer) else {
            return;
        };
        let parent = grave.record.parent;
        let awaits_split = parent.is_some_and(|parent| self.is_split_ahead(parent));
        if awaits_split {
            self.graves_awaiting.insert(group);
        }
        if let Some(grave) = self.grave_of(group, peer) {
            match awaits_split {
                true => grave.stage = Stage::AwaitingSplit,
                false => grave.on_recorded::<S>(group, run),
            }
        }
    }

    pub(super) fn grave_of(&mut self, group: GroupId, peer: PeerId) -> Option<&mut Grave> {
        self.graves
            .get_mut(&group)
            .filter(|grave| grave.record.peer.id == peer)
    }

    fn on_message(&mut self, message: PeerMessage, run: &mut Run<'_, S::Reply>) {
        let (group, from) = (message.group, message.from.id);
        // Only a leader that counts the receiver among its peers sends appends. And only of those
        // who were born with it in a split does a candidate ask a vote that may not live yet, because
        // the parents there jumped over the split by a snapshot: without their votes the group could
        // never begin. Such a peer has voted for nobody and promised nothing.
        let creates = matches!(
            &message.body,
            PeerBody::Raft(raft)
                if matches!(raft.body, MessageBody::Append(_) | MessageBody::VoteRequest(_))
        );
        let territory = Arc::clone(&self.territory);
        match self.addressee(&message, creates, run) {
            Ok(replica) => {
                replica.hear_range(&message, &territory);
                replica.on_message(message, run);
            }
            Err(reason) => {
                match message.body {
                    PeerBody::Rest(Rest::Wake) => self.disown(message, run),
                    PeerBody::Merge(_) => {}
                    _ => self.tell_of_merge(&message, run),
                }
                run.drop_message(group, from, reason);
            }
        }
    }

    /// Whoever waits for a peer that is not here waits for nobody.
    fn disown(&self, message: PeerMessage, run: &mut Run<'_, S::Reply>) {
        if message.to.store == self.config.store {
            run.effects.messages.push(PeerMessage {
                from: message.to,
                to: message.from,
                epoch: RegionEpoch::default(),
                keep_after: LogIndex(0),
                range: None,
                body: PeerBody::Rest(Rest::Disown),
                ..message
            });
        }
    }

    /// The peer a message is for. A leader's message may call it into life; a message for a
    /// younger peer than lives here says that the elder was removed.
    pub(super) fn addressee(
        &mut self,
        message: &PeerMessage,
        creates: bool,
        run: &mut Run<'_, S::Reply>,
    ) -> Result<&mut Replica<S>, DropReason> {
        let (group, to) = (message.group, message.to);
        if to.store != self.config.store || to.id == PeerId(0) || message.from.id == to.id {
            return Err(DropReason::Misaddressed);
        }
        if self.is_shut_down {
            return Err(DropReason::OutOfService);
        }
        if self
            .graves
            .get(&group)
            .is_some_and(|grave| to.id <= grave.record.peer.id)
            && !planted(Mutant::DeadPeerRevived)
        {
            return Err(DropReason::DeadPeer);
        }
        if let Some(replica) = self.replicas.get_mut(&group) {
            let here = replica.peer().id;
            if to.id > here && creates && message.epoch.conf_ver > replica.epoch().conf_ver {
                replica.on_removed();
                self.touched.insert(group);
            }
            match to.id.cmp(&here) {
                std::cmp::Ordering::Less => return Err(DropReason::DeadPeer),
                std::cmp::Ordering::Greater => return Err(DropReason::YoungerPeer),
                std::cmp::Ordering::Equal => {}
            }
        } else {
            self.awaken(message, creates, run)?;
        }
        self.touch(group).ok_or(DropReason::UnknownGroup)
    }

    fn on_create(&mut self, birth: Birth, run: &mut Run<'_, S::Reply>) {
        let group = birth.state.region.id;
        let Peer { id, store, .. } = birth.peer;
        let is_dead = self
            .graves
            .get(&group)
            .is_some_and(|grave| id <= grave.record.peer.id || grave.stage != Stage::Closed);
        let is_member = birth
            .state
            .region
            .peer(id)
            .is_some_and(|peer| peer.store == store);
        let is_here = store == self.config.store && is_member;
        if self.is_shut_down || is_dead || !is_here || self.replicas.contains_key(&group) {
            return;
        }
        let range = birth.state.region.range();
        if self.territory.claim_first(group, &range).is_err() {
            return;
        }
        let machine = (self.factory)(group);
        let replica = Replica::found(birth, machine, run);
        self.replicas.insert(group, replica);
        self.touched.insert(group);
    }

    fn on_forget(&mut self, group: GroupId, peer: PeerId, run: &mut Run<'_, S::Reply>) {
        let Some(grave) = self.grave_of(group, peer) else {
            return;
        };
        let (stage, parent) = (grave.stage, grave.record.parent);
        let may_return = parent.is_some_and(|parent| self.is_split_possible(parent));
        if stage == Stage::Closed && !may_return {
            self.graves.remove(&group);
            run.record(Record::ForgetTombstone { group });
        }
    }

    fn on_flushed(&mut self, flushed: &BTreeMap<GroupId, LogIndex>, run: &mut Run<'_, S::Reply>) {
        for (group, index) in flushed {
            if let Some(replica) = self.touch(*group) {
                replica.on_flushed(*index, run);
            }
        }
    }

    fn on_store_unreachable(&mut self, store: StoreId) {
        for (group, replica) in &mut self.replicas {
            replica.on_store_unreachable(store);
            self.touched.insert(*group);
        }
    }

    fn on_shutdown(&mut self, run: &mut Run<'_, S::Reply>) {
        self.is_shut_down = true;
        for replica in self.replicas.values_mut() {
            replica.fail_all(Doubt::ShuttingDown, &Refusal::ShuttingDown, run);
        }
    }
}
