//! Stores that are to lead nothing.

use super::*;

fn evict(world: &mut World, store: u64) {
    world.view.evicted.insert(StoreId(store));
}

fn evictions(world: &World) -> Vec<String> {
    let mut lines = world.planned();
    lines.retain(|line| line.contains("evict-leaders"));
    lines
}

#[test]
fn leaders_leave_an_evicted_store_for_those_that_lead_the_fewest() {
    let mut world = World::new(4, 3);
    world.region(1, &[1, 2, 3]);
    world.region(2, &[1, 2, 3]);
    world.region(3, &[2, 1, 4]);
    evict(&mut world, 1);
    assert_eq!(
        evictions(&world),
        [
            "1: leader 1 to 3 (evict-leaders)",
            "2: leader 1 to 2 (evict-leaders)"
        ]
    );
    assert_eq!(
        world.plan()[0].reason.to_string(),
        "evict-leaders: from store 1; store 3 chosen (score 0); not store 1 (is to lead nothing), \
         not store 4 (its peer is no voter that is caught up), not store 2 (score 1)"
    );
    world.admit();
    assert_eq!(evictions(&world), [""; 0], "they are under way");
}

#[test]
fn so_many_leaders_leave_at_once_and_repairs_come_first() {
    let mut world = World::new(4, 3);
    world.settings.transfers_max = 2;
    world.region(1, &[1, 2]);
    for id in 2..=5 {
        world.region(id, &[1, 2, 3]);
    }
    evict(&mut world, 1);
    let planned = world.planned();
    assert_eq!(evictions(&world).len(), 2, "{planned:?}");
    assert!(planned[0].starts_with("1: add on "), "{planned:?}");
    assert!(planned[1].starts_with("2: leader 1 to "), "{planned:?}");
    assert!(planned[2].starts_with("3: leader 1 to "), "{planned:?}");
}

#[test]
fn balance_brings_no_leader_back() {
    let mut world = World::new(3, 3);
    for id in 1..=6 {
        world.region(id, &[2, 1, 3]);
    }
    evict(&mut world, 1);
    let planned = world.planned();
    assert!(!planned.is_empty(), "balance goes on between the others");
    assert!(
        planned.iter().all(|line| line.contains("leader 2 to 3")),
        "{planned:?}"
    );
    let wish = Manual::TransferLeader { to: StoreId(1) };
    let refused = decide(&world.view, &world.settings, GroupId(1), &wish, NOW);
    assert_eq!(
        refused.expect_err("it is to lead nothing").to_string(),
        "store 1 is to lead nothing: name another store, or end that with \
         `store cancel-evict-leader`"
    );
}

#[test]
fn what_keeps_leaders_is_said_in_sentences() {
    let mut world = World::new(4, 3);
    world.region(1, &[1, 2, 3]);
    world.region(2, &[1, 2, 4]);
    world.region(3, &[2, 1, 3]);
    evict(&mut world, 1);
    world.silent_for(2, 60);
    world.silent_for(3, 60);
    let blocked = |world: &World| eviction_blocked(&world.view, &world.settings, StoreId(1), NOW);
    let only = "no other store can lead region 1: store 2 (not up), store 3 (not up), \
                store 1 (is to lead nothing)";
    assert_eq!(blocked(&world), [only], "store 4 can lead region 2");
    world.view.leave_alone(GroupId(2), NOW);
    assert_eq!(
        blocked(&world).len(),
        1,
        "a region that is not healthy is not left alone"
    );
    for store in 2..=3 {
        world.beat(store);
    }
    assert_eq!(
        blocked(&world),
        ["region 2 is left alone for a minute after something was asked for by hand"]
    );
    assert_eq!(world.planned()[0], "1: leader 1 to 3 (evict-leaders)");
}
