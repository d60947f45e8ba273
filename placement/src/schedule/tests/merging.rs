//! Merges: what is refused, the way to one, and its end.

use super::driving::step;
use super::*;
use crate::view::{Amount, Counted, SplitThresholds};

const ONE: GroupId = GroupId(1);
const TWO: GroupId = GroupId(2);

/// Regions 1 and 2 beside each other, on these stores of five, all well.
fn neighbours(one: &[u64], two: &[u64]) -> World {
    let mut world = World::new(5, 3);
    world.region(1, one);
    world.region(2, two);
    world
}

fn wish(world: &World, source: u64, target: u64) -> Result<Decision, String> {
    let target = GroupId(target);
    let asked = Manual::Merge { target };
    let decided = decide(&world.view, &world.settings, GroupId(source), &asked, NOW);
    decided.map_err(|refusal| refusal.to_string())
}

fn refused(world: &World, source: u64, target: u64) -> String {
    wish(world, source, target).expect_err("refused")
}

fn merging(one: &[u64], two: &[u64]) -> World {
    let mut world = neighbours(one, two);
    let decision = wish(&world, 1, 2).expect("it fits");
    world.begin(decision);
    world
}

/// Region 1's leader reports that it is frozen, or has thawed.
fn version(world: &mut World, raised: u64) {
    world.report(1, 1, |report| report.region.epoch.version = 1 + raised);
}

/// Region 2 has taken in region 1.
fn absorb(world: &mut World) {
    let source = world.view.regions.remove(&ONE).expect("it was there");
    let target = &mut world.known(2).region;
    target.start = source.region.start;
    target.epoch.version = source.region.epoch.version + 2;
}

#[test]
fn neighbours_on_the_same_stores_are_merged_at_once() {
    let mut world = merging(&[1, 2, 3], &[3, 1, 2]);
    assert_eq!(world.steps(), ["merge into region 2"]);
    assert_eq!(step(&mut world, NOW), "merge into 2 at 1.1");
    assert_eq!(
        step(&mut world, NOW),
        "merge into 2 at 1.1",
        "until it is seen"
    );
    version(&mut world, 1);
    assert_eq!(step(&mut world, NOW), "wait", "it is frozen");
    absorb(&mut world);
    assert_eq!(step(&mut world, NOW), "success");
}

#[test]
fn either_neighbour_can_take_the_other_in() {
    let world = neighbours(&[1, 2, 3], &[1, 2, 3]);
    let action = |source, target| wish(&world, source, target).map(|decided| decided.action);
    assert_eq!(action(1, 2), Ok(Action::Merge { target: TWO }));
    assert_eq!(action(2, 1), Ok(Action::Merge { target: ONE }));
}

#[test]
fn the_source_comes_to_the_stores_of_the_target_first() {
    let mut world = merging(&[1, 2, 3], &[3, 4, 5]);
    assert_eq!(
        world.steps(),
        [
            "add learner 10001 on store 4",
            "exchange 101 on store 1 for 10001 on store 4",
            "remove 101 from store 1",
            "add learner 10002 on store 5",
            "exchange 102 on store 2 for 10002 on store 5",
            "remove 102 from store 2",
            "merge into region 2",
        ]
    );
    assert_eq!(step(&mut world, NOW), "add learner 10001 on 4");
    world.report(1, 3, |report| {
        report.region.peers = [(103, 3), (10_001, 4), (10_002, 5)]
            .map(|(id, store)| Peer::voter(PeerId(id), StoreId(store)))
            .to_vec();
        report.region.epoch.conf_ver += 4;
    });
    assert_eq!(step(&mut world, NOW), "merge into 2 at 1.1");
}

#[test]
fn replicas_stay_apart_on_the_way() {
    let mut world = neighbours(&[1, 2, 3], &[4, 5, 3]);
    for (store, zone) in [(1, "a"), (2, "b"), (3, "c"), (4, "b"), (5, "a")] {
        let known = world.view.stores.get_mut(&StoreId(store)).expect("joined");
        known.record.labels.insert("zone".into(), zone.into());
    }
    let decision = wish(&world, 1, 2).expect("it fits");
    world.begin(decision);
    let removed: Vec<String> = world
        .steps()
        .into_iter()
        .filter(|it| it.starts_with("remove"))
        .collect();
    assert_eq!(
        removed,
        ["remove 102 from store 2", "remove 101 from store 1"]
    );
}

