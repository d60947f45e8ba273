//! The merge checker: small neighbours become one region, so that what was deleted or moved away
//! leaves no regions behind that cost and hold next to nothing.
//!
//! Both must be small (`merge_mib_max`, `merge_keys_max`), and small together (`merged_mib_max`). A
//! merged region is not to be split again: together they have at most two thirds of the size, the
//! requests and the bytes a second from which on any store splits. Both have exactly what they want, all of it healthy, and
//! neither is hot or was cut within `split_merge_interval_ms`, which is also how long a new leader of placement
//! waits, for it has seen no splits. Edges of keyspaces stay. Of its two neighbours a region is merged
//! into the one that fewer of its peers have to move for, then into the smaller one; one merge at a
//! time for each region, `merge_limit` in all, `merges_per_store_max` on each store.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tinykv_keys::is_bootstrap_edge;
use tinykv_raft::GroupId;
use tinykv_replica::StoreId;

use super::heat::Heat;
use super::merging::{moves, splits, stays_whole, together};
use super::reason::{Fact, Neighbour, Reason, Rule, Why};
use super::safety::is_settled;
use super::scales::{Additions, gather};
use super::{Action, Decision};
use crate::state::Settings;
use crate::view::{ClusterView, RegionView, SplitThresholds, StoreState};

/// Plans merges; at most `room`, and none for regions that `planned` is about.
pub(super) fn check(
    view: &ClusterView,
    settings: &Settings,
    now: Duration,
    planned: &[Decision],
    room: usize,
) -> Vec<Decision> {
    let max = settings.merge_limit as usize;
    if max == 0 || now.saturating_sub(view.since) < settings.split_merge_interval() {
        return Vec::new();
    }
    let mut merger = Merger::new(view, settings, now, planned);
    gather(view, Rule::MergeSmall, max, room, || merger.next())
}

/// How much a merge costs: moves of peers, then bytes of the target.
type Cost = (usize, u64);

struct Merger<'a> {
    view: &'a ClusterView,
    settings: &'a Settings,
    now: Duration,
    /// All regions in key order.
    regions: Vec<&'a RegionView>,
    /// How many of them were looked at.
    looked_at: usize,
    /// Regions that this plan is about already.
    busy: BTreeSet<GroupId>,
    /// Merges that each store takes part in.
    merges: BTreeMap<StoreId, u32>,
    additions: Additions<'a>,
    heat: Heat,
    /// From where on stores split.
    splits: SplitThresholds,
}

