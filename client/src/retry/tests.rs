//! Situations of one call, told step by step; then any situation at all.

use std::time::Duration;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::error::{Doubt, Error, Reason};
use crate::random::Random;
use crate::routing::{Epoch, Peer, PeerId, Point, RegionId, Route, Routes, StoreId};
use crate::story::{Story, Tried};

const LIMIT: Duration = Duration::from_secs(5);

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn peer(store: u64) -> Peer {
    Peer {
        id: PeerId(10 + store),
        store: StoreId(store),
        votes: true,
    }
}

/// Region 1, everything, with peers on stores 1 to 3.
fn route(version: u64, leader: Option<u64>) -> Route {
    Route {
        region: RegionId(1),
        epoch: Epoch {
            conf_ver: 1,
            version,
        },
        start: Bytes::new(),
        end: Bytes::new(),
        peers: (1..=3).map(peer).collect(),
        leader: leader.map(|store| peer(store).id),
    }
}

/// A call on its way, and what the client knows.
struct Scene {
    call: Call,
    routes: Routes,
    now: Duration,
}

impl Scene {
    /// A client that knows nothing.
    fn cold(access: Access) -> Scene {
        let now = ms(1_000_000);
        let point = Point::At(Bytes::from_static(b"k"));
        Scene {
            call: Call::new(access, point, now, LIMIT, 7),
            routes: Routes::new(),
            now,
        }
    }

    /// A client that knows the region, where all stores are, and that store 1 leads.
    fn warm(access: Access) -> Scene {
        let mut scene = Scene::cold(access);
        scene.routes.insert(route(1, Some(1)));
        for store in 1..=3 {
            scene
                .routes
                .set_address(StoreId(store), &format!("store{store}:1"));
        }
        scene
    }

    fn step(&mut self) -> Step {
        self.call.next(&self.routes, self.now)
    }

    /// Expects an attempt; returns the store asked.
    fn sends(&mut self) -> u64 {
        match self.step() {
            Step::Send(target) => target.peer.store.0,
            other => panic!("an attempt was expected, not {other:?}"),
        }
    }

    /// Expects a wait, and sits through it.
    fn waits(&mut self) -> Duration {
        match self.step() {
            Step::Wait { until } => {
                let wait = until - self.now;
                self.now = until;
                wait
            }
            other => panic!("a wait was expected, not {other:?}"),
        }
    }

    /// Expects a look-up of the region, and answers it.
    fn locates(&mut self, answer: Result<Route, LookupFailure>) {
        match self.step() {
            Step::Locate { .. } => self.call.on_located(&mut self.routes, answer, self.now),
            other => panic!("a look-up was expected, not {other:?}"),
        }
    }

    fn fails(&mut self, failure: &Failure) {
        self.call.on_failure(&mut self.routes, failure, self.now);
    }

    fn gives_up(&mut self) -> Error {
        match self.step() {
            Step::GiveUp(error) => error,
            other => panic!("the end was expected, not {other:?}"),
        }
    }

    fn leader(&self) -> Option<u64> {
        self.routes.region(RegionId(1))?.leader.map(|id| id.0 - 10)
    }
}

fn no_leader() -> Failure {
    Failure::NotLeader { leader: None }
}

fn not_sent() -> Failure {
    Failure::NotSent {
        cause: "connection refused".to_owned(),
    }
}

fn misrouted(how: Misrouted) -> Failure {
    Failure::Misrouted {
        how,
        message: String::new(),
    }
}

fn busy(wait: Duration) -> Failure {
    Failure::Busy {
        reason: "queue".to_owned(),
        wait,
    }
}

/// Failures after which nobody knows what became of a write.
fn doubtful() -> [Failure; 4] {
    [
        Failure::Lost {
            cause: "reset".to_owned(),
        },
        Failure::TimedOut { after: LIMIT },
        Failure::Undetermined {
            message: "stepped down".to_owned(),
        },
        Failure::NotNow {
            what: "stale command".to_owned(),
        },
    ]
}

fn placement_silent() -> Result<Route, LookupFailure> {
    Err(LookupFailure::Unreachable {
        cause: "refused".to_owned(),
    })
}