#[test]
fn a_merge_holds_both_regions() {
    let world = merging(&[1, 2, 3], &[1, 2, 3]);
    let busy = "is busy: operator 10001 (merge, manual) is at work on it; wait for it or cancel it";
    for (source, target, region) in [(1, 2, 1), (2, 1, 2)] {
        assert_eq!(
            refused(&world, source, target),
            format!("region {region} {busy}")
        );
    }
    let asked = Manual::TransferLeader { to: StoreId(2) };
    let decided = decide(&world.view, &world.settings, TWO, &asked, NOW);
    let sentence = decided.expect_err("busy").to_string();
    assert_eq!(sentence, format!("region 2 {busy}"));
    let mut third = world.clone();
    third.region(3, &[1, 2, 3]);
    assert_eq!(refused(&third, 3, 2), format!("region 2 {busy}"));
    third.silent_for(1, 3_600);
    let lines = third.repairs();
    assert!(
        lines.iter().all(|line| line.starts_with("3: ")),
        "{lines:?}"
    );
}

#[test]
fn what_comes_first_ends_a_merge() {
    let mut damaged = merging(&[1, 2, 3], &[1, 2, 3]);
    damaged.damage(2, [2]);
    assert_eq!(step(&mut damaged, NOW), "cancelled");
    let mut split = merging(&[1, 2, 3], &[1, 2, 3]);
    split.known(2).region.epoch.version += 1;
    assert_eq!(step(&mut split, NOW), "cancelled");
    let mut source = merging(&[1, 2, 3], &[1, 2, 3]);
    let region = &mut source.known(1).region;
    (region.epoch.version, region.end) = (2, Bytes::from_static(b"\0\0\0\0\0\0\0\x01m"));
    assert_eq!(step(&mut source, NOW), "cancelled", "split, not frozen");
    let mut gone = merging(&[1, 2, 3], &[1, 2, 3]);
    gone.view.regions.remove(&TWO);
    assert_eq!(step(&mut gone, NOW), "cancelled");
    let mut thawed = merging(&[1, 2, 3], &[1, 2, 3]);
    version(&mut thawed, 1);
    assert_eq!(step(&mut thawed, NOW), "wait");
    version(&mut thawed, 2);
    assert_eq!(step(&mut thawed, NOW), "cancelled");
}

#[test]
fn a_merge_waits_for_everybody_and_has_its_time() {
    let mut world = merging(&[1, 2, 3], &[1, 2, 3]);
    world.known(2).pending.insert(PeerId(203));
    assert_eq!(step(&mut world, NOW), "wait");
    let late = NOW + Duration::from_secs(31);
    assert_eq!(step(&mut world, late), "timeout");
    let mut lost = merging(&[1, 2, 3], &[1, 2, 3]);
    lost.view.regions.remove(&ONE);
    assert_eq!(step(&mut lost, NOW), "cancelled", "nobody took it in");
}

#[test]
fn each_refusal_says_what_would_be_right() {
    let mut world = neighbours(&[1, 2, 3], &[1, 2, 3]);
    world.region(3, &[1, 2, 3]);
    assert_eq!(
        refused(&world, 1, 1),
        "region 1 cannot be merged with itself: name a region beside it"
    );
    assert_eq!(
        refused(&world, 1, 3),
        "regions 1 and 3 are not neighbours: region 1 can be merged into region 2"
    );
    assert_eq!(
        refused(&world, 1, 9),
        "region 9 is not known: list the regions for those that are"
    );
    world.known(2).stats.size_bytes = 60 << 20;
    world.known(3).stats.size_bytes = 5 << 20;
    assert_eq!(
        refused(&world, 2, 3),
        "regions 2 and 3 have 68157440 bytes together, more than merged_mib_max allows (67108864 \
         bytes): merge smaller ones, or raise it"
    );
    world.settings.merged_mib_max = 1_000;
    world.stats(3, |stats| stats.splits.size_bytes = 96 << 20);
    assert_eq!(
        refused(&world, 2, 3),
        "regions 2 and 3 have 68157440 bytes together, and a store splits regions of 100663296 \
         bytes: merge what has two thirds of that together, or start the stores with a larger \
         --region-split-size"
    );
    world.known(1).pending.insert(PeerId(102));
    assert_eq!(
        refused(&world, 1, 2),
        "peer 102 of region 1 on store 2 is down, behind or only learning: ask again when it is \
         well, for a merge needs all peers of both regions"
    );
    world.damage(3, [3]);
    assert_eq!(
        refused(&world, 2, 3),
        "peer 303 of region 3 on store 3 is damaged: ask again when it is replaced, which is being \
         seen to"
    );
    world.known(3).region.peers.pop();
    assert_eq!(
        refused(&world, 2, 3),
        "region 3 has 2 of 3 voters: ask again when it has exactly these, which is being seen to"
    );
}

