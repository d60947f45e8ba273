//! M10 over arbitrary clusters: no plan and no order takes away what a region needs, one operator
//! per region, and a cluster whose orders are carried out comes to rest complete.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
struct Seed {
    wanted: u32,
    /// Seconds of silence per store, and whether it is leaving.
    stores: Vec<(u64, bool)>,
    /// Per region: stores with a peer, which of them is a learner, pending or down.
    regions: Vec<(Vec<u64>, Vec<u8>)>,
    /// Whether peers that move are exchanged in one joint change.
    joint_changes: bool,
    /// What is asked for by hand at first: region, which wish, and two stores.
    wishes: Vec<(u64, u8, u64, u64)>,
}

fn seed() -> impl Strategy<Value = Seed> {
    let silence = prop_oneof![4 => Just(0_u64), 1 => Just(6), 1 => Just(700)];
    let stores = prop::collection::vec((silence, prop::bool::weighted(0.1)), 1..7);
    (1..4_u32, stores).prop_flat_map(|(wanted, stores)| {
        let ids: Vec<u64> = (1..=stores.len() as u64).collect();
        let most = ids.len().min(5);
        let region = (
            prop::sample::subsequence(ids, 1..=most),
            prop::collection::vec(0..8_u8, 5),
        );
        let regions = prop::collection::vec(region, 1..8);
        let wishes = prop::collection::vec((1..8_u64, 0..4_u8, 1..8_u64, 1..8_u64), 0..6);
        (regions, wishes, any::<bool>()).prop_map(move |(regions, wishes, joint_changes)| Seed {
            wanted,
            joint_changes,
            stores: stores.clone(),
            regions,
            wishes,
        })
    })
}

fn build(seed: &Seed) -> World {
    let mut world = World::new(seed.stores.len() as u64, seed.wanted);
    world.settings.joint_changes = seed.joint_changes;
    let mut damaged: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for (id, (stores, conditions)) in (1..).zip(&seed.regions) {
        world.region(id, stores);
        let known = world.known(id);
        for (position, condition) in conditions.iter().enumerate().take(stores.len()).skip(1) {
            let peer = &mut known.region.peers[position];
            match condition {
                0 => peer.role = PeerRole::Learner,
                1 => {
                    known.pending.insert(peer.id);
                }
                2 => {
                    known.down.insert(peer.id, Duration::from_secs(9));
                }
                3 => damaged.entry(peer.store.0).or_default().push(id),
                _ => {}
            }
        }
    }
    for (id, (silence, leaving)) in (1..).zip(&seed.stores) {
        world.damage(id, damaged.remove(&id).unwrap_or_default());
        world.silent_for(id, *silence);
        if *leaving {
            world.join(id, StoreLife::Leaving);
        }
    }
    world
}

/// Begins what is asked for by hand, as far as it is not refused.
fn ask(world: &mut World, seed: &Seed) {
    for (region, kind, one, other) in &seed.wishes {
        let (one, other) = (StoreId(*one), StoreId(*other));
        let wish = match kind {
            0 => Manual::TransferLeader { to: one },
            1 => Manual::AddPeer { to: one },
            2 => Manual::RemovePeer { from: one },
            _ => Manual::MovePeer {
                from: one,
                to: other,
            },
        };
        let id = GroupId(*region);
        let Ok(decision) = decide(&world.view, &world.settings, id, &wish, NOW) else {
            continue;
        };
        world.begin(decision);
    }
}

/// Voters that answer, are caught up, and whose store is heard; of a joint configuration the
/// incoming ones.
fn healthy(world: &World, region: &Region) -> usize {
    let view = &world.view;
    let known = &view.regions[&region.id];
    region
        .peers
        .iter()
        .filter(|peer| safety_of(world, known, **peer))
        .count()
}

fn safety_of(world: &World, known: &crate::view::RegionView, mut peer: Peer) -> bool {
    if peer.role == PeerRole::IncomingVoter {
        peer.role = PeerRole::Voter;
    }
    crate::schedule::safety::is_healthy(&world.view, known, peer, &world.settings, NOW)
}

fn voters(region: &Region) -> usize {
    region
        .peers
        .iter()
        .filter(|peer| matches!(peer.role, PeerRole::Voter | PeerRole::IncomingVoter))
        .count()
}