#[test]
fn a_cold_call_asks_where_first() {
    let mut scene = Scene::cold(Access::Write);
    scene.locates(Ok(route(1, Some(2))));
    let Step::FindStore { store, .. } = scene.step() else {
        panic!("the store's address is not known");
    };
    assert_eq!(store, StoreId(2));
    let Scene { call, routes, now } = &mut scene;
    call.on_store(routes, store, Ok("store2:1".to_owned()), *now);
    assert_eq!(scene.sends(), 2);
}

#[test]
fn a_warm_call_is_sent_at_once() {
    let mut scene = Scene::warm(Access::Read);
    let Step::Send(target) = scene.step() else {
        panic!("everything is known");
    };
    assert_eq!(&*target.address, "store1:1");
    assert!(!target.is_retry);
}

#[test]
fn a_write_gets_all_the_time_there_is_and_a_read_some_of_it() {
    let Step::Send(write) = Scene::warm(Access::Write).step() else {
        panic!("sent at once")
    };
    assert_eq!(write.timeout, LIMIT);
    let mut scene = Scene::warm(Access::Read);
    let mut timeouts = Vec::new();
    for _ in 0..3 {
        loop {
            match scene.step() {
                Step::Send(target) => {
                    timeouts.push(target.timeout);
                    scene.now += target.timeout;
                    scene.fails(&Failure::TimedOut {
                        after: target.timeout,
                    });
                    break;
                }
                Step::Locate { .. } => {
                    let Scene { call, routes, now } = &mut scene;
                    call.on_located(routes, Ok(route(1, Some(1))), *now);
                }
                Step::Wait { until } => scene.now = until,
                other => panic!("unexpected {other:?}"),
            }
        }
    }
    assert_eq!(
        timeouts,
        [
            READ_TIMEOUT_FIRST,
            READ_TIMEOUT_FIRST * 2,
            READ_TIMEOUT_FIRST * 4
        ]
    );
}

#[test]
fn a_leader_that_is_told_is_asked_at_once() {
    let mut scene = Scene::warm(Access::Write);
    assert_eq!(scene.sends(), 1);
    scene.fails(&Failure::NotLeader {
        leader: Some(peer(3)),
    });
    assert_eq!(scene.sends(), 3);
    assert_eq!(scene.leader(), Some(3));
}

#[test]
fn two_peers_that_name_each_other_do_not_spin() {
    let mut scene = Scene::warm(Access::Write);
    for _ in 0..3 {
        let store = scene.sends();
        scene.fails(&Failure::NotLeader {
            leader: Some(peer(3 - store)),
        });
    }
    let store = scene.sends();
    scene.fails(&Failure::NotLeader {
        leader: Some(peer(3 - store)),
    });
    assert!(scene.waits() >= BACKOFF_FIRST / 2);
}

#[test]
fn without_a_leader_the_others_are_asked_in_turn() {
    let mut scene = Scene::warm(Access::Write);
    let mut asked = Vec::new();
    for _ in 0..4 {
        asked.push(scene.sends());
        scene.fails(&no_leader());
        scene.waits();
        // Placement has not heard of the election.
        scene.locates(Ok(route(1, Some(1))));
    }
    assert_eq!(asked, [1, 2, 3, 1]);
}

#[test]
fn a_leader_that_placement_tells_is_asked_again_after_it_was_none() {
    let mut scene = Scene::warm(Access::Write);
    assert_eq!(scene.sends(), 1);
    scene.fails(&no_leader());
    scene.waits();
    scene.locates(Ok(route(1, None)));
    assert_eq!(scene.sends(), 2);
    scene.fails(&no_leader());
    scene.waits();
    scene.locates(Ok(route(1, Some(1))));
    assert_eq!(scene.sends(), 1, "store 1 leads by now");
}

#[test]
fn a_route_without_voters_is_no_route() {
    let mut scene = Scene::cold(Access::Write);
    scene.locates(Ok(Route {
        peers: Vec::new(),
        ..route(1, None)
    }));
    assert!(scene.routes.is_empty());
    scene.waits();
}

