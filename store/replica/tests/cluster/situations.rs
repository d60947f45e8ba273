//! Splits in situations that are built step by step: one store, crashes where it hurts.

use std::time::Duration;

use bytes::Bytes;
use tinykv_raft::{GroupId, LogIndex, PeerId};
use tinykv_replica::{
    AdminAction, AdminCommand, AdminRequest, Answer, Birth, BusyReason, Command, Event, Outcome,
    Peer, Proposal, ReadRequest, Refusal, Region, RegionEpoch, RegionState, SplitIds, SplitRefusal,
    StoreId, WaiterId,
};

use crate::lists::encode_append;
use crate::store::{Checked, Habits, Outbox, Store};

const PARENT: GroupId = GroupId(1);
const CHILD: GroupId = GroupId(2);
const SECOND: RegionEpoch = RegionEpoch {
    conf_ver: 1,
    version: 2,
};

type Ending = Outcome<Vec<u32>>;

/// A store alone, whose only group begins with all keys.
struct Lone {
    store: Store,
    now: u64,
    replies: Vec<(WaiterId, Ending)>,
    waiters: u64,
}

impl Lone {
    /// `job_ms_max` is how long reads and drops may take.
    fn new(tail_max: usize, job_ms_max: u64) -> Lone {
        let habits = Habits {
            sync_ms_max: 1,
            job_ms_max,
            notice_ms_max: 0,
            miss_one_in: 0,
            tail_max,
            flush_one_in: 0,
            log_bytes_max: 1 << 20,
            clock_rate: 1_000,
            hibernate_after: None,
        };
        let mut lone = Lone {
            store: Store::new(StoreId(1), habits, 1),
            now: 0,
            replies: Vec::new(),
            waiters: 0,
        };
        let peer = Peer::voter(PeerId(1), StoreId(1));
        let region = Region {
            id: PARENT,
            start: Bytes::new(),
            end: Bytes::new(),
            epoch: RegionEpoch::FIRST,
            peers: vec![peer],
        };
        lone.store.inbox.push(Event::Create(Birth {
            peer,
            state: RegionState {
                region,
                open: true,
                machine: Bytes::from_static(b"\0\0\0\0\0\0\0\x05"),
                ..RegionState::default()
            },
        }));
        lone.until("the group leads", |lone| lone.leads(PARENT));
        lone
    }

    fn turn(&mut self) {
        self.now += 5;
        let mut out = Outbox::default();
        self.store.turn(self.now, &mut out, &mut |_, _| {});
        self.replies.extend(out.replies);
    }

    fn until(&mut self, what: &str, mut is_so: impl FnMut(&Lone) -> bool) {
        for _ in 0..2_000 {
            if is_so(self) {
                return;
            }
            self.turn();
        }
        panic!("it never happens that {what}");
    }

    fn leads(&self, group: GroupId) -> bool {
        let shard = self.store.shard.as_ref().expect("it is up");
        shard.led_groups().any(|led| led == group) && self.store.leases.contains_key(&group)
    }

    fn waiter(&mut self) -> (WaiterId, Duration) {
        self.waiters += 1;
        let deadline = self.store.clock(self.now) + Duration::from_secs(60);
        (WaiterId(self.waiters), deadline)
    }

    fn ask_split(&mut self, epoch: RegionEpoch, key: &'static str) -> WaiterId {
        let (waiter, deadline) = self.waiter();
        let ids = SplitIds {
            region: CHILD,
            peers: vec![PeerId(11)],
        };
        let action = AdminAction::Split {
            epoch,
            keys: vec![Bytes::from_static(key.as_bytes())],
            ids: vec![ids],
        };
        self.store.inbox.push(Event::Admin(AdminRequest {
            group: PARENT,
            action,
            deadline,
            waiter: Some(waiter),
        }));
        waiter
    }

    fn ask_append(&mut self, group: GroupId, epoch: RegionEpoch, key: &str, n: u32) -> WaiterId {
        let (waiter, deadline) = self.waiter();
        let command = Command::build(epoch, 16, |out| encode_append(key.as_bytes(), n, out));
        self.store.inbox.push(Event::Propose(Proposal {
            group,
            peer: None,
            term: None,
            command,
            deadline,
            waiter,
        }));
        waiter
    }

