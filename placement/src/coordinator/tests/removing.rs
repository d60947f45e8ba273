//! What the rules make of a region that a peer was removed from by hand.

use super::*;
use tinykv_replica::PeerRole;

/// Removes the peer on the last store by hand; the rules that apply afterwards.
fn rules_after_removal(role: PeerRole) -> Vec<Rule> {
    let mut world = World::new();
    let mut region = world.region();
    region.peers[2].role = role;
    region.epoch.conf_ver += 1;
    world.hear(&region, STORES[0], 5).expect("heard");
    let from = StoreId(STORES[2]);
    let order = world.wish(1_200, &Manual::RemovePeer { from });
    assert!(matches!(
        order.expect("it fits").expect("an order").change,
        Change::Remove(_)
    ));
    region.peers.truncate(2);
    region.epoch.conf_ver += 1;
    world.hear(&region, STORES[0], 5).expect("heard");
    assert_eq!(world.outcome(1_200), "success: ");
    world.pass(Duration::from_secs(10));
    let settings = *world.state.settings();
    let decisions = world.coordinator.plan_if_due(&settings, world.now);
    decisions.iter().map(|it| it.reason.rule).collect()
}

#[test]
fn only_what_was_whole_lacks_a_voter_on_purpose() {
    assert_eq!(rules_after_removal(PeerRole::Voter), []);
    assert_eq!(
        rules_after_removal(PeerRole::Learner),
        [Rule::MissingReplica]
    );
}
