//! What a store tells placement and what it is told, by the rules of `store/server`'s reporting,
//! only more often.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use tinykv_placement::schedule::{Change, Order};
use tinykv_placement::view::{RegionReport, RegionStats, StoreStats};
use tinykv_raft::{GroupId, PeerId, Role};
use tinykv_replica::{
    AdminAction, AdminCommand, AdminRequest, Answer as Granted, Event, GroupStatus,
    Outcome as Decided, PeerChange, PeerRole, Region, SplitIds, StoreId, WaiterId,
};
use tinykv_store::command::Reply as Applied;

use super::super::happening::{Asker, Context};
use super::super::host::Work;
use super::super::placement::{Question, Reply};
use super::Store;

/// How often it is looked which reports are due.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// Time between heartbeats of a store.
const STORE_INTERVAL: Duration = Duration::from_millis(400);
/// Time between heartbeats of a region at rest, and while something is under way.
const INTERVAL_AT_REST: Duration = Duration::from_millis(1_500);
const INTERVAL_UNDER_WAY: Duration = Duration::from_millis(150);
/// A member that says nothing for so long is not asked any more.
const SILENCE_MAX: Duration = Duration::from_millis(1_000);
/// A peer that is silent for longer is reported as down.
const DOWN_AFTER: Duration = Duration::from_secs(1);
/// Time a leader has to carry out an order.
const ORDER_TIME_MAX: Duration = Duration::from_secs(2);
/// How long a peer has no leader before placement is asked about it.
const LEADERLESS_FOR: Duration = Duration::from_secs(3);

/// The connection of a store to placement.
#[derive(Debug, Default)]
pub(super) struct Link {
    /// The members of the placement group; none: there is no placement.
    members: Vec<StoreId>,
    /// Which of them is believed to lead.
    believed: usize,
    /// When it last said anything.
    heard_at: Duration,
    store_due: Duration,
    /// When each region led here is to be reported next.
    due: BTreeMap<GroupId, Duration>,
    /// Orders under way, and whose they are.
    orders: BTreeMap<WaiterId, GroupId>,
    wanted_replicas: Option<u32>,
    /// Since which id peers are new, if that is known.
    new_peers_from: Option<PeerId>,
    leaderless: BTreeMap<(GroupId, PeerId), Duration>,
}

impl Link {
    pub(super) fn new(members: Vec<StoreId>) -> Link {
        Link {
            members,
            ..Link::default()
        }
    }

    /// The process starts anew: what it knew of placement is gone.
    pub(super) fn restart(&mut self, now: Duration) {
        *self = Link::new(std::mem::take(&mut self.members));
        self.heard_at = now;
    }

    fn turn_to(&mut self, leader: Option<StoreId>, now: Duration) {
        let named = self.members.iter().position(|id| Some(*id) == leader);
        self.believed = named.unwrap_or((self.believed + 1) % self.members.len().max(1));
        self.heard_at = now;
        self.store_due = now;
        for due in self.due.values_mut() {
            *due = now;
        }
    }
}

impl Store {
    fn ask(&mut self, context: &mut Context, question: Question) {
        if let Some(member) = self.link.members.get(self.link.believed) {
            let (id, life) = (self.host.id, self.host.life);
            context.ask(Asker::Store { id, life }, *member, question);
        }
    }

    /// Sends what is due.
    pub(super) fn report(&mut self, context: &mut Context) {
        let interval = self.host.clock.true_time(LOOK_INTERVAL);
        let (id, life) = (self.host.id, self.host.life);
        let now = self.host.local(context);
        let Some(running) = &mut self.host.running else {
            return;
        };
        for group in std::mem::take(&mut running.news) {
            self.link.due.insert(group, Duration::ZERO);
        }
        if self.link.members.is_empty() {
            return;
        }
        context.after(interval, id, life, Work::Report);
        if now.saturating_sub(self.link.heard_at) > SILENCE_MAX {
            self.link.turn_to(None, now);
        }
        if self.link.store_due <= now {
            self.link.store_due = now + STORE_INTERVAL;
            let damaged_regions = self.host.damaged();
            let stats = StoreStats {
                damaged_regions,
                capacity_bytes: 1 << 40,
                available_bytes: 1 << 40,
                ..StoreStats::default()
            };
            self.ask(context, Question::StoreHeartbeat { stats });
            if self.wants_new_peers() {
                self.ask(context, Question::FreshId);
            }
        }
        let due = self.link.due.iter().filter(|(_, at)| **at <= now);
        let due: Vec<GroupId> = due.map(|(group, _)| *group).collect();
        for group in due {
            self.report_region(context, group, now);
        }
        self.look_for_orphans(context, now);
    }