#[test]
fn a_hint_at_a_dead_leader_is_not_followed() {
    let mut scene = Scene::warm(Access::Write);
    assert_eq!(scene.sends(), 1);
    scene.fails(&not_sent());
    scene.waits();
    scene.locates(Ok(route(1, Some(1))));
    assert_eq!(scene.sends(), 2);
    scene.fails(&Failure::NotLeader {
        leader: Some(peer(1)),
    });
    scene.waits();
    scene.locates(Ok(route(1, Some(1))));
    assert_eq!(scene.sends(), 3);
}

#[test]
fn what_another_call_learnt_saves_the_look_up() {
    let mut scene = Scene::warm(Access::Write);
    assert_eq!(scene.sends(), 1);
    scene.fails(&no_leader());
    scene.waits();
    scene.routes.set_leader(RegionId(1), Some(peer(3).id));
    assert_eq!(scene.sends(), 3);
}

#[test]
fn current_regions_are_taken_and_asked_at_once() {
    let mut scene = Scene::warm(Access::Write);
    assert_eq!(scene.sends(), 1);
    let left = Route {
        end: Bytes::from_static(b"c"),
        ..route(2, None)
    };
    let right = Route {
        region: RegionId(2),
        start: Bytes::from_static(b"c"),
        ..route(2, None)
    };
    scene.fails(&Failure::EpochNotMatch {
        current: vec![left, right],
    });
    let Step::Send(target) = scene.step() else {
        panic!("everything needed was told");
    };
    assert_eq!(target.route.region, RegionId(2));
    assert_eq!(target.route.epoch.version, 2);
    assert_eq!(target.peer.store, StoreId(1), "who told leads, most likely");
    assert!(target.is_retry);
}

#[test]
fn an_epoch_error_without_regions_is_looked_up() {
    let mut scene = Scene::warm(Access::Write);
    scene.sends();
    scene.fails(&Failure::EpochNotMatch {
        current: Vec::new(),
    });
    scene.waits();
    scene.locates(Ok(route(2, Some(2))));
    assert_eq!(scene.sends(), 2);
}

#[test]
fn misrouted_requests_are_looked_up_anew() {
    for how in [
        Misrouted::RegionNotFound,
        Misrouted::KeyNotInRegion,
        Misrouted::PeerMismatch,
    ] {
        let mut scene = Scene::warm(Access::Write);
        scene.sends();
        scene.fails(&misrouted(how));
        assert!(scene.routes.is_empty(), "{how}");
        scene.waits();
        scene.locates(Ok(route(1, Some(2))));
        assert_eq!(scene.sends(), 2);
    }
}

#[test]
fn a_store_that_is_not_there_is_looked_up_too() {
    for (failure, keeps_route) in [
        (misrouted(Misrouted::StoreMismatch), false),
        (not_sent(), true),
    ] {
        let mut scene = Scene::warm(Access::Write);
        scene.sends();
        scene.fails(&failure);
        assert_eq!(scene.routes.address(StoreId(1)), None);
        assert_eq!(scene.routes.is_empty(), !keeps_route);
    }
}

#[test]
fn a_region_that_is_not_ready_is_asked_until_it_is() {
    let mut scene = Scene::warm(Access::Write);
    for _ in 0..6 {
        scene.sends();
        scene.fails(&misrouted(Misrouted::RegionNotInitialized));
        scene.waits();
        scene.locates(Ok(route(1, Some(1))));
    }
}

#[test]
fn a_busy_store_is_left_alone_as_long_as_it_says() {
    let mut scene = Scene::warm(Access::Write);
    assert_eq!(scene.sends(), 1);
    scene.fails(&busy(ms(300)));
    assert_eq!(scene.waits(), ms(300));
    assert_eq!(scene.sends(), 1);
}

