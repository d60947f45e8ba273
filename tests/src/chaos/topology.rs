//! Regions are split, moved and led from elsewhere meanwhile, as operators would have it.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tinykv_env::Prng;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::cluster::health::overview;
use crate::cluster::operator::{move_peer, region_of, split, transfer_leader};

use super::load::{History, PARTS, border_of_now, probe_key};

/// How long a wish may take; what the nemesis does not let come true is given up.
const WISH_LIMIT: Duration = Duration::from_secs(5);
/// More regions would make the cluster larger, not the test better.
const SPLITS_MAX: u64 = 30;

/// What came about.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Changes {
    splits: u64,
    transfers: u64,
    moves: u64,
    /// Wishes that did not come true in time.
    given_up: u64,
}

/// The operator at work. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Topology {
    stop: oneshot::Sender<()>,
    task: JoinSet<Changes>,
}

impl Topology {
    pub(super) fn start(
        placements: &[String],
        history: &Arc<History>,
        mut random: Prng,
    ) -> Topology {
        let (stop, mut stopped) = oneshot::channel();
        let (placements, history) = (placements.to_vec(), Arc::clone(history));
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut changes = Changes::default();
            // The pauses are the schedule of the wishes: nothing is waited for but the end.
            let pause = |random: &mut Prng| Duration::from_millis(random.between(1_000, 4_000));
            while timeout(pause(&mut random), &mut stopped).await.is_err() {
                change(&placements, &history, &mut random, &mut changes).await;
            }
            changes
        });
        Topology { stop, task }
    }

    /// Ends it after the wish at hand, or at once if it pauses.
    pub(super) async fn stop(mut self) -> Result<Changes, String> {
        let asked = self.stop.send(());
        asked.map_err(|()| "whoever wishes has ended by itself")?;
        let changes = self.task.join_next().await.ok_or("nobody wishes")?;
        changes.map_err(|error| error.to_string())
    }
}

async fn change(
    placements: &[String],
    history: &History,
    random: &mut Prng,
    changes: &mut Changes,
) {
    let part = random.below(PARTS);
    let kind = random.below(3);
    if kind == 0 && changes.splits < SPLITS_MAX {
        let at = border_of_now(history, part);
        match split(placements, &[&at], WISH_LIMIT).await {
            Ok(()) => changes.splits += 1,
            Err(_) => changes.given_up += 1,
        }
        return;
    }
    let key = probe_key(part);
    let Some(whole) = overview(placements).await else {
        return;
    };
    let Some((leader, on)) = region_of(&whole, &key).and_then(|status| {
        let peers = status.region.iter().flat_map(|region| &region.peers);
        let on: Vec<u64> = peers.map(|peer| peer.store_id).collect();
        Some((status.leader.as_ref()?.store_id, on))
    }) else {
        return;
    };
    let others: Vec<u64> = on
        .iter()
        .copied()
        .filter(|store| *store != leader)
        .collect();
    let stores = whole
        .stores
        .iter()
        .filter_map(|status| status.store.as_ref());
    let free: Vec<u64> = stores
        .map(|store| store.id)
        .filter(|id| !on.contains(id))
        .collect();
    let (Some(follower), Some(from), Some(to)) =
        (random.pick(&others), random.pick(&on), random.pick(&free))
    else {
        return;
    };
    let done = match kind {
        1 => transfer_leader(placements, &key, *follower, WISH_LIMIT).await,
        _ => move_peer(placements, &key, (*from, *to), WISH_LIMIT).await,
    };
    match (kind, done) {
        (_, Err(_)) => changes.given_up += 1,
        (1, Ok(())) => changes.transfers += 1,
        _ => changes.moves += 1,
    }
}
