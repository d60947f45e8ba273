//! Snapshots, as states: being sent, being received, being installed.

use std::collections::BTreeSet;
use std::sync::Arc;

use tinykv_mutants::{Mutant, planted};
use tinykv_raft::{
    EntryId, GroupId, LogIndex, Message, MessageBody, PeerId, Snapshot, SnapshotFailed,
    SnapshotMetadata,
};
use tinykv_wal::Record;

use super::{Install, Offer, Replica, Stopped};
use crate::effects::{DropReason, RegionChange, SnapshotInstall, SnapshotSend};
use crate::event::{InstallError, LocalBody, PeerBody, PeerMessage, ReceivedSnapshot};
use crate::machine::StateMachine;
use crate::outcome::{Doubt, Outcome};
use crate::record::InstallRecord;
use crate::region::Region;
use crate::run::{Durable, Run};
use crate::territory::Territory;

impl<S: StateMachine> Replica<S> {
    /// Asks the shell for the snapshots that the core wants sent, as of what this run applied.
    pub(super) fn send_snapshots(&mut self, run: &mut Run<'_, S::Reply>) {
        for request in std::mem::take(&mut self.snapshots_wanted) {
            let (Some(state), Some(to)) = (self.state.clone(), self.find_peer(request.to)) else {
                self.raft
                    .on_snapshot_status(request.to, Err(SnapshotFailed));
                continue;
            };
            if self.applied.index < request.at_least.index {
                self.raft
                    .on_snapshot_status(request.to, Err(SnapshotFailed));
                continue;
            }
            let metadata = SnapshotMetadata {
                last: self.applied,
                configuration: self.region.configuration(),
            };
            let message = Message {
                from: self.peer.id,
                to: request.to,
                term: request.term,
                body: MessageBody::Snapshot(Snapshot {
                    metadata: metadata.clone(),
                }),
            };
            self.sending.insert(request.to, self.applied);
            run.effects.snapshot_sends.push(SnapshotSend {
                message: self.envelope(to, PeerBody::Raft(message)),
                metadata,
                state,
                ranges: S::ranges(&self.region),
            });
        }
    }

    pub(crate) fn on_snapshot_sent(&mut self, to: PeerId, delivered: bool) {
        if self.damaged {
            return;
        }
        let Some(snapshot) = self.sending.remove(&to) else {
            return;
        };
        let result = if delivered {
            Ok(snapshot)
        } else {
            Err(SnapshotFailed)
        };
        self.raft.on_snapshot_status(to, result);
    }

    /// Claims the keys of a snapshot's region, beside those whose data it replaces.
    /// `sources` die with its installation.
    pub(crate) fn claim_for(
        &self,
        region: &Region,
        sources: &Stopped,
        territory: &Territory,
    ) -> Result<(), GroupId> {
        if self.installing.is_some() || self.offered.is_some() {
            // It will be refused, and what the other one claimed stays claimed.
            return Ok(());
        }
        let mut range = region.range();
        if let Some(before) = self.region() {
            range = range.hull(&before.range());
        }
        for source in sources.iter().filter_map(|(_, it)| it.leftover.as_ref()) {
            range = range.hull(&source.range());
        }
        let dying: BTreeSet<GroupId> = sources.iter().map(|(group, _)| *group).collect();
        territory.claim_beside(self.group, &range, &dying)
    }

    /// What was not wanted claims nothing.
    pub(crate) fn settle_claim(&self, territory: &Territory) {
        let is_idle = self.offered.is_none() && self.installing.is_none();
        let region = self.region().filter(|_| is_idle);
        territory.hold(region.map(|region| (self.group, region.range())));
    }

    /// A peer without a region follows what its leader tells of it, as far as nobody else is in the
    /// way.
    pub(crate) fn hear_range(&self, message: &PeerMessage, territory: &Territory) {
        if let Some(range) = &message.range
            && self.state.is_none()
            && self.offered.is_none()
            && self.installing.is_none()
        {
            // Refused, it keeps what it has; its snapshot will be refused, too.
            let _unchanged = territory.claim(self.group, range);
        }
    }