#[test]
fn edges_of_keyspaces_and_stores_that_take_nothing_stay_in_the_way() {
    let edge = Bytes::from(tinykv_keys::bootstrap_edges()[0].as_bytes().to_vec());
    let mut world = neighbours(&[1, 2, 3], &[3, 4, 5]);
    world.join(4, StoreLife::Leaving);
    assert_eq!(
        refused(&world, 1, 2),
        "store 4 is offline: name a store that is up"
    );
    world.known(1).region.end = edge.clone();
    world.known(2).region.start = edge.clone();
    assert_eq!(
        refused(&world, 2, 1),
        format!(
            "the border `{}` between regions 2 and 1 is the edge of a keyspace, which stays: name \
             a region on the same side of it",
            edge.escape_ascii()
        )
    );
}

/// Regions 1 to 4 beside each other on the first three stores, none cut for long, merges allowed.
fn small(stores: u64) -> World {
    let mut world = World::new(stores, 3);
    world.settings.merge_limit = 8;
    // So that leaders stay where they are.
    world.settings.leader_difference_max = 100;
    for id in 1..=4 {
        world.region(id, &[1, 2, 3]);
        world.known(id).stats.size_bytes = id << 20;
    }
    world
}

fn merges(world: &World) -> Vec<String> {
    let lines = world.planned();
    let merges = lines.into_iter().filter(|line| line.contains("merge"));
    merges.collect()
}

#[test]
fn small_neighbours_are_merged_in_pairs() {
    let mut world = small(3);
    assert_eq!(
        merges(&world),
        [
            "1: merge into 2 (merge-small)",
            "3: merge into 4 (merge-small)"
        ]
    );
    world.admit();
    assert_eq!(merges(&world), [""; 0], "all are busy");
}

#[test]
fn the_reason_tells_of_both_neighbours() {
    let mut world = small(4);
    world.region(2, &[1, 2, 4]);
    world.known(3).stats.keys = 7;
    world.view.regions.remove(&ONE);
    world.view.regions.remove(&GroupId(4));
    world.region(4, &[1, 2, 3]);
    let plan = world.plan();
    let reasons: Vec<String> = plan.iter().map(|it| it.reason.to_string()).collect();
    assert_eq!(
        reasons,
        [
            "merge-small: bytes 0, keys 0, bytes together 3145728, keys together 7; into region 3 \
          (score 1)"
        ]
    );
    let mut other = world.clone();
    other.known(2).stats.size_bytes = 30 << 20;
    let reason = other.plan()[0].reason.to_string();
    assert_eq!(
        reason,
        "merge-small: bytes 3145728, keys 7, bytes together 3145728, keys together 7; not region 2 \
         (not small); into region 4 (score 0)"
    );
}

#[test]
fn what_is_large_cut_lately_or_not_well_is_not_merged() {
    type Spoil = fn(&mut World);
    let spoils: [(&str, Spoil); 11] = [
        ("large", |world| world.known(1).stats.size_bytes = 21 << 20),
        ("many keys", |world| world.known(1).stats.keys = 200_001),
        ("large together", |world| {
            world.settings.merged_mib_max = 20;
            world.known(1).stats.size_bytes = 10 << 20;
            world.known(2).stats.size_bytes = 11 << 20;
        }),
        ("split again for their size", |world| {
            world.stats(2, |stats| stats.splits.size_bytes = (9 << 20) / 2 - 3);
        }),
        ("split again for their requests", |world| {
            world.stats(2, |stats| stats.splits.requests_per_s = 285);
            serve(world, 1, 100, 0);
            serve(world, 2, 100, 0);
        }),
        ("split again for their flow", |world| {
            world.stats(2, |stats| stats.splits.bytes_per_s = 57_000);
            serve(world, 1, 0, 20_000);
            serve(world, 2, 0, 20_000);
        }),
        ("cut lately", |world| {
            world.known(2).cut_at = Some(NOW - Duration::from_secs(3_599));
        }),
        ("a peer behind", |world| {
            world.known(2).pending.insert(PeerId(203));
        }),
        ("left alone", |world| world.view.leave_alone(TWO, NOW)),
        ("a new leader of placement", |world| {
            world.view.since = NOW - Duration::from_secs(3_599);
        }),
        ("switched off", |world| world.settings.merge_limit = 0),
    ];
    for (what, spoil) in spoils {
        let mut world = small(3);
        for id in [3, 4] {
            world.view.regions.remove(&GroupId(id));
        }
        assert_eq!(merges(&world).len(), 1);
        spoil(&mut world);
        assert_eq!(merges(&world), [""; 0], "{what}");
    }
}

