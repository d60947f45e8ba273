//! Several stores, a bad network, clients, and somebody who changes memberships: one seed, one
//! story.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tinykv_raft::{GroupId, PeerId, Role};
use tinykv_replica::{
    Answer, Birth, Event, Heartbeat, Outcome, Peer, PeerMessage, Refusal, Region, RegionEpoch,
    RegionState, StoreId, WaiterId,
};

mod asking;
mod comparing;
mod membership;
mod merging;
mod nemesis;
mod post;
mod scripts;
mod settling;
mod sleep;

use crate::history::{Ending, History};
use crate::random::Random;
use crate::store::{Habits, Outbox, Store};

/// Simulated milliseconds between two turns of a store.
const STEP_MS: u64 = 5;
/// Until then all births of the beginning are durable.
const FOUNDING_MS: u64 = 50;
/// Keys of each founding group; it can be split between any two of them.
const KEYS_PER_GROUP: u64 = 5;

/// What happened, to see that it was not nothing.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    pub(crate) acked: usize,
    pub(crate) reads: usize,
    pub(crate) lease_reads: usize,
    pub(crate) undetermined: usize,
    pub(crate) refused: usize,
    pub(crate) crashes: usize,
    pub(crate) changes: usize,
    pub(crate) transfers: usize,
    pub(crate) snapshots: usize,
    pub(crate) superseded: usize,
    pub(crate) gone: usize,
    /// Splits that were answered with success.
    pub(crate) splits: usize,
    /// Children that are there although nobody was told of the split.
    pub(crate) split_under_fire: usize,
    /// Children that waited for their parent after a restart.
    pub(crate) children_waited: usize,
    /// Requests refused with regions that hold the key.
    pub(crate) outdated: usize,
    /// Joint changes that were asked for, and joint regions that were seen.
    pub(crate) joint: usize,
    pub(crate) joint_seen: usize,
    /// Regions that were frozen, became a part of another, and thawed again.
    pub(crate) frozen: usize,
    pub(crate) merged: usize,
    pub(crate) thawed: usize,
    /// Peers that died because a snapshot of what they had become a part of came.
    pub(crate) overtaken: usize,
    /// Messages of groups.
    pub(crate) messages: usize,
    /// Groups that fell asleep.
    pub(crate) slept: usize,
    /// Replicas that were compared with another at one entry.
    pub(crate) compared: usize,
}

#[derive(Clone)]
enum Packet {
    Message(PeerMessage),
    Snapshot(PeerMessage, Box<RegionState>, Vec<(Bytes, Bytes)>),
    Heartbeat(StoreId, StoreId, Heartbeat),
}

/// Who waits at which store for what.
enum Open {
    Operation(usize),
    Admin { is_transfer: bool },
    Split(GroupId),
}

/// The faults of this seed, each as "once in so many" chances; 0 is never.
#[derive(Default)]
struct Faults {
    loss: u64,
    duplicate: u64,
    slow: u64,
    crash: u64,
    pause: u64,
    partition: u64,
    membership: u64,
    split: u64,
    merge: u64,
}

pub(crate) struct Cluster {
    random: Random,
    now: u64,
    pub(crate) stores: Vec<Store>,
    down_until: BTreeMap<u64, u64>,
    packets: BTreeMap<(u64, u64), Packet>,
    next_packet: u64,
    cut: BTreeMap<(u64, u64), u64>,
    /// Stores that hear nothing of a group.
    deaf: BTreeSet<(u64, GroupId)>,
    /// Messages that a script holds back, copies or loses.
    post: post::Post,
    faults: Faults,
    /// A split was asked for: when and where the power goes.
    crash_soon: Option<(u64, u64)>,
    /// How long clients wait, at least and at most.
    patience: (u64, u64),
    pub(crate) history: History,
    open: BTreeMap<(u64, WaiterId), Open>,
    next_waiter: u64,
    next_number: u32,
    next_peer: u64,
    next_group: u64,
    /// How many groups there were in the beginning, numbered from 1.
    founded: u64,
    /// Every region that was ever published, by group, version and membership: what these say is
    /// the same everywhere (M1).
    seen: BTreeMap<(GroupId, u64, u64), Region>,
    /// Children whose split was answered with success.
    acked_children: BTreeSet<GroupId>,
    /// Regions that were seen frozen.
    frozen: BTreeSet<(GroupId, u64)>,
    /// Who led which term (R1).
    leaders: BTreeMap<(GroupId, u64), PeerId>,
    pub(crate) figures: Figures,
    /// A digest of everything that was delivered, to compare runs.
    pub(crate) trace: u64,
}

