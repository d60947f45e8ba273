//! What operators ask of placement: splits, moves, leader transfers, each awaited to its end.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use tinykv_placement::schedule::SPLIT_KEYS_MAX;
use tinykv_proto::placement::add_operator_request::Action;
use tinykv_proto::placement::placement_client::PlacementClient;
use tinykv_proto::placement::{
    AddOperatorRequest, ListOperatorsRequest, MovePeer, OperatorStatus, OverviewResponse,
    RegionStatus, SplitAtKeys, TransferLeaderTo,
};
use tokio::time::{Instant, interval, timeout};
use tonic::transport::Channel;

use super::health::overview;

/// How often progress is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// How long one question may take.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(2);

/// Splits at raw keys, so that a region begins at each of them.
///
/// # Errors
/// A key at which no region begins when the time is up, and why as far as it is known.
pub async fn split(placements: &[String], keys: &[&str], limit: Duration) -> Result<(), String> {
    let deadline = Instant::now() + limit;
    for key in keys {
        let key = Bytes::from((*key).to_owned());
        let wish = AddOperatorRequest {
            key: key.clone(),
            action: Some(Action::Split(SplitAtKeys {
                keys: vec![key.clone()],
            })),
            ..AddOperatorRequest::default()
        };
        let begins = |whole: &OverviewResponse| {
            whole.regions.iter().any(|status| {
                let region = status.region.as_ref();
                region.is_some_and(|region| region.start_key == key)
            })
        };
        until(placements, &wish, begins, deadline)
            .await
            .map_err(|problem| format!("no region begins at {key:?}: {problem}"))?;
    }
    Ok(())
}

/// Splits at ascending routing keys that lie in one region, as many at once as placement takes.
///
/// # Errors
/// Where a region does not begin when the time is up, and why as far as it is known.
pub async fn split_often(
    placements: &[String],
    keys: &[Bytes],
    limit: Duration,
) -> Result<(), String> {
    let deadline = Instant::now() + limit;
    for keys in keys.chunks(SPLIT_KEYS_MAX) {
        let wish = AddOperatorRequest {
            key: keys[0].clone(),
            action: Some(Action::Split(SplitAtKeys {
                keys: keys.to_vec(),
            })),
            ..AddOperatorRequest::default()
        };
        let begin = |whole: &OverviewResponse| {
            let regions = whole
                .regions
                .iter()
                .filter_map(|status| status.region.as_ref());
            let starts: BTreeSet<&Bytes> = regions.map(|region| &region.start_key).collect();
            keys.iter().all(|key| starts.contains(key))
        };
        until(placements, &wish, begin, deadline)
            .await
            .map_err(|problem| format!("regions do not begin at {:?}: {problem}", keys[0]))?;
    }
    Ok(())
}

/// Lets another store lead the region that contains a raw key.
///
/// # Errors
/// It does not lead when the time is up.
pub async fn transfer_leader(
    placements: &[String],
    key: &str,
    store: u64,
    limit: Duration,
) -> Result<(), String> {
    let wish = AddOperatorRequest {
        key: Bytes::from(key.to_owned()),
        action: Some(Action::TransferLeader(TransferLeaderTo { store_id: store })),
        ..AddOperatorRequest::default()
    };
    let led = |whole: &OverviewResponse| {
        let leader = region_of(whole, key).and_then(|status| status.leader.as_ref());
        leader.is_some_and(|leader| leader.store_id == store)
    };
    until(placements, &wish, led, Instant::now() + limit).await
}

/// Moves the peer of the region that contains a raw key from one store to another.
///
/// # Errors
/// It is not there when the time is up.
pub async fn move_peer(
    placements: &[String],
    key: &str,
    (from, to): (u64, u64),
    limit: Duration,
) -> Result<(), String> {
    let wish = AddOperatorRequest {
        key: Bytes::from(key.to_owned()),
        action: Some(Action::MovePeer(MovePeer {
            from_store_id: from,
            to_store_id: to,
        })),
        ..AddOperatorRequest::default()
    };
    let moved = |whole: &OverviewResponse| {
        let region = region_of(whole, key).and_then(|status| status.region.as_ref());
        region.is_some_and(|region| {
            let on = |store| region.peers.iter().any(|peer| peer.store_id == store);
            on(to) && !on(from)
        })
    };
    until(placements, &wish, moved, Instant::now() + limit).await
}

