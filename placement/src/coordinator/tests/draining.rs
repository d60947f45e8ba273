//! Stores that leave: their pace, and when they are gone.

use super::*;

const LEAVING: StoreId = StoreId(1_003);

/// One more store, which leaves while region 1003 has a peer on it.
fn leaving() -> World {
    let mut world = World::new();
    let mut apply = |command| world.state.apply(command, &mut Vec::new());
    let record = StoreRecord::serving(LEAVING.0);
    assert_eq!(apply(Command::PutStore(record)), Reply::Done);
    let life = StoreLife::Leaving;
    let leave = Command::SetStoreLife {
        store: LEAVING,
        life,
    };
    assert_eq!(apply(leave), Reply::Done);
    world.coordinator.follow(&world.state);
    world
}

impl World {
    fn hold(&mut self, on_leaving: bool) {
        let mut region = self.region();
        region.peers.retain(|peer| peer.store != LEAVING);
        if on_leaving {
            region.peers.push(Peer::learner(PeerId(1_090), LEAVING));
        }
        region.epoch.conf_ver += 1;
        self.hear(&region, STORES[0], 5).expect("heard");
    }

    fn gone(&mut self) -> Vec<StoreId> {
        self.coordinator.look_at_drains(&self.state, self.now)
    }

    fn pace(&self) -> Pace {
        let settings = *self.state.settings();
        self.coordinator.drain(LEAVING, &settings, self.now).1
    }
}

#[test]
fn a_store_is_gone_when_nothing_was_on_it_for_a_while() {
    let mut world = leaving();
    world.hold(true);
    assert_eq!(world.gone(), []);
    world.pass(Duration::from_secs(60));
    assert_eq!(world.gone(), [], "a peer is on it");
    assert_eq!(world.pace(), Pace::default());
    world.hold(false);
    assert_eq!(world.gone(), [], "nothing since now");
    assert_eq!(world.pace().moved, 1);
    assert_eq!(world.pace().remaining, Some(Duration::ZERO));
    world.pass(Duration::from_secs(6));
    world.hold(true);
    assert_eq!(world.gone(), []);
    world.hold(false);
    assert_eq!(world.gone(), []);
    world.pass(Duration::from_secs(6));
    assert_eq!(world.gone(), [], "for six seconds only");
    world.pass(Duration::from_secs(4));
    assert_eq!(world.gone(), [LEAVING]);
    let life = StoreLife::Tombstone;
    let bury = Command::SetStoreLife {
        store: LEAVING,
        life,
    };
    assert_eq!(world.state.apply(bury, &mut Vec::new()), Reply::Done);
    assert_eq!(world.gone(), [], "it is");
}

#[test]
fn a_store_that_stays_after_all_is_never_gone() {
    let mut world = leaving();
    assert_eq!(world.gone(), []);
    let life = StoreLife::Serving;
    let stay = Command::SetStoreLife {
        store: LEAVING,
        life,
    };
    assert_eq!(world.state.apply(stay, &mut Vec::new()), Reply::Done);
    world.pass(Duration::from_secs(60));
    assert_eq!(world.gone(), []);
    assert_eq!(world.pace(), Pace::default());
}