impl Cluster {
    pub(crate) fn new(seed: u64) -> Cluster {
        let mut random = Random::new(seed);
        let stores = random.between(3, 5);
        let faults = Faults {
            loss: random.pick(&[0, 0, 50, 10]).unwrap_or(0),
            duplicate: random.pick(&[0, 30]).unwrap_or(0),
            slow: random.pick(&[0, 20, 100]).unwrap_or(0),
            crash: random.pick(&[0, 200, 400, 400]).unwrap_or(0),
            pause: random.pick(&[0, 300]).unwrap_or(0),
            partition: random.pick(&[0, 200, 400]).unwrap_or(0),
            membership: random.pick(&[0, 40, 80]).unwrap_or(0),
            split: random.pick(&[0, 60, 150, 400]).unwrap_or(0),
            merge: random.pick(&[0, 20, 60, 150]).unwrap_or(0),
        };
        let mut cluster = Cluster::empty(random, faults);
        for id in 1..=stores {
            let habits = cluster.habits();
            let seed = cluster.random.next();
            cluster.stores.push(Store::new(StoreId(id), habits, seed));
        }
        cluster.founded = cluster.random.between(1, 4);
        for group in 1..=cluster.founded {
            let founders = if cluster.random.chance(2) { 1 } else { 3 };
            cluster.found_group(GroupId(group), founders);
        }
        cluster
    }

    /// Good weather: only what the test does goes wrong. All groups have three peers.
    fn calm(stores: u64, groups: u64, hibernate_after: Option<u32>) -> Cluster {
        let mut cluster = Cluster::empty(Random::new(1), Faults::default());
        for id in 1..=stores {
            let habits = Habits {
                sync_ms_max: 1,
                job_ms_max: 0,
                notice_ms_max: 0,
                miss_one_in: 0,
                tail_max: 1_000,
                flush_one_in: 50,
                log_bytes_max: 1 << 20,
                clock_rate: 1_000,
                hibernate_after,
            };
            cluster.stores.push(Store::new(StoreId(id), habits, id));
        }
        cluster.founded = groups;
        for group in 1..=groups {
            cluster.found_group(GroupId(group), 3);
        }
        cluster
    }

    fn empty(random: Random, faults: Faults) -> Cluster {
        Cluster {
            stores: Vec::new(),
            now: 0,
            down_until: BTreeMap::new(),
            packets: BTreeMap::new(),
            next_packet: 0,
            cut: BTreeMap::new(),
            deaf: BTreeSet::new(),
            post: post::Post::default(),
            faults,
            crash_soon: None,
            patience: (100, 1_500),
            history: History::default(),
            open: BTreeMap::new(),
            next_waiter: 0,
            next_number: 0,
            next_peer: 1,
            next_group: 100,
            founded: 0,
            seen: BTreeMap::new(),
            acked_children: BTreeSet::new(),
            frozen: BTreeSet::new(),
            leaders: BTreeMap::new(),
            figures: Figures::default(),
            trace: 0,
            random,
        }
    }

