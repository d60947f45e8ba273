//! Checks: all replicas that apply one are the same there, whatever happened to them.

use std::collections::BTreeMap;
use std::time::Duration;

use tinykv_raft::GroupId;
use tinykv_replica::{AdminAction, AdminCommand, AdminRequest, Check, Event, Merges, Region};

use super::Cluster;
use crate::store::Checked;

/// A group is checked so often, in simulated milliseconds.
const INTERVAL_MS: u64 = 700;
/// Each at a moment of its own.
const APART_MS: u64 = 100;

impl Cluster {
    pub(super) fn order_checks(&mut self) {
        if !self.now.is_multiple_of(APART_MS) {
            return;
        }
        let turn = |group: &GroupId| (self.now + group.0 * APART_MS).is_multiple_of(INTERVAL_MS);
        let groups: Vec<GroupId> = self.groups().into_iter().filter(turn).collect();
        for group in groups {
            let (Some(leader), Some(state)) = (self.leader_store(group), self.newest(group)) else {
                continue;
            };
            let store = &mut self.stores[leader as usize - 1];
            let command = AdminCommand::Check { id: self.now };
            store.inbox.push(Event::Admin(AdminRequest {
                group,
                action: AdminAction::Command {
                    epoch: state.region.epoch,
                    command,
                },
                deadline: store.clock(self.now) + Duration::from_secs(1),
                waiter: None,
            }));
        }
    }

    /// What replicas held, those included that applied a check once more after a crash.
    pub(super) fn compare(&mut self) {
        let mut seen: BTreeMap<(GroupId, u64), &Checked> = BTreeMap::new();
        for store in &self.stores {
            for checked in &store.checks {
                let Checked { check, data } = checked;
                let first = *seen.entry((check.group, check.id)).or_insert(checked);
                let what = format!("check {} of {} on {}", check.id, check.group, store.id);
                assert_eq!(first.check.entry, check.entry, "{what}");
                assert_eq!(shared(&first.check), shared(check), "{what}");
                assert_eq!(&first.data, data, "{what} (F3)");
                self.figures.compared += usize::from(!std::ptr::eq(first, checked));
            }
        }
    }
}

/// What replicas have in common. Not the machine's part: [`crate::lists::Lists`] counts on from what it
/// last kept there when it is started anew.
fn shared(check: &Check) -> (&Region, bool, &Merges) {
    let state = &check.state;
    (&state.region, state.open, &state.merges)
}
