//! The nodes, their network and their clocks, and what may happen to them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use tinykv_raft::{
    Config, Configuration, JointExit, LogIndex, MessageBody, PeerId, ReadId, Role, SnapshotFailed,
    VoteKind,
};

use super::checks::{Checks, is_majority};
use super::environment::{Clock, Counts, Environment, Random};
use crate::display;
use crate::node::{Node, Packet};

/// A group, its environment, and the history that the checks know.
pub struct World {
    pub(super) random: Random,
    pub(super) nodes: BTreeMap<PeerId, Node>,
    pub(super) clocks: BTreeMap<PeerId, Clock>,
    /// Real time, by which all clocks are wrong.
    pub(super) real: Duration,
    pub(super) network: Vec<Packet>,
    /// Messages that are delayed beyond all timeouts and partitions, and until when.
    pub(super) delayed: BTreeMap<(Duration, u64), Packet>,
    /// Directed links that lose everything.
    pub(super) cut: BTreeSet<(PeerId, PeerId)>,
    /// Removed, dismissed by a leader, and gone for good.
    pub(super) dismissed: BTreeSet<PeerId>,
    /// Where a peer was last named in a proposed change.
    pub(super) named: BTreeMap<PeerId, LogIndex>,
    pub(super) environment: Environment,
    pub(super) is_healed: bool,
    /// Clients ask nothing any more.
    pub(super) is_quiet: bool,
    pub(super) next_command: u64,
    pub(super) checks: Checks,
    pub(super) counts: Counts,
}

impl World {
    pub fn new(seed: u64) -> World {
        let mut random = Random::new(seed);
        let voters = 1 + random.below(5);
        let environment = Environment::draw(&mut random);
        let configuration = Configuration {
            voters: (1..=voters).map(PeerId).collect(),
            ..Configuration::default()
        };
        let mut world = World {
            nodes: BTreeMap::new(),
            clocks: BTreeMap::new(),
            real: Duration::ZERO,
            network: Vec::new(),
            delayed: BTreeMap::new(),
            cut: BTreeSet::new(),
            dismissed: BTreeSet::new(),
            named: BTreeMap::new(),
            environment,
            is_healed: false,
            is_quiet: false,
            next_command: 0,
            checks: Checks::default(),
            counts: Counts::default(),
            random,
        };
        for name in [
            "crash",
            "commit",
            "transfer",
            "change",
            "install",
            "read",
            "lease",
            "partition",
            "joint",
            "leave",
            "sleep",
            "dismissal",
        ] {
            world.counts.events.insert(name, 0);
        }
        for id in (1..=voters + 2).map(PeerId) {
            let is_spare = id.0 > voters;
            let configuration = if is_spare {
                Configuration::default()
            } else {
                configuration.clone()
            };
            world.add_node(id, configuration);
        }
        world
    }

    pub(super) fn add_node(&mut self, id: PeerId, configuration: Configuration) {
        let config = self.config(id);
        let clock = Clock {
            percent: u32::try_from(80 + self.random.below(41)).expect("small"),
            offset: Duration::from_millis(self.random.below(10_000)),
            next_tick: Duration::ZERO,
        };
        let mut node = Node::new(config, configuration);
        node.start(clock.at(self.real), usize::MAX);
        self.clocks.insert(id, clock);
        self.nodes.insert(id, node);
    }

    pub(super) fn config(&mut self, id: PeerId) -> Config {
        let mut config = Config::new(id, self.random.next());
        // Leaders that stay on long without a quorum, beside peers that campaign soon.
        config.election_ticks_min = self.random.pick(&[6, 10, 30]);
        config.election_ticks_max = 2 * config.election_ticks_min;
        config.append_bytes_max = 100;
        config.in_flight_bytes_max = self.random.pick(&[100, 400, 4000]);
        config.in_flight_messages_max = self.random.pick(&[1, 3, 100]);
        config.uncommitted_bytes_max = 2000;
        config.memory_bytes_max = self.random.pick(&[0, 200, 2000]);
        config.joint_exit = self
            .random
            .pick(&[JointExit::Automatic, JointExit::ByDriver]);
        config
    }

