//! Peers that nobody told that they were removed.
//!
//! A peer that was away while its region removed it usually learns of it from the others. If they
//! are gone, too (the region moved away altogether), only placement knows. So a peer that has had
//! no leader for long asks it, and is destroyed if the region went on without it. A damaged peer
//! never has a leader again, and asks nobody who could tell it: it is looked after from the start,
//! or its place would stay taken, and no younger peer of the region could come here.
//!
//! Of a region that was merged into another placement knows nothing but that another has its keys, at
//! a version that is higher than any the region had: the first key of a region never leaves it but
//! by a merge. (A peer that is frozen, and whose target lives here and may yet need it, does not go
//! when it is told to; the driver sees to that.)

use std::collections::BTreeMap;
use std::time::Duration;

use tinykv_proto::metapb;
use tinykv_raft::{GroupId, PeerId};
use tinykv_replica::GroupStatus;

use super::Reporting;
use crate::placement::CallError;

/// How often it is looked for them.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);
/// How long a peer has no leader before placement is asked about it: far longer than an election
/// or than the news of a change of membership take.
const LEADERLESS_FOR: Duration = Duration::from_secs(60);

/// Looks for orphans until it is told to stop.
pub async fn run(reporting: Reporting) {
    let mut leaderless = BTreeMap::new();
    while !reporting.stop.is_requested() {
        tokio::select! {
            () = tokio::time::sleep(LOOK_INTERVAL) => {}
            () = reporting.stop.requested() => return,
        }
        let now = reporting.node.now();
        for (group, peer) in long_leaderless(&reporting, &mut leaderless, now) {
            ask(&reporting, group, |status| status.peer.id == peer).await;
        }
        for group in reporting.news.damaged() {
            ask(&reporting, GroupId(group), |status| status.damaged).await;
        }
    }
}

/// Peers that have had no leader for long. `since` keeps when each was first seen without one.
fn long_leaderless(
    reporting: &Reporting,
    since: &mut BTreeMap<(GroupId, PeerId), Duration>,
    now: Duration,
) -> Vec<(GroupId, PeerId)> {
    let without = reporting
        .node
        .directory()
        .all()
        .into_iter()
        .filter_map(|entry| {
            let view = entry.view();
            view.leader.is_none().then_some((entry.group(), view.peer))
        });
    let seen: BTreeMap<_, _> = without
        .map(|peer| (peer, since.get(&peer).copied().unwrap_or(now)))
        .collect();
    *since = seen;
    let long = since
        .iter()
        .filter(|(_, first)| now >= **first + LEADERLESS_FOR);
    long.map(|(peer, _)| *peer).collect()
}

/// Asks about the peer of a group, if it is one that `is_meant`.
async fn ask(reporting: &Reporting, group: GroupId, is_meant: impl Fn(&GroupStatus) -> bool) {
    let known = match look_up(reporting, group).await {
        Ok(Some(known)) => known,
        Ok(None) => return,
        Err(error) => {
            tracing::debug!(%group, "cannot ask about a region without a leader: {error}");
            return;
        }
    };
    let status = reporting.node.status(group).await;
    let Some(status) = status.filter(is_meant) else {
        return;
    };
    let peer = status.peer.id;
    let directory = reporting.node.directory();
    // A peer that has no region yet is behind.
    let version_here = |other| {
        let view = directory.group(other)?.view();
        let state = view.state.as_ref();
        Some(state.map_or(0, |state| state.region.epoch.version))
    };
    if is_orphan(group, &status, &known, version_here) {
        tracing::info!(%group, %peer, "the region went on without this peer; it is destroyed");
        reporting.node.destroy(group, peer);
    }
}

/// The region, or who has its first key by now.
async fn look_up(
    reporting: &Reporting,
    group: GroupId,
) -> Result<Option<metapb::Region>, CallError> {
    let known = reporting.placement.region(group.0).await?;
    if known.is_some() {
        return Ok(known);
    }
    match reporting.node.status(group).await {
        Some(status) => reporting.placement.region_at(&status.start).await,
        None => Ok(None),
    }
}

/// Whether a peer has no leader because the region went on without it. `known` is what placement
/// knows of its region, or, if it knows no such region, of the one that holds its first key. Where that
/// one lives on this store and has yet to come to that version, it may need the peer, and looks after it.
pub fn is_orphan(
    group: GroupId,
    status: &GroupStatus,
    known: &metapb::Region,
    version_here: impl Fn(GroupId) -> Option<u64>,
) -> bool {
    let heir = GroupId(known.id);
    status.raft.leader.is_none()
        && match heir == group {
            true => went_on_without(status.peer.id, status.epoch.conf_ver, known),
            false => has_taken_over(status.epoch.version, known, version_here(heir)),
        }
}

/// Whether another region, which holds the first key of one that was at version `seen`, got it after
/// that (then that one was merged), and, if it lives here, at version `here`, knows that, too.
fn has_taken_over(seen: u64, known: &metapb::Region, here: Option<u64>) -> bool {
    let version = known.region_epoch.map_or(0, |epoch| epoch.version);
    version > seen && here.is_none_or(|here| here >= version)
}

/// Whether the region as placement knows it no longer has the peer, by a change of membership
/// later than `seen`, at which the peer was a member for certain. Placement may be behind: what it
/// knows may be from before the peer was added.
fn went_on_without(peer: PeerId, seen: u64, known: &metapb::Region) -> bool {
    let newer = known
        .region_epoch
        .is_some_and(|epoch| epoch.conf_ver > seen);
    let is_member = known.peers.iter().any(|member| member.id == peer.0);
    newer && !is_member
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(conf_ver: u64, peers: &[u64]) -> metapb::Region {
        metapb::Region {
            region_epoch: Some(metapb::RegionEpoch {
                conf_ver,
                version: 1,
            }),
            peers: peers
                .iter()
                .map(|id| metapb::Peer {
                    id: *id,
                    ..metapb::Peer::default()
                })
                .collect(),
            ..metapb::Region::default()
        }
    }

    #[test]
    fn only_a_later_membership_without_the_peer_makes_it_an_orphan() {
        let went_on = |known| went_on_without(PeerId(1), 5, &known);
        assert!(went_on(known(6, &[2, 3])));
        assert!(!went_on(known(6, &[1, 2, 3])), "a member");
        assert!(!went_on(known(5, &[2, 3])), "nothing newer");
        assert!(!went_on(known(4, &[2, 3])), "placement is behind");
    }

    #[test]
    fn only_a_higher_version_tells_of_a_merge() {
        let at = |version| {
            let mut region = known(1, &[7, 8]);
            if let Some(epoch) = &mut region.region_epoch {
                epoch.version = version;
            }
            region
        };
        assert!(has_taken_over(5, &at(6), None));
        assert!(!has_taken_over(5, &at(5), None), "a sibling of a split");
        assert!(!has_taken_over(5, &at(4), None), "placement is behind");
        assert!(!has_taken_over(5, &at(7), Some(6)), "it may need the peer");
        assert!(has_taken_over(5, &at(7), Some(7)));
    }
}