    fn report_region(&mut self, context: &mut Context, group: GroupId, now: Duration) {
        let status = self
            .host
            .running
            .as_ref()
            .and_then(|running| running.shard.status(group));
        let led = status.filter(|status| status.raft.role == Role::Leader);
        let report = led.as_ref().and_then(report_of);
        let (Some(status), Some(report)) = (led, report) else {
            self.link.due.remove(&group);
            return;
        };
        let state = status.state.as_ref();
        let open = state.is_some_and(|state| state.open);
        let is_voter = |role: PeerRole| role == PeerRole::Voter;
        let peers = &report.region.peers;
        let voters = peers.iter().filter(|peer| is_voter(peer.role)).count();
        let settled = open && voters == peers.len() && report.pending.is_empty();
        let interval = match settled && self.link.orders.is_empty() {
            true => INTERVAL_AT_REST,
            false => INTERVAL_UNDER_WAY,
        };
        self.link.due.insert(group, now + interval);
        let epoch = report.region.epoch;
        let report = Box::new(report);
        self.ask(context, Question::RegionHeartbeat { report });
        let wanted = self.link.wanted_replicas;
        if !open && wanted.is_some_and(|wanted| voters >= wanted as usize) {
            let command = AdminCommand::Open;
            self.admin(context, group, AdminAction::Command { epoch, command });
        }
    }

    /// Peers that nobody told that they were removed ask placement.
    fn look_for_orphans(&mut self, context: &mut Context, now: Duration) {
        let Some(running) = &self.host.running else {
            return;
        };
        let mut leaderless = BTreeMap::new();
        for group in running.shard.groups() {
            let status = running.shard.status(group);
            if let Some(status) = status.filter(|status| status.raft.leader.is_none()) {
                let peer = (group, status.peer.id);
                let since = self.link.leaderless.get(&peer).copied();
                leaderless.insert(peer, since.unwrap_or(now));
            }
        }
        let mut asked = Vec::new();
        for ((group, _), since) in &mut leaderless {
            if now >= *since + LEADERLESS_FOR {
                // Asked again when as much time has passed.
                *since = now;
                asked.push(*group);
            }
        }
        self.link.leaderless = leaderless;
        for group in asked {
            self.ask(context, Question::Region { group });
        }
    }

    /// Placement says something.
    pub(in crate::sim) fn on_told(&mut self, context: &mut Context, by: StoreId, reply: Reply) {
        let now = self.host.local(context);
        if self.link.members.get(self.link.believed) == Some(&by) {
            self.link.heard_at = now;
        }
        match reply {
            Reply::NotLeader { leader, .. } => {
                if self.link.members.get(self.link.believed) == Some(&by) {
                    self.link.turn_to(leader, now);
                }
            }
            Reply::Heard { wanted_replicas } => self.link.wanted_replicas = Some(wanted_replicas),
            Reply::Order(order) => self.obey(context, order),
            Reply::FreshId(id) => self.on_new_peers(context, PeerId(id)),
            Reply::SplitIds { region, keys, ids } => self.split(context, &region, keys, &ids),
            Reply::Region(Some(region)) => self.on_orphan(context, &region),
            Reply::Region(None)
            | Reply::Located { .. }
            | Reply::Timestamps { .. }
            | Reply::Command(_) => {}
        }
    }

    /// Whether damage may have taken peers out of the log, and nobody has said which ones are new.
    pub(in crate::sim) fn wants_new_peers(&self) -> bool {
        let is_unsure = self.link.new_peers_from.is_none() && self.host.config.log_was_damaged;
        is_unsure && self.host.running.is_some()
    }

    pub(in crate::sim) fn on_new_peers(&mut self, context: &mut Context, first: PeerId) {
        if self.wants_new_peers() {
            context.report.probe("new_peers_told_by_their_ids");
            self.link.new_peers_from = Some(first);
            self.host.post(context, Event::NewPeersFrom(first));
        }
    }

    /// A process of the placement group is gone.
    pub(in crate::sim) fn on_member_gone(&mut self, context: &mut Context, member: StoreId) {
        let now = self.host.local(context);
        if self.link.members.get(self.link.believed) == Some(&member) {
            self.link.turn_to(None, now);
        }
    }

