//! Which groups are awake, and which stores those that sleep depend on.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tinykv_raft::GroupId;

use super::Shard;
use crate::config::ShardConfig;
use crate::machine::StateMachine;
use crate::region::StoreId;
use crate::run::Run;

/// Kept up to date for every group that something happened to.
#[derive(Debug, Default)]
pub(super) struct Sleepers {
    /// Groups that need ticks.
    pub(super) awake: BTreeSet<GroupId>,
    /// The stores that groups need to know about.
    watched: BTreeMap<GroupId, BTreeSet<StoreId>>,
    /// How many groups watch each store.
    counts: BTreeMap<StoreId, usize>,
    /// Whether a store was added or left since the shell was told.
    is_news: bool,
}

impl Sleepers {
    fn watch(&mut self, group: GroupId, stores: BTreeSet<StoreId>) {
        let before = match stores.is_empty() {
            true => self.watched.remove(&group),
            false => self.watched.insert(group, stores.clone()),
        };
        let before = before.unwrap_or_default();
        for store in stores.difference(&before) {
            let count = self.counts.entry(*store).or_default();
            *count += 1;
            self.is_news |= *count == 1;
        }
        for store in before.difference(&stores) {
            if let Some(count) = self.counts.get_mut(store) {
                *count -= 1;
                if *count == 0 {
                    self.counts.remove(store);
                    self.is_news = true;
                }
            }
        }
    }

    /// What the shell has to be told.
    pub(super) fn take_news(&mut self) -> Option<Vec<StoreId>> {
        let is_news = std::mem::take(&mut self.is_news);
        is_news.then(|| self.counts.keys().copied().collect())
    }
}

impl<S: StateMachine> Shard<S> {
    /// Something happened to this group, which may be gone.
    pub(super) fn note_sleep(&mut self, group: GroupId) {
        let replica = self.replicas.get(&group);
        match replica.is_some_and(|replica| !replica.is_asleep()) {
            true => self.sleepers.awake.insert(group),
            false => self.sleepers.awake.remove(&group),
        };
        let limit = self.config.hibernate_after_ticks;
        let watched = replica.map(|replica| replica.stores_watched(limit));
        self.sleepers.watch(group, watched.unwrap_or_default());
    }

    /// Groups that need no ticks.
    pub fn asleep(&self) -> usize {
        self.replicas.len() - self.sleepers.awake.len()
    }

    pub(super) fn on_store_lost(&mut self, store: StoreId, run: &mut Run<'_, S::Reply>) {
        run.fresh.remove(&store);
        let led = self
            .replicas
            .iter()
            .filter(|(_, it)| it.sleeps_under(store));
        let led: Vec<GroupId> = led.map(|(group, _)| *group).collect();
        self.stagger(&led, store, run);
        let groups: Vec<GroupId> = self.sleepers.watched.keys().copied().collect();
        for group in groups {
            if let Some(replica) = self.replicas.get_mut(&group) {
                replica.on_store_lost(store, run);
                self.touched.insert(group);
            }
        }
    }

    pub(super) fn on_store_dead(&mut self, store: StoreId, run: &mut Run<'_, S::Reply>) {
        let leader_is_there = |replica: &crate::replica::Replica<S>| {
            let leader = replica.leader().filter(|_| !replica.is_leader());
            leader.is_some_and(|leader| leader.store == store)
        };
        let led = self.replicas.iter().filter(|(_, it)| leader_is_there(it));
        let led: Vec<GroupId> = led.map(|(group, _)| *group).collect();
        self.stagger(&led, store, run);
    }

    /// Groups that lost their leaders together do not all campaign in the same tick.
    fn stagger(&mut self, led: &[GroupId], dead: StoreId, run: &mut Run<'_, S::Reply>) {
        let between = between_campaigns(run.config, led.len());
        for (nth, group) in (0_u32..).zip(led) {
            if let Some(replica) = self.replicas.get_mut(group) {
                replica.on_leader_dead(between * nth, dead, run);
                self.touched.insert(*group);
            }
        }
    }
}

fn between_campaigns(config: &ShardConfig, count: usize) -> Duration {
    let count = u32::try_from(count).unwrap_or(u32::MAX).max(1);
    config
        .campaign_stagger
        .min(config.campaign_spread_max / count)
}
