//! How far a store is with leaving, and what keeps its peers there.

use std::time::Duration;

use tinykv_replica::StoreId;

use super::reason::{Reason, Why};
use super::{Action, replicas};
use crate::state::Settings;
use crate::view::{ClusterView, RegionView, StoreState};

/// Sentences about what blocks a drain, at most.
const BLOCKED_MAX: usize = 5;

/// What is left on a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remaining {
    /// Peers on it.
    pub regions: u32,
    /// Regions led from it.
    pub leaders: u32,
    /// Of the peers on it, those that are being moved away.
    pub moving: u32,
    /// What keeps others from moving, a sentence each; the first few.
    pub blocked_by: Vec<String>,
}

/// Looks at everything that is on the store. Pure: equal arguments, equal answer.
pub fn remaining(
    view: &ClusterView,
    settings: &Settings,
    store: StoreId,
    now: Duration,
) -> Remaining {
    let counts = view.counts().get(&store).copied().unwrap_or_default();
    let leaves = |action: &Action| match action {
        Action::ReplaceReplica { from, .. } | Action::RemovePeer { from, .. } => *from == store,
        _ => false,
    };
    let operators = view.operators.values();
    let moving = operators
        .filter(|operator| leaves(&operator.action))
        .count();
    let held = view.regions.values();
    let idle = held.filter(|known| {
        known.region.peer_on(store).is_some() && !view.operators.contains_key(&known.region.id)
    });
    Remaining {
        regions: counts.regions,
        leaders: counts.leaders,
        moving: u32::try_from(moving).unwrap_or(u32::MAX),
        blocked_by: silence(view, settings, store, now)
            .into_iter()
            .chain(idle.filter_map(|known| block(view, settings, known, now)))
            .take(BLOCKED_MAX)
            .collect(),
    }
}

/// Whether it is waited for the store itself.
fn silence(
    view: &ClusterView,
    settings: &Settings,
    store: StoreId,
    now: Duration,
) -> Option<String> {
    let state = view.store_state(store, settings, now);
    let waits = matches!(state, StoreState::Joined | StoreState::Disconnected);
    waits.then(|| {
        format!(
            "store {store} is {state}: its peers stay until it is heard again, or was silent for \
             {:?}",
            settings.down_after()
        )
    })
}

/// Why nothing is planned for a region with a peer that should go, if nothing is.
fn block(
    view: &ClusterView,
    settings: &Settings,
    known: &RegionView,
    now: Duration,
) -> Option<String> {
    let region = known.region.id;
    if known.leader.is_none() {
        return Some(format!("region {region} has no known leader"));
    }
    if view.is_left_alone(known, settings, now) {
        return Some(format!(
            "region {region} is left alone for a minute after something was asked for by hand"
        ));
    }
    // A leader that is new has not told yet who is caught up.
    if now.saturating_sub(known.leader_since) < settings.leader_settle() {
        return None;
    }
    let Reason { facts, losers, .. } = replicas::why_stuck(view, settings, known, now)?;
    let is_full = |why| matches!(why, Why::EnoughAdditions | Why::Slow(_));
    if losers.iter().any(|loser| is_full(loser.why)) {
        return None;
    }
    let losers: Vec<String> = losers
        .iter()
        .map(|loser| format!("store {} ({})", loser.store, loser.why))
        .collect();
    let facts: Vec<String> = facts
        .iter()
        .map(|fact| format!("{} {}", fact.name, fact.value))
        .collect();
    if losers.is_empty() {
        let facts = facts.join(", ");
        return Some(format!("no peer of region {region} can go yet: {facts}"));
    }
    Some(format!(
        "no store can take the peer of region {region} ({}): {}",
        facts.join(", "),
        losers.join(", ")
    ))
}