impl<'a> Merger<'a> {
    fn new(
        view: &'a ClusterView,
        settings: &'a Settings,
        now: Duration,
        planned: &[Decision],
    ) -> Merger<'a> {
        let mut regions: Vec<&RegionView> = view.regions.values().collect();
        regions.sort_by(|one, other| one.region.start.cmp(&other.region.start));
        let mut merger = Merger {
            view,
            settings,
            now,
            regions,
            looked_at: 0,
            busy: planned.iter().map(|decision| decision.region).collect(),
            merges: BTreeMap::new(),
            additions: Additions::new(view),
            heat: Heat::new(view, settings, now),
            splits: splits(view),
        };
        for operator in view.operators.values() {
            let about = [Some(operator.region), operator.action.target()];
            if let [Some(source), Some(target)] = about.map(|id| view.regions.get(&id?)) {
                merger.count(source, target);
            }
        }
        merger
    }

    /// The next region that can be merged into one beside it.
    fn next(&mut self) -> Option<Decision> {
        while let Some(source) = self.regions.get(self.looked_at).copied() {
            self.looked_at += 1;
            if self.unfit(source).is_none()
                && let Some(decision) = self.merge(source)
            {
                return Some(decision);
            }
        }
        None
    }

    fn merge(&mut self, source: &RegionView) -> Option<Decision> {
        let at = self.looked_at - 1;
        let beside = [at.checked_sub(1), Some(at + 1)];
        let beside = beside.into_iter().flatten();
        let beside: Vec<&RegionView> = beside
            .filter_map(|at| self.regions.get(at).copied())
            .collect();
        let judged = beside
            .into_iter()
            .map(|known| (self.judge(source, known), known));
        let judged: Vec<(Result<Cost, Why>, &RegionView)> = judged.collect();
        let possible = judged.iter();
        let possible = possible.filter_map(|(cost, known)| Some((cost.ok()?, *known)));
        let (_, target) = possible.min_by_key(|(cost, known)| (*cost, known.region.id))?;
        let neighbours = judged.into_iter().map(|(cost, known)| Neighbour {
            region: known.region.id,
            is_chosen: known.region.id == target.region.id,
            why: cost.map_or_else(|why| why, |(moves, _)| score(moves)),
        });
        let (bytes, keys) = together(source, target);
        let facts = [
            ("bytes", source.stats.size_bytes),
            ("keys", source.stats.keys),
            ("bytes together", bytes),
            ("keys together", keys),
        ];
        let reason = Reason {
            rule: Rule::MergeSmall,
            facts: Fact::list(facts),
            chosen: None,
            losers: Vec::new(),
            neighbours: neighbours.collect(),
        };
        for (_, to) in self.moves(source, target) {
            self.additions.add(to);
        }
        self.count(source, target);
        let target = target.region.id;
        self.busy.extend([source.region.id, target]);
        Some(Decision {
            region: source.region.id,
            epoch: source.region.epoch,
            action: Action::Merge { target },
            reason,
        })
    }

    /// What it costs to merge the source into this neighbour, or why that cannot be.
    fn judge(&self, source: &RegionView, target: &RegionView) -> Result<Cost, Why> {
        let (one, other) = (&source.region, &target.region);
        let border = match one.start < other.start {
            true => (&one.end, &other.start),
            false => (&other.end, &one.start),
        };
        if border.0 != border.1 || is_bootstrap_edge(border.1) {
            return Err(Why::Border);
        }
        if let Some(why) = self.unfit(target) {
            return Err(why);
        }
        let (bytes, keys) = together(source, target);
        let keys_max = 2 * u64::from(self.settings.merge_keys_max);
        if bytes > self.settings.merged_size_max() || keys > keys_max {
            return Err(Why::TooLarge);
        }
        if self.would_be_split(source, target, bytes) {
            return Err(Why::WouldBeSplit);
        }
        if self
            .stores(source, target)
            .into_iter()
            .any(|it| self.is_full(it))
        {
            return Err(Why::EnoughMerges);
        }
        let moves = self.moves(source, target);
        for (_, to) in &moves {
            if let Some(why) = self.additions.why_enough(*to, self.settings) {
                return Err(why);
            }
        }
        Ok((moves.len(), target.stats.size_bytes))
    }

    /// Whether stores would split what the two become.
    fn would_be_split(&self, source: &RegionView, target: &RegionView, bytes: u64) -> bool {
        let flows = [source, target].map(|known| known.flow.at(self.now));
        let amounts = flows.iter().flat_map(|flow| [flow.read, flow.written]);
        let (flow, keys) = amounts.fold((0_u64, 0_u64), |(flow, keys), amount| {
            let flow = flow.saturating_add(amount.bytes);
            (flow, keys.saturating_add(amount.keys))
        });
        let splits = self.splits;
        !(stays_whole(bytes, splits.size_bytes)
            && stays_whole(flow, splits.bytes_per_s)
            && stays_whole(keys, splits.requests_per_s))
    }

    /// Why the region takes part in no merge now, whatever its neighbours are.
    fn unfit(&self, known: &RegionView) -> Option<Why> {
        let id = known.region.id;
        let settings = self.settings;
        let since_cut = known.cut_at.map(|at| self.now.saturating_sub(at));
        let takes_peers = |store: StoreId| {
            let stats = self.view.stores.get(&store).map(|known| &known.stats);
            stats.is_some_and(|stats| !stats.is_busy && !stats.is_stopping)
                && self.view.store_state(store, settings, self.now) == StoreState::Up
        };
        if known.stats.size_bytes > settings.merge_size_max()
            || known.stats.keys > u64::from(settings.merge_keys_max)
        {
            Some(Why::NotSmall)
        } else if since_cut.is_some_and(|since| since < settings.split_merge_interval()) {
            Some(Why::CutLately)
        } else if self.heat.is_hot(known) {
            Some(Why::Hot)
        } else if self.busy.contains(&id) || self.view.scattering.contains_key(&id) {
            Some(Why::Busy)
        } else if !is_settled(self.view, known, settings, self.now) {
            Some(Why::NotSettled)
        } else if !known
            .region
            .peers
            .iter()
            .all(|peer| takes_peers(peer.store))
        {
            Some(Why::NotUp)
        } else {
            None
        }
    }

    fn moves(
        &self,
        source: &RegionView,
        target: &RegionView,
    ) -> Vec<(tinykv_replica::Peer, StoreId)> {
        moves(self.view, self.settings, &source.region, &target.region)
    }

    /// The stores that take part.
    fn stores(&self, source: &RegionView, target: &RegionView) -> BTreeSet<StoreId> {
        let peers = source.region.peers.iter().chain(&target.region.peers);
        peers.map(|peer| peer.store).collect()
    }

    fn count(&mut self, source: &RegionView, target: &RegionView) {
        for store in self.stores(source, target) {
            *self.merges.entry(store).or_default() += 1;
        }
    }

    fn is_full(&self, store: StoreId) -> bool {
        let merges = self.merges.get(&store).copied().unwrap_or_default();
        merges >= self.settings.merges_per_store_max
    }
}

fn score(moves: usize) -> Why {
    Why::Score(i64::try_from(moves).unwrap_or(i64::MAX))
}