    fn habits(&mut self) -> Habits {
        let random = &mut self.random;
        Habits {
            sync_ms_max: random.pick(&[1, 5, 20]).unwrap_or(1),
            job_ms_max: random.pick(&[0, 10, 50, 1_500]).unwrap_or(0),
            notice_ms_max: random.pick(&[0, 0, 20, 60]).unwrap_or(0),
            miss_one_in: random.pick(&[0, 2, 5]).unwrap_or(0),
            tail_max: random.pick(&[0, 5, 1_000]).unwrap_or(0),
            flush_one_in: random.pick(&[10, 50, 200]).unwrap_or(50),
            log_bytes_max: random.pick(&[200, 2_000, 100_000]).unwrap_or(2_000),
            clock_rate: random.pick(&[820, 1_000, 1_000, 1_180]).unwrap_or(1_000),
            hibernate_after: random.pick(&[None, Some(2), Some(10)]).flatten(),
        }
    }

    fn found_group(&mut self, id: GroupId, founders: u64) {
        let mut free: Vec<u64> = (1..=self.stores.len() as u64).collect();
        let mut homes = Vec::new();
        for _ in 0..founders {
            homes.push(free.remove(self.random.below(free.len() as u64) as usize));
        }
        self.found_group_on(id, &homes);
    }

    fn found_group_on(&mut self, id: GroupId, homes: &[u64]) {
        let edge = |at: u64| Bytes::from(format!("g{at}"));
        let mut peers = Vec::new();
        for home in homes.iter().copied() {
            peers.push(Peer::voter(PeerId(self.next_peer), StoreId(home)));
            self.next_peer += 1;
        }
        let region = Region {
            id,
            start: edge(id.0),
            end: edge(id.0 + 1),
            epoch: RegionEpoch::FIRST,
            peers: peers.clone(),
        };
        let state = RegionState {
            region,
            open: homes.len() > 1,
            machine: Bytes::new(),
            ..RegionState::default()
        };
        for peer in peers {
            let birth = Birth {
                peer,
                state: state.clone(),
            };
            self.stores[peer.store.0 as usize - 1]
                .inbox
                .push(Event::Create(birth));
        }
    }

    /// Runs with faults for some time, then heals and waits until all is as it should be.
    pub(crate) fn run(&mut self, chaos_ms: u64) {
        while self.now < chaos_ms {
            // A group whose founders die before their births are durable was never there.
            if self.now > FOUNDING_MS {
                self.break_something();
                self.order_checks();
            }
            self.change_something();
            for _ in 0..2 {
                self.ask_something();
            }
            self.step();
        }
        self.heal();
        let healed = self.now;
        while self.now < healed + 8_000 {
            if self.now < healed + 4_000 {
                self.change_something();
                self.ask_something();
            } else if self.now.is_multiple_of(500) {
                self.sweep_ghosts();
            }
            self.step();
        }
        self.settle();
        self.compare();
    }

    fn step(&mut self) {
        self.now += STEP_MS;
        self.deliver();
        let restarts: Vec<u64> = self
            .down_until
            .iter()
            .filter(|(_, at)| **at <= self.now)
            .map(|(id, _)| *id)
            .collect();
        for id in restarts {
            self.down_until.remove(&id);
            let mut out = Outbox::default();
            self.stores[id as usize - 1].start(self.now, &mut out);
            self.take_outbox(id, out);
        }
        for index in 0..self.stores.len() {
            let mut out = Outbox::default();
            let Cluster {
                stores,
                history,
                random,
                figures,
                founded,
                ..
            } = self;
            let mut probe = |store: &Store, clock: Duration| {
                if random.chance(8) {
                    asking::lease_read(store, clock, history, random, figures, *founded);
                }
            };
            stores[index].turn(self.now, &mut out, &mut probe);
            self.take_outbox(index as u64 + 1, out);
        }
        self.check_leaders();
        self.check_regions();
        self.check_leases();
    }