/// The leader leaves the joint configuration, as it does by itself.
fn leave_joint(world: &mut World, id: GroupId) {
    let leader = world.view.regions[&id].leader.expect("it led into it");
    world.report(id.0, leader.store.0, |report| {
        let peers = &mut report.region.peers;
        peers.retain(|peer| peer.role != PeerRole::LeavingVoter);
        for peer in peers {
            peer.role = match peer.role {
                PeerRole::IncomingVoter => PeerRole::Voter,
                other => other,
            };
        }
        report.region.epoch.conf_ver += 1;
    });
    // A leader that does not vote any more has handed over.
    let region = &world.view.regions[&id].region;
    let votes = |peer: &&Peer| peer.role == PeerRole::Voter;
    let mut voters = region.peers.iter().filter(votes);
    if !voters.any(|voter| voter.id == leader.id) {
        let heir = region.peers.iter().find(votes).expect("somebody votes");
        let store = heir.store.0;
        world.report(id.0, store, |_| ());
    }
}

/// Carries an order out as a perfect leader would.
fn carry_out(world: &mut World, order: Order) {
    let id = order.region.0;
    let leader = match &order.change {
        Change::TransferLeader(peer) => peer.store.0,
        _ => order.leader.store.0,
    };
    world.report(id, leader, |report| {
        report.leader.role = PeerRole::Voter;
        let peers = &mut report.region.peers;
        match order.change {
            Change::AddLearner(peer) => peers.push(peer),
            Change::Promote(peer) => {
                let known = peers.iter_mut().find(|known| known.id == peer.id);
                known.expect("there").role = PeerRole::Voter;
            }
            Change::Joint { promote, remove } => {
                for peer in peers {
                    if promote.iter().any(|named| named.id == peer.id) {
                        assert_eq!(peer.role, PeerRole::Learner);
                        peer.role = PeerRole::IncomingVoter;
                    } else if remove.iter().any(|named| named.id == peer.id) {
                        assert_eq!(peer.role, PeerRole::Voter);
                        peer.role = PeerRole::LeavingVoter;
                    }
                }
            }
            Change::Remove(peer) => peers.retain(|known| known.id != peer.id),
            Change::TransferLeader(_) | Change::Split(_) | Change::Merge(_) => return,
        }
        report.region.epoch.conf_ver += 1;
    });
}

proptest! {
    #[test]
    fn no_order_takes_a_voter_that_is_needed_and_all_comes_to_rest(seed in seed()) {
        let mut world = build(&seed);
        ask(&mut world, &seed);
        for _round in 0..40 {
            for decision in world.plan() {
                prop_assert!(!world.view.operators.contains_key(&decision.region));
            }
            world.admit();
            let regions = world.view.regions.values();
            let joint: Vec<GroupId> = regions.filter(|known| known.is_joint()).map(|known| known.region.id).collect();
            let operators = world.view.operators.values();
            let ids: Vec<GroupId> = operators.map(|operator| operator.region).collect();
            for id in ids {
                let mut operator = world.view.operators.take(id).expect("listed");
                let progress = operator.advance(&world.view, &world.settings, NOW);
                if let Progress::Order(order) = progress.clone() {
                    let before = world.view.regions[&id].region.clone();
                    prop_assert!(!joint.contains(&id), "{order:?} although {before:?}");
                    let exchanged = matches!(order.change, Change::Joint { .. });
                    let healthy_before = healthy(&world, &before);
                    let learner_removed = matches!(order.change, Change::Remove(peer) if peer.role == PeerRole::Learner);
                    carry_out(&mut world, order);
                    let after = &world.view.regions[&id].region;
                    prop_assert!(voters(after) >= 1, "the last voter was removed");
                    if exchanged || voters(after) < voters(&before) {
                        let left = healthy(&world, after);
                        prop_assert!(left >= 1, "the last healthy voter was removed");
                        prop_assert!(left > voters(after) / 2, "{left} of {}", voters(after));
                    }
                    if learner_removed {
                        prop_assert_eq!(healthy(&world, after), healthy_before);
                    }
                }
                if !matches!(progress, Progress::Ended(_)) {
                    world.view.operators.begin(operator);
                }
            }
            for id in joint {
                leave_joint(&mut world, id);
            }
        }
        // What is still under way waits for peers that never catch up in this world.
        for operator in world.view.operators.values() {
            let waits = operator.remaining().iter().any(|step| match step {
                Step::AddLearner { peer, .. }
                | Step::Promote { peer, .. }
                | Step::Exchange { new: Peer { id: peer, .. }, .. } => {
                    !world.view.regions[&operator.region].is_current(*peer)
                }
                Step::Remove { .. }
                | Step::TransferLeader { .. }
                | Step::Split { .. }
                | Step::Merge(_) => false,
            });
            prop_assert!(waits, "{operator:?}");
        }
        // Whoever could be completed is.
        let up = seed.stores.iter().filter(|(silence, leaving)| *silence == 0 && !leaving).count();
        for (id, region) in &world.view.regions {
            let busy = world.view.operators.contains_key(id);
            if up >= seed.wanted as usize && !busy {
                prop_assert!(voters(&region.region) >= seed.wanted as usize, "{region:?}");
            }
        }
    }
}
