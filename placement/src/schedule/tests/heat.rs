//! Hot regions: who moves, and what stays where it is.

use super::*;
use crate::view::{Amount, Counted};

/// So much is read and written for a minute. KiB a second.
fn heat(world: &mut World, id: u64, read: u64, written: u64) {
    let seconds = 3_000;
    let amount = |kib: u64| Amount {
        bytes: (kib << 10) * seconds,
        keys: 0,
    };
    let counted = Counted {
        read: amount(read),
        written: amount(written),
        over: Duration::from_secs(seconds),
    };
    world.known(id).flow.hear(counted, NOW);
}

/// Ten regions on stores 1 to 3, three or four led from each; region 1, 4, 7 and 10 from store 1.
fn spread(stores: u64) -> World {
    let mut world = World::new(stores, 3);
    for id in 1..=10 {
        let mut on = [1, 2, 3];
        on.rotate_left((id as usize - 1) % 3);
        world.region(id, &on);
    }
    world
}

fn hot(world: &World) -> Vec<String> {
    let lines = world.planned();
    let hot = lines.into_iter().filter(|line| line.contains("hot"));
    hot.collect()
}

#[test]
fn leaders_of_what_is_read_go_to_stores_with_less_load() {
    let mut world = spread(3);
    assert_eq!(world.planned(), [""; 0], "nothing is hot, all is even");
    heat(&mut world, 1, 2_000, 0);
    heat(&mut world, 4, 1_900, 0);
    heat(&mut world, 7, 1_800, 0);
    assert_eq!(
        hot(&world),
        [
            "1: leader 1 to 2 (hot-region)",
            "4: leader 1 to 3 (hot-region)"
        ],
        "and not one more: then all three are alike"
    );
    let reason = world.plan()[0].reason.to_string();
    assert_eq!(
        reason,
        "hot-region: from store 1, KiB/s there 5643, KiB/s at the target 0, KiB/s of the region \
         1980; store 2 chosen (score 0); not store 3 (score 0)"
    );
    world.admit();
    assert_eq!(
        world.planned(),
        ["2: leader 2 to 1 (balance-leaders)"],
        "what is under way counts, and a cold one makes the numbers even"
    );
}

#[test]
fn what_was_moved_is_not_taken_back() {
    let mut world = spread(3);
    heat(&mut world, 1, 2_000, 0);
    heat(&mut world, 4, 1_700, 0);
    assert_eq!(hot(&world), ["1: leader 1 to 2 (hot-region)"]);
    world.report(1, 2, |_| ());
    world.known(1).leader_since = Duration::from_secs(1);
    // Store 2 leads four regions now, one more than store 1: cold ones may even that out.
    let lines = world.planned();
    assert_eq!(lines, [""; 0], "a difference of one is left alone");
    // The load shifts a little, and nothing happens.
    heat(&mut world, 4, 2_100, 0);
    assert_eq!(hot(&world), [""; 0]);
}

#[test]
fn a_region_that_is_hot_alone_or_like_all_others_stays() {
    let mut alone = spread(3);
    heat(&mut alone, 1, 50_000, 0);
    assert_eq!(hot(&alone), [""; 0], "elsewhere it would be as hot");
    let mut alike = spread(3);
    for id in 1..=10 {
        heat(&mut alike, id, 1_000, 1_000);
    }
    assert_eq!(hot(&alike), [""; 0]);
    let mut cool = spread(3);
    for id in [1, 4] {
        heat(&mut cool, id, 100, 0);
    }
    assert_eq!(hot(&cool), [""; 0]);
    let mut off = spread(3);
    off.settings.hot_limit = 0;
    for id in [1, 4, 7] {
        heat(&mut off, id, 5_000, 0);
    }
    assert_eq!(hot(&off), [""; 0]);
}

#[test]
fn peers_of_what_is_written_go_to_stores_with_less_load() {
    let mut world = spread(4);
    world.settings.additions_per_store_max = 2;
    for id in [1, 2, 3] {
        heat(&mut world, id, 0, 3_000);
    }
    let lines = hot(&world);
    let moves: Vec<&String> = lines.iter().filter(|line| line.contains("move")).collect();
    assert_eq!(
        moves,
        ["1: move 1 to 4 (hot-region)", "2: move 2 to 4 (hot-region)"]
    );
    world.stats(4, |stats| stats.is_busy = true);
    let lines = hot(&world);
    assert!(!lines.iter().any(|line| line.contains("to 4")), "{lines:?}");
}

#[test]
fn hot_regions_are_left_out_where_regions_are_counted_and_merged() {
    let mut world = World::new(3, 3);
    for id in 1..=4 {
        world.region(id, &[1, 2, 3]);
    }
    let first = world.planned().remove(0);
    assert_eq!(first, "1: leader 1 to 2 (balance-leaders)");
    heat(&mut world, 1, 50_000, 0);
    let first = world.planned().remove(0);
    assert_eq!(first, "2: leader 1 to 2 (balance-leaders)", "the next one");
    world.settings.merge_limit = 8;
    world.settings.leader_difference_max = 100;
    assert_eq!(world.planned(), ["2: merge into 3 (merge-small)"]);
}
