//! Regions that are spread because somebody asked for it.

use super::*;

fn wish(world: &mut World, ids: impl IntoIterator<Item = u64>) {
    for id in ids {
        world.view.scattering.insert(GroupId(id), SCATTERS_MAX);
    }
}

fn scatters(world: &World) -> Vec<String> {
    let mut lines = world.planned();
    lines.retain(|line| line.contains("(scatter)"));
    lines
}

/// Carries out at once what the plan says, until it says nothing more of this.
fn settle(world: &mut World) {
    for _ in 0..1_000 {
        let mut decisions = world.plan();
        decisions.retain(|decision| decision.reason.rule == Rule::Scatter);
        if decisions.is_empty() {
            return;
        }
        for decision in decisions {
            world.next_peer += 1;
            let new_peer = PeerId(world.next_peer);
            let known = world.known(decision.region.0);
            match decision.action {
                Action::ReplaceReplica { old, to, .. } => {
                    let peer = Peer::voter(new_peer, to);
                    let led = known.leader.is_some_and(|leader| leader.id == old);
                    known.region.peers.retain(|known| known.id != old);
                    known.region.peers.push(peer);
                    if led {
                        known.leader = known.region.peers.first().copied();
                    }
                }
                Action::TransferLeader { to, .. } => known.leader = known.region.peer_on(to),
                other => panic!("no part of it: {other:?}"),
            }
        }
    }
    panic!("it never comes to rest");
}

fn spread(world: &World, ids: impl Iterator<Item = u64>) -> Vec<(u32, u32)> {
    let regions = ids.map(|id| &world.view.regions[&GroupId(id)]);
    let held = world.view.count(regions);
    held.values()
        .map(|held| (held.regions, held.leaders))
        .collect()
}

#[test]
fn nothing_is_spread_that_nobody_asked_for() {
    let mut world = World::new(4, 3);
    world.region(1, &[1, 2, 3]);
    assert_eq!(scatters(&world), [""; 0]);
}

#[test]
fn peers_and_leaders_of_a_set_end_even_and_others_stay() {
    let mut world = World::new(6, 3);
    for id in 1..=12 {
        world.region(id, &[1, 2, 3]);
    }
    for id in 13..=24 {
        world.region(id, &[4, 5, 6]);
    }
    wish(&mut world, 1..=12);
    settle(&mut world);
    assert_eq!(
        spread(&world, 1..=12),
        [(6, 2); 6],
        "36 peers and 12 leaders over six stores"
    );
    assert_eq!(
        spread(&world, 13..=24),
        [(0, 0), (0, 0), (0, 0), (12, 12), (12, 0), (12, 0)]
    );
}

#[test]
fn every_decision_has_its_reason_and_a_region_one_operator() {
    let mut world = World::new(4, 2);
    for id in 1..=2 {
        world.region(id, &[1, 2]);
    }
    wish(&mut world, [1, 2]);
    let planned = scatters(&world);
    assert_eq!(
        planned,
        ["1: move 1 to 3 (scatter)", "2: move 2 to 4 (scatter)"]
    );
    assert_eq!(
        world.plan()[0].reason.to_string(),
        "scatter: from store 1, peers of the set there 2, peers of the set at the target 0, \
         difference left alone 1; store 3 chosen (score 0); not store 2 (has a peer already), not \
         store 4 (score 0)"
    );
    world.admit();
    assert_eq!(scatters(&world), [""; 0], "both are under way");
}

#[test]
fn so_many_at_once_and_none_of_what_is_not_well() {
    let mut world = World::new(6, 3);
    for id in 1..=20 {
        world.region(id, &[1, 2, 3]);
    }
    wish(&mut world, 1..=20);
    assert_eq!(scatters(&world).len(), 8);
    world.settings.additions_per_store_max = 1;
    let mut moves = scatters(&world);
    moves.retain(|line| line.contains("move"));
    assert_eq!(moves.len(), 3, "one for each new store: {moves:?}");
    for id in 1..=20 {
        world.known(id).pending.insert(PeerId(id * 100 + 2));
    }
    assert_eq!(scatters(&world), [""; 0]);
}

#[test]
fn replicas_do_not_come_closer_for_it() {
    let mut world = World::new(3, 2);
    for (store, zone) in [(1, "a"), (2, "b"), (3, "b")] {
        let known = world.view.stores.get_mut(&StoreId(store)).expect("joined");
        known.record.labels.insert("zone".into(), zone.into());
    }
    for id in 1..=6 {
        world.region(id, &[1, 2]);
    }
    wish(&mut world, 1..=6);
    settle(&mut world);
    let held: Vec<u32> = spread(&world, 1..=6).iter().map(|held| held.0).collect();
    assert_eq!(held, [6, 3, 3], "zone a keeps a replica of each");
}
