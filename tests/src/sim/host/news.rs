//! What the shard says about its regions, leaders and leases, held against the invariants.

use std::sync::Arc;

use tinykv_raft::{Configuration, GroupId, PeerId, Role, Term};
use tinykv_replica::{
    Event, LeaseCell, LocalBody, LocalMessage, Observed, ReadGrant, RegionChange, RegionState,
    StateMachine,
};

use super::super::happening::Context;
use super::super::invariants::{Asked, Leading, Progress};
use super::{Host, Running, Trouble};

impl<S: StateMachine> Host<S> {
    pub(super) fn on_region_change(
        &mut self,
        context: &mut Context,
        change: &RegionChange,
    ) -> Result<(), Trouble> {
        let store = self.id;
        match change {
            RegionChange::Region { peer, state } => {
                context.trace(format_args!("store {store} region {:?}", state.region));
                let seen = self.on_region(context, *peer, state);
                seen.map_err(Trouble::Violation)?;
            }
            RegionChange::Leader {
                group,
                peer,
                leader,
                term,
                is_here,
            } => {
                context.trace(format_args!(
                    "store {store} group {group} term {term} leader {leader:?}"
                ));
                let Some(running) = &mut self.running else {
                    return Ok(());
                };
                running.leads.remove(group);
                running.news.push(*group);
                if *is_here {
                    running.leads.insert(*group, *term);
                    self.check_election(context, *group, *term, *peer)
                        .map_err(Trouble::Violation)?;
                    context.report.probe("leader_elected");
                    let seen = context.on_leader(store, *group, *term, *peer);
                    seen.map_err(Trouble::Violation)?;
                }
            }
            RegionChange::Gone { group, .. } => {
                context.trace(format_args!("store {store} group {group} gone"));
                context.report.probe("peer_removed");
                if let Some(running) = &mut self.running {
                    running.regions.remove(group);
                    running.leads.remove(group);
                    running.leases.remove(group);
                }
                context.invariants.on_lease_void(store, *group);
            }
        }
        Ok(())
    }

    fn on_region(
        &mut self,
        context: &mut Context,
        peer: PeerId,
        state: &Arc<RegionState>,
    ) -> Result<(), String> {
        let region = &state.region;
        let Some(running) = &mut self.running else {
            return Ok(());
        };
        context.invariants.on_region(self.id, peer, region)?;
        let before = running.regions.insert(region.id, Arc::clone(state));
        running.news.push(region.id);
        if region.is_joint() {
            context.report.probe("joint");
        }
        let was_joint = before.as_ref().is_some_and(|it| it.region.is_joint());
        let leads = running.leads.contains_key(&region.id);
        if leads && self.fails_in_joint && region.is_joint() != was_joint {
            // M11: around the entering and the leaving the leader may fail at any point.
            context.report.fault("crash_in_joint");
            let ios = context.random.between(1, 12);
            self.env.crash_at(self.env.io_count() + ios);
        }
        let version = region.epoch.version;
        let before = before.filter(|before| before.region.epoch.version < version);
        if let Some(before) = before {
            context.report.probe(what_changed(&before, state));
            let reached = self.versions.entry(region.id).or_default();
            if *reached >= version {
                context.report.probe("split_replayed_after_crash");
            }
            *reached = version.max(*reached);
        }
        Ok(())
    }

    /// Sources that die of what came of their merge.
    pub(super) fn note_local(&self, context: &mut Context, message: &LocalMessage) {
        if let LocalBody::Die { recorded: Some(_) } = message.body {
            context.report.probe("source_overtaken_by_a_snapshot");
        }
    }

    pub(super) fn on_lease(
        &mut self,
        context: &mut Context,
        lease: LeaseCell,
    ) -> Result<(), Trouble> {
        let until = self.clock.true_instant(lease.valid_until);
        let Some(running) = &mut self.running else {
            return Ok(());
        };
        let Some(state) = running.regions.get(&lease.group) else {
            return Err(Trouble::Violation(format!(
                "store {} has a lease of group {}, which is not in service there",
                self.id, lease.group
            )));
        };
        let status = running.shard.status(lease.group);
        let configuration = status.iter().map(|status| &status.raft.configuration);
        let configurations: Vec<&Configuration> = configuration.collect();
        let applied = running.engine.applied(lease.group);
        context
            .invariants
            .on_lease_cell(self.id, &lease, &configurations, applied)
            .map_err(Trouble::Violation)?;
        context
            .invariants
            .on_lease(context.schedule.now(), self.id, &state.region, until)
            .map_err(Trouble::Violation)?;
        let group = lease.group;
        running.leases.insert(group, lease);
        if running.read_in_lease.remove(&group) {
            self.post(context, Event::ReadInLease(group));
        }
        Ok(())
    }

