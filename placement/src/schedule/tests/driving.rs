//! Operators: steps, orders, repeats, time-outs.

use super::*;

/// The next order of region 1's operator, in words, or how it ended.
pub(super) fn step(world: &mut World, now: Duration) -> String {
    let id = GroupId(1);
    let mut operator = world.view.operators.take(id).expect("under way");
    let progress = operator.advance(&world.view, &world.settings, now);
    let text = match progress {
        Progress::Order(order) => {
            assert_eq!(order.epoch, world.view.regions[&id].region.epoch);
            assert_eq!(Some(order.leader), world.view.regions[&id].leader);
            match order.change {
                Change::AddLearner(peer) => format!("add learner {} on {}", peer.id, peer.store),
                Change::Promote(peer) => format!("promote {}", peer.id),
                Change::Joint { promote, remove } => {
                    let ids = |peers: Vec<Peer>| peers[0].id;
                    format!("joint: {} for {}", ids(promote), ids(remove))
                }
                Change::Remove(peer) => format!("remove {}", peer.id),
                Change::TransferLeader(peer) => format!("transfer to {}", peer.id),
                Change::Split(keys) => format!("split at {keys:?}"),
                Change::Merge(target) => format!("merge into {} at {}", target.id, target.epoch),
            }
        }
        Progress::Wait => "wait".into(),
        Progress::Ended(ending) => return ending.to_string(),
    };
    world.view.operators.begin(operator);
    text
}

fn adding() -> World {
    let mut world = World::new(3, 3);
    world.region(1, &[1, 2]);
    world.admit();
    world
}

fn new_peer(world: &mut World, role: PeerRole, pending: bool) {
    world.report(1, 1, |report| {
        let peer = PeerId(10_001);
        report.region.peers.retain(|known| known.id != peer);
        report.region.peers.push(Peer {
            id: peer,
            store: StoreId(3),
            role,
        });
        report.region.epoch.conf_ver += 1;
        report.pending.clear();
        if pending {
            report.pending.insert(peer);
        }
    });
}

#[test]
fn a_replica_is_added_caught_up_and_promoted() {
    let mut world = adding();
    assert_eq!(step(&mut world, NOW), "add learner 10001 on 3");
    assert_eq!(
        step(&mut world, NOW),
        "add learner 10001 on 3",
        "until it is seen"
    );
    new_peer(&mut world, PeerRole::Learner, true);
    assert_eq!(step(&mut world, NOW), "wait", "until it is caught up");
    new_peer(&mut world, PeerRole::Learner, false);
    assert_eq!(step(&mut world, NOW), "promote 10001");
    assert_eq!(step(&mut world, NOW), "promote 10001");
    new_peer(&mut world, PeerRole::Voter, false);
    assert_eq!(step(&mut world, NOW), "success");
}

#[test]
fn steps_that_others_have_done_are_passed_over() {
    let mut world = adding();
    new_peer(&mut world, PeerRole::Voter, false);
    assert_eq!(step(&mut world, NOW), "success");
}

#[test]
fn orders_follow_the_leader() {
    let mut world = adding();
    world.report(1, 2, |_| ());
    assert_eq!(
        step(&mut world, NOW),
        "add learner 10001 on 3",
        "checked against the new leader"
    );
    world.known(1).leader = None;
    assert_eq!(step(&mut world, NOW), "wait");
}

#[test]
fn a_step_has_its_time() {
    let mut world = adding();
    assert_eq!(
        step(&mut world, NOW + Duration::from_secs(60)),
        "add learner 10001 on 3"
    );
    assert_eq!(step(&mut world, NOW + Duration::from_secs(61)), "timeout");
    let mut large = adding();
    large.known(1).stats.size_bytes = 100 << 20;
    assert_eq!(
        step(&mut large, NOW + Duration::from_secs(159)),
        "add learner 10001 on 3"
    );
    assert_eq!(step(&mut large, NOW + Duration::from_secs(161)), "timeout");
}

#[test]
fn the_time_of_a_step_begins_when_the_one_before_is_done() {
    let mut world = adding();
    new_peer(&mut world, PeerRole::Learner, false);
    assert_eq!(
        step(&mut world, NOW + Duration::from_secs(50)),
        "promote 10001"
    );
    assert_eq!(
        step(&mut world, NOW + Duration::from_secs(100)),
        "promote 10001"
    );
    assert_eq!(step(&mut world, NOW + Duration::from_secs(111)), "timeout");
}

#[test]
fn what_does_not_fit_any_more_ends_it() {
    let mut other_peer = adding();
    other_peer.learner(1, 3);
    assert_eq!(step(&mut other_peer, NOW), "cancelled");
    let mut vanished = adding();
    new_peer(&mut vanished, PeerRole::Learner, false);
    assert_eq!(step(&mut vanished, NOW), "promote 10001");
    vanished.known(1).region.peers.pop();
    assert_eq!(step(&mut vanished, NOW), "cancelled");
    let mut gone = adding();
    gone.view.regions.clear();
    assert_eq!(step(&mut gone, NOW), "cancelled");
}

#[test]
fn a_split_meanwhile_does_not_disturb_the_rest() {
    let mut world = adding();
    world.known(1).region.epoch.version += 1;
    assert_eq!(step(&mut world, NOW), "add learner 10001 on 3");
}

#[test]
fn a_decision_for_an_older_epoch_becomes_no_operator() {
    let mut world = World::new(3, 3);
    world.region(1, &[1, 2]);
    let decision = world.plan().remove(0);
    world.known(1).region.epoch.conf_ver += 1;
    let ids = OperatorIds::of(&(1..9));
    let begun = Operator::new(ids, decision, &world.view, &world.settings, NOW);
    assert_eq!(begun, None);
}

#[test]
fn a_leader_is_transferred_only_to_a_healthy_voter() {
    let mut world = World::new(2, 2);
    for id in 1..=3 {
        world.region(id, &[1, 2]);
    }
    world.admit();
    assert_eq!(step(&mut world, NOW), "transfer to 102");
    world.report(1, 2, |_| ());
    let mut sick = World::new(2, 2);
    for id in 1..=3 {
        sick.region(id, &[1, 2]);
    }
    sick.admit();
    sick.silent_for(2, 6);
    assert_eq!(step(&mut sick, NOW), "cancelled");
    assert_eq!(step(&mut world, NOW), "success");
}

#[test]
fn a_leader_too_many_goes_in_two_steps() {
    let mut world = World::new(2, 1);
    world.region(1, &[1, 2]);
    world.join(1, StoreLife::Leaving);
    world.admit();
    assert_eq!(step(&mut world, NOW), "transfer to 102");
    world.report(1, 2, |_| ());
    assert_eq!(step(&mut world, NOW), "remove 101");
    world.report(1, 2, |report| {
        report.region.peers.remove(0);
        report.region.epoch.conf_ver += 1;
    });
    assert_eq!(step(&mut world, NOW), "success");
}

/// The peer to be removed was elected meanwhile: whoever can takes over first.
#[test]
fn a_leader_that_is_to_go_hands_over_even_if_it_led_only_later() {
    let mut world = World::new(4, 3);
    world.region(1, &[1, 2, 3, 4]);
    world.admit();
    assert_eq!(step(&mut world, NOW), "remove 104");
    world.report(1, 4, |_| ());
    assert_eq!(step(&mut world, NOW), "transfer to 101");
    world.report(1, 1, |_| ());
    assert_eq!(step(&mut world, NOW), "remove 104");
    world.silent_for(2, 6);
    world.silent_for(3, 6);
    assert_eq!(step(&mut world, NOW), "cancelled", "it is needed now");
}