    fn ask_check(&mut self, epoch: RegionEpoch, id: u64) -> WaiterId {
        let (waiter, deadline) = self.waiter();
        self.store.inbox.push(Event::Admin(AdminRequest {
            group: PARENT,
            action: AdminAction::Command {
                epoch,
                command: AdminCommand::Check { id },
            },
            deadline,
            waiter: Some(waiter),
        }));
        waiter
    }

    fn ending(&mut self, waiter: WaiterId) -> Ending {
        let ended = |lone: &Lone| lone.replies.iter().any(|reply| reply.0 == waiter);
        self.until("somebody is answered", ended);
        let at = self.replies.iter().position(|reply| reply.0 == waiter);
        self.replies.remove(at.expect("it is there")).1
    }

    fn append(&mut self, group: GroupId, epoch: RegionEpoch, key: &str, n: u32) {
        let waiter = self.ask_append(group, epoch, key, n);
        let ending = self.ending(waiter);
        assert!(
            matches!(ending, Outcome::Ok(Answer::Applied { .. })),
            "{ending:?}"
        );
    }

    /// Keys on both sides have a value, then the group is split between them.
    fn split(tail_max: usize, job_ms_max: u64) -> Lone {
        let mut lone = Lone::new(tail_max, job_ms_max);
        for (key, number) in [("a", 1), ("p", 2), ("a", 3), ("p", 4)] {
            lone.append(PARENT, RegionEpoch::FIRST, key, number);
        }
        let waiter = lone.ask_split(RegionEpoch::FIRST, "m");
        let ending = lone.ending(waiter);
        assert!(
            matches!(ending, Outcome::Ok(Answer::Split(_))),
            "{ending:?}"
        );
        lone.until("the child leads", |lone| lone.leads(CHILD));
        lone
    }

    fn restart(&mut self) {
        self.store.crash();
        self.now += 10;
        self.replies.clear();
        self.store.start(self.now, &mut Outbox::default());
    }

    fn is_here(&self, group: GroupId) -> bool {
        self.store.regions.contains_key(&group)
    }
}

#[test]
fn split_key_at_border_outside_or_stale_is_refused_and_nothing_happens() {
    let mut lone = Lone::split(1_000, 0);
    let cases = [
        (SECOND, "m", SplitRefusal::KeyAtBorder { key: "m".into() }),
        (SECOND, "x", SplitRefusal::KeyOutside { key: "x".into() }),
        (SECOND, "", SplitRefusal::KeyAtBorder { key: "".into() }),
    ];
    for (epoch, key, refusal) in cases {
        let waiter = lone.ask_split(epoch, key);
        assert_eq!(
            lone.ending(waiter),
            Outcome::DefinitelyNot(Refusal::Split(refusal))
        );
    }
    let waiter = lone.ask_split(RegionEpoch::FIRST, "c");
    let Outcome::DefinitelyNot(Refusal::EpochNotMatch { regions }) = lone.ending(waiter) else {
        panic!("an outdated split is refused");
    };
    assert_eq!(regions.len(), 2, "{regions:?}");
    lone.append(PARENT, SECOND, "a", 9);
    lone.append(CHILD, SECOND, "p", 10);
}

/// Both are proposed in one run; the split is first in the log.
#[test]
fn stale_epoch_refused_at_apply() {
    let mut lone = Lone::new(1_000, 0);
    let split = lone.ask_split(RegionEpoch::FIRST, "m");
    let left = lone.ask_append(PARENT, RegionEpoch::FIRST, "a", 1);
    let right = lone.ask_append(PARENT, RegionEpoch::FIRST, "p", 2);
    let again = lone.ask_split(RegionEpoch::FIRST, "c");
    let ending = lone.ending(again);
    let is_busy = |refusal: &Refusal| matches!(refusal, Refusal::Busy { reason, .. } if *reason == BusyReason::Splitting);
    assert!(
        matches!(&ending, Outcome::DefinitelyNot(refusal) if is_busy(refusal)),
        "{ending:?}"
    );
    let ending = lone.ending(split);
    let Outcome::Ok(Answer::Split(parts)) = ending else {
        panic!("{ending:?}");
    };
    for waiter in [left, right] {
        let ending = lone.ending(waiter);
        let Outcome::DefinitelyNot(Refusal::EpochNotMatch { regions }) = ending else {
            panic!("{ending:?}");
        };
        assert_eq!(regions, parts, "who comes late learns of all parts");
    }
    assert!(lone.store.list(b"a").is_empty() && lone.store.list(b"p").is_empty());
    // The child has what the parent had: it is open, and its machine goes on from the same bytes.
    let (_, child) = &lone.store.regions[&CHILD];
    let (_, parent) = &lone.store.regions[&PARENT];
    assert!(child.open);
    assert_eq!(child.machine, parent.machine);
}