    /// Offers a received snapshot to the core. Whether it is wanted shows in the next Ready.
    /// `sources` were absorbed by its region and have stopped here; they die with its installation.
    pub(crate) fn on_snapshot_received(
        &mut self,
        received: ReceivedSnapshot,
        sources: Stopped,
        run: &mut Run<'_, S::Reply>,
    ) {
        let ReceivedSnapshot {
            message,
            state,
            handle,
        } = received;
        let (group, from) = (self.group, message.from.id);
        let reason = match self.offer_snapshot(&message, &state, run) {
            Ok(()) => {
                self.offered = Some(Offer {
                    state,
                    handle,
                    sources,
                });
                return;
            }
            Err(reason) => reason,
        };
        self.let_go_on(sources, run);
        run.effects.snapshot_discards.push(handle);
        run.drop_message(group, from, reason);
    }

    /// Whether a snapshot could be taken now.
    pub(crate) fn admit_snapshot(&self, run: &mut Run<'_, S::Reply>) -> Result<(), DropReason> {
        if self.damaged || self.is_leaving || self.awaits_parent || self.is_stopped() {
            return Err(DropReason::OutOfService);
        }
        if !self.is_split_flushed() && !planted(Mutant::SnapshotBeforeSplitFlushed) {
            run.effects.flushes.push(self.group);
            return Err(DropReason::SnapshotNotWanted);
        }
        let is_busy = self.installing.is_some() || self.offered.is_some();
        if is_busy || self.merging.arriving.is_some() {
            return Err(DropReason::SnapshotNotWanted);
        }
        Ok(())
    }

    fn offer_snapshot(
        &mut self,
        message: &PeerMessage,
        state: &crate::region::RegionState,
        run: &mut Run<'_, S::Reply>,
    ) -> Result<(), DropReason> {
        self.admit_snapshot(run)?;
        let PeerBody::Raft(raft) = &message.body else {
            return Err(DropReason::Misaddressed);
        };
        let MessageBody::Snapshot(snapshot) = &raft.body else {
            return Err(DropReason::Misaddressed);
        };
        let is_consistent = raft.from == message.from.id
            && raft.to == self.peer.id
            && state.region.id == self.group
            && state.region.epoch.is_possible()
            && state.region.configuration() == snapshot.metadata.configuration;
        if !is_consistent {
            return Err(DropReason::Misaddressed);
        }
        let is_member = state.region.peer(self.peer.id).is_some();
        if !is_member || state.region.epoch.is_behind(self.epoch()) {
            return Err(DropReason::SnapshotNotWanted);
        }
        self.remember(message.from);
        self.raft
            .step(raft.clone(), run.now)
            .map_err(DropReason::Refused)
    }

    /// The core did not want it.
    pub(super) fn discard_offer(&mut self, run: &mut Run<'_, S::Reply>) {
        if let Some(offer) = self.offered.take() {
            run.effects.snapshot_discards.push(offer.handle);
            self.let_go_on(offer.sources, run);
        }
    }

    /// The core wants the offered snapshot: record that, then have it ingested.
    pub(super) fn begin_install(
        &mut self,
        metadata: SnapshotMetadata,
        run: &mut Run<'_, S::Reply>,
    ) {
        let offer = self
            .offered
            .take()
            .expect("the core installs only what was offered");
        let before = self.region().cloned();
        if before.is_some() {
            // Nobody reads here from now on: the keys may be dropped, or be another region's, before
            // the new state is in force.
            run.announce(RegionChange::Gone {
                group: self.group,
                peer: self.peer.id,
            });
        }
        let leftovers = offer
            .sources
            .iter()
            .filter_map(|(_, it)| it.leftover.clone());
        let absorbed: Vec<Region> = leftovers.collect();
        let record = InstallRecord {
            handle: offer.handle,
            before: before.as_ref().map(|region| region.as_ref().clone()),
            after: offer.state.clone(),
            absorbed: absorbed.clone(),
        };
        // One batch: whoever restarts finds the installation under way and its sources dead, or neither.
        for (source, tombstone) in &offer.sources {
            run.record(Record::Tombstone {
                group: *source,
                payload: tombstone.encode(),
            });
        }
        run.record(Record::Installing {
            group: self.group,
            snapshot: metadata.last,
            payload: record.encode(),
        });
        self.await_durable(Durable::Installing(metadata.last), run);
        self.committed.clear();
        self.committed_bytes = 0;
        self.parked = None;
        self.splitting = None;
        self.merging.absorbing = None;
        for proposed in self.requests.take_skipped(metadata.last.index) {
            let doubt = Outcome::Undetermined(Doubt::SnapshotInstalled);
            run.reply(Some(proposed.waiter), doubt);
        }
        self.installing = Some(Install {
            metadata,
            state: Arc::new(offer.state),
            before,
            absorbed,
            sources: offer.sources,
            handle: offer.handle,
            is_refused: false,
        });
    }