    fn check_election(
        &self,
        context: &Context,
        group: GroupId,
        term: Term,
        leader: PeerId,
    ) -> Result<(), String> {
        let Some(running) = &self.running else {
            return Ok(());
        };
        let Some(status) = running.shard.status(group) else {
            return Ok(());
        };
        let log = running.engine.log_reader();
        let configuration = &status.raft.configuration;
        let term_at = |index| log.term(group, index);
        let invariants = &context.invariants;
        invariants.on_election(group, term, leader, configuration, term_at)
    }

    /// R10, for leave to read that was asked for.
    pub(in crate::sim) fn check_read(
        &self,
        context: &Context,
        group: GroupId,
        grant: &ReadGrant,
        asked: &Asked,
    ) -> Result<(), Trouble> {
        let Some(running) = &self.running else {
            return Ok(());
        };
        let status = running.shard.status(group);
        let leading = status
            .as_ref()
            .filter(|status| status.raft.role == Role::Leader)
            .map(|status| Leading {
                term: status.raft.hard_state.term,
                configuration: &status.raft.configuration,
            });
        let applied = running.engine.applied(group);
        let term_at = running.engine.log_reader().term(group, grant.index);
        let read = context
            .invariants
            .on_read(group, grant, asked, applied, leading, term_at);
        read.map_err(Trouble::Violation)
    }

    /// The regions as published now in which a leader has applied something.
    pub(super) fn regions_led(&self, observed: &[Observed]) -> Vec<Option<Arc<RegionState>>> {
        let region = |observed: &Observed| {
            let running = self.running.as_ref()?;
            let leads = running.leads.contains_key(&observed.group);
            let region = leads.then(|| running.regions.get(&observed.group));
            region.flatten().cloned()
        };
        observed.iter().map(region).collect()
    }

    /// R6, for what a leader acknowledges; `before` is what [`Host::regions_led`] said before the
    /// news of this run.
    pub(super) fn check_acknowledged(
        &self,
        context: &Context,
        observed: &[Observed],
        before: &[Option<Arc<RegionState>>],
    ) -> Result<(), Trouble> {
        let after = self.regions_led(observed);
        for ((observed, before), after) in observed.iter().zip(before).zip(&after) {
            let Some(after) = after else {
                continue;
            };
            let regions = [
                before.as_ref().map(|before| &before.region),
                Some(&after.region),
            ];
            let invariants = &context.invariants;
            let acknowledged = invariants.on_acknowledged(observed.group, observed.entry, regions);
            acknowledged.map_err(Trouble::Violation)?;
        }
        Ok(())
    }

    pub(super) fn check_progress(&self, context: &mut Context) -> Result<(), Trouble> {
        let Some(running) = &self.running else {
            return Ok(());
        };
        for group in running.shard.groups() {
            self.check_progress_of(context, running, group)
                .map_err(Trouble::Violation)?;
        }
        Ok(())
    }

    fn check_progress_of(
        &self,
        context: &mut Context,
        running: &Running<S>,
        group: GroupId,
    ) -> Result<(), String> {
        let Some(status) = running.shard.status(group) else {
            return Ok(());
        };
        let region = status.state.as_ref().map(|state| &state.region);
        let hard_state = status.raft.hard_state;
        let now = Progress {
            term: hard_state.term,
            commit: hard_state.commit,
            leads: status.raft.role == Role::Leader,
            conf_ver: region.map_or(0, |region| region.epoch.conf_ver),
        };
        let invariants = &mut context.invariants;
        let before = invariants.on_progress(self.id, group, status.peer.id, now)?;
        // What else it learnt as a follower, or under another membership, says nothing.
        let counted = before.is_some_and(|before| {
            let same =
                (before.term, before.leads, before.conf_ver) == (now.term, now.leads, now.conf_ver);
            same && now.leads && now.commit > before.commit
        });
        match region {
            Some(region) if counted => {
                let term_at = running.engine.log_reader().term(group, now.commit);
                invariants.on_commit(region, now, term_at)
            }
            _ => Ok(()),
        }
    }
}

/// Why a region has a higher version.
fn what_changed(before: &RegionState, after: &RegionState) -> &'static str {
    let is_frozen = |state: &RegionState| state.merges.freeze().is_some();
    if is_frozen(after) && !is_frozen(before) {
        "merge_frozen"
    } else if is_frozen(before) && !is_frozen(after) {
        "merge_rolled_back"
    } else if before.merges.absorbed != after.merges.absorbed {
        "merge_applied"
    } else if before.region.range() == after.region.range() {
        "merge_declined"
    } else {
        "split_applied"
    }
}
