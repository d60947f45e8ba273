//! Balance of regions: above a tolerance, never back and forth, never at the cost of a repair.

use super::*;

/// Region ids from `first` on, `count` of them, on the same stores.
fn regions(world: &mut World, first: u64, count: u64, stores: &[u64]) {
    for id in first..first + count {
        world.region(id, stores);
    }
}

fn moves(world: &World) -> Vec<String> {
    let mut lines = world.planned();
    lines.retain(|line| line.contains("balance-regions"));
    lines
}

/// Carries out what the plan says at once, until it says nothing more; returns how many moves
/// that took.
fn settle(world: &mut World) -> usize {
    let mut done = 0;
    loop {
        let planned = world.plan();
        let mut moved = false;
        for decision in planned {
            let Action::ReplaceReplica { old, to, .. } = decision.action else {
                continue;
            };
            let id = decision.region.0;
            world.next_peer += 1;
            let peer = Peer::voter(PeerId(world.next_peer), to);
            let known = world.known(id);
            let led = known.leader.is_some_and(|leader| leader.id == old);
            known.region.peers.retain(|known| known.id != old);
            known.region.peers.push(peer);
            known.region.epoch.conf_ver += 2;
            if led {
                known.leader = Some(peer);
            }
            moved = true;
            done += 1;
            assert!(done < 1_000, "it never comes to rest");
        }
        if !moved {
            return done;
        }
    }
}

#[test]
fn a_new_store_gets_its_share_and_then_it_rests() {
    let mut world = World::new(4, 3);
    regions(&mut world, 1, 8, &[1, 2, 3]);
    assert_eq!(moves(&world).len(), 4, "so many at once");
    settle(&mut world);
    let counts = world.view.counts();
    let held: Vec<u32> = counts.values().map(|counts| counts.regions).collect();
    let (most, fewest) = (held.iter().max(), held.iter().min());
    assert!(
        most.zip(fewest)
            .is_some_and(|(most, fewest)| most - fewest <= 2),
        "{held:?}"
    );
    assert_eq!(settle(&mut world), 0, "and stays");
}

#[test]
fn a_difference_of_two_is_left_alone() {
    let mut world = World::new(2, 1);
    regions(&mut world, 1, 3, &[1]);
    regions(&mut world, 4, 1, &[2]);
    assert_eq!(moves(&world), [""; 0]);
    regions(&mut world, 5, 1, &[1]);
    assert_eq!(moves(&world), ["1: move 1 to 2 (balance-regions)"]);
    assert_eq!(settle(&mut world), 1);
}

#[test]
fn with_many_regions_the_tolerance_is_a_share() {
    let mut world = World::new(2, 1);
    regions(&mut world, 1, 102, &[1]);
    regions(&mut world, 1_000, 97, &[2]);
    assert_eq!(moves(&world).len(), 1, "102 and 97: more than 4");
    assert_eq!(settle(&mut world), 1, "101 and 98");
}

#[test]
fn rather_a_peer_that_does_not_lead_goes() {
    let mut world = World::new(3, 2);
    world.region(1, &[1, 2]);
    world.region(2, &[1, 2]);
    world.region(3, &[2, 1]);
    let reason = world.plan()[0].reason.to_string();
    assert_eq!(
        moves(&world)[0],
        "3: move 1 to 3 (balance-regions)",
        "{reason}"
    );
    assert_eq!(
        reason,
        "balance-regions: from store 1, regions there 3, regions at the target 0, difference left \
         alone 2; store 3 chosen (score 0); not store 2 (has a peer already)"
    );
}

#[test]
fn nothing_moves_that_is_not_well_or_while_something_is_repaired() {
    let edits: [fn(&mut World); 10] = [
        |world| world.silent_for(4, 6),
        |world| world.view.on_stream_ended(StoreId(4)),
        |world| world.stats(4, |stats| stats.is_busy = true),
        |world| world.stats(4, |stats| stats.is_stopping = true),
        |world| world.join(4, StoreLife::Leaving),
        |world| world.settings.additions_per_store_max = 0,
        |world| {
            for id in 1..=8 {
                world.known(id).pending.insert(PeerId(id * 100 + 2));
            }
        },
        |world| {
            for id in 1..=8 {
                world.view.leave_alone(GroupId(id), NOW);
            }
        },
        |world| {
            for id in 1..=8 {
                world.known(id).leader = None;
            }
        },
        // One region lacks a voter: it goes first.
        |world| world.region(20, &[1, 2]),
    ];
    for (position, edit) in edits.into_iter().enumerate() {
        let mut world = World::new(4, 3);
        regions(&mut world, 1, 8, &[1, 2, 3]);
        assert_eq!(moves(&world).len(), 4);
        edit(&mut world);
        assert_eq!(moves(&world), [""; 0], "case {position}");
    }
}

#[test]
fn what_is_under_way_counts() {
    let mut world = World::new(2, 1);
    regions(&mut world, 1, 5, &[1]);
    world.admit();
    let under_way = |world: &World| {
        let operators = world.view.operators.values();
        operators
            .filter(|operator| operator.reason.rule == Rule::BalanceRegions)
            .count()
    };
    assert_eq!(under_way(&world), 2, "5 and 0 become 3 and 2");
    assert_eq!(moves(&world), [""; 0]);
}
