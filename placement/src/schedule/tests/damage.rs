//! D6: a damaged peer is replaced under a new id, never mended in place.

use super::*;

#[test]
fn a_damaged_voter_is_replaced_elsewhere() {
    let mut world = World::new(4, 3);
    world.region(1, &[1, 2, 3]);
    world.damage(2, [1]);
    assert_eq!(world.planned(), ["1: move 2 to 4 (damaged-replica)"]);
    world.damage(2, []);
    assert_eq!(
        world.planned(),
        [""; 0],
        "its store has another peer by now"
    );
}

/// Every store has a peer: room is made first, then the same store gets a peer under a new id.
/// What the store says of the old one does not hold for the new one at once; but if it goes on, the
/// new one is damaged, too (`sim --seed 88029`).
#[test]
fn a_damaged_voter_makes_room_where_there_is_no_other_store() {
    let mut world = World::new(3, 3);
    world.region(1, &[1, 2, 3]);
    world.damage(3, [1]);
    assert_eq!(world.planned(), ["1: remove from 3 (damaged-replica)"]);
    world.known(1).region.peers.pop();
    assert_eq!(world.planned(), ["1: add on 3 (missing-replica)"]);
    let successor = Peer::voter(PeerId(999), StoreId(3));
    world.known(1).region.peers.push(successor);
    world.damage(3, [1]);
    assert_eq!(world.planned(), [""; 0], "the report may be of 103");
    world.damage(3, [1]);
    assert_eq!(world.planned(), ["1: remove from 3 (damaged-replica)"]);
}

#[test]
fn no_room_is_made_while_a_store_has_some_or_the_rest_is_not_well() {
    let worlds: [fn(&mut World); 4] = [
        // The fourth store takes no more for the moment.
        |world| world.stats(4, |stats| stats.is_busy = true),
        |world| {
            world.silent_for(4, 60);
            world.silent_for(2, 60);
        },
        |world| {
            world.silent_for(4, 60);
            world.damage(2, [1]);
        },
        |world| {
            world.silent_for(4, 60);
            let peer = PeerId(102);
            world.report(1, 1, |report| {
                report.pending.insert(peer);
            });
        },
    ];
    for (position, edit) in worlds.into_iter().enumerate() {
        let mut world = World::new(4, 3);
        world.region(1, &[1, 2, 3]);
        world.damage(3, [1]);
        edit(&mut world);
        assert_eq!(world.planned(), [""; 0], "case {position}");
    }
}

#[test]
fn a_damaged_learner_goes_and_is_not_promoted() {
    let mut world = World::new(3, 3);
    world.region(1, &[1, 2]);
    world.learner(1, 3);
    world.damage(3, [1]);
    assert_eq!(world.planned(), ["1: remove from 3 (damaged-replica)"]);
    world.admit();
    let operator = world.operator();
    assert_eq!(operator.steps[0].to_string(), "remove 103 from store 3");
}

/// Nobody is asked to wait for a peer that never catches up, not even by hand, and neither its
/// operator nor what follows a wish by hand is in the way of the rule that removes it.
#[test]
fn an_operator_does_not_wait_for_a_damaged_peer() {
    let mut world = World::new(4, 3);
    world.region(1, &[1, 2, 3]);
    world.damage(2, [1]);
    world.admit();
    let mut operator = world.view.operators.take(GroupId(1)).expect("a move");
    let new = match operator.steps[0] {
        Step::AddLearner { peer, .. } => peer,
        ref other => panic!("a move begins with a learner, not with {other}"),
    };
    world.damage(2, []);
    let learner = Peer::learner(new, StoreId(4));
    world.known(1).region.peers.push(learner);
    world.known(1).pending.insert(new);
    let progress = operator.advance(&world.view, &world.settings, NOW);
    assert_eq!(progress, Progress::Wait, "a learner that catches up");
    world.damage(4, [1]);
    let cancelled = Progress::Ended(Ending::Cancelled(Cause::PeerDamaged { peer: new }));
    let progress = operator.advance(&world.view, &world.settings, NOW);
    assert_eq!(progress, cancelled);
    world.view.leave_lacking(GroupId(1), NOW);
    assert_eq!(world.planned(), ["1: remove from 4 (damaged-replica)"]);
}

/// A region too small to have a middle is never split, and the order is repeated until the
/// operator's time is up; a peer that was damaged meanwhile need not wait for that.
#[test]
fn a_split_does_not_keep_a_damaged_peer_in_its_place() {
    let mut world = World::new(4, 3);
    world.region(1, &[1, 2, 3]);
    let wish = Manual::Split { keys: Vec::new() };
    let decision = decide(&world.view, &world.settings, GroupId(1), &wish, NOW);
    let mut operator = Operator::new(
        OperatorIds::of(&(7..15)),
        decision.expect("all is well"),
        &world.view,
        &world.settings,
        NOW,
    )
    .expect("of this epoch");
    let progress = operator.advance(&world.view, &world.settings, NOW);
    assert!(matches!(progress, Progress::Order(_)), "{progress:?}");
    world.damage(2, [1]);
    let cause = Cause::PeerDamaged { peer: PeerId(102) };
    let progress = operator.advance(&world.view, &world.settings, NOW);
    assert_eq!(progress, Progress::Ended(Ending::Cancelled(cause)));
    assert_eq!(world.planned(), ["1: move 2 to 4 (damaged-replica)"]);
    let refusal = decide(&world.view, &world.settings, GroupId(1), &wish, NOW);
    assert_eq!(
        refusal.expect_err("first things first").to_string(),
        "peer 102 of region 1 on store 2 is damaged: ask again when it is replaced, which \
         is being seen to"
    );
}
