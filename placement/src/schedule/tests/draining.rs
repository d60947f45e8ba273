//! What is left on a store that leaves, and what keeps it there.

use super::*;

fn look(world: &World, store: u64) -> Remaining {
    remaining(&world.view, &world.settings, StoreId(store), NOW)
}

#[test]
fn a_drain_counts_what_is_there_and_what_is_on_its_way() {
    let mut world = World::new(4, 3);
    world.region(1, &[1, 2, 3]);
    world.region(2, &[2, 1, 3]);
    world.region(3, &[2, 3, 4]);
    world.join(1, StoreLife::Leaving);
    let before = look(&world, 1);
    assert_eq!((before.regions, before.leaders, before.moving), (2, 1, 0));
    assert_eq!(before.blocked_by, [""; 0], "both can go");
    world.admit();
    assert_eq!(look(&world, 1).moving, 2);
    assert_eq!(look(&world, 3).moving, 0);
}

#[test]
fn what_blocks_a_drain_is_said_in_sentences() {
    let mut world = World::new(4, 3);
    for id in 1..=3 {
        world.region(id, &[1, 2, 3]);
    }
    world.join(1, StoreLife::Leaving);
    world.silent_for(4, 60);
    world.known(2).leader = None;
    world.view.leave_alone(GroupId(3), NOW);
    assert_eq!(
        look(&world, 1).blocked_by,
        [
            "no store can take the peer of region 1 (wanted 3, voters 3, learners 0, healthy 3): \
             store 1 (has a peer already), store 2 (has a peer already), store 3 (has a peer \
             already), store 4 (not up)",
            "region 2 has no known leader",
            "region 3 is left alone for a minute after something was asked for by hand",
        ]
    );
}

#[test]
fn a_peer_too_many_that_is_needed_blocks_a_drain() {
    let mut world = World::new(4, 3);
    world.region(1, &[2, 1, 3, 4]);
    world.join(1, StoreLife::Leaving);
    assert_eq!(look(&world, 1).blocked_by, [""; 0], "it can go");
    for store in [3, 4] {
        world.silent_for(store, 60);
    }
    world.report(1, 2, |report| {
        report.pending = report.region.peers.iter().map(|peer| peer.id).collect();
    });
    let blocked = "no peer of region 1 can go yet: wanted 3, voters 4, learners 0, healthy 0";
    assert_eq!(look(&world, 1).blocked_by, [blocked]);
    world.known(1).leader_since = NOW;
    assert_eq!(look(&world, 1).blocked_by, [""; 0], "the leader is new");
}

#[test]
fn a_store_that_leaves_and_is_silent_is_waited_for_and_said_so() {
    let mut world = World::new(4, 3);
    world.region(1, &[2, 1, 3]);
    world.join(1, StoreLife::Leaving);
    world.silent_for(1, 60);
    assert_eq!(world.repairs(), [""; 0]);
    assert_eq!(
        look(&world, 1).blocked_by,
        ["store 1 is disconnected: its peers stay until it is heard again, or was silent for 600s"]
    );
    world.silent_for(1, 601);
    assert_eq!(look(&world, 1).blocked_by, [""; 0]);
    assert_eq!(world.repairs(), ["1: move 1 to 4 (down-replica)"]);
}

#[test]
fn nothing_comes_to_a_store_that_leaves() {
    let mut world = World::new(4, 3);
    world.region(1, &[2, 3]);
    world.region(2, &[2, 3, 4]);
    world.join(1, StoreLife::Leaving);
    assert_eq!(world.repairs(), ["1: add on 4 (missing-replica)"]);
    let to = StoreId(1);
    let from = StoreId(2);
    let refused = decide(
        &world.view,
        &world.settings,
        GroupId(2),
        &Manual::MovePeer { from, to },
        NOW,
    );
    let sentence = refused.expect_err("it leaves").to_string();
    assert_eq!(sentence, "store 1 is offline: name a store that is up");
}

#[test]
fn whoever_waits_for_its_turn_is_not_blocked() {
    let mut world = World::new(4, 3);
    world.settings.additions_per_store_max = 1;
    for id in 1..=2 {
        world.region(id, &[1, 2, 3]);
    }
    world.join(1, StoreLife::Leaving);
    world.admit();
    assert_eq!(world.view.operators.len(), 1);
    assert_eq!(look(&world, 1).blocked_by, [""; 0]);
}
