//! Heartbeats of the regions that are led here, and the orders that come back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tinykv_keys::Asker;
use tinykv_proto::{metapb, pdpb};
use tinykv_raft::{GroupId, PeerId, Role};
use tinykv_replica::{
    AdminAction, AdminCommand, GroupStatus, Outcome, PeerRole, Region, RegionEpoch, RegionState,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::Reporting;
use super::flows::Telling;
use super::order::{NotCarriedOut, Order, Task, order};
use super::rhythm::Rhythm;
use crate::service::{peer_to_proto, region_to_proto};
use crate::splitting::sizes::measure;
use crate::splitting::{Places, SplitReason};

/// Heartbeats that wait to be sent; further ones are sent later.
const QUEUE_MAX: usize = 1024;
/// Time between two looks at which heartbeats are due, at least.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// Regions whose shard is asked about them at a time.
const ASKED_AT_ONCE: usize = 128;
/// A peer that is silent for longer is reported as down.
const DOWN_AFTER: Duration = Duration::from_secs(10);
/// Time the leader has to carry out an order.
const ORDER_TIME_MAX: Duration = Duration::from_secs(10);
/// How long after an order a region counts as "something is under way".
const AFTER_ORDER: Duration = Duration::from_secs(5);

type Orders = Streaming<pdpb::RegionHeartbeatResponse>;

/// Reports until it is told to stop; a broken stream is opened again, to whoever leads then.
pub async fn run(reporting: Reporting) {
    let mut reporter = Reporter {
        due: BTreeMap::new(),
        ordered: BTreeMap::new(),
        told: BTreeMap::new(),
        reporting,
    };
    while !reporter.reporting.stop.is_requested() {
        let (heartbeats, stream) = mpsc::channel(QUEUE_MAX);
        // The first heartbeats wait in the stream when it is opened: a server may want to see
        // one before it answers.
        reporter.note_all();
        reporter.send_due(&heartbeats).await;
        let opening = reporter
            .reporting
            .placement
            .region_heartbeats(ReceiverStream::new(stream));
        let opened = tokio::select! {
            opened = opening => opened,
            () = reporter.reporting.stop.requested() => return,
        };
        match opened {
            Ok(orders) => reporter.report(&heartbeats, orders).await,
            Err(error) => tracing::debug!("cannot open the stream of heartbeats: {error}"),
        }
        reporter.reporting.placement.forget_leader();
        tokio::select! {
            () = tokio::time::sleep(LOOK_INTERVAL) => {}
            () = reporter.reporting.stop.requested() => {}
        }
    }
}

struct Reporter {
    reporting: Reporting,
    /// When each region led here is to be reported next.
    due: BTreeMap<GroupId, Duration>,
    /// When a region was last ordered something.
    ordered: BTreeMap<GroupId, Duration>,
    /// What was told of the flow of each region led here.
    told: BTreeMap<GroupId, Telling>,
}

type Heartbeats = mpsc::Sender<pdpb::RegionHeartbeatRequest>;

/// What became of a heartbeat.
enum Sent {
    /// The next one is due then.
    Again(Duration),
    /// The region is not led here any more, so there is none.
    NotLedHere,
    /// The stream is full or broken.
    NoRoom,
}

impl Reporter {
    fn note_all(&mut self) {
        for entry in self.reporting.node.directory().all() {
            self.due.insert(entry.group(), Duration::ZERO);
        }
    }

    /// Works on one stream until it breaks or all is to stop.
    async fn report(&mut self, heartbeats: &Heartbeats, mut orders: Orders) {
        loop {
            let patience = self.until_due();
            tokio::select! {
                order = orders.message() => match order {
                    Ok(Some(response)) => self.obey(&response),
                    Ok(None) => return,
                    Err(status) => {
                        tracing::debug!("the stream of heartbeats broke: {}", status.message());
                        return;
                    }
                },
                () = self.reporting.news.arrived() => {
                    for group in self.reporting.news.take() {
                        self.due.insert(group, Duration::ZERO);
                    }
                    self.send_due(heartbeats).await;
                }
                () = tokio::time::sleep(patience) => self.send_due(heartbeats).await,
                () = self.reporting.stop.requested() => return,
            }
            if heartbeats.is_closed() {
                return;
            }
        }
    }

    /// How long nothing is due.
    fn until_due(&self) -> Duration {
        let now = self.reporting.node.now();
        let next = self.due.values().min();
        let wait = next.map_or(Duration::MAX, |at| at.saturating_sub(now));
        wait.max(LOOK_INTERVAL)
    }

    async fn send_due(&mut self, heartbeats: &Heartbeats) {
        let now = self.reporting.node.now();
        let due = self.due.iter().filter(|(_, at)| **at <= now);
        let due: Vec<GroupId> = due.map(|(group, _)| *group).collect();
        for groups in due.chunks(ASKED_AT_ONCE) {
            let mut statuses = self.reporting.node.statuses_of(groups).await;
            for group in groups {
                let status = statuses.remove(group);
                match self.send(*group, status, now, heartbeats) {
                    Sent::Again(at) => self.due.insert(*group, at),
                    Sent::NotLedHere => self.due.remove(group),
                    // It stays due.
                    Sent::NoRoom => return,
                };
            }
        }
    }

    fn send(
        &mut self,
        group: GroupId,
        status: Option<GroupStatus>,
        now: Duration,
        heartbeats: &Heartbeats,
    ) -> Sent {
        let Some(status) = status.filter(|status| status.raft.role == Role::Leader) else {
            self.ordered.remove(&group);
            self.told.remove(&group);
            return Sent::NotLedHere;
        };
        let Some(mut heartbeat) = self.heartbeat(&status) else {
            return Sent::NotLedHere;
        };
        let telling = self.tell_flow(group, now, &mut heartbeat);
        if heartbeats.try_send(heartbeat).is_err() {
            return Sent::NoRoom;
        }
        self.told.insert(group, telling);
        self.open_if_complete(&status);
        let ordered = self.ordered.get(&group).copied();
        let rhythm = match is_under_way(&status, ordered, now) {
            true => Rhythm::UnderWay,
            false if self.reporting.flows.is_busy(group) => Rhythm::Busy,
            false => Rhythm::AtRest,
        };
        Sent::Again(rhythm.next(group, now))
    }

    fn heartbeat(&self, status: &GroupStatus) -> Option<pdpb::RegionHeartbeatRequest> {
        let region = &status.state.as_ref()?.region;
        let known = self.reporting.sizes.of(region);
        let contents = known.unwrap_or_else(|| measure(self.reporting.node.lsm(), region));
        let mut heartbeat = heartbeat(status, region, DOWN_AFTER)?;
        heartbeat.header = Some(self.reporting.placement.header());
        heartbeat.approximate_size = contents.bytes;
        heartbeat.approximate_keys = contents.entries;
        Some(heartbeat)
    }

    /// Adds what was read and written to a heartbeat; what was told once it is sent.
    fn tell_flow(
        &self,
        group: GroupId,
        now: Duration,
        heartbeat: &mut pdpb::RegionHeartbeatRequest,
    ) -> Telling {
        let mut telling = self.told.get(&group).copied().unwrap_or_default();
        let Some(entry) = self.reporting.node.directory().group(group) else {
            return telling;
        };
        let flow = entry.traffic().flow();
        let told = telling.tell(flow, now);
        if let Some(told) = told {
            heartbeat.bytes_written = told.flow.bytes_written;
            heartbeat.keys_written = told.flow.keys_written;
            heartbeat.bytes_read = told.flow.bytes_read;
            heartbeat.keys_read = told.flow.keys_read;
            heartbeat.interval = Some(told.to_proto(self.reporting.env.wall_clock()));
        }
        if told.is_some() || telling.is_new() {
            telling.note(flow, now);
        }
        telling
    }

    fn obey(&mut self, response: &pdpb::RegionHeartbeatResponse) {
        let group = GroupId(response.region_id);
        let entry = self.reporting.node.directory().group(group);
        let view = entry.as_ref().map(|entry| entry.view());
        let state = view.as_ref().and_then(|view| view.state.as_deref());
        let neighbour = |group| {
            let view = self.reporting.node.directory().group(group)?.view();
            Some(view.state.as_deref()?.region.clone())
        };
        match order(response, state.map(|state| &state.region), neighbour) {
            Ok(None) => {}
            Ok(Some(order)) => {
                let now = self.reporting.node.now();
                self.ordered.insert(group, now);
                self.carry_out(order);
            }
            Err(NotCarriedOut::HeartbeatRefused(reason)) => {
                tracing::debug!(%group, "placement refused a heartbeat: {reason}");
            }
            Err(reason) => tracing::warn!(%group, "an order cannot be carried out: {reason}"),
        }
    }

    fn carry_out(&self, order: Order) {
        let Order { group, task } = order;
        match task {
            Task::Admin(action) => self.administer(group, action),
            Task::Split { epoch, places } => self.split(group, epoch, places),
        }
    }

    fn split(&self, group: GroupId, epoch: RegionEpoch, places: Places) {
        let splitter = Arc::clone(&self.reporting.splitter);
        self.reporting.tasks.spawn("split", async move {
            let split = splitter.split(group, Some(epoch), places, SplitReason::Admin);
            if let Err(problem) = split.await {
                splitter.complain(group, &problem);
            }
        });
    }

    fn administer(&self, group: GroupId, action: AdminAction) {
        let Reporting { node, news, .. } = &self.reporting;
        let (node, news) = (node.clone(), Arc::clone(news));
        self.reporting.tasks.spawn("order", async move {
            let what = describe(&action);
            let deadline = node.now() + ORDER_TIME_MAX;
            match node.admin(group, action, deadline).await {
                Outcome::Ok(_) => tracing::info!(%group, "{what}: done"),
                Outcome::DefinitelyNot(refusal) => {
                    tracing::debug!(%group, ?refusal, "{what}: refused");
                }
                Outcome::Undetermined(doubt) => {
                    tracing::info!(%group, ?doubt, "{what}: may or may not have happened");
                }
            }
            news.note(group);
        });
    }

    /// Lets a region acknowledge writes once it has as many voters as placement wants (F4).
    fn open_if_complete(&self, status: &GroupStatus) {
        let Some(wanted) = self.reporting.told.wanted_replicas() else {
            return;
        };
        let Some(state) = status
            .state
            .as_ref()
            .filter(|state| may_open(state, wanted))
        else {
            return;
        };
        let action = AdminAction::Command {
            epoch: state.region.epoch,
            command: AdminCommand::Open,
        };
        self.administer(state.region.id, action);
    }
}

fn may_open(state: &RegionState, wanted_replicas: u32) -> bool {
    let voters = state
        .region
        .peers
        .iter()
        .filter(|peer| peer.role == PeerRole::Voter);
    !state.open && voters.count() >= wanted_replicas as usize
}

fn is_under_way(status: &GroupStatus, ordered: Option<Duration>, now: Duration) -> bool {
    let changing = status.state.as_ref().is_some_and(|state| {
        let peers = &state.region.peers;
        let is_frozen = state.merges.freeze().is_some();
        !state.open || is_frozen || peers.iter().any(|peer| peer.role != PeerRole::Voter)
    });
    let ordered = ordered.is_some_and(|at| now < at + AFTER_ORDER);
    changing || ordered || !status.pending_peers.is_empty()
}

/// What a leader tells about its region; `None` if it is no member of it any more. A peer that is
/// silent for `down_after` is reported as down.
pub fn heartbeat(
    status: &GroupStatus,
    region: &Region,
    down_after: Duration,
) -> Option<pdpb::RegionHeartbeatRequest> {
    let leader = region.peer(status.peer.id)?;
    let member = |id: &PeerId| region.peer(*id).map(peer_to_proto);
    let down = status
        .silent
        .iter()
        .filter(|(_, silent)| *silent >= down_after);
    let down = down.filter_map(|(id, silent)| {
        Some(pdpb::PeerStats {
            peer: Some(member(id)?),
            down_seconds: silent.as_secs(),
        })
    });
    Some(pdpb::RegionHeartbeatRequest {
        region: region_to_proto(region, Asker::Stored),
        leader: Some(peer_to_proto(leader)),
        down_peers: down.collect(),
        pending_peers: status
            .pending_peers
            .iter()
            .filter_map(member)
            .collect::<Vec<metapb::Peer>>(),
        term: status.raft.hard_state.term.0,
        ..pdpb::RegionHeartbeatRequest::default()
    })
}

fn describe(action: &AdminAction) -> String {
    match action {
        AdminAction::TransferLeader { to: Some(to) } => format!("hand leadership to peer {to}"),
        AdminAction::TransferLeader { to: None } => "hand leadership to any peer".to_owned(),
        AdminAction::ChangePeers { changes, .. } => format!("{changes:?}"),
        AdminAction::Split { keys, .. } => format!("split into {} parts", keys.len() + 1),
        AdminAction::Merge { target, .. } => format!("merge into region {}", target.id),
        AdminAction::Command { command, .. } => format!("{command:?}"),
    }
}