    /// The record is durable: now the data may be replaced.
    pub(crate) fn on_installing_durable(&mut self, snapshot: EntryId, run: &mut Run<'_, S::Reply>) {
        let is_it = |install: &&mut Install| install.metadata.last == snapshot;
        if let Some(install) = self.installing.as_mut().filter(is_it) {
            for (source, tombstone) in std::mem::take(&mut install.sources) {
                let recorded = Some(Box::new(tombstone));
                self.say(source, LocalBody::Die { recorded }, run);
            }
            self.ask_for_install(run);
        }
    }

    /// Asks again, if the shell could not start.
    pub(super) fn retry_install(&mut self, run: &mut Run<'_, S::Reply>) {
        if self
            .installing
            .as_ref()
            .is_some_and(|install| install.is_refused)
        {
            self.ask_for_install(run);
        }
    }

    fn ask_for_install(&mut self, run: &mut Run<'_, S::Reply>) {
        let Some(install) = &mut self.installing else {
            return;
        };
        install.is_refused = false;
        let mut drop = S::ranges(&install.state.region);
        let before = install.before.iter().map(Arc::as_ref);
        for range in before.chain(&install.absorbed).flat_map(S::ranges) {
            if !drop.contains(&range) {
                drop.push(range);
            }
        }
        if planted(Mutant::SnapshotLeavesOldKeys) {
            drop.clear();
        }
        run.effects.snapshot_installs.push(SnapshotInstall {
            group: self.group,
            peer: self.peer,
            snapshot: install.metadata.last,
            state: install.state.clone(),
            drop,
            handle: install.handle,
        });
    }

    pub(crate) fn on_snapshot_installed(
        &mut self,
        snapshot: EntryId,
        result: Result<(), InstallError>,
        run: &mut Run<'_, S::Reply>,
    ) {
        let Some(install) = &mut self.installing else {
            return;
        };
        if install.metadata.last != snapshot {
            return;
        }
        match result {
            Ok(()) => {}
            Err(InstallError::Overlap(_)) if !self.damaged => {
                install.is_refused = true;
                return;
            }
            Err(InstallError::Overlap(_)) => {
                self.installing = None;
                return;
            }
            Err(InstallError::Damaged(error)) => {
                // Nobody works on it any more, so that the peer can be buried.
                self.installing = None;
                return self.on_damage(error, run);
            }
        }
        let install = self.installing.take().expect("it was looked at above");
        let record = InstallRecord {
            handle: install.handle,
            before: None,
            after: install.state.as_ref().clone(),
            absorbed: Vec::new(),
        };
        run.record(Record::Installed {
            group: self.group,
            snapshot,
            payload: record.encode(),
        });
        self.applied = snapshot;
        self.log.on_cut(snapshot, LogIndex(u64::MAX));
        let state = self.set_state(install.state.as_ref().clone());
        if let Err(error) = self.machine.restore(&state, run.reader) {
            return self.on_damage(error, run);
        }
        self.raft.on_snapshot_installed(&install.metadata);
        run.announce(RegionChange::Region {
            peer: self.peer.id,
            state,
        });
        self.announce_leader(run);
    }
}