/// The region has read so much a second, for so long that nothing else counts.
fn serve(world: &mut World, id: u64, keys: u64, bytes: u64) {
    let seconds = 10_000;
    let read = Amount {
        bytes: bytes * seconds,
        keys: keys * seconds,
    };
    let counted = Counted {
        read,
        written: Amount::default(),
        over: Duration::from_secs(seconds),
    };
    world.known(id).flow.hear(counted, NOW);
}

#[test]
fn what_stores_would_not_split_is_merged() {
    let mut world = small(3);
    for id in [3, 4] {
        world.view.regions.remove(&GroupId(id));
    }
    serve(&mut world, 1, 100, 20_000);
    serve(&mut world, 2, 100, 20_000);
    for store in [1, 2] {
        world.stats(store, |stats| {
            stats.splits = SplitThresholds {
                size_bytes: (9 << 20) / 2,
                requests_per_s: 300,
                bytes_per_s: 60_000,
            };
        });
    }
    // It splits nothing, so it is not the one to go by.
    world.stats(3, |stats| stats.splits = SplitThresholds::default());
    assert_eq!(merges(&world).len(), 1);
    // Nor is one that is gone.
    world.join(4, StoreLife::Tombstone);
    world.stats(4, |stats| stats.splits.size_bytes = 1);
    assert_eq!(merges(&world).len(), 1);
}

#[test]
fn merges_are_limited_in_all_and_on_each_store() {
    let mut world = small(3);
    world.settings.merge_limit = 1;
    assert_eq!(merges(&world).len(), 1);
    world.settings.merge_limit = 8;
    world.settings.merges_per_store_max = 1;
    assert_eq!(merges(&world), ["1: merge into 2 (merge-small)"]);
    world.admit();
    assert_eq!(merges(&world), [""; 0], "the one under way counts");
}

#[test]
fn edges_and_gaps_are_not_merged_over() {
    let mut world = small(3);
    let edge = Bytes::from(tinykv_keys::bootstrap_edges()[0].as_bytes().to_vec());
    for id in [3, 4] {
        world.view.regions.remove(&GroupId(id));
    }
    world.known(1).region.end = Bytes::from_static(b"\0\0\0\0\0\0\0\x01\x01");
    assert_eq!(merges(&world), [""; 0], "a gap");
    world.known(1).region.end = edge.clone();
    world.known(2).region.start = edge;
    world.known(2).region.end = Bytes::new();
    assert_eq!(merges(&world), [""; 0], "an edge");
}

#[test]
fn a_region_that_was_cut_is_known_as_such() {
    let mut world = small(3);
    let cut_at = |world: &World, id| world.view.regions[&GroupId(id)].cut_at;
    assert_eq!(cut_at(&world, 1), Some(Duration::ZERO), "its birth");
    let mut region = world.view.regions[&ONE].region.clone();
    region.epoch.version += 1;
    region.end = Bytes::from_static(b"\0\0\0\0\0\0\0\x03");
    world.view.follow_region(&region, &[], NOW);
    assert_eq!(cut_at(&world, 1), Some(Duration::ZERO), "it has grown");
    for end in [&b"\0\0\0\0\0\0\0\x02"[..], b""] {
        region.epoch.version += 1;
        region.end = Bytes::copy_from_slice(end);
        world.view.follow_region(&region, &[], NOW);
        assert_eq!(cut_at(&world, 1), Some(NOW));
    }
    region.start = Bytes::from_static(b"\0\0\0\0\0\0\0\x01\x01");
    region.epoch.version += 1;
    let later = NOW + Duration::from_secs(1);
    world.view.follow_region(&region, &[], later);
    assert_eq!(cut_at(&world, 1), Some(later));
}
