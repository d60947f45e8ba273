//! Regions that are to be spread, from the wish to its end.

use super::*;
use crate::schedule::SCATTERS_MAX;

/// A fourth store, heard, and two more regions beside region 1003, on the same three stores.
fn four_stores() -> World {
    let mut world = World::new();
    let joined = Command::PutStore(StoreRecord::serving(1_003));
    assert_eq!(world.state.apply(joined, &mut Vec::new()), Reply::Done);
    world.coordinator.follow(&world.state);
    world.hear_all();
    world.pass(Duration::from_secs(30));
    world.hear_all();
    world
}

impl World {
    fn hear_all(&mut self) {
        self.beat();
        let (id, stats) = (StoreId(1_003), StoreStats::default());
        let settings = *self.state.settings();
        self.coordinator
            .on_store_heartbeat(id, stats, &settings, self.now);
        let region = self.region();
        let led = region.peers[0].store.0;
        self.hear(&region, led, 5).expect("heard");
    }

    fn plan(&mut self) -> Vec<Decision> {
        self.now += Duration::from_secs(1);
        self.hear_all();
        let settings = *self.state.settings();
        self.coordinator.plan_if_due(&settings, self.now)
    }

    fn left(&self, ids: Option<&[GroupId]>) -> Scattering {
        let settings = *self.state.settings();
        self.coordinator.scattering(ids, &settings, self.now)
    }
}

#[test]
fn a_wish_ends_when_nothing_is_left_to_be_made_even() {
    let mut world = four_stores();
    let ids = [GroupId(1_003)];
    world.coordinator.scatter(Some(&ids)).expect("known");
    assert_eq!(world.left(Some(&ids)).left, 1);
    assert_eq!(world.left(None).left, 1);
    assert_eq!(world.plan(), [], "one region is as even as it can be");
    assert_eq!(world.left(None), Scattering::default());
}

#[test]
fn nothing_is_begun_if_one_of_the_regions_is_not_known() {
    let mut world = four_stores();
    let ids = [GroupId(1_003), GroupId(77)];
    let refused = world.coordinator.scatter(Some(&ids)).expect_err("no such");
    assert_eq!(
        refused.to_string(),
        "region 77 is not known: list the regions for those that are"
    );
    assert_eq!(world.left(None), Scattering::default());
}

#[test]
fn a_region_that_is_not_well_is_waited_for() {
    let mut world = four_stores();
    world.coordinator.scatter(None).expect("all");
    world.coordinator.on_stream_ended(StoreId(1_000));
    let settings = *world.state.settings();
    assert_eq!(world.coordinator.plan_if_due(&settings, world.now), []);
    let left = world.left(None);
    assert_eq!((left.left, left.moving), (1, 0));
    assert_eq!(
        left.blocked_by,
        ["region 1003 has not all its voters, healthy and with a known leader"]
    );
}

#[test]
fn a_region_rests_after_its_share_of_operators() {
    let mut world = four_stores();
    world.coordinator.scatter(None).expect("all");
    for share in 0..SCATTERS_MAX {
        assert_eq!(world.left(None).left, 1, "after {share}");
        let region = world.region();
        let decision = Decision {
            region: region.id,
            epoch: region.epoch,
            action: Action::ReplaceReplica {
                old: region.peers[1].id,
                from: region.peers[1].store,
                to: StoreId(1_003),
            },
            reason: crate::schedule::Reason {
                rule: Rule::Scatter,
                facts: Vec::new(),
                chosen: None,
                losers: Vec::new(),
                neighbours: Vec::new(),
            },
        };
        let ids = OperatorIds {
            operator: 1_500 + u64::from(share),
            peer: PeerId(1_600 + u64::from(share)),
        };
        let settings = *world.state.settings();
        let order = world.coordinator.admit(decision, ids, &settings, world.now);
        order.expect("it begins");
        assert_eq!(world.left(None).moving, 1);
        let which = Which::Region(region.id);
        world.coordinator.cancel(which, world.now).expect("running");
        world.coordinator.view.left_alone.clear();
    }
    world.plan();
    assert_eq!(world.left(None), Scattering::default());
}
