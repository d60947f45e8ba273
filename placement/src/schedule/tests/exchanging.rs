//! Moves by one joint change (Raft §4.3): the order, the joint state, and what may go wrong.

use super::driving::step;
use super::*;

/// Region 1 on stores 1 to 3, its peer on store 3 being moved to store 4 as peer 10001.
fn moving(leader: u64) -> World {
    let mut world = World::new(4, 3);
    world.settings.joint_changes = true;
    world.region(1, &[1, 2, 3]);
    world.report(1, leader, |_| ());
    world.join(3, StoreLife::Leaving);
    world.admit();
    world
}

/// The leader reports these roles of the old and the new peer; `None`: it is not there.
fn roles(world: &mut World, leader: u64, old: Option<PeerRole>, new: Option<PeerRole>) {
    world.report(1, leader, |report| {
        let peers = &mut report.region.peers;
        peers.retain(|peer| peer.store.0 < 3);
        for (id, store, role) in [(103, 3, old), (10_001, 4, new)] {
            peers.extend(role.map(|role| Peer {
                id: PeerId(id),
                store: StoreId(store),
                role,
            }));
        }
        report.region.epoch.conf_ver += 1;
    });
}

use PeerRole::{IncomingVoter, Learner, LeavingVoter, Voter};

#[test]
fn a_move_is_one_joint_change() {
    let mut world = moving(1);
    let steps = world.steps();
    assert_eq!(
        steps,
        [
            "add learner 10001 on store 4",
            "exchange 103 on store 3 for 10001 on store 4",
            "remove 103 from store 3"
        ]
    );
    assert_eq!(step(&mut world, NOW), "add learner 10001 on 4");
    roles(&mut world, 1, Some(Voter), Some(Learner));
    assert_eq!(step(&mut world, NOW), "joint: 10001 for 103");
    assert_eq!(
        step(&mut world, NOW),
        "joint: 10001 for 103",
        "until it is seen"
    );
    roles(&mut world, 1, Some(LeavingVoter), Some(IncomingVoter));
    assert_eq!(
        step(&mut world, NOW),
        "wait",
        "the leader leaves it by itself"
    );
    assert_eq!(world.planned(), [""; 0]);
    // The leader fails in the joint state; the next one leaves it (M11).
    roles(&mut world, 2, Some(LeavingVoter), Some(IncomingVoter));
    assert_eq!(step(&mut world, NOW), "wait");
    roles(&mut world, 2, None, Some(Voter));
    assert_eq!(step(&mut world, NOW), "success");
}

#[test]
fn a_leader_that_moves_hands_over_first() {
    let mut world = moving(3);
    assert_eq!(step(&mut world, NOW), "add learner 10001 on 4");
    roles(&mut world, 3, Some(Voter), Some(Learner));
    assert_eq!(step(&mut world, NOW), "transfer to 101");
    world.report(1, 1, |_| ());
    assert_eq!(step(&mut world, NOW), "joint: 10001 for 103");
}

/// With one voter nobody can take over before: it hands over when it leaves the joint state.
#[test]
fn the_only_voter_is_exchanged_while_it_leads() {
    let mut world = World::new(2, 1);
    world.settings.joint_changes = true;
    world.region(1, &[1]);
    world.join(1, StoreLife::Leaving);
    world.admit();
    assert_eq!(step(&mut world, NOW), "add learner 10001 on 2");
    world.report(1, 1, |report| {
        let learner = Peer::learner(PeerId(10_001), StoreId(2));
        report.region.peers.push(learner);
        report.region.epoch.conf_ver += 1;
    });
    assert_eq!(step(&mut world, NOW), "joint: 10001 for 101");
}

#[test]
fn a_learner_that_is_not_caught_up_is_waited_for() {
    let mut world = moving(1);
    roles(&mut world, 1, Some(Voter), Some(Learner));
    assert_eq!(step(&mut world, NOW), "joint: 10001 for 103");
    world.report(1, 1, |report| {
        report.pending.insert(PeerId(10_001));
    });
    assert_eq!(step(&mut world, NOW), "wait");
}

/// M10: asked when the order is sent, with what is known then.
#[test]
fn nothing_is_exchanged_when_the_rest_is_not_well() {
    let mut world = moving(1);
    roles(&mut world, 1, Some(Voter), Some(Learner));
    world.silent_for(2, 60);
    assert_eq!(
        step(&mut world, NOW),
        "joint: 10001 for 103",
        "two of three are well"
    );
    world.silent_for(4, 60);
    assert_eq!(step(&mut world, NOW), "cancelled", "one of three");
}

#[test]
fn what_others_did_meanwhile_is_passed_over() {
    let mut world = moving(1);
    roles(&mut world, 1, Some(Learner), Some(Learner));
    let mut gone = moving(1);
    roles(&mut gone, 1, None, Some(Learner));
    for world in [&mut world, &mut gone] {
        assert_eq!(
            step(world, NOW),
            "promote 10001",
            "the old one does not vote"
        );
    }
    let mut promoted = moving(1);
    roles(&mut promoted, 1, Some(Voter), Some(Voter));
    assert_eq!(step(&mut promoted, NOW), "remove 103");
    let mut vanished = moving(1);
    roles(&mut vanished, 1, Some(Voter), Some(Learner));
    assert_eq!(step(&mut vanished, NOW), "joint: 10001 for 103");
    roles(&mut vanished, 1, Some(Voter), None);
    assert_eq!(step(&mut vanished, NOW), "cancelled");
}

/// The operator is gone in the middle: nothing touches the region before its leader has left the
/// joint state; what is too much goes.
#[test]
fn without_its_operator_a_change_is_finished_by_the_leader_and_tidied_up() {
    let mut early = moving(1);
    roles(&mut early, 1, Some(Voter), Some(Learner));
    early.view.operators = Operators::default();
    assert_eq!(early.repairs(), ["1: remove from 4 (extra-learner)"]);
    let mut late = moving(1);
    roles(&mut late, 1, Some(LeavingVoter), Some(IncomingVoter));
    late.view.operators = Operators::default();
    assert_eq!(late.planned(), [""; 0], "it is joint");
    roles(&mut late, 1, None, Some(Voter));
    assert_eq!(late.repairs(), [""; 0], "all is as it was meant to be");
}

#[test]
fn a_region_in_a_joint_state_takes_no_wishes() {
    let mut world = moving(1);
    roles(&mut world, 1, Some(LeavingVoter), Some(IncomingVoter));
    world.view.operators = Operators::default();
    let wish = Manual::RemovePeer { from: StoreId(2) };
    let refusal = decide(&world.view, &world.settings, GroupId(1), &wish, NOW);
    let refusal = refusal.expect_err("it is changing").to_string();
    assert!(refusal.contains("is changing its members"), "{refusal}");
}