    pub fn into_counts(self) -> Counts {
        self.counts
    }

    pub(super) fn now(&self, id: PeerId) -> Duration {
        self.clocks[&id].at(self.real)
    }

    /// One event, and every check.
    pub fn step(&mut self) {
        self.real += Duration::from_micros(self.random.below(self.environment.pace));
        self.tick_clocks();
        self.deliver_delayed();
        let Environment {
            faults,
            membership,
            persist,
            apply,
            ..
        } = self.environment;
        let is_calm = self.is_healed;
        let up: Vec<PeerId> = self
            .nodes
            .iter()
            .filter(|(_, node)| node.raft.is_some())
            .map(|(id, _)| *id)
            .collect();
        let roll = self.random.below(1000);
        if is_calm {
            for id in &up {
                self.serve(*id);
                let raft = self.nodes.get_mut(id).expect("up").raft();
                if raft.role() == Role::Leader && raft.configuration().is_joint() {
                    self.propose_change(*id, Vec::new());
                }
            }
        }
        if !is_calm && roll < faults {
            self.fault();
        } else if let Some(id) = self.random.one_of(&up) {
            let choice = self.random.below(1000);
            let leader = self.leader().unwrap_or(id);
            match choice {
                0..35 => self.serve(id),
                35..60 if !self.is_quiet => self.propose(leader),
                60..70 if !self.is_quiet => self.read(leader),
                70..74 if !is_calm => self.disturb(id),
                74..77 if !is_calm => self.disturb(leader),
                77..80 => self.dismiss(leader),
                80.. if !is_calm && choice < 80 + membership => self.change(leader),
                100..300 => self.drain(id),
                300.. if choice < 300 + persist => self.persist(id),
                600.. if choice < 600 + apply => self.apply(id),
                _ => {
                    // The more is on its way, the more arrives: a latency, not a queue.
                    for _ in 0..=self.network.len() / 10 {
                        self.deliver();
                    }
                }
            }
        }
        self.check();
    }

    /// One of those who believe to lead.
    pub(super) fn leader(&mut self) -> Option<PeerId> {
        let leads = |node: &&Node| {
            let raft = node.raft.as_ref();
            raft.is_some_and(|raft| raft.role() == Role::Leader)
        };
        let leaders: Vec<PeerId> = self
            .nodes
            .values()
            .filter(leads)
            .map(|node| node.id)
            .collect();
        self.random.one_of(&leaders)
    }

    fn tick_clocks(&mut self) {
        for (id, clock) in &mut self.clocks {
            let now = clock.at(self.real);
            let raft = self.nodes.get_mut(id).and_then(|node| node.raft.as_mut());
            if now >= clock.next_tick {
                clock.next_tick = now + Duration::from_millis(50);
                if let Some(raft) = raft {
                    raft.tick(now);
                }
            }
        }
    }

    pub(super) fn count(&mut self, name: &'static str) {
        *self.counts.events.entry(name).or_default() += 1;
    }

    fn propose(&mut self, id: PeerId) {
        self.next_command += 1;
        let command = Bytes::from(format!("command {}", self.next_command));
        let raft = self.nodes.get_mut(&id).expect("up").raft();
        // A refusal is an outcome like any other.
        let _ = raft.propose(command);
    }

    fn read(&mut self, id: PeerId) {
        self.next_command += 1;
        let read = ReadId(self.next_command);
        let now = self.now(id);
        if self
            .nodes
            .get_mut(&id)
            .expect("up")
            .raft()
            .read_index(read, now)
            .is_ok()
        {
            self.checks.read_arrived(read);
        }
    }

    /// Fetches and snapshots.
    fn serve(&mut self, id: PeerId) {
        let is_failing = !self.is_healed && self.random.below(5) == 0;
        let is_served = self.is_healed || self.random.below(2) == 0;
        let node = self.nodes.get_mut(&id).expect("up");
        if is_served && !node.fetches.is_empty() {
            let fetch = node.fetches.remove(0);
            node.provide(fetch);
        } else if let Some(request) = node.snapshots.pop() {
            let is_ready = node.machine.applied.index >= request.at_least.index
                && node.raft().term() == request.term;
            if is_failing || !is_ready {
                node.raft()
                    .on_snapshot_status(request.to, Err(SnapshotFailed));
            } else {
                let packet = node.snapshot(request);
                let last = node.machine.applied;
                node.raft().on_snapshot_status(request.to, Ok(last));
                self.network.push(packet);
            }
        }
    }

