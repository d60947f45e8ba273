//! What may happen to the nodes, and what operators do to them.

use bytes::Bytes;
use tinykv_raft::{Configuration, MembershipChange, MembershipStep, PeerId, Willingness};

use super::world::World;

impl World {
    /// Crashes, restarts, partitions.
    pub(super) fn fault(&mut self) {
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

    pub(super) fn restart(&mut self, id: PeerId) {
        let now = self.now(id);
        let tail = self.random.pick(&[0, 2, 1000]);
        let node = self.nodes.get_mut(&id).expect("named");
        if node.raft.is_none() && !self.dismissed.contains(&id) {
            node.start(now, usize::try_from(tail).expect("small"));
        }
    }

    /// What a driver or an operator may do at any time.
    pub(super) fn disturb(&mut self, id: PeerId) {
        let now = self.now(id);
        let all: Vec<PeerId> = self.nodes.keys().copied().collect();
        let other = self.random.one_of(&all).expect("there are nodes");
        let choice = self.random.below(12);
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
            7 => node.raft().wake(now),
            8 => self.sleep(),
            _ => {
                node.flush();
                let upto = node.machine.applied.index;
                node.compact(upto);
            }
        }
    }

    /// Everybody who has nothing to do sleeps, whatever the others do.
    pub(super) fn sleep(&mut self) {
        let rafts = self.nodes.values_mut().filter_map(|it| it.raft.as_mut());
        let count = rafts.map(|raft| u64::from(raft.hibernate())).sum::<u64>();
        *self.counts.events.entry("sleep").or_default() += count;
    }

    /// Everybody campaigns at once.
    pub(super) fn storm(&mut self) {
        for (id, node) in &mut self.nodes {
            let now = self.clocks[id].at(self.real);
            if let Some(raft) = &mut node.raft {
                raft.campaign(now);
            }
        }
    }

    pub(super) fn change(&mut self, id: PeerId) {
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

    pub(super) fn propose_change(&mut self, id: PeerId, steps: Vec<MembershipStep>) {
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
    pub(super) fn dismiss(&mut self, leader: PeerId) {
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

    pub(super) fn crash(&mut self, id: PeerId) {
        let kept = usize::try_from(self.random.below(4)).expect("small");
        let node = self.nodes.get_mut(&id).expect("named");
        if node.raft.is_some() {
            self.checks.forget(id);
            node.crash(kept);
            self.checks.disk(node);
            self.count("crash");
        }
    }
}
