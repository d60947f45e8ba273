//! What a store tells placement and what it is told, by the rules of `store/server`'s reporting,
//! only more often.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use tinykv_keys as keys;
use tinykv_proto::{metapb, pdpb};
use tinykv_raft::{GroupId, PeerId, Role};
use tinykv_replica::{
    AdminAction, AdminCommand, AdminRequest, Answer as Granted, Event, Outcome as Decided,
    PeerRole, Region, RegionEpoch, SplitIds, StoreId, WaiterId,
};
use tinykv_store::command::Reply as Applied;
use tinykv_store::reporting::order::{Order, Task, order};
use tinykv_store::reporting::orphans::is_orphan;
use tinykv_store::reporting::regions::heartbeat;
use tinykv_store::service::convert::region_to_proto;
use tinykv_store::splitting::Places;

use super::super::happening::{Asker, Context};
use super::super::host::Work;
use super::super::placement::{Contacts, Question, Reply};
use super::Store;

/// How often it is looked which reports are due.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// Time between questions who the members of placement are.
const CONTACTS_INTERVAL: Duration = Duration::from_secs(1);
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
/// Splits that wait for ids; older ones are forgotten.
const SPLITS_MAX: usize = 64;
/// How long a peer has no leader before placement is asked about it.
const LEADERLESS_FOR: Duration = Duration::from_secs(3);
/// Marks a call about whoever has the first key of a group, whose id is the rest of the number.
const OF_HEIR: u64 = 1 << 63;

/// The connection of a store to placement.
#[derive(Debug, Default)]
pub(super) struct Link {
    /// The members of the placement group, as known even when the process is not: by its settings.
    contacts: Contacts,
    /// When it is asked next who they are.
    contacts_due: Duration,
    /// When it last said anything.
    heard_at: Duration,
    store_due: Duration,
    /// When each region led here is to be reported next.
    due: BTreeMap<GroupId, Duration>,
    /// Orders under way, and whose they are.
    orders: BTreeMap<WaiterId, GroupId>,
    /// Splits for which ids were asked, by the number of the call.
    splits: BTreeMap<u64, (Region, Vec<Bytes>)>,
    /// Numbers those calls.
    calls: u64,
    wanted_replicas: Option<u32>,
    /// Since which id peers are new, if that is known.
    new_peers_from: Option<PeerId>,
    leaderless: BTreeMap<(GroupId, PeerId), Duration>,
}

impl Link {
    pub(super) fn new(contacts: Contacts) -> Link {
        Link {
            contacts,
            ..Link::default()
        }
    }

    /// The process starts anew: what it knew of placement is gone.
    pub(super) fn restart(&mut self, now: Duration) {
        *self = Link::new(std::mem::take(&mut self.contacts));
        self.heard_at = now;
    }

    fn turn_to(&mut self, leader: Option<StoreId>, now: Duration) {
        self.contacts.turn_to(leader);
        self.heard_at = now;
        self.store_due = now;
        for due in self.due.values_mut() {
            *due = now;
        }
    }
}

impl Store {
    fn ask(&mut self, context: &mut Context, question: Question) {
        self.call(context, 0, question);
    }