    fn drain(&mut self, id: PeerId) {
        let now = self.now(id);
        let node = self.nodes.get_mut(&id).expect("up");
        let Some(ready) = node.ready(now) else { return };
        self.checks.ready(node, &ready);
        for line in display::ready(id, &ready) {
            self.counts.record(&line);
        }
        for read in &ready.reads {
            self.checks.read_confirmed(*read);
            self.count("read");
        }
        for message in ready.send {
            self.send(Packet::from(message));
        }
    }

    /// A voter is most likely to crash right after its vote has left: whatever it has forgotten
    /// then shows when a request of the same term comes late.
    fn send(&mut self, packet: Packet) {
        self.checks.sent(&packet.message);
        let is_vote = matches!(
            &packet.message.body,
            MessageBody::VoteReply(reply) if reply.kind == VoteKind::Vote && reply.refusal.is_none()
        );
        let voter = packet.message.from;
        self.network.push(packet);
        if is_vote && !self.is_healed && self.random.below(100) < self.environment.faults {
            self.crash(voter);
        }
    }

    fn persist(&mut self, id: PeerId) {
        let node = self.nodes.get_mut(&id).expect("up");
        if node.notice().is_some() {
            return;
        }
        let applied = node.machine.applied;
        let Some(write) = node.sync() else { return };
        // The messages that waited for the disk may be answered before the peer hears of it.
        if write.install.is_some() || self.random.below(2) == 0 {
            node.notice();
        } else {
            self.count("late_notice");
        }
        if let Some((metadata, _)) = &write.install {
            assert!(
                metadata.last.index > applied.index,
                "R9: {metadata:?} after {applied}"
            );
            self.count("install");
        }
        self.checks.disk(&self.nodes[&id]);
        for message in write.messages {
            self.send(Packet::from(message));
        }
    }

    fn apply(&mut self, id: PeerId) {
        let node = self.nodes.get_mut(&id).expect("up");
        let was_joint = node.raft().configuration().is_joint();
        if let Some(entry) = node.apply() {
            let is_joint = node.raft().configuration().is_joint();
            let role = node.raft().role();
            self.checks.applied(&entry, node.machine.digest, role);
            if role == Role::Leader {
                self.count("commit");
            }
            if is_joint && !was_joint {
                self.count("joint");
            }
        }
    }

    fn deliver(&mut self) {
        let Environment {
            loss,
            duplication,
            reordering,
            delay,
            ..
        } = self.environment;
        if self.network.is_empty() {
            return;
        }
        let length = u64::try_from(self.network.len()).expect("small");
        let is_any = !self.is_healed && self.random.below(1000) < reordering;
        let position = if is_any { self.random.below(length) } else { 0 };
        let position = usize::try_from(position).expect("small");
        let packet = if !self.is_healed && self.random.below(1000) < duplication {
            self.network[position].clone()
        } else {
            self.network.remove(position)
        };
        let is_request = matches!(
            &packet.message.body,
            MessageBody::VoteRequest(request) if request.kind == VoteKind::Vote
        );
        let delay = if is_request {
            (10 * delay).min(300)
        } else {
            delay
        };
        if !self.is_healed && self.random.below(1000) < delay {
            let until = self.real + Duration::from_millis(self.random.below(1500));
            self.next_command += 1;
            self.delayed.insert((until, self.next_command), packet);
            return;
        }
        let (from, to) = (packet.message.from, packet.message.to);
        let is_lost = !self.is_healed && self.random.below(1000) < loss;
        if !is_lost && !self.cut.contains(&(from, to)) {
            self.arrive(packet);
        }
    }

    /// What was delayed arrives, one at a time.
    fn deliver_delayed(&mut self) {
        if let Some(first) = self.delayed.first_entry()
            && first.key().0 <= self.real
        {
            let packet = first.remove();
            self.arrive(packet);
        }
    }

