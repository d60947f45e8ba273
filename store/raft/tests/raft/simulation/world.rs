//! The nodes, their network and their clocks, and what may happen to them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use tinykv_raft::{
    Config, Configuration, JointExit, LogIndex, MembershipChange, MembershipStep, MessageBody,
    PeerId, ReadId, Role, SnapshotFailed, VoteKind, Willingness,
};

use super::checks::{Checks, is_majority};
use super::environment::{Clock, Counts, Environment, Random};
use crate::display;
use crate::node::{Node, Packet};

/// A group, its environment, and the history that the checks know.
pub struct World {
    random: Random,
    nodes: BTreeMap<PeerId, Node>,
    clocks: BTreeMap<PeerId, Clock>,
    /// Real time, by which all clocks are wrong.
    real: Duration,
    network: Vec<Packet>,
    /// Messages that are delayed beyond all timeouts and partitions, and until when.
    delayed: BTreeMap<(Duration, u64), Packet>,
    /// Directed links that lose everything.
    cut: BTreeSet<(PeerId, PeerId)>,
    /// Removed, dismissed by a leader, and gone for good.
    dismissed: BTreeSet<PeerId>,
    /// Where a peer was last named in a proposed change.
    named: BTreeMap<PeerId, LogIndex>,
    environment: Environment,
    is_healed: bool,
    /// Clients ask nothing any more.
    is_quiet: bool,
    next_command: u64,
    checks: Checks,
    counts: Counts,
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

