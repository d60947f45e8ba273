//! The rules one by one.

use super::*;

#[test]
fn a_region_that_has_what_it_wants_is_left_alone() {
    let mut world = World::new(3, 3);
    world.region(1, &[1, 2, 3]);
    assert_eq!(world.repairs(), [""; 0]);
}

#[test]
fn a_missing_replica_is_added_on_the_store_with_the_fewest_regions() {
    let mut world = World::new(4, 3);
    world.region(1, &[1, 2]);
    world.region(2, &[1, 3, 4]);
    world.region(3, &[2, 3, 4]);
    world.region(4, &[1, 2, 4]);
    assert_eq!(world.repairs(), ["1: add on 3 (missing-replica)"]);
    let reason = world.plan()[0].reason.to_string();
    assert_eq!(
        reason,
        "missing-replica: wanted 3, voters 2, learners 0, healthy 2; store 3 chosen (score 2), \
         not store 1 (has a peer already), not store 2 (has a peer already), not store 4 (score 3)"
            .replace("(score 2), not", "(score 2); not")
    );
}

#[test]
fn regions_of_one_plan_see_each_other() {
    let mut world = World::new(3, 2);
    for id in 1..=4 {
        world.region(id, &[1]);
    }
    assert_eq!(
        world.repairs(),
        [
            "1: add on 2 (missing-replica)",
            "2: add on 3 (missing-replica)",
            "3: add on 2 (missing-replica)",
            "4: add on 3 (missing-replica)"
        ]
    );
    world.admit();
    world.region(5, &[1]);
    world.region(6, &[1]);
    world.region(7, &[1, 2]);
    assert_eq!(
        world.repairs(),
        [
            "5: add on 3 (missing-replica)",
            "6: add on 2 (missing-replica)"
        ],
        "what is under way counts"
    );
}

#[test]
fn a_store_that_only_joined_gets_nothing() {
    let mut world = World::new(2, 3);
    world.join(3, StoreLife::Serving);
    world.region(1, &[1, 2]);
    assert_eq!(world.planned(), [""; 0]);
    world.beat(3);
    assert_eq!(world.planned(), ["1: add on 3 (missing-replica)"]);
}

#[test]
fn stores_that_cannot_take_more_get_nothing() {
    let edits: [fn(&mut World); 5] = [
        |world| world.silent_for(3, 6),
        |world| world.stats(3, |stats| stats.is_busy = true),
        |world| world.stats(3, |stats| stats.is_stopping = true),
        |world| world.join(3, StoreLife::Leaving),
        |world| world.settings.additions_per_store_max = 0,
    ];
    for edit in edits {
        let mut world = World::new(3, 3);
        world.region(1, &[1, 2]);
        edit(&mut world);
        assert_eq!(world.planned(), [""; 0]);
    }
}

#[test]
fn nothing_is_done_to_regions_whose_leader_is_unknown_or_that_are_joint_or_busy() {
    let mut world = World::new(3, 3);
    world.region(1, &[1, 2]);
    world.region(2, &[1, 2]);
    world.region(3, &[1, 2]);
    world.known(1).leader = None;
    world.known(2).region.peers[1].role = PeerRole::IncomingVoter;
    assert_eq!(world.planned(), ["3: add on 3 (missing-replica)"]);
    world.admit();
    assert_eq!(world.planned(), [""; 0]);
}

#[test]
fn a_learner_left_behind_is_promoted_if_a_voter_is_missing_and_removed_if_not() {
    let mut world = World::new(4, 3);
    world.region(1, &[1, 2]);
    world.learner(1, 3);
    assert_eq!(world.planned(), ["1: promote on 3 (unfinished-replica)"]);
    world.region(2, &[1, 2, 3]);
    world.learner(2, 4);
    assert_eq!(world.planned()[1], "2: remove from 4 (extra-learner)");
    world.silent_for(3, 601);
    assert_eq!(
        world.planned()[0],
        "1: remove from 3 (extra-learner)",
        "its store is down"
    );
}

#[test]
fn a_voter_too_many_goes_and_the_least_useful_first() {
    let mut world = World::new(4, 3);
    world.region(1, &[1, 2, 3, 4]);
    assert_eq!(
        world.planned(),
        ["1: remove from 4 (extra-replica)"],
        "the newest of equals"
    );
    world.region(2, &[1, 3]);
    world.view.replicas_wanted = 3;
    assert_eq!(
        world.planned()[0],
        "1: remove from 3 (extra-replica)",
        "the fullest store"
    );
    world.join(2, StoreLife::Leaving);
    assert_eq!(
        world.planned()[0],
        "1: remove from 2 (extra-replica)",
        "who leaves"
    );
    world.silent_for(4, 6);
    assert_eq!(
        world.planned()[0],
        "1: remove from 4 (extra-replica)",
        "who is not healthy"
    );
}

#[test]
fn a_leader_too_many_hands_over_first() {
    let mut world = World::new(2, 1);
    world.region(1, &[1, 2]);
    world.join(1, StoreLife::Leaving);
    assert_eq!(
        world.planned(),
        ["1: remove from 1, leader to 2 (extra-replica)"]
    );
}

#[test]
fn a_voter_on_a_down_store_is_replaced_and_on_a_disconnected_one_is_not() {
    let mut world = World::new(4, 3);
    world.region(1, &[1, 2, 3]);
    world.silent_for(3, 599);
    assert_eq!(world.planned(), [""; 0]);
    world.silent_for(3, 601);
    assert_eq!(world.planned(), ["1: move 3 to 4 (down-replica)"]);
}