    fn arrive(&mut self, packet: Packet) {
        let to = packet.message.to;
        let now = self.now(to);
        let Some(node) = self.nodes.get_mut(&to).filter(|node| node.raft.is_some()) else {
            return;
        };
        let is_snapshot = matches!(packet.message.body, MessageBody::Snapshot(_));
        let text = display::message(&packet.message);
        self.counts.record(&text);
        let is_forced = match &packet.message.body {
            MessageBody::VoteRequest(request) => request.force.is_some(),
            _ => true,
        };
        let before = node.raft().status();
        if let Err(error) = node.deliver(packet, now) {
            panic!("{text}: {error}");
        }
        if !is_forced && before.promised_until > now {
            let (old, new) = (before.hard_state, node.raft().status().hard_state);
            assert_eq!(
                old, new,
                "C2: a voter that is bound takes part in an election"
            );
        }
        if is_snapshot {
            // The next Ready says whether its data is wanted.
            self.drain(to);
        }
        self.checks.commits(&mut self.nodes);
    }

    fn check(&mut self) {
        let mut leases = 0;
        let ids: Vec<PeerId> = self.nodes.keys().copied().collect();
        for id in ids {
            let now = self.now(id);
            let node = self.nodes.get_mut(&id).expect("named");
            if self.checks.node(node, now) {
                leases += 1;
                self.check_bound(id);
            }
        }
        assert!(leases <= 1, "two peers hold a lease at once");
        *self.counts.events.entry("lease").or_default() += leases;
        self.checks.commits(&mut self.nodes);
    }

    /// C2: a lease never outlives the promises it rests on. Who is down keeps its promise when it
    /// comes back.
    fn check_bound(&self, leader: PeerId) {
        let is_bound = |id: PeerId| match &self.nodes[&id].raft {
            Some(raft) if id != leader => raft.status().promised_until > self.now(id),
            _ => true,
        };
        let raft = self.nodes[&leader].raft.as_ref().expect("it leads");
        assert!(
            is_majority(raft.configuration(), is_bound),
            "C2: {leader} has a lease that no majority is bound by"
        );
    }

    /// All faults end; the group must work again soon, and all its peers become equal.
    pub fn heal_and_converge(&mut self) {
        self.is_healed = true;
        self.cut.clear();
        self.environment.persist = 300;
        self.environment.apply = 300;
        self.environment.pace = 4_000;
        let all: Vec<PeerId> = self.nodes.keys().copied().collect();
        for id in &all {
            self.restart(*id);
            let now = self.now(*id);
            if let Some(raft) = &mut self.nodes.get_mut(id).expect("named").raft {
                raft.wake(now);
            }
        }
        let goal = self.checks.committed_last() + 5;
        let deadline = self.real + Duration::from_secs(600);
        while self.real < deadline {
            self.step();
            self.is_quiet = self.checks.committed_last() >= goal;
            if self.is_quiet && self.is_converged() {
                return;
            }
        }
        let rafts = self.nodes.values().filter_map(|node| node.raft.as_ref());
        let states: Vec<_> = rafts
            .flat_map(|raft| {
                let members = display::configuration(raft.configuration());
                let mut lines = display::status(&raft.status());
                lines.push(format!("  {members}"));
                lines
            })
            .collect();
        let queue = self.network.len();
        panic!(
            "R11: stuck after healing, {queue} messages under way:\n{}",
            states.join("\n")
        );
    }

    fn is_converged(&mut self) -> bool {
        let rafts = self.nodes.values().filter_map(|node| node.raft.as_ref());
        let Some(leader) = rafts
            .map(|raft| raft.status())
            .filter(|status| status.role == Role::Leader)
            .max_by_key(|it| it.hard_state.term)
        else {
            return false;
        };
        let members = leader.configuration;
        let mut nodes = self.nodes.values().filter(|node| members.contains(node.id));
        !members.is_joint()
            && leader.applied == leader.last.index
            && nodes.all(|node| node.machine.applied == leader.last)
    }
}