#[test]
fn a_store_busy_beyond_the_deadline_ends_the_call_now() {
    let mut scene = Scene::warm(Access::Write);
    scene.sends();
    scene.fails(&busy(LIMIT));
    let error = scene.gives_up();
    assert!(
        matches!(
            error,
            Error::DefinitelyNot {
                reason: Reason::Busy { .. },
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn refusals_and_full_disks_end_the_call() {
    for access in [Access::Read, Access::Write] {
        let mut scene = Scene::warm(access);
        scene.sends();
        scene.fails(&Failure::DiskFull {
            reason: "store 1".to_owned(),
        });
        assert!(matches!(
            scene.gives_up(),
            Error::DefinitelyNot {
                reason: Reason::DiskFull { .. },
                ..
            }
        ));
        let mut scene = Scene::warm(access);
        scene.sends();
        scene.fails(&Failure::Refused {
            message: "no such column family".to_owned(),
        });
        let error = scene.gives_up();
        assert!(
            error
                .to_string()
                .starts_with("the store refuses: no such column family")
        );
    }
}

#[test]
fn k2_a_write_in_doubt_is_never_sent_again() {
    for failure in doubtful() {
        let mut scene = Scene::warm(Access::Write);
        scene.sends();
        scene.fails(&failure);
        let error = scene.gives_up();
        assert!(error.is_undetermined(), "{failure}: {error}");
        scene.now += ms(10);
        assert!(scene.gives_up().is_undetermined());
    }
}

#[test]
fn k2_each_doubt_says_where_it_comes_from() {
    let [lost, timed_out, told, _] = doubtful().map(|failure| {
        let mut scene = Scene::warm(Access::Write);
        scene.sends();
        scene.fails(&failure);
        match scene.gives_up() {
            Error::Undetermined { doubt, .. } => doubt,
            other @ Error::DefinitelyNot { .. } => panic!("undetermined was expected: {other}"),
        }
    });
    assert_eq!(
        lost,
        Doubt::ConnectionLost {
            cause: "reset".to_owned()
        }
    );
    assert_eq!(timed_out, Doubt::Deadline { after: LIMIT });
    assert_eq!(
        told,
        Doubt::Told {
            message: "stepped down".to_owned()
        }
    );
}

#[test]
fn k3_a_read_goes_on_after_any_of_these() {
    for failure in doubtful() {
        let mut scene = Scene::warm(Access::Read);
        assert_eq!(scene.sends(), 1);
        scene.fails(&failure);
        scene.waits();
        scene.locates(Ok(route(1, Some(1))));
        assert_eq!(scene.sends(), 2);
    }
}

#[test]
fn known_routes_are_used_while_placement_is_away() {
    let mut scene = Scene::warm(Access::Write);
    assert_eq!(scene.sends(), 1);
    scene.fails(&no_leader());
    scene.waits();
    scene.locates(placement_silent());
    scene.waits();
    assert_eq!(scene.sends(), 2);
    scene.fails(&Failure::NotLeader {
        leader: Some(peer(3)),
    });
    assert_eq!(scene.sends(), 3);
}

#[test]
fn without_placement_a_cold_call_fails_at_its_deadline() {
    let mut scene = Scene::cold(Access::Write);
    let started = scene.now;
    loop {
        match scene.step() {
            Step::Locate { .. } => {
                let Scene { call, routes, now } = &mut scene;
                call.on_located(routes, placement_silent(), *now);
            }
            Step::Wait { until } => scene.now = until,
            Step::GiveUp(error) => {
                assert!(error.is_unreachable(), "{error}");
                assert!(error.story().len() > 20);
                assert!(error.story().chapters().len() <= 12);
                break;
            }
            other => panic!("unexpected {other:?}"),
        }
    }
    assert!(scene.now > started + LIMIT - BACKOFF_MAX * 2);
}

#[test]
fn no_time_left_is_no_attempt() {
    let mut scene = Scene::warm(Access::Write);
    scene.now += LIMIT;
    let error = scene.gives_up();
    assert!(matches!(
        error,
        Error::DefinitelyNot {
            reason: Reason::NoTime { .. },
            ..
        }
    ));
}

#[test]
fn success_teaches_who_leads() {
    let mut scene = Scene::warm(Access::Write);
    scene.routes.set_leader(RegionId(1), None);
    assert_eq!(scene.sends(), 1);
    scene.call.on_success(&mut scene.routes);
    assert_eq!(scene.leader(), Some(1));
}

#[test]
fn the_story_tells_each_attempt() {
    let mut scene = Scene::warm(Access::Write);
    scene.sends();
    scene.now += ms(3);
    scene.fails(&Failure::NotLeader {
        leader: Some(peer(2)),
    });
    scene.sends();
    scene.now += ms(40);
    scene.fails(&Failure::Lost {
        cause: "connection reset".to_owned(),
    });
    assert_eq!(
        scene.gives_up().to_string(),
        "the fate of the write is unknown: the connection was lost (connection reset)\n\
         2 attempts failed, 5000 ms allowed:\n  \
         at 0 ms, for 3 ms: region 1 (epoch 1/1), peer 11 on store 1 at store1:1: \
         not leader, peer 12 on store 2 is\n  \
         at 3 ms, for 40 ms: region 1 (epoch 1/1), peer 12 on store 2 at store2:1: \
         connection lost: connection reset"
    );
}

#[test]
fn a_long_story_is_told_in_few_lines() {
    let mut story = Story::new(ms(100), ms(5_000));
    let add = |story: &mut Story, at: u64, ended: &str| {
        story.add(ms(at), ms(at + 1), Tried::Locate, ended.to_owned());
    };
    for at in (100..200).step_by(10) {
        add(&mut story, at, "refused");
    }
    add(&mut story, 200, "no leader");
    assert_eq!(
        story.to_string(),
        "\n11 attempts failed, 5000 ms allowed:\n  \
         at 0 ms, 10 times in 91 ms: look up the region: refused\n  \
         at 100 ms, for 1 ms: look up the region: no leader"
    );
    // The beginning and the end of what differs.
    for at in 300..330 {
        add(&mut story, at, &format!("cause {at}"));
    }
    let told = story.to_string();
    assert_eq!(story.len(), 41);
    assert!(told.contains("no leader\n  at 200 ms"), "{told}");
    assert!(
        told.contains("cause 301\n  … 20 more …\n  at 222 ms"),
        "{told}"
    );
    assert!(told.ends_with("cause 329"), "{told}");
}

#[test]
fn waits_double_up_to_a_limit_and_differ() {
    let waits = |seed| {
        let mut backoff = Backoff::new(Random::new(seed));
        (0..10).map(|_| backoff.next_wait()).collect::<Vec<_>>()
    };
    let mut whole = BACKOFF_FIRST;
    for wait in waits(1) {
        assert!(wait >= whole / 2 && wait <= whole, "{wait:?} of {whole:?}");
        whole = (whole * 2).min(BACKOFF_MAX);
    }
    assert_eq!(waits(1), waits(1));
    assert_ne!(waits(1), waits(2));
}

/// A leader dies; the others elect one of them; placement hears of it a little later. The call
/// has its answer soon after.
#[test]
fn a_call_outlasts_an_election_and_ends_soon_after() {
    for seed in 0..200 {
        let mut scene = Scene::warm(Access::Write);
        let started = scene.now;
        let point = Point::At(Bytes::from_static(b"k"));
        scene.call = Call::new(Access::Write, point, started, LIMIT, seed);
        let elected = started + ms(1_000 + seed);
        let told = elected + ms(5);
        loop {
            match scene.step() {
                Step::Send(target) if target.peer.store == StoreId(1) => {
                    scene.now += ms(1);
                    scene.fails(&not_sent());
                }
                Step::Send(target) if scene.now >= elected => {
                    scene.now += ms(2);
                    if target.peer.store == StoreId(3) {
                        break;
                    }
                    scene.fails(&Failure::NotLeader {
                        leader: Some(peer(3)),
                    });
                }
                Step::Send(_) => {
                    scene.now += ms(1);
                    scene.fails(&no_leader());
                }
                Step::Locate { .. } => {
                    scene.now += ms(1);
                    let leader = if scene.now >= told { 3 } else { 1 };
                    let Scene { call, routes, now } = &mut scene;
                    call.on_located(routes, Ok(route(1, Some(leader))), *now);
                }
                Step::FindStore { store, .. } => {
                    let Scene { call, routes, now } = &mut scene;
                    call.on_store(routes, store, Ok(format!("store{store}:1")), *now);
                }
                Step::Wait { until } => scene.now = until,
                Step::GiveUp(error) => panic!("seed {seed}: {error}"),
            }
        }
        let late = scene.now - elected;
        assert!(
            late < BACKOFF_MAX + ms(20),
            "seed {seed}: {late:?} after the election"
        );
    }
}

/// Anything a store may say.
fn any_failure() -> impl Strategy<Value = Failure> {
    prop_oneof![
        4 => Just(no_leader()),
        3 => (1_u64..5).prop_map(|store| Failure::NotLeader { leader: Some(peer(store)) }),
        2 => Just(Failure::EpochNotMatch { current: Vec::new() }),
        2 => (1_u64..4).prop_map(|version| {
            Failure::EpochNotMatch { current: vec![route(version, None)] }
        }),
        1 => Just(misrouted(Misrouted::RegionNotFound)),
        1 => Just(misrouted(Misrouted::RegionNotInitialized)),
        1 => Just(misrouted(Misrouted::KeyNotInRegion)),
        1 => Just(misrouted(Misrouted::PeerMismatch)),
        1 => Just(misrouted(Misrouted::StoreMismatch)),
        2 => (0_u64..2_000).prop_map(|wait| busy(ms(wait))),
        1 => Just(Failure::DiskFull { reason: String::new() }),
        1 => Just(Failure::Refused { message: String::new() }),
        3 => Just(not_sent()),
        1 => prop::sample::select(doubtful().to_vec()),
    ]
}

/// Anything placement may say.
fn any_answer() -> impl Strategy<Value = Result<Route, LookupFailure>> {
    prop_oneof![
        4 => (1_u64..4, 1_u64..4).prop_map(|(version, leader)| Ok(route(version, Some(leader)))),
        2 => (1_u64..4).prop_map(|version| Ok(route(version, None))),
        1 => Just(Ok(Route { peers: Vec::new(), ..route(9, None) })),
        1 => Just(Ok(Route { start: Bytes::from_static(b"z"), ..route(1, Some(1)) })),
        1 => Just(placement_silent()),
        1 => Just(Err(LookupFailure::Unknown { message: String::new() })),
        1 => Just(Err(LookupFailure::NoLeader { message: String::new() })),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// K1 and K2 for any course of events: a write is sent again only after proof that it was not
    /// applied, its error says what was proved, a call ends by its deadline, and never spins.
    #[test]
    fn any_course_of_events(
        writes in any::<bool>(),
        failures in vec(any_failure(), 1..40),
        answers in vec(any_answer(), 1..40),
        seed in any::<u64>(),
    ) {
        let access = if writes { Access::Write } else { Access::Read };
        let mut scene = Scene::cold(access);
        let started = scene.now;
        let point = Point::At(Bytes::from_static(b"k"));
        scene.call = Call::new(access, point, started, LIMIT, seed);
        let mut failures = failures.iter().cycle();
        let mut answers = answers.iter().cycle();
        let mut in_doubt = false;
        let mut since_wait = 0;
        let error = loop {
            let step = scene.step();
            let Scene { call, routes, now } = &mut scene;
            prop_assert!(*now <= started + LIMIT);
            since_wait += 1;
            prop_assert!(since_wait < 40, "steps without a wait");
            match step {
                Step::Locate { timeout, .. } => {
                    prop_assert!(*now + timeout <= started + LIMIT);
                    let answer = answers.next().expect("it is a cycle").clone();
                    call.on_located(routes, answer, *now);
                }
                Step::FindStore { store, .. } => {
                    let found = match store.0 {
                        4 => Err(LookupFailure::Unknown { message: String::new() }),
                        _ => Ok(format!("store{store}:1")),
                    };
                    call.on_store(routes, store, found, *now);
                }
                Step::Send(target) => {
                    prop_assert!(!in_doubt, "a write in doubt was sent again");
                    prop_assert!(target.route.contains(&Point::At(Bytes::from_static(b"k"))));
                    prop_assert!(*now + target.timeout <= started + LIMIT);
                    let failure = failures.next().expect("it is a cycle");
                    in_doubt = writes && !failure.proves_not_applied();
                    call.on_failure(routes, failure, *now);
                }
                Step::Wait { until } => {
                    prop_assert!(until > *now);
                    since_wait = 0;
                    *now = until;
                }
                Step::GiveUp(error) => break error,
            }
        };
        prop_assert_eq!(error.is_undetermined(), in_doubt);
    }
}