    fn add_node(&mut self, id: PeerId, configuration: Configuration) {
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

    fn config(&mut self, id: PeerId) -> Config {
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

    fn now(&self, id: PeerId) -> Duration {
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
    fn leader(&mut self) -> Option<PeerId> {
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

    fn count(&mut self, name: &'static str) {
        *self.counts.events.entry(name).or_default() += 1;
    }

    /// Crashes, restarts, partitions.
    fn fault(&mut self) {
        let all: Vec<PeerId> = self.nodes.keys().copied().collect();
        let id = self.random.one_of(&all).expect("there are nodes");
        match self.random.below(10) {
            0..3 => {
                // Best while something is being written.
                let is_writing = |id: &PeerId| !self.nodes[id].writes.is_empty();
                let writing: Vec<PeerId> = all.iter().copied().filter(is_writing).collect();
                let id = self.random.one_of(&writing).unwrap_or(id);
                self.crash(id);
                if self.random.below(2) == 0 {
                    self.restart(id);
                }
            }
            3..6 => all.into_iter().for_each(|id| self.restart(id)),
            6..8 => {
                // A node alone, deaf or mute; or two that do not hear each other. Best a leader.
                let id = match self.leader() {
                    Some(leader) if self.random.below(2) == 0 => leader,
                    _ => id,
                };
                let kind = self.random.below(4);
                let only = self.random.one_of(&all).filter(|_| kind == 0);
                for other in all {
                    if only.is_none_or(|only| only == other) {
                        if kind != 1 {
                            self.cut.insert((id, other));
                        }
                        if kind != 2 {
                            self.cut.insert((other, id));
                        }
                    }
                }
                self.count("partition");
            }
            _ => self.cut.clear(),
        }
    }

    fn restart(&mut self, id: PeerId) {
        let now = self.now(id);
        let tail = self.random.pick(&[0, 2, 1000]);
        let node = self.nodes.get_mut(&id).expect("named");
        if node.raft.is_none() && !self.dismissed.contains(&id) {
            node.start(now, usize::try_from(tail).expect("small"));
        }
    }

    /// What a driver or an operator may do at any time.
    fn disturb(&mut self, id: PeerId) {
        let now = self.now(id);
        let all: Vec<PeerId> = self.nodes.keys().copied().collect();
        let other = self.random.one_of(&all).expect("there are nodes");
        let choice = self.random.below(10);
        let willingness = self
            .random
            .pick(&[Willingness::Willing, Willingness::Reluctant]);
        let node = self.nodes.get_mut(&id).expect("up");
        match choice {
            0 => node.raft().campaign(now),
            6 => self.storm(),
            1..3 => {
                if node.raft().transfer_leader(other, now).is_ok() {
                    self.count("transfer");
                }
            }
            3 => {
                let target = node.raft().transferring();
                node.raft().on_unreachable(target.unwrap_or(other));
            }
            4 => node.raft().forget_leader(),
            5 => node.raft().set_willingness(willingness),
            _ => {
                node.flush();
                let upto = node.machine.applied.index;
                node.compact(upto);
            }
        }
    }

    /// Everybody campaigns at once.
    fn storm(&mut self) {
        for (id, node) in &mut self.nodes {
            let now = self.clocks[id].at(self.real);
            if let Some(raft) = &mut node.raft {
                raft.campaign(now);
            }
        }
    }

    fn change(&mut self, id: PeerId) {
        let is_there = |id: &PeerId| !self.dismissed.contains(id);
        let mut all: Vec<PeerId> = self.nodes.keys().copied().filter(is_there).collect();
        let raft = self.nodes.get_mut(&id).expect("up").raft();
        let counts: &[u32] = match raft.configuration().is_joint() {
            true => &[0],
            false => &[0, 1, 1, 1, 2, 2, 3, 4],
        };
        let mut steps = Vec::new();
        for _ in 0..self.random.pick(counts) {
            let Some(peer) = self.random.one_of(&all) else {
                break;
            };
            all.retain(|other| *other != peer);
            // A newcomer is best a learner first, or the group waits for its snapshot.
            let is_new = self.nodes[&peer].machine.configuration.voters.is_empty();
            steps.push(match self.random.below(4) {
                0 => MembershipStep::AddVoter(peer),
                1 if !is_new => MembershipStep::AddVoter(peer),
                1 | 2 => MembershipStep::AddLearner(peer),
                _ => MembershipStep::Remove(peer),
            });
        }
        self.propose_change(id, steps);
    }

    fn propose_change(&mut self, id: PeerId, steps: Vec<MembershipStep>) {
        let peers: Vec<PeerId> = steps.iter().map(MembershipStep::peer).collect();
        let change = MembershipChange {
            steps,
            context: Bytes::new(),
        };
        let node = self.nodes.get_mut(&id).expect("up");
        if let Ok(entry) = node.raft().propose_membership(change) {
            self.checks.change(node);
            self.count(if peers.is_empty() { "leave" } else { "change" });
            for peer in peers {
                let named = self.named.entry(peer).or_default();
                *named = entry.index.max(*named);
            }
        }
    }

    /// A leader dismisses a removed peer, which is gone for good; a new one may take its place. Not
    /// while a change is under way that may bring it back: ids are never reused.
    fn dismiss(&mut self, leader: PeerId) {
        const DISMISSALS_MAX: usize = 4;
        let raft = self.nodes.get_mut(&leader).expect("up").raft();
        if !raft.may_dismiss() || self.dismissed.len() >= DISMISSALS_MAX {
            return;
        }
        let (commit, configuration) = (raft.applied(), raft.configuration().clone());
        let is_removed = |id: &PeerId| {
            let named = self.named.get(id);
            !configuration.contains(*id)
                && !self.dismissed.contains(id)
                && named.is_some_and(|named| *named <= commit)
        };
        let removed: Vec<PeerId> = self.nodes.keys().copied().filter(is_removed).collect();
        if let Some(id) = self.random.one_of(&removed) {
            self.crash(id);
            self.dismissed.insert(id);
            self.count("dismissal");
            if !self.is_healed && self.random.below(2) == 0 {
                // What nobody has on disk, nobody knows now.
                let all: Vec<PeerId> = self.nodes.keys().copied().collect();
                all.into_iter().for_each(|id| self.crash(id));
            }
            let next = self.nodes.keys().next_back().map_or(0, |last| last.0) + 1;
            self.add_node(PeerId(next), Configuration::default());
        }
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

    fn crash(&mut self, id: PeerId) {
        let kept = usize::try_from(self.random.below(4)).expect("small");
        let node = self.nodes.get_mut(&id).expect("named");
        if node.raft.is_some() {
            self.checks.forget(id);
            node.crash(kept);
            self.checks.disk(node);
            self.count("crash");
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
        all.iter().for_each(|id| self.restart(*id));
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