/// The region that contains a raw key.
pub fn region_of<'a>(whole: &'a OverviewResponse, key: &str) -> Option<&'a RegionStatus> {
    whole.regions.iter().find(|status| {
        let region = status.region.clone().unwrap_or_default();
        tinykv_keys::Bounds::new(&region.start_key, &region.end_key).contains_raw(key.as_bytes())
    })
}

/// Wishes until what was wished for is there: placement may refuse at first (the region is busy, or
/// changed meanwhile, or placement has no leader) or give up (a store died in the middle).
async fn until(
    placements: &[String],
    wish: &AddOperatorRequest,
    there: impl Fn(&OverviewResponse) -> bool,
    deadline: Instant,
) -> Result<(), String> {
    let mut look = interval(LOOK_INTERVAL);
    let mut last = "placement did not answer".to_owned();
    loop {
        look.tick().await;
        if overview(placements)
            .await
            .is_some_and(|whole| there(&whole))
        {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(last);
        }
        match begin(placements, wish).await {
            Err(problem) => last = problem,
            Ok(operator) => last = ended(placements, operator, deadline).await,
        }
    }
}

/// Begins an operator; whichever member leads takes it.
async fn begin(placements: &[String], wish: &AddOperatorRequest) -> Result<OperatorStatus, String> {
    let mut last = "no member takes orders".to_owned();
    for address in placements {
        let Some(mut client) = connect(address).await else {
            continue;
        };
        match timeout(QUESTION_TIMEOUT, client.add_operator(wish.clone())).await {
            Err(_) => last = format!("{address} did not answer"),
            Ok(Err(status)) => last = status.message().to_owned(),
            Ok(Ok(answer)) => {
                let answer = answer.into_inner();
                let refused = answer.header.and_then(|header| header.error);
                match (refused, answer.operator) {
                    (None, Some(operator)) => return Ok(operator),
                    (refused, _) => last = refused.unwrap_or_default().message,
                }
            }
        }
    }
    Err(last)
}

/// Waits for the end of an operator; says how it ended.
async fn ended(placements: &[String], operator: OperatorStatus, deadline: Instant) -> String {
    let mut look = interval(LOOK_INTERVAL);
    let (id, mut status) = (operator.id, operator);
    while Instant::now() < deadline {
        look.tick().await;
        match find(placements, id).await {
            Some(now) if now.state != "running" => {
                return format!("{}: {} ({})", now.kind, now.state, now.outcome);
            }
            Some(now) => status = now,
            // A new leader of placement knows nothing of the operators of the old one.
            None => return format!("{} was forgotten", status.kind),
        }
    }
    let step = status.steps.get(status.step as usize);
    format!("{} is still at work: {step:?}", status.kind)
}

async fn find(placements: &[String], id: u64) -> Option<OperatorStatus> {
    for address in placements {
        let Some(mut client) = connect(address).await else {
            continue;
        };
        let request = ListOperatorsRequest {
            with_ended: true,
            operator_id: id,
            ..ListOperatorsRequest::default()
        };
        if let Ok(Ok(answer)) = timeout(QUESTION_TIMEOUT, client.list_operators(request)).await
            && let Some(found) = answer.into_inner().operators.into_iter().next()
        {
            return Some(found);
        }
    }
    None
}

async fn connect(address: &str) -> Option<PlacementClient<Channel>> {
    let connected = PlacementClient::connect(format!("http://{address}"));
    timeout(QUESTION_TIMEOUT, connected).await.ok()?.ok()
}