#[test]
fn child_waits_for_its_parent_after_a_restart() {
    let mut lone = Lone::split(0, 50);
    lone.append(CHILD, SECOND, "p", 5);
    lone.append(PARENT, SECOND, "a", 6);
    lone.restart();
    assert_eq!(lone.store.children_waited, 1);
    assert!(!lone.is_here(CHILD), "its parent has to read its log first");
    let refused = lone.ask_append(CHILD, SECOND, "p", 7);
    let (waiter, deadline) = lone.waiter();
    lone.store.inbox.push(Event::Read(ReadRequest {
        group: CHILD,
        peer: None,
        epoch: None,
        deadline,
        waiter,
    }));
    for waiter in [refused, waiter] {
        let ending = lone.ending(waiter);
        let is_out = |refusal: &Refusal| matches!(refusal, Refusal::Busy { reason, .. } if *reason == BusyReason::NotInService);
        assert!(
            matches!(&ending, Outcome::DefinitelyNot(refusal) if is_out(refusal)),
            "{ending:?}"
        );
    }
    lone.until("both lead again", |lone| {
        lone.leads(CHILD) && lone.leads(PARENT)
    });
    assert_eq!(lone.store.list(b"p"), [2, 4, 5]);
    assert_eq!(lone.store.list(b"a"), [1, 3, 6]);
    // Nothing has been flushed yet: it can be done a second time.
    lone.restart();
    lone.until("both lead again", |lone| {
        lone.leads(CHILD) && lone.leads(PARENT)
    });
    assert_eq!(lone.store.children_waited, 2);
    lone.append(CHILD, SECOND, "p", 8);
    assert_eq!(lone.store.list(b"p"), [2, 4, 5, 8]);
}

/// The engine has lost the split but not what the child became since. (Shells flush all before
/// they install or drop; a replayed split leaves such a child alone all the same.)
#[test]
fn replay_of_a_split_finds_its_child_alive() {
    let mut lone = Lone::split(1_000, 0);
    lone.append(CHILD, SECOND, "p", 5);
    let child = lone.store.regions[&CHILD].1.region.clone();
    lone.store.lsm.keep_only(CHILD, &child);
    let kept = lone.store.applied(CHILD);
    lone.restart();
    assert_eq!(lone.store.children_waited, 0);
    lone.until("both lead again", |lone| {
        lone.leads(CHILD) && lone.leads(PARENT)
    });
    assert!(lone.store.applied(CHILD) >= kept, "it was not set back");
    assert_eq!(lone.store.regions[&PARENT].1.region.epoch, SECOND);
    lone.append(CHILD, SECOND, "p", 6);
    lone.append(PARENT, SECOND, "a", 7);
    assert_eq!(lone.store.list(b"a"), [1, 3, 7]);
}

#[test]
fn replay_of_a_split_finds_its_child_dead() {
    for tail_max in [0, 1_000] {
        let mut lone = Lone::split(tail_max, 50);
        let (group, peer) = (CHILD, PeerId(11));
        lone.store.inbox.push(Event::Destroy { group, peer });
        // The tombstone is durable, the data still there, the split not flushed.
        lone.until("the child is dead", |lone| {
            lone.store.dead.contains(&(group, peer))
        });
        assert_eq!(lone.store.list(b"p"), [2, 4]);
        lone.restart();
        lone.until("the parent leads", |lone| lone.leads(PARENT));
        lone.until("the child's data is gone", |lone| {
            lone.store.list(b"p").is_empty() && lone.store.applied(CHILD) == LogIndex(0)
        });
        assert!(!lone.is_here(CHILD));
        assert_eq!(lone.store.list(b"a"), [1, 3]);
        assert_eq!(lone.store.regions[&PARENT].1.region.epoch, SECOND);
        lone.restart();
        lone.until("the parent leads", |lone| lone.leads(PARENT));
        assert!(lone.store.list(b"p").is_empty() && !lone.is_here(CHILD));
    }
}

