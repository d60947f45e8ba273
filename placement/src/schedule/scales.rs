//! What both kinds of balance have in common: which stores may give and take, and who gives to
//! whom next.
//!
//! Something countable (leaders, regions) goes one at a time from the store with the most to a
//! store with the fewest, and only while the difference is above a tolerance (hysteresis). Stores
//! take part that are up, heard without a gap for `leader_settle`, and neither busy nor going down.

use std::collections::BTreeMap;
use std::time::Duration;

use tinykv_raft::GroupId;
use tinykv_replica::StoreId;

use super::Decision;
use super::operator::Operator;
use super::reason::{Loser, Rule, Why};
use super::step::Step;
use crate::state::{STORE_HEARTBEAT_INTERVAL_MS, Settings};
use crate::view::{ClusterView, Counts, StoreState};

/// A store silent for longer than this, two heartbeats and a little, neither gives nor takes: who
/// sends a leader to a store that just died stops a healthy region.
const SILENCE_MAX: Duration = Duration::from_millis(2 * STORE_HEARTBEAT_INTERVAL_MS as u64 + 200);

/// Decisions of `next` until it has none, at most `room`, and with those of the rule that are
/// under way at most `max`.
pub(super) fn gather(
    view: &ClusterView,
    rule: Rule,
    max: usize,
    room: usize,
    next: impl FnMut() -> Option<Decision>,
) -> Vec<Decision> {
    let operators = view.operators.values();
    let running = operators
        .filter(|operator| operator.reason.rule == rule)
        .count();
    let room = room.min(max.saturating_sub(running));
    std::iter::from_fn(next).take(room).collect()
}

/// Peers that are being added to each store, and how many may be.
pub(super) struct Additions<'a> {
    view: &'a ClusterView,
    counts: BTreeMap<StoreId, u32>,
}

impl<'a> Additions<'a> {
    /// By what running operators have not done yet.
    pub(super) fn new(view: &'a ClusterView) -> Additions<'a> {
        let counts = BTreeMap::new();
        let mut additions = Additions { view, counts };
        for step in view.operators.values().flat_map(Operator::remaining) {
            if let Step::AddLearner { store, .. } = step {
                additions.add(*store);
            }
        }
        additions
    }

    /// One more.
    pub(super) fn add(&mut self, store: StoreId) {
        *self.counts.entry(store).or_default() += 1;
    }

    /// Whether the store gets no more at once.
    pub(super) fn are_enough(&self, store: StoreId, settings: &Settings) -> bool {
        self.why_enough(store, settings).is_some()
    }

    /// And why.
    pub(super) fn why_enough(&self, store: StoreId, settings: &Settings) -> Option<Why> {
        let additions = self.counts.get(&store).copied().unwrap_or_default();
        enough(self.view, store, additions, settings)
    }
}

/// Why a store that gets so many peers gets no more at once, if that is so.
pub(super) fn enough(
    view: &ClusterView,
    store: StoreId,
    additions: u32,
    settings: &Settings,
) -> Option<Why> {
    let known = view.stores.get(&store)?;
    let is_full = additions >= known.allowance.additions_max(settings);
    is_full.then(|| match known.allowance.is_reduced(settings) {
        true => Why::Slow(known.stats.slow_score),
        false => Why::EnoughAdditions,
    })
}

/// A store and what it has.
pub(super) type Weighed = (StoreId, u32);

/// What each store has that may give or take, as it will be after what is planned.
pub(super) struct Scales {
    /// What each has.
    pub(super) counts: BTreeMap<StoreId, u32>,
    /// Stores that were left out, and why.
    pub(super) excluded: Vec<Loser>,
}

impl Scales {
    /// Weighs all stores; `count` is what is made even.
    pub(super) fn new(
        view: &ClusterView,
        settings: &Settings,
        now: Duration,
        count: impl Fn(&Counts) -> u32,
    ) -> Scales {
        Scales::of(view, settings, now, &view.counts(), count)
    }

    /// Weighs what is `held` on each store.
    pub(super) fn of(
        view: &ClusterView,
        settings: &Settings,
        now: Duration,
        held: &BTreeMap<StoreId, Counts>,
        count: impl Fn(&Counts) -> u32,
    ) -> Scales {
        let mut scales = Scales {
            counts: BTreeMap::new(),
            excluded: Vec::new(),
        };
        for (store, known) in &view.stores {
            let silent = known.silence(view.since, now) > SILENCE_MAX;
            let why = if silent || view.store_state(*store, settings, now) != StoreState::Up {
                Some(Why::NotUp)
            } else if known.stats.is_busy || known.stats.is_stopping {
                Some(Why::Busy)
            } else if !known.is_steady(settings, now) {
                Some(Why::NotSteady)
            } else {
                None
            };
            match why {
                Some(why) => scales.excluded.push(Loser { store: *store, why }),
                None => {
                    scales
                        .counts
                        .insert(*store, held.get(store).map_or(0, &count));
                }
            }
        }
        scales
    }