    fn obey(&mut self, context: &mut Context, order: Order) {
        let Some(region) = self.published(order.region).cloned() else {
            return;
        };
        let epoch = order.epoch;
        if region.epoch != epoch {
            context.report.probe("outdated_order_ignored");
            return;
        }
        let change = |change| AdminAction::ChangePeers {
            epoch,
            changes: vec![change],
        };
        let action = match order.change {
            Change::AddLearner(peer) => change(PeerChange::AddLearner(peer)),
            Change::Promote(peer) => change(PeerChange::Promote(peer.id)),
            Change::Remove(peer) => change(PeerChange::Remove(peer.id)),
            Change::Joint { promote, remove } => {
                context.report.probe("joint_order");
                let promoted = promote.iter().map(|peer| PeerChange::Promote(peer.id));
                let removed = remove.iter().map(|peer| PeerChange::Remove(peer.id));
                let changes = promoted.chain(removed).collect();
                AdminAction::ChangePeers { epoch, changes }
            }
            Change::TransferLeader(peer) => AdminAction::TransferLeader { to: Some(peer.id) },
            Change::Split(keys) => {
                let keys = match keys.is_empty() {
                    true => self.middle(&region).into_iter().collect(),
                    false => keys,
                };
                self.wish_split(context, region, keys);
                return;
            }
        };
        self.admin(context, order.region, action);
    }

    /// The key in the middle of what the region holds.
    fn middle(&self, region: &Region) -> Option<Bytes> {
        let content = self.host.content(region.id)?;
        let (key, _) = content.pairs.get(content.pairs.len() / 2)?;
        let key = key.slice(1..);
        (region.contains(&key) && key != region.start).then_some(key)
    }

    /// Asks for ids first.
    pub(in crate::sim) fn wish_split(
        &mut self,
        context: &mut Context,
        region: Region,
        keys: Vec<Bytes>,
    ) {
        if !keys.is_empty() {
            self.ask(context, Question::SplitIds { region, keys });
        }
    }

    fn split(&mut self, context: &mut Context, region: &Region, keys: Vec<Bytes>, ids: &[u64]) {
        let children = ids.chunks(1 + region.peers.len());
        let ids: Vec<SplitIds> = children
            .map(|ids| SplitIds {
                region: GroupId(ids[0]),
                peers: ids[1..].iter().map(|id| PeerId(*id)).collect(),
            })
            .collect();
        for child in &ids {
            context.invariants.on_child(region.id, child.region);
        }
        let epoch = region.epoch;
        self.admin(context, region.id, AdminAction::Split { epoch, keys, ids });
    }

    pub(in crate::sim) fn admin(
        &mut self,
        context: &mut Context,
        group: GroupId,
        action: AdminAction,
    ) {
        let Some(waiter) = self.host.waiter() else {
            return;
        };
        self.link.orders.insert(waiter, group);
        let request = AdminRequest {
            group,
            action,
            deadline: self.host.local(context) + ORDER_TIME_MAX,
            waiter: Some(waiter),
        };
        self.host.post(context, Event::Admin(request));
    }

    /// Whether the answer was for an order; then placement hears of it.
    pub(super) fn on_order_done(
        &mut self,
        context: &mut Context,
        waiter: WaiterId,
        outcome: &Decided<Applied>,
    ) -> bool {
        let Some(group) = self.link.orders.remove(&waiter) else {
            return false;
        };
        context.detail(format_args!("order for group {group}: {outcome:?}"));
        self.link.due.insert(group, Duration::ZERO);
        if let Decided::Ok(Granted::Split(parts)) = outcome {
            context.report.probe("split_answered");
            let parts: Vec<Region> = parts.iter().map(|part| Region::clone(part)).collect();
            for part in &parts {
                self.link.due.insert(part.id, Duration::ZERO);
            }
            if !self.link.members.is_empty() {
                self.ask(context, Question::Split { parts });
            }
        }
        true
    }

    /// A peer without a leader is destroyed if its region went on without it.
    fn on_orphan(&mut self, context: &mut Context, known: &Region) {
        let running = self.host.running.as_ref();
        let Some(status) = running.and_then(|running| running.shard.status(known.id)) else {
            return;
        };
        let seen = status.epoch.conf_ver;
        let peer = status.peer.id;
        let is_member = known.peer(peer).is_some();
        if status.raft.leader.is_none() && known.epoch.conf_ver > seen && !is_member {
            context.report.probe("orphan_destroyed");
            let group = known.id;
            self.host.post(context, Event::Destroy { group, peer });
        }
    }
}

/// What a leader tells about its region; `None` if it is no member of it any more.
fn report_of(status: &GroupStatus) -> Option<RegionReport> {
    let region = &status.state.as_ref()?.region;
    let down = status.silent.iter();
    Some(RegionReport {
        region: region.clone(),
        leader: region.peer(status.peer.id)?,
        term: status.raft.hard_state.term,
        pending: status.pending_peers.iter().copied().collect(),
        down: down
            .filter(|(_, silent)| *silent >= DOWN_AFTER)
            .copied()
            .collect(),
        stats: RegionStats::default(),
    })
}
