//! Wishes: what becomes of them, and what is said to those that do not fit.

use super::*;

const ONE: GroupId = GroupId(1);

/// Region 1 on stores 1, 2 and 3 of four, led from store 1; its range is one number wide.
fn world() -> World {
    let mut world = World::new(4, 3);
    world.region(1, &[1, 2, 3]);
    world
}

fn key(bytes: &[u8]) -> Bytes {
    let mut key = 1_u64.to_be_bytes().to_vec();
    key.extend_from_slice(bytes);
    key.into()
}

fn wish(world: &World, wish: &Manual) -> Result<Action, String> {
    decide(&world.view, &world.settings, ONE, wish, NOW)
        .map(|decision| {
            assert_eq!(decision.reason.rule, Rule::Manual);
            decision.action
        })
        .map_err(|refusal| refusal.to_string())
}

fn refused(world: &World, asked: Manual) -> String {
    wish(world, &asked).expect_err("refused")
}

fn split(keys: &[Bytes]) -> Manual {
    Manual::Split {
        keys: keys.to_vec(),
    }
}

fn to(store: u64) -> Manual {
    Manual::TransferLeader { to: StoreId(store) }
}

fn add(store: u64) -> Manual {
    Manual::AddPeer { to: StoreId(store) }
}

fn remove(store: u64) -> Manual {
    Manual::RemovePeer {
        from: StoreId(store),
    }
}

fn moved(from: u64, to: u64) -> Manual {
    Manual::MovePeer {
        from: StoreId(from),
        to: StoreId(to),
    }
}

#[test]
fn wishes_that_fit_become_decisions() {
    let world = world();
    let keys = vec![key(b"a"), key(b"b")];
    assert_eq!(
        wish(&world, &split(&keys)),
        Ok(Action::Split { keys: keys.clone() })
    );
    assert_eq!(
        wish(&world, &split(&[])),
        Ok(Action::Split { keys: Vec::new() })
    );
    assert_eq!(
        wish(&world, &to(2)),
        Ok(Action::TransferLeader {
            from: StoreId(1),
            to: StoreId(2)
        })
    );
    assert_eq!(
        wish(&world, &add(4)),
        Ok(Action::AddReplica { to: StoreId(4) })
    );
    assert_eq!(
        wish(&world, &moved(3, 4)),
        Ok(Action::ReplaceReplica {
            old: PeerId(103),
            from: StoreId(3),
            to: StoreId(4)
        })
    );
    assert_eq!(
        wish(&world, &remove(3)),
        Ok(Action::RemovePeer {
            peer: PeerId(103),
            from: StoreId(3),
            leader_to: None
        })
    );
    assert_eq!(
        wish(&world, &remove(1)),
        Ok(Action::RemovePeer {
            peer: PeerId(101),
            from: StoreId(1),
            leader_to: Some(StoreId(2))
        }),
        "a leader hands over first"
    );
}

#[test]
fn split_keys_lie_strictly_inside_in_order_each_once() {
    let world = world();
    let start = key(b"");
    let sentence = refused(&world, split(std::slice::from_ref(&start)));
    assert!(
        sentence
            .contains(r"key `\x00\x00\x00\x00\x00\x00\x00\x01` is a border of region 1 already")
    );
    let outside = Bytes::from_static(b"zz");
    assert_eq!(
        refused(&world, split(&[key(b"a"), outside])),
        "key `zz` lies outside region 1: split the region that contains it"
    );
    let below = Bytes::from_static(b"\0");
    assert!(refused(&world, split(&[below])).contains("lies outside region 1"));
    let end = 2_u64.to_be_bytes().to_vec();
    let sentence = refused(&world, split(&[end.into()]));
    assert!(sentence.contains("is a border"), "{sentence}");
    let beyond = key(&[0; 128 << 10]);
    let sentence = refused(&world, split(&[beyond]));
    assert!(sentence.contains("of 131080 bytes is longer"), "{sentence}");
    let sentence = refused(&world, split(&[key(b"a"), key(b"a")]));
    assert!(sentence.contains("is given twice"), "{sentence}");
    let sentence = refused(&world, split(&[key(b"b"), key(b"a")]));
    assert!(sentence.contains("ascending order"), "{sentence}");
    let many: Vec<Bytes> = (0..=64_u16).map(|n| key(&n.to_be_bytes())).collect();
    assert!(wish(&world, &split(&many[..64])).is_ok());
    assert_eq!(
        refused(&world, split(&many)),
        "a split takes at most 64 keys at once, not 65"
    );
    let long = refused(&world, split(&[key(&[0xff; 100_000])]).into_outside());
    assert!(long.len() < 300, "long keys are cut: {long}");
}

impl Manual {
    /// The same keys, below every region.
    fn into_outside(self) -> Manual {
        match self {
            Manual::Split { keys } => Manual::Split {
                keys: keys.into_iter().map(|key| key.slice(8..)).collect(),
            },
            other => other,
        }
    }
}