    fn take_outbox(&mut self, from: u64, out: Outbox) {
        for message in out.messages {
            self.transmit(from, message.to.store.0, Packet::Message(message));
        }
        for (to, heartbeat) in out.heartbeats {
            let packet = Packet::Heartbeat(StoreId(from), to, heartbeat);
            self.transmit(from, to.0, packet);
        }
        for (message, state, data) in out.snapshots {
            self.figures.snapshots += 1;
            let to = message.to.store.0;
            self.transmit(from, to, Packet::Snapshot(message, Box::new(state), data));
        }
        for (waiter, outcome) in out.replies {
            let open = self.open.remove(&(from, waiter));
            let open =
                open.unwrap_or_else(|| panic!("{waiter:?} of store {from} is answered twice"));
            self.take_reply(from, &open, outcome);
        }
    }

    fn take_reply(&mut self, from: u64, open: &Open, outcome: Outcome<Vec<u32>>) {
        if let Outcome::DefinitelyNot(Refusal::Superseded { .. }) = &outcome {
            self.figures.superseded += 1;
        }
        let operation = match open {
            Open::Operation(operation) => *operation,
            Open::Split(child) => {
                if let Outcome::Ok(Answer::Split(parts)) = &outcome {
                    assert!(parts.iter().any(|part| part.id == *child), "{parts:?}");
                    self.figures.splits += 1;
                    self.acked_children.insert(*child);
                }
                return;
            }
            Open::Admin { is_transfer } => {
                if let Outcome::Ok(_) = &outcome {
                    let figures = &mut self.figures;
                    let count = if *is_transfer {
                        &mut figures.transfers
                    } else {
                        &mut figures.changes
                    };
                    *count += 1;
                }
                return;
            }
        };
        let is_append = self.history.operations[operation].append.is_some();
        let ending = match outcome {
            Outcome::Ok(Answer::Applied { reply, .. }) => {
                self.figures.acked += 1;
                Ending::Saw(reply)
            }
            Outcome::Ok(Answer::Read(grant)) => {
                // The snapshot first, then the region: it may have gone since.
                let store = &self.stores[from as usize - 1];
                let seen = store.list(self.history.operations[operation].key.as_bytes());
                let key = self.history.operations[operation].key.as_bytes();
                let region = store.regions.get(&grant.region.id);
                let is_served = region.is_some_and(|(_, state)| {
                    let region = &state.region;
                    region.epoch.version == grant.region.epoch.version && region.contains(key)
                });
                self.figures.reads += usize::from(is_served);
                if is_served {
                    Ending::Saw(seen)
                } else {
                    Ending::DefinitelyNot
                }
            }
            Outcome::Ok(other) => panic!("an append is answered with {other:?}"),
            Outcome::DefinitelyNot(refusal) => {
                let key = self.history.operations[operation].key.as_bytes();
                if let Refusal::EpochNotMatch { regions } = refusal {
                    assert!(!regions.is_empty(), "an outdated request is told what is");
                    let helps = regions.iter().any(|region| region.contains(key));
                    self.figures.outdated += usize::from(helps);
                }
                self.figures.refused += 1;
                Ending::DefinitelyNot
            }
            Outcome::Undetermined(_) => {
                assert!(is_append, "reads are never undetermined");
                self.figures.undetermined += 1;
                Ending::Undetermined
            }
        };
        self.history.end(operation, ending);
    }

    fn transmit(&mut self, from: u64, to: u64, packet: Packet) {
        self.figures.messages += usize::from(matches!(packet, Packet::Message(_)));
        let copies = 1 + u64::from(self.random.chance(self.faults.duplicate));
        let is_cut = self.cut.contains_key(&(from, to)) || self.post.loses(&packet);
        let is_lost = self.random.chance(self.faults.loss) || is_cut;
        let status = |delivered: bool, packet: &Packet| match packet {
            Packet::Snapshot(message, ..) => Some(Event::SnapshotSent {
                group: message.group,
                to: message.to.id,
                delivered,
            }),
            Packet::Message(_) | Packet::Heartbeat(..) => None,
        };
        if let Some(event) = status(!is_lost, &packet) {
            self.stores[from as usize - 1].inbox.push(event);
        }
        if is_lost {
            return;
        }
        for copy in 0..copies {
            let delay = if self.random.chance(self.faults.slow) {
                self.random.between(50, 600)
            } else {
                self.random.between(1, 15)
            };
            self.next_packet += 1;
            if copy > 0 && matches!(packet, Packet::Snapshot(..)) {
                continue;
            }
            let packet = packet.clone();
            self.packets
                .insert((self.now + delay, self.next_packet), packet);
        }
    }

