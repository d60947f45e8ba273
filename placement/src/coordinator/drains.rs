//! Stores that leave: how fast, and when they are gone.
//!
//! A leader of placement counts from when it first saw that a store leaves; the pace since then
//! says how long the rest will take. A store is gone once nothing has been on it for
//! [`EMPTY_FOR`]: a peer that was removed a moment ago may be needed until those who stay know
//! that its removal is committed, so its store is not sent away at once.

use std::collections::BTreeMap;
use std::time::Duration;

use tinykv_replica::StoreId;

use crate::schedule::Step;
use crate::state::{State, StoreLife};
use crate::view::ClusterView;

/// For so long nothing has been on a store before it is gone.
const EMPTY_FOR: Duration = Duration::from_secs(10);

/// Stores that leave.
#[derive(Clone, Debug, Default)]
pub(super) struct Drains {
    stores: BTreeMap<StoreId, Drain>,
}

/// One that leaves.
#[derive(Clone, Copy, Debug)]
struct Drain {
    /// When this leader first saw it.
    began_at: Duration,
    /// Peers on it then.
    regions: u32,
    /// Since when nothing is on it.
    empty_since: Option<Duration>,
}

/// How fast a store is emptied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pace {
    /// Peers that left it since this leader began to count.
    pub moved: u32,
    /// How long the rest takes at that pace.
    pub remaining: Option<Duration>,
}

impl Drains {
    /// Looks at all stores again; returns those that are gone by now.
    pub(super) fn look(
        &mut self,
        state: &State,
        view: &ClusterView,
        now: Duration,
    ) -> Vec<StoreId> {
        let leaving = state.stores().values();
        let leaving = leaving.filter(|store| store.life == StoreLife::Leaving);
        let leaving: Vec<StoreId> = leaving.map(|store| store.id).collect();
        self.stores.retain(|store, _| leaving.contains(store));
        if leaving.is_empty() {
            return Vec::new();
        }
        let counts = view.counts();
        let mut gone = Vec::new();
        for store in leaving {
            let regions = counts.get(&store).map_or(0, |counts| counts.regions);
            let drain = self.stores.entry(store).or_insert(Drain {
                began_at: now,
                regions,
                empty_since: None,
            });
            if state.region_on(store).is_some() || is_target(view, store) {
                drain.empty_since = None;
            } else if now.saturating_sub(*drain.empty_since.get_or_insert(now)) >= EMPTY_FOR {
                gone.push(store);
            }
        }
        gone
    }

    /// How fast the store is emptied, with `regions` peers on it now.
    pub(super) fn pace(&self, store: StoreId, regions: u32, now: Duration) -> Pace {
        let Some(drain) = self.stores.get(&store) else {
            return Pace::default();
        };
        let moved = drain.regions.saturating_sub(regions);
        let spent = now.saturating_sub(drain.began_at);
        Pace {
            moved,
            remaining: (moved > 0).then(|| spent * regions / moved),
        }
    }
}

/// Whether an operator still adds a peer there.
fn is_target(view: &ClusterView, store: StoreId) -> bool {
    let mut steps = view
        .operators
        .values()
        .flat_map(|operator| operator.remaining());
    steps.any(|step| matches!(step, Step::AddLearner { store: to, .. } if *to == store))
}