#[test]
fn stores_that_do_not_fit_are_named_with_what_is_there() {
    let mut world = world();
    assert_eq!(
        refused(&world, to(4)),
        "store 4 has no peer of region 1: it is on stores 1, 2 and 3"
    );
    assert_eq!(
        refused(&world, to(1)),
        "peer 101 on store 1 leads region 1 already: name another store"
    );
    assert_eq!(
        refused(&world, add(2)),
        "store 2 has peer 102 of region 1 already: name a store that has none (the region is on \
         stores 1, 2 and 3)"
    );
    for unknown in [to(9), add(9), remove(9), moved(9, 4), moved(1, 9)] {
        assert_eq!(
            refused(&world, unknown),
            "store 9 does not exist: list the stores for those that do"
        );
    }
    assert!(refused(&world, moved(4, 4)).contains("store 4 has no peer"));
    assert!(refused(&world, moved(3, 3)).contains("store 3 has peer 103"));
    world.silent_for(4, 6);
    assert_eq!(
        refused(&world, moved(3, 4)),
        "store 4 is disconnected: name a store that is up"
    );
    world.silent_for(4, 700);
    assert!(refused(&world, add(4)).contains("store 4 is down"));
    world.beat(4);
    world.stats(4, |stats| stats.is_stopping = true);
    assert!(refused(&world, add(4)).contains("store 4 is shutting down"));
    world.silent_for(2, 6);
    assert!(refused(&world, to(2)).contains("store 2 is disconnected"));
    world.known(1).pending.insert(PeerId(103));
    assert_eq!(
        refused(&world, to(3)),
        "peer 103 on store 3 cannot lead region 1 now: it is not a caught-up voter"
    );
}

#[test]
fn a_voter_that_is_needed_stays() {
    let mut world = world();
    world.silent_for(2, 6);
    let sentence = refused(&world, remove(3));
    assert_eq!(
        sentence,
        "region 1 needs its voter on store 3: without it 2 of 3 wanted voters would be left, 1 of \
         them healthy; add a peer elsewhere first, or move this one"
    );
    assert!(wish(&world, &remove(2)).is_ok(), "the silent one may go");
    let mut two = World::new(3, 3);
    two.region(1, &[1, 2]);
    assert!(refused(&two, remove(2)).contains("1 of 3 wanted voters"));
    let mut one = World::new(1, 1);
    one.region(1, &[1]);
    assert!(refused(&one, remove(1)).contains("needs its voter"));
    let mut learner = World::new(3, 3);
    learner.region(1, &[1, 2]);
    learner.learner(1, 3);
    assert!(wish(&learner, &remove(3)).is_ok(), "a learner may go");
    let mut full = World::new(8, 3);
    full.region(1, &[1, 2, 3, 4, 5, 6, 7]);
    assert!(refused(&full, add(8)).contains("has 7 peers"));
}

#[test]
fn a_region_is_asked_one_thing_at_a_time() {
    let mut world = World::new(3, 3);
    world.region(1, &[1, 2]);
    world.admit();
    let busy = decide(&world.view, &world.settings, ONE, &to(2), NOW);
    assert_eq!(
        busy.map_err(|refusal| refusal.to_string()),
        Err(
            "region 1 is busy: operator 10001 (add-replica, missing-replica) is at work on it; \
             wait for it or cancel it"
                .into()
        )
    );
    let mut unknown = World::new(1, 1);
    assert!(refused(&unknown, to(1)).contains("region 1 is not known"));
    unknown.region(1, &[1]);
    unknown.known(1).leader = None;
    assert!(refused(&unknown, split(&[])).contains("no known leader"));
    let mut joint = self::world();
    joint.known(1).region.peers[2].role = PeerRole::IncomingVoter;
    assert!(refused(&joint, to(2)).contains("changing its members"));
    let mut poor = self::world();
    poor.region(2, &[1, 2]);
    let lacking = decide(&poor.view, &poor.settings, GroupId(2), &split(&[]), NOW);
    let sentence = lacking.expect_err("it lacks a voter").to_string();
    assert!(sentence.contains("has 2 of 3 voters"), "{sentence}");
}

#[test]
fn what_was_asked_by_hand_is_left_alone_while_it_is_well() {
    let mut world = World::new(4, 3);
    world.region(1, &[1, 2, 3, 4]);
    world.region(2, &[1, 2]);
    let undone = [
        "1: remove from 2 (extra-replica)",
        "2: add on 3 (missing-replica)",
    ];
    assert_eq!(world.repairs(), undone);
    world.view.leave_alone(ONE, NOW);
    world.view.leave_alone(GroupId(2), NOW);
    assert_eq!(
        world.repairs(),
        ["2: add on 3 (missing-replica)"],
        "what it lacks was not taken by hand"
    );
    world.view.leave_lacking(GroupId(2), NOW);
    assert_eq!(world.repairs(), [""; 0]);
    world.silent_for(2, 6);
    assert_eq!(
        world.repairs()[1],
        "2: add on 3 (missing-replica)",
        "not when a voter is not healthy"
    );
    world.beat(2);
    world
        .view
        .left_alone
        .values_mut()
        .for_each(|alone| alone.until = NOW);
    assert_eq!(world.repairs(), undone, "not for ever");
    world.view.leave_alone(GroupId(3), NOW);
    assert_eq!(world.view.left_alone.len(), 1, "the memory is bounded");
}