/// What is to be done to region 1 when the plan is carried out.
fn steps(mut world: World) -> Vec<String> {
    world.admit();
    let operator = world.operator();
    operator.steps.iter().map(Step::to_string).collect()
}

#[test]
fn a_leaving_store_is_emptied() {
    let mut world = World::new(4, 3);
    world.region(1, &[1, 2, 3]);
    world.join(1, StoreLife::Leaving);
    assert_eq!(world.planned(), ["1: move 1 to 4 (offline-replica)"]);
    assert_eq!(
        steps(world.clone()),
        [
            "add learner 10001 on store 4",
            "exchange 101 on store 1 for 10001 on store 4",
            "remove 101 from store 1"
        ]
    );
    world.settings.joint_changes = false;
    assert_eq!(
        steps(world),
        [
            "add learner 10001 on store 4",
            "promote 10001 on store 4",
            "transfer leader to 10001 on store 4",
            "remove 101 from store 1"
        ]
    );
}

#[test]
fn nothing_replaces_a_lost_voter_when_there_is_no_other_store() {
    let mut world = World::new(3, 3);
    world.region(1, &[1, 2, 3]);
    world.silent_for(3, 6_000);
    assert_eq!(world.planned(), [""; 0]);
}

/// What bootstrap leaves: six regions, all led from the first store.
#[test]
fn leaders_of_the_first_regions_spread_evenly() {
    let mut world = World::new(3, 3);
    for id in 1..=6 {
        world.region(id, &[1, 2, 3]);
    }
    assert_eq!(
        world.planned(),
        [
            "1: leader 1 to 2 (balance-leaders)",
            "2: leader 1 to 3 (balance-leaders)",
            "3: leader 1 to 2 (balance-leaders)",
            "4: leader 1 to 3 (balance-leaders)"
        ]
    );
    for (id, to) in [(1, 2), (2, 3), (3, 2), (4, 3)] {
        world.report(id, to, |_| ());
        world.known(id).leader_since = Duration::from_secs(2);
    }
    assert_eq!(world.planned(), [""; 0], "two each");
}

#[test]
fn a_difference_of_one_is_left_alone() {
    let mut world = World::new(2, 2);
    world.region(1, &[1, 2]);
    world.region(2, &[2, 1]);
    world.region(3, &[1, 2]);
    assert_eq!(world.planned(), [""; 0]);
    world.region(4, &[1, 2]);
    assert_eq!(world.planned(), ["1: leader 1 to 2 (balance-leaders)"]);
    world.admit();
    assert_eq!(world.planned(), [""; 0], "the transfer under way counts");
}

#[test]
fn leaders_do_not_move_to_where_they_would_not_be_well() {
    let edits: [fn(&mut World); 11] = [
        |world| world.silent_for(2, 6),
        |world| world.silent_for(2, 3),
        |world| world.view.on_stream_ended(StoreId(2)),
        |world| world.stats(2, |stats| stats.is_stopping = true),
        |world| world.join(2, StoreLife::Leaving),
        |world| {
            let store = world.view.stores.get_mut(&StoreId(2)).expect("joined");
            store.steady_since = Some(NOW - Duration::from_secs(2));
        },
        |world| {
            for id in 1..=4 {
                world.report(id, 1, |report| {
                    report.pending.insert(report.region.peers[1].id);
                });
            }
        },
        |world| {
            for id in 1..=4 {
                world.report(id, 1, |report| {
                    report
                        .down
                        .insert(report.region.peers[1].id, Duration::from_secs(1));
                });
            }
        },
        |world| {
            for id in 1..=4 {
                world.known(id).leader_since = NOW - Duration::from_secs(2);
            }
        },
        |world| world.damage(2, 1..=4),
        |world| world.settings.transfers_max = 0,
    ];
    for (position, edit) in edits.into_iter().enumerate() {
        let mut world = World::new(2, 2);
        for id in 1..=4 {
            world.region(id, &[1, 2]);
        }
        edit(&mut world);
        let moves = world
            .planned()
            .into_iter()
            .filter(|line| line.contains("balance"));
        assert_eq!(moves.collect::<Vec<_>>(), [""; 0], "case {position}");
    }
}

#[test]
fn a_slow_store_gets_one_peer_at_a_time_and_the_reason_says_so() {
    let mut world = World::new(4, 3);
    for id in 1..=6 {
        world.region(id, &[1, 2]);
    }
    let adds = |world: &World, store: u64| {
        let lines = world.planned();
        let to = format!("add on {store} ");
        lines.iter().filter(|line| line.contains(&to)).count()
    };
    assert_eq!((adds(&world, 3), adds(&world, 4)), (3, 3));
    for second in 0..4 {
        let stats = StoreStats {
            slow_score: 40,
            ..StoreStats::default()
        };
        let settings = world.settings;
        let at = NOW - Duration::from_secs(5 * (3 - second));
        world
            .view
            .on_store_heartbeat(StoreId(3), stats, &settings, at);
    }
    assert_eq!((adds(&world, 3), adds(&world, 4)), (1, 5));
    let plan = world.plan();
    let reason = plan.last().expect("six decisions").reason.to_string();
    let slow = "store 3 (enough peers are being added to it while it is slow: 40 of 100)";
    assert!(reason.contains(slow), "{reason}");
}