#[test]
fn parent_buried_after_its_split_is_flushed() {
    let mut lone = Lone::split(0, 50);
    lone.append(CHILD, SECOND, "p", 5);
    let (group, peer) = (PARENT, PeerId(1));
    lone.store.inbox.push(Event::Destroy { group, peer });
    lone.until("the parent is dead", |lone| {
        lone.store.dead.contains(&(group, peer))
    });
    // Its log is gone with it: what the child began with must not be.
    lone.restart();
    assert_eq!(
        lone.store.children_waited, 0,
        "the split was flushed before"
    );
    lone.until("the child leads", |lone| lone.leads(CHILD));
    assert_eq!(lone.store.list(b"p"), [2, 4, 5]);
    lone.until("the parent's data is gone", |lone| {
        lone.store.list(b"a").is_empty()
    });
    lone.append(CHILD, SECOND, "p", 6);
    assert_eq!(lone.store.list(b"p"), [2, 4, 5, 6]);
}

/// Told to go while children wait for it, the parent first does what it owes them.
#[test]
fn a_parent_does_not_leave_its_children_waiting() {
    let mut lone = Lone::split(0, 50);
    lone.restart();
    assert_eq!(lone.store.children_waited, 1);
    let (group, peer) = (PARENT, PeerId(1));
    lone.store.inbox.push(Event::Destroy { group, peer });
    lone.until("the parent is dead", |lone| {
        lone.store.dead.contains(&(group, peer))
    });
    lone.until("the child leads", |lone| lone.leads(CHILD));
    assert_eq!(lone.store.list(b"p"), [2, 4]);
}

#[test]
fn a_check_sees_what_came_before_it_and_nothing_after() {
    let mut lone = Lone::new(1 << 20, 1);
    lone.append(PARENT, RegionEpoch::FIRST, "a", 1);
    // All of it is proposed in one run, and committed together.
    let before = lone.ask_append(PARENT, RegionEpoch::FIRST, "b", 2);
    let checked = lone.ask_check(RegionEpoch::FIRST, 77);
    let after = lone.ask_append(PARENT, RegionEpoch::FIRST, "c", 3);
    for waiter in [before, checked, after] {
        let ending = lone.ending(waiter);
        assert!(matches!(ending, Outcome::Ok(_)), "{ending:?}");
    }
    let Checked { check: seen, data } = lone.store.checks.pop().expect("one check");
    let keys = data.iter().map(|(key, _)| key.as_ref());
    let keys: Vec<&[u8]> = keys.filter(|key| !key.contains(&b'~')).collect();
    assert_eq!((seen.id, keys), (77, vec![&b"da"[..], b"db"]));
    let stale = lone.ask_check(SECOND, 78);
    let ending = lone.ending(stale);
    assert!(
        matches!(
            ending,
            Outcome::DefinitelyNot(Refusal::EpochNotMatch { .. })
        ),
        "{ending:?}"
    );
    assert!(lone.store.checks.is_empty());
}

#[test]
fn a_replay_after_a_restart_checks_once_more_and_finds_the_same() {
    let mut lone = Lone::new(1 << 20, 1);
    lone.append(PARENT, RegionEpoch::FIRST, "a", 1);
    let waiter = lone.ask_check(RegionEpoch::FIRST, 77);
    let ending = lone.ending(waiter);
    assert!(matches!(ending, Outcome::Ok(_)), "{ending:?}");
    lone.append(PARENT, RegionEpoch::FIRST, "b", 2);
    lone.restart();
    lone.until("the group leads", |lone| lone.leads(PARENT));
    assert_eq!(lone.store.list(b"b"), [2]);
    let [before, after] = &lone.store.checks[..] else {
        panic!("{} checks", lone.store.checks.len());
    };
    assert_eq!((before.check.id, after.check.id), (77, 77));
    assert_eq!(before.check.entry, after.check.entry);
    assert_eq!(before.data, after.data);
}
