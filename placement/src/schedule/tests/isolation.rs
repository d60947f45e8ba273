//! Replicas are kept apart, as far as labels tell.

use super::*;
use crate::state::Level;

/// Labels a store with a zone and, after a `/`, a host.
fn stand(world: &mut World, store: u64, place: &str) {
    let (zone, host) = place.split_once('/').unwrap_or((place, ""));
    let known = world.view.stores.get_mut(&StoreId(store)).expect("joined");
    for (level, value) in [("zone", zone), ("host", host)] {
        if !value.is_empty() {
            known.record.labels.insert(level.into(), value.into());
        }
    }
}

fn world(places: &[&str], wanted: u32) -> World {
    let mut world = World::new(places.len() as u64, wanted);
    for (store, place) in (1..).zip(places) {
        stand(&mut world, store, place);
    }
    world
}

#[test]
fn a_new_replica_goes_as_far_away_as_it_can() {
    let mut world = world(&["a/1", "a/1", "a/2", "b/3"], 2);
    world.region(1, &[1]);
    world.region(2, &[4, 1]);
    world.region(3, &[4, 2]);
    assert_eq!(world.repairs(), ["1: add on 4 (missing-replica)"]);
    assert_eq!(
        world.plan()[0].reason.to_string(),
        "missing-replica: wanted 2, voters 1, learners 0, healthy 1; store 4 chosen (score 2); \
         not store 1 (has a peer already), not store 2 (too close to other replicas), not store 3 \
         (too close to other replicas)"
    );
    world.silent_for(4, 60);
    assert_eq!(
        world.repairs(),
        ["1: add on 3 (missing-replica)"],
        "rather on another host of the zone"
    );
}

#[test]
fn what_is_not_labelled_is_the_same_place() {
    let mut world = world(&["a", "", "b", ""], 2);
    world.region(1, &[1]);
    assert_eq!(world.repairs(), ["1: add on 3 (missing-replica)"]);
    world.silent_for(3, 60);
    assert_eq!(world.repairs(), ["1: add on 2 (missing-replica)"]);
}

#[test]
fn a_replica_that_leaves_is_not_in_the_way_of_its_successor() {
    let mut world = world(&["a", "b", "c", "c", "a"], 3);
    world.region(1, &[1, 2, 3]);
    world.join(3, StoreLife::Leaving);
    stand(&mut world, 3, "c");
    assert_eq!(world.repairs(), ["1: move 3 to 4 (offline-replica)"]);
}

#[test]
fn replicas_that_are_too_close_are_moved_apart_and_then_rest() {
    let mut world = world(&["a/1", "a/1", "a/2", "b/3"], 3);
    world.region(1, &[1, 2, 3]);
    let planned = world.planned();
    assert_eq!(planned, ["1: move 2 to 4 (bad-isolation)"]);
    assert_eq!(
        world.plan()[0].reason.to_string(),
        "bad-isolation: from store 2, closeness there 5, closeness at the target 0; \
         store 4 chosen (score 0); not store 1 (has a peer already), not store 2 (has a peer \
         already), not store 3 (has a peer already)"
    );
    world.admit();
    assert_eq!(world.planned(), [""; 0], "it is under way");
    world.view.operators = Operators::default();
    world.region(2, &[1, 3, 4]);
    world.silent_for(2, 60);
    let mended = world.planned();
    assert!(
        mended.iter().all(|line| !line.starts_with("2: move")),
        "it is as far apart as it can be: {mended:?}"
    );
}

#[test]
fn the_leader_is_moved_last_of_those_that_are_equally_close() {
    for (stores, expected) in [([1, 2, 3], 2), ([2, 1, 3], 1)] {
        let mut world = world(&["a", "a", "b", "c"], 3);
        world.region(1, &stores);
        assert_eq!(
            world.planned(),
            [format!("1: move {expected} to 4 (bad-isolation)")]
        );
    }
}

#[test]
fn without_labels_nothing_is_moved_apart() {
    let mut world = World::new(4, 3);
    world.region(1, &[1, 2, 3]);
    assert_eq!(world.planned(), [""; 0]);
}

#[test]
fn nothing_is_mended_by_hand_undone_or_while_it_is_ill() {
    let mut world = world(&["a", "a", "b"], 2);
    world.region(1, &[1, 2]);
    assert_eq!(world.planned().len(), 1);
    world.view.leave_alone(GroupId(1), NOW);
    assert_eq!(world.planned(), [""; 0]);
    world.view.left_alone.clear();
    world.known(1).pending.insert(PeerId(102));
    assert_eq!(world.planned(), [""; 0]);
}

#[test]
fn balance_never_brings_replicas_closer() {
    let mut world = world(&["a", "b", "b"], 2);
    for id in 1..=8 {
        world.region(id, &[1, 2]);
    }
    let planned = world.planned();
    let moves: Vec<&String> = planned
        .iter()
        .filter(|line| line.contains("move"))
        .collect();
    assert!(!moves.is_empty());
    assert!(
        moves.iter().all(|line| line.contains("move 2 to 3")),
        "zone b shares among its own: {moves:?}"
    );
}

#[test]
fn isolation_rather_leaves_a_replica_out() {
    let mut world = world(&["a", "a", "b", ""], 3);
    world.settings.isolation_level = Level::parse("zone");
    world.region(1, &[1, 3]);
    assert_eq!(
        world.repairs(),
        [""; 0],
        "neither the same zone nor an unknown one"
    );
    let refused = decide(
        &world.view,
        &world.settings,
        GroupId(1),
        &Manual::AddPeer { to: StoreId(2) },
        NOW,
    );
    let refused = refused.expect_err("too close").to_string();
    assert_eq!(
        refused,
        "store 2 is too close to another replica of region 1 for isolation_level zone: name a \
         store elsewhere, or change that setting (the region is on stores 1 and 3)"
    );
    let moved = Manual::MovePeer {
        from: StoreId(1),
        to: StoreId(2),
    };
    let decided = decide(&world.view, &world.settings, GroupId(1), &moved, NOW);
    decided.expect("it takes the place of the one in its zone");
    stand(&mut world, 4, "c");
    assert_eq!(world.repairs(), ["1: add on 4 (missing-replica)"]);
}

#[test]
fn of_replicas_too_many_the_closest_goes() {
    let mut world = world(&["a", "b", "b"], 2);
    world.region(1, &[1, 2, 3]);
    assert_eq!(world.repairs(), ["1: remove from 3 (extra-replica)"]);
}