    fn call(&mut self, context: &mut Context, call: u64, question: Question) {
        if let Some(member) = self.link.contacts.believed() {
            let (id, life) = (self.host.id, self.host.life);
            context.ask(Asker::Store { id, life }, member, call, question);
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
        if self.link.contacts.is_empty() {
            return;
        }
        context.after(interval, id, life, Work::Report);
        if now.saturating_sub(self.link.heard_at) > SILENCE_MAX {
            self.link.turn_to(None, now);
        }
        if self.link.contacts_due <= now {
            self.link.contacts_due = now + CONTACTS_INTERVAL;
            self.ask(
                context,
                Question::Members(pdpb::GetMembersRequest::default()),
            );
        }
        if self.link.store_due <= now {
            self.link.store_due = now + STORE_INTERVAL;
            let damaged_regions = self.host.damaged();
            let stats = pdpb::StoreStats {
                store_id: id.0,
                damaged_regions_id: damaged_regions,
                capacity: 1 << 40,
                available: 1 << 40,
                ..pdpb::StoreStats::default()
            };
            let heartbeat = pdpb::StoreHeartbeatRequest {
                stats: Some(stats),
                ..pdpb::StoreHeartbeatRequest::default()
            };
            self.ask(context, Question::StoreHeartbeat(heartbeat));
            if self.wants_new_peers() {
                let one = pdpb::AllocIdRequest {
                    count: 1,
                    ..pdpb::AllocIdRequest::default()
                };
                self.ask(context, Question::FreshId(one));
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
        let report = led.as_ref().and_then(|status| {
            let region = &status.state.as_ref()?.region;
            Some((heartbeat(status, region, DOWN_AFTER)?, region.clone()))
        });
        let (Some(status), Some((report, region))) = (led, report) else {
            self.link.due.remove(&group);
            return;
        };
        let open = status.state.as_ref().is_some_and(|state| state.open);
        let is_voter = |role: PeerRole| role == PeerRole::Voter;
        let peers = &region.peers;
        let voters = peers.iter().filter(|peer| is_voter(peer.role)).count();
        let settled = open && voters == peers.len() && report.pending_peers.is_empty();
        let interval = match settled && self.link.orders.is_empty() {
            true => INTERVAL_AT_REST,
            false => INTERVAL_UNDER_WAY,
        };
        self.link.due.insert(group, now + interval);
        let epoch = region.epoch;
        self.ask(context, Question::RegionHeartbeat(report));
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
            let request = pdpb::GetRegionByIdRequest {
                region_id: group.0,
                ..pdpb::GetRegionByIdRequest::default()
            };
            self.call(context, group.0, Question::Region(request));
        }
    }

    /// A region that placement does not know may have become a part of the one that has its first key.
    fn ask_for_heir(&mut self, context: &mut Context, group: GroupId) {
        let running = self.host.running.as_ref();
        if let Some(status) = running.and_then(|running| running.shard.status(group)) {
            let request = pdpb::GetRegionRequest {
                region_key: status.start,
                ..pdpb::GetRegionRequest::default()
            };
            self.call(context, group.0 | OF_HEIR, Question::Locate(request));
        }
    }

    /// Placement says something.
    pub(in crate::sim) fn on_told(
        &mut self,
        context: &mut Context,
        by: StoreId,
        call: u64,
        reply: Reply,
    ) {
        let now = self.host.local(context);
        if self.link.contacts.believed() == Some(by) {
            self.link.heard_at = now;
        }
        match reply {
            Reply::NotLeader { leader, .. } => {
                if self.link.contacts.believed() == Some(by) {
                    self.link.turn_to(leader, now);
                }
            }
            Reply::StoreHeartbeat(it) => self.link.wanted_replicas = Some(it.wanted_replicas),
            Reply::Order(response) => self.obey(context, &response),
            Reply::FreshId(response) => self.on_new_peers(context, PeerId(response.id)),
            Reply::SplitIds(response) => self.split(context, call, &response.ids),
            Reply::Region(response) => match response.region {
                Some(region) => self.on_orphan(context, GroupId(call & !OF_HEIR), &region),
                None if call & OF_HEIR == 0 => self.ask_for_heir(context, GroupId(call)),
                None => {}
            },
            Reply::Members(response) => self.link.contacts.hear(&response),
            Reply::Timestamps(_)
            | Reply::Command(_)
            | Reply::MembersChanged(_)
            | Reply::Joined(_)
            | Reply::Registered(_) => {}
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

    /// It is told by its settings who the members of placement are.
    pub(in crate::sim) fn set_contacts(&mut self, members: Vec<StoreId>) {
        self.link.contacts.learn(members);
    }

    /// A process of the placement group is gone.
    pub(in crate::sim) fn on_member_gone(&mut self, context: &mut Context, member: StoreId) {
        let now = self.host.local(context);
        if self.link.contacts.believed() == Some(member) {
            self.link.turn_to(None, now);
        }
    }

    fn obey(&mut self, context: &mut Context, response: &pdpb::RegionHeartbeatResponse) {
        let Some(region) = self.published(GroupId(response.region_id)).cloned() else {
            return;
        };
        let made_for = response.region_epoch.unwrap_or_default();
        let RegionEpoch { conf_ver, version } = region.epoch;
        if (made_for.conf_ver, made_for.version) != (conf_ver, version) {
            context.report.probe("outdated_order_ignored");
            return;
        }
        let neighbour = |group| self.published(group).cloned();
        let order = order(response, Some(&region), neighbour);
        let order = order.expect("placement gives orders it can carry out");
        let Some(Order { group, task }) = order else {
            return;
        };
        match task {
            Task::Admin(action) => {
                if let AdminAction::ChangePeers { changes, .. } = &action
                    && changes.len() > 1
                {
                    context.report.probe("joint_order");
                }
                self.admin(context, group, action);
            }
            Task::Split { places, .. } => {
                let keys = match places {
                    Places::Middle => self.middle(&region).into_iter().collect(),
                    Places::At(keys) => keys,
                };
                self.wish_split(context, region, keys);
            }
        }
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
        if keys.is_empty() {
            return;
        }
        let request = pdpb::AskBatchSplitRequest {
            region: region_to_proto(&region, keys::Asker::Stored),
            split_count: keys.len() as u32,
            ..pdpb::AskBatchSplitRequest::default()
        };
        self.link.calls += 1;
        let call = self.link.calls;
        if self.link.splits.len() >= SPLITS_MAX {
            self.link.splits.pop_first();
        }
        self.link.splits.insert(call, (region, keys));
        self.call(context, call, Question::SplitIds(request));
    }

    fn split(&mut self, context: &mut Context, call: u64, ids: &[pdpb::SplitId]) {
        let Some((region, keys)) = self.link.splits.remove(&call) else {
            return;
        };
        let ids: Vec<SplitIds> = ids
            .iter()
            .map(|ids| SplitIds {
                region: GroupId(ids.new_region_id),
                peers: ids.new_peer_ids.iter().map(|id| PeerId(*id)).collect(),
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
            if !self.link.contacts.is_empty() {
                let regions = parts.iter();
                let regions = regions.filter_map(|part| region_to_proto(part, keys::Asker::Stored));
                let report = pdpb::ReportBatchSplitRequest {
                    regions: regions.collect(),
                    ..pdpb::ReportBatchSplitRequest::default()
                };
                self.ask(context, Question::Split(report));
            }
        }
        true
    }

    /// A peer without a leader is destroyed if its region went on without it.
    pub(in crate::sim) fn on_orphan(
        &mut self,
        context: &mut Context,
        group: GroupId,
        known: &metapb::Region,
    ) {
        let Some(running) = self.host.running.as_ref() else {
            return;
        };
        let Some(status) = running.shard.status(group) else {
            return;
        };
        let peer = status.peer.id;
        // A peer that has no region yet is behind.
        let version_here = |other| {
            let status = running.shard.status(other)?;
            Some(status.state.map_or(0, |state| state.region.epoch.version))
        };
        if is_orphan(group, &status, known, version_here) {
            context.report.probe("orphan_destroyed");
            self.host.post(context, Event::Destroy { group, peer });
        }
    }
}