    /// Leaders per store, as they will be after the transfers under way. A store that is to lead
    /// nothing is left out.
    pub(super) fn of_leaders(view: &ClusterView, settings: &Settings, now: Duration) -> Scales {
        let mut scales = Scales::new(view, settings, now, |held| held.leaders);
        scales.exclude_evicted(view);
        for (region, operator) in view.operators.iter() {
            scales.foresee_leaders(view, *region, operator.remaining());
        }
        scales
    }

    /// Leaves out the stores that are to lead nothing.
    pub(super) fn exclude_evicted(&mut self, view: &ClusterView) {
        for store in &view.evicted {
            if self.counts.remove(store).is_some() {
                let (store, why) = (*store, Why::Evicted);
                self.excluded.push(Loser { store, why });
            }
        }
    }

    /// Counts what the steps not done yet will make of the leaders.
    pub(super) fn foresee_leaders(&mut self, view: &ClusterView, id: GroupId, steps: &[Step]) {
        for step in steps {
            if let Step::TransferLeader { to, .. } = step {
                if let Some(leader) = view.regions.get(&id).and_then(|known| known.leader) {
                    self.remove(leader.store);
                }
                self.add(*to);
            }
        }
    }

    /// Counts what the steps not done yet will make of the peers.
    pub(super) fn foresee_peers(&mut self, view: &ClusterView, id: GroupId, steps: &[Step]) {
        let there = |peer| {
            let region = view.regions.get(&id);
            region.is_some_and(|region| region.region.peer(peer).is_some())
        };
        for step in steps {
            match step {
                Step::AddLearner { peer, store } => {
                    if !there(*peer) {
                        self.add(*store);
                    }
                }
                Step::Remove { peer, store } => {
                    if there(*peer) {
                        self.remove(*store);
                    }
                }
                Step::Promote { .. }
                | Step::Exchange { .. }
                | Step::TransferLeader { .. }
                | Step::Split { .. }
                | Step::Merge(_) => {}
            }
        }
    }

    /// Who could give to whom, best first: from the store with the most, to the store with the
    /// fewest, among those that differ by more than `tolerance`.
    pub(super) fn pairs(&self, tolerance: u32) -> Vec<(Weighed, Weighed)> {
        let mut donors: Vec<Weighed> = self.counts.iter().map(|(s, n)| (*s, *n)).collect();
        donors.sort_by_key(|(store, count)| (std::cmp::Reverse(*count), *store));
        let mut takers = donors.clone();
        takers.sort_by_key(|(store, count)| (*count, *store));
        let uneven = |from: Weighed| {
            let differ = move |to: &&Weighed| from.1.saturating_sub(to.1) > tolerance;
            takers.iter().take_while(differ).map(move |to| (from, *to))
        };
        donors.iter().copied().flat_map(uneven).collect()
    }

    /// What a store has on average.
    pub(super) fn average(&self) -> u32 {
        let total: u32 = self.counts.values().sum();
        total / u32::try_from(self.counts.len().max(1)).unwrap_or(u32::MAX)
    }

    /// One more on the store, if it takes part.
    pub(super) fn add(&mut self, store: StoreId) {
        if let Some(count) = self.counts.get_mut(&store) {
            *count += 1;
        }
    }

    /// One less on the store, if it takes part.
    pub(super) fn remove(&mut self, store: StoreId) {
        if let Some(count) = self.counts.get_mut(&store) {
            *count = count.saturating_sub(1);
        }
    }

    /// The losers of a choice: those left out, and all others but these two with what `why` says
    /// of them.
    pub(super) fn losers(
        &self,
        from: StoreId,
        to: StoreId,
        why: impl Fn(StoreId, u32) -> Why,
    ) -> Vec<Loser> {
        let others = self.counts.iter();
        let others = others.filter(|(store, _)| **store != from && **store != to);
        let mut losers = self.excluded.clone();
        losers.extend(others.map(|(store, count)| Loser {
            store: *store,
            why: why(*store, *count),
        }));
        losers
    }
}
