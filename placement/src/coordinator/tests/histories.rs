//! M1 and M8 over arbitrary histories: reports of regions that split and change come in any order,
//! repeated, and overtaken between the routes and the view. What the view shows is what the routes
//! say once all has gone through.

use proptest::prelude::*;

use super::*;

/// What happens next.
#[derive(Clone, Debug)]
enum Event {
    /// The region at this place of the list of live ones is split, or changes its epoch.
    Split(usize, u8),
    Change(usize),
    /// The description at this place of the history reaches the routes.
    Report(usize),
    /// A report that waits between the routes and the view goes on.
    GoOn(usize),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        2 => (any::<usize>(), 1..255_u8).prop_map(|(at, key)| Event::Split(at, key)),
        1 => any::<usize>().prop_map(Event::Change),
        6 => any::<usize>().prop_map(Event::Report),
        6 => any::<usize>().prop_map(Event::GoOn),
    ]
}

struct Play {
    world: World,
    /// Regions as they are.
    live: Vec<Region>,
    /// All descriptions there ever were.
    history: Vec<Region>,
    /// In the routes, not in the view yet.
    waiting: Vec<(Region, Vec<GroupId>)>,
    next_id: u64,
}

impl Play {
    fn new() -> Play {
        let world = World::new();
        let region = world.region();
        Play {
            world,
            live: vec![region.clone()],
            history: vec![region],
            waiting: Vec::new(),
            next_id: 1_300,
        }
    }

    fn step(&mut self, event: &Event) {
        match *event {
            Event::Split(at, key) => self.split(at % self.live.len(), key),
            Event::Change(at) => {
                let at = at % self.live.len();
                self.live[at].epoch.conf_ver += 1;
                self.history.push(self.live[at].clone());
            }
            Event::Report(at) => {
                let region = self.history[at % self.history.len()].clone();
                self.report(region);
            }
            Event::GoOn(at) => {
                if !self.waiting.is_empty() {
                    let (region, removed) = self.waiting.swap_remove(at % self.waiting.len());
                    self.go_on(region, &removed);
                }
            }
        }
    }

    fn split(&mut self, at: usize, key: u8) {
        let key = Bytes::copy_from_slice(&[key]);
        let left = &mut self.live[at];
        if key == left.start || !left.contains(&key) || self.next_id > 1_900 {
            return;
        }
        left.epoch.version += 1;
        let mut right = left.clone();
        left.end = key.clone();
        right.start = key;
        right.id = GroupId(self.next_id);
        for peer in &mut right.peers {
            self.next_id += 1;
            peer.id = PeerId(self.next_id);
        }
        self.next_id += 1;
        self.history.push(left.clone());
        self.history.push(right.clone());
        self.live.push(right);
    }

    fn report(&mut self, region: Region) {
        let update = self.world.state.route_update(std::slice::from_ref(&region));
        let removed = match update {
            Err(_) => return,
            Ok(None) => Vec::new(),
            Ok(Some(command)) => match self.world.state.apply(command, &mut Vec::new()) {
                Reply::Routed { removed } => removed,
                other => panic!("{other:?}"),
            },
        };
        self.waiting.push((region, removed));
    }

    fn go_on(&mut self, region: Region, removed: &[GroupId]) {
        let report = RegionReport {
            leader: region.peers[0],
            region,
            term: Term(5),
            pending: BTreeSet::new(),
            down: BTreeMap::new(),
            stats: RegionStats::default(),
        };
        let World {
            state,
            coordinator,
            now,
        } = &mut self.world;
        let heard = coordinator.on_region_heartbeat(report, removed, state, *now);
        heard.expect("one leader, one term");
    }

    /// All that waits goes on, the newest first.
    fn finish(&mut self) {
        while let Some((region, removed)) = self.waiting.pop() {
            self.go_on(region, &removed);
        }
    }

    fn shown(&self) -> Vec<Region> {
        let regions = self.world.coordinator.view().regions.values();
        regions.map(|known| known.region.clone()).collect()
    }

    fn routes(&self) -> Vec<Region> {
        self.world.state.routes().regions().cloned().collect()
    }
}

proptest! {
    #[test]
    fn the_view_comes_to_show_what_the_routes_say(events in prop::collection::vec(event(), 1..60)) {
        let mut play = Play::new();
        for event in &events {
            play.step(event);
        }
        play.finish();
        prop_assert_eq!(play.shown(), play.routes());
        // And once everybody has reported, they tile the key space (M1).
        for region in play.live.clone() {
            play.report(region);
        }
        play.finish();
        let mut live = play.live.clone();
        live.sort_by_key(|region| region.id);
        prop_assert_eq!(play.shown(), live);
        prop_assert_eq!(play.shown(), play.routes());
    }
}