    fn deliver(&mut self) {
        let later = self.packets.split_off(&(self.now + 1, 0));
        for (at, packet) in std::mem::replace(&mut self.packets, later) {
            let (from, to) = packet.way();
            self.trace = Random::new(self.trace ^ at.0 ^ (from << 32) ^ (to << 48)).next();
            if let Some(packet) = self.post.pass(packet) {
                self.hand_over(packet);
            }
        }
    }

    fn hand_over(&mut self, packet: Packet) {
        let (from, to) = packet.way();
        let store = &mut self.stores[to as usize - 1];
        let is_deaf = self.deaf.contains(&(to, packet.group()));
        if !store.is_up() || is_deaf || self.cut.contains_key(&(from, to)) {
            return;
        }
        match packet {
            Packet::Message(message) => store.inbox.push(Event::Message(message)),
            Packet::Heartbeat(from, _, it) => store.hear(from, it, self.now),
            Packet::Snapshot(message, state, data) => {
                store.receive_snapshot(message, *state, data);
            }
        }
    }

    /// Steps until something is so; says after how many simulated milliseconds it was.
    fn until(&mut self, what: &str, mut is_so: impl FnMut(&Cluster) -> bool) -> u64 {
        let from = self.now;
        while !is_so(self) {
            assert!(
                self.now < from + 20_000,
                "it never happens that {what}\n{}",
                self.picture()
            );
            self.step();
        }
        self.now - from
    }

    /// The newest view of a region on any store.
    fn newest(&self, group: GroupId) -> Option<Arc<RegionState>> {
        let views = self
            .stores
            .iter()
            .filter_map(|store| store.regions.get(&group));
        views
            .map(|(_, state)| Arc::clone(state))
            .max_by_key(|state| (state.region.epoch.version, state.region.epoch.conf_ver))
    }

    /// Every group that lives somewhere.
    fn groups(&self) -> BTreeSet<GroupId> {
        let stores = self.stores.iter();
        stores
            .flat_map(|store| store.regions.keys().copied())
            .collect()
    }

    /// All keys that clients use.
    fn keys(&self) -> impl Iterator<Item = String> + use<> {
        let keys = |group| (0..KEYS_PER_GROUP).map(move |key| format!("g{group}k{key}"));
        (1..=self.founded).flat_map(keys)
    }

    /// The group that holds a key, as the newest view of it has it.
    fn group_of(&self, key: &str) -> Option<GroupId> {
        let views = self.stores.iter().flat_map(|store| store.regions.values());
        let holds = views.filter(|(_, state)| state.region.contains(key.as_bytes()));
        holds
            .max_by_key(|(_, state)| (state.region.epoch.version, state.region.epoch.conf_ver))
            .map(|(_, state)| state.region.id)
    }

    fn leader_store(&self, group: GroupId) -> Option<u64> {
        let leads = |store: &&Store| {
            let status = store.shard.as_ref().and_then(|shard| shard.status(group));
            status.is_some_and(|status| !status.damaged && status.raft.role == Role::Leader)
        };
        let leaders = self.stores.iter().filter(leads);
        leaders
            .max_by_key(|store| self.term(store, group))
            .map(|store| store.id.0)
    }

    fn term(&self, store: &Store, group: GroupId) -> u64 {
        let status = store.shard.as_ref().and_then(|shard| shard.status(group));
        status.map_or(0, |status| status.raft.hard_state.term.0)
    }
}
