//! What the shard says about its regions, leaders and leases, held against the invariants.

use std::sync::Arc;

use tinykv_raft::{GroupId, PeerId};
use tinykv_replica::{LeaseCell, RegionChange, RegionState, StateMachine};

use super::super::happening::Context;
use super::{Host, Trouble};

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
        let version = region.epoch.version;
        if before.is_some_and(|before| before.region.epoch.version < version) {
            context.report.probe("split_applied");
            let reached = self.versions.entry(region.id).or_default();
            if *reached >= version {
                context.report.probe("split_replayed_after_crash");
            }
            *reached = version.max(*reached);
        }
        Ok(())
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
        context
            .invariants
            .on_lease(context.schedule.now(), self.id, &state.region, until)
            .map_err(Trouble::Violation)?;
        running.leases.insert(lease.group, lease);
        Ok(())
    }

    pub(super) fn check_progress(&self, context: &mut Context) -> Result<(), Trouble> {
        let Some(running) = &self.running else {
            return Ok(());
        };
        let groups: Vec<GroupId> = running.shard.groups().collect();
        for group in groups {
            if let Some(status) = running.shard.status(group) {
                let hard_state = status.raft.hard_state;
                let (peer, term) = (status.peer.id, hard_state.term);
                context
                    .invariants
                    .on_progress(self.id, group, peer, term, hard_state.commit)
                    .map_err(Trouble::Violation)?;
            }
        }
        Ok(())
    }
}
