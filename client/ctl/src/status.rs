//! The cluster at one glance: placement's overview as values that can be printed.

use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use tinykv_proto::placement::placement_client::PlacementClient;
use tinykv_proto::placement::{OverviewRequest, OverviewResponse, RegionStatus, StoreStatus};
use tinykv_proto::{metapb, pdpb};
use tonic::transport::{Channel, Endpoint};

use crate::command::Failure;
use crate::text;

/// Most bytes of one answer: an overview of many regions is large.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// How long one member may take before the next is asked.
const MEMBER_TIMEOUT: Duration = Duration::from_secs(3);

/// What `status` prints.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Overview {
    /// Whether every store is up and every region has a leader and all its replicas.
    pub(crate) healthy: bool,
    /// What is wrong, a sentence each.
    pub(crate) problems: Vec<String>,
    pub(crate) cluster_id: u64,
    /// Replicas a region is to have once there are enough stores, and now.
    pub(crate) replica_count: u32,
    pub(crate) replicas_wanted: u32,
    pub(crate) members: Vec<Member>,
    pub(crate) stores: Vec<Store>,
    pub(crate) regions: u64,
    pub(crate) regions_complete: u64,
    pub(crate) operators: Vec<Operator>,
    #[serde(skip)]
    pub(crate) region_list: Vec<Region>,
}

/// A placement member.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Member {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) address: String,
    pub(crate) leader: bool,
}

/// A store.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Store {
    pub(crate) id: u64,
    pub(crate) address: String,
    pub(crate) state: String,
    /// Milliseconds since its last heartbeat; none while it never sent one.
    pub(crate) silent_ms: Option<u64>,
    pub(crate) regions: u32,
    pub(crate) leaders: u32,
    pub(crate) used_bytes: u64,
    pub(crate) available_bytes: u64,
    pub(crate) capacity_bytes: u64,
    pub(crate) version: String,
    pub(crate) labels: Vec<String>,
}

/// A region. Keys are routing keys, printed readable.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Region {
    pub(crate) id: u64,
    /// The bounds as bytes.
    #[serde(skip)]
    pub(crate) start: Bytes,
    #[serde(skip)]
    pub(crate) end: Bytes,
    pub(crate) start_key: String,
    /// Empty: the end of the key space.
    pub(crate) end_key: String,
    pub(crate) epoch: Epoch,
    pub(crate) leader: Option<Peer>,
    pub(crate) peers: Vec<Peer>,
    pub(crate) pending_peers: Vec<u64>,
    pub(crate) down_peers: Vec<u64>,
    pub(crate) approximate_size: u64,
    pub(crate) approximate_keys: u64,
    pub(crate) complete: bool,
}

/// How often a region changed.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Epoch {
    pub(crate) version: u64,
    pub(crate) conf_ver: u64,
}

/// A replica of a region.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Peer {
    pub(crate) id: u64,
    pub(crate) store_id: u64,
    pub(crate) role: &'static str,
}

/// Something being done to a region.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Operator {
    pub(crate) id: u64,
    pub(crate) region_id: u64,
    pub(crate) kind: String,
    pub(crate) rule: String,
    pub(crate) reason: String,
    pub(crate) step: String,
    pub(crate) age_ms: u64,
}

/// Asks the members in turn; the first that answers wins.
pub(crate) async fn overview(members: &[String]) -> Result<Overview, Failure> {
    ask(members, false)
        .await
        .map(|answer| Overview::of(&answer))
}

/// As [`overview`], with the regions in key order.
pub(crate) async fn overview_with_regions(members: &[String]) -> Result<Overview, Failure> {
    ask(members, true).await.map(|answer| Overview::of(&answer))
}

async fn ask(members: &[String], with_regions: bool) -> Result<OverviewResponse, Failure> {
    let mut attempts = Vec::new();
    for member in members {
        match tokio::time::timeout(MEMBER_TIMEOUT, ask_one(member, with_regions)).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(problem)) => attempts.push(format!("{member}: {problem}")),
            Err(_) => attempts.push(format!("{member}: no answer in {MEMBER_TIMEOUT:?}")),
        }
    }
    Err(Failure::Unreachable(format!(
        "no placement member answered ({}); give its address with -u",
        attempts.join("; ")
    )))
}

async fn ask_one(member: &str, with_regions: bool) -> Result<OverviewResponse, String> {
    let address = member.trim_start_matches("http://");
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|_| "not an address; give host:port".to_owned())?
        .connect_timeout(MEMBER_TIMEOUT);
    let channel: Channel = endpoint
        .connect()
        .await
        .map_err(|error| innermost(&error).to_string())?;
    let mut client = PlacementClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
    let request = OverviewRequest {
        with_regions,
        ..OverviewRequest::default()
    };
    let answer = client
        .overview(request)
        .await
        .map_err(|status| status.message().to_owned())?
        .into_inner();
    match answer
        .header
        .as_ref()
        .and_then(|header| header.error.as_ref())
    {
        Some(error) => Err(error.message.clone()),
        None => Ok(answer),
    }
}

/// What really went wrong, below the layers that say "transport error".
fn innermost(error: &dyn std::error::Error) -> &dyn std::error::Error {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost
}

impl Overview {
    fn of(answer: &OverviewResponse) -> Overview {
        let settings = answer.settings.unwrap_or_default();
        let stores: Vec<Store> = answer.stores.iter().map(store).collect();
        let region_list: Vec<Region> = answer.regions.iter().map(region).collect();
        let problems = problems(answer, &stores);
        Overview {
            healthy: problems.is_empty(),
            problems,
            cluster_id: answer.header.as_ref().map_or(0, |header| header.cluster_id),
            replica_count: settings.replica_count,
            replicas_wanted: settings.replicas_wanted,
            members: answer
                .members
                .iter()
                .map(|m| member(m, answer.leader_member_id))
                .collect(),
            stores,
            regions: answer.regions_total,
            regions_complete: answer.regions_complete,
            operators: answer
                .operators
                .iter()
                .map(|operator| Operator {
                    id: operator.id,
                    region_id: operator.region_id,
                    kind: operator.kind.clone(),
                    rule: operator.rule.clone(),
                    reason: operator.reason.clone(),
                    step: operator
                        .steps
                        .get(operator.step as usize)
                        .cloned()
                        .unwrap_or_default(),
                    age_ms: operator.age_ms,
                })
                .collect(),
            region_list,
        }
    }

    pub(crate) fn is_healthy(&self) -> bool {
        self.healthy
    }

    pub(crate) fn stores_up(&self) -> usize {
        self.stores
            .iter()
            .filter(|store| store.state == "up")
            .count()
    }

    /// For messages: "3 of 3 stores up, 2 of 6 regions have their 3 replicas".
    pub(crate) fn one_line(&self) -> String {
        format!(
            "{} of {} stores up, {} of {} regions have their {} replicas",
            self.stores_up(),
            self.stores.len(),
            self.regions_complete,
            self.regions,
            self.replicas_wanted
        )
    }
}

fn problems(answer: &OverviewResponse, stores: &[Store]) -> Vec<String> {
    let mut problems = Vec::new();
    if answer.leader_member_id == 0 {
        problems.push("the placement driver has no leader".to_owned());
    }
    if stores.is_empty() {
        problems.push("no store has joined".to_owned());
    }
    for store in stores
        .iter()
        .filter(|store| store.state != "up" && store.state != "tombstone")
    {
        let silence = store.silent_ms.map_or("no heartbeat yet".to_owned(), |ms| {
            format!("silent for {} s", ms / 1000)
        });
        problems.push(format!(
            "store {} ({}) is {}: {silence}",
            store.id, store.address, store.state
        ));
    }
    if answer.regions_total == 0 && !stores.is_empty() {
        problems.push("the cluster is not bootstrapped yet".to_owned());
    }
    let incomplete = answer.regions_total.saturating_sub(answer.regions_complete);
    if incomplete > 0 {
        problems.push(format!(
            "{incomplete} of {} regions lack a leader or some of their replicas",
            answer.regions_total
        ));
    }
    problems
}

fn member(member: &pdpb::Member, leader: u64) -> Member {
    Member {
        id: member.member_id,
        name: member.name.clone(),
        address: member.client_urls.first().cloned().unwrap_or_default(),
        leader: member.member_id == leader,
    }
}

fn store(status: &StoreStatus) -> Store {
    let store = status.store.clone().unwrap_or_default();
    Store {
        id: store.id,
        address: store.address,
        state: status.state.clone(),
        silent_ms: status.silent_ms,
        regions: status.regions,
        leaders: status.leaders,
        used_bytes: status.used_bytes,
        available_bytes: status.available_bytes,
        capacity_bytes: status.capacity_bytes,
        version: store.version,
        labels: store
            .labels
            .iter()
            .map(|label| format!("{}={}", label.key, label.value))
            .collect(),
    }
}

fn region(status: &RegionStatus) -> Region {
    let region = status.region.clone().unwrap_or_default();
    let epoch = region.region_epoch.unwrap_or_default();
    Region {
        id: region.id,
        start: region.start_key.clone(),
        end: region.end_key.clone(),
        start_key: text::escaped(&region.start_key),
        end_key: text::escaped(&region.end_key),
        epoch: Epoch {
            version: epoch.version,
            conf_ver: epoch.conf_ver,
        },
        leader: status.leader.as_ref().map(peer),
        peers: region.peers.iter().map(peer).collect(),
        pending_peers: status.pending_peers.iter().map(|peer| peer.id).collect(),
        down_peers: status
            .down_peers
            .iter()
            .filter_map(|stats| stats.peer.as_ref().map(|peer| peer.id))
            .collect(),
        approximate_size: status.approximate_size,
        approximate_keys: status.approximate_keys,
        complete: status.complete,
    }
}

fn peer(peer: &metapb::Peer) -> Peer {
    let role = match metapb::PeerRole::try_from(peer.role) {
        Ok(metapb::PeerRole::Voter) => "voter",
        Ok(metapb::PeerRole::Learner) => "learner",
        Ok(metapb::PeerRole::IncomingVoter) => "incoming_voter",
        Ok(metapb::PeerRole::DemotingVoter) => "demoting_voter",
        Err(_) => "unknown",
    };
    Peer {
        id: peer.id,
        store_id: peer.store_id,
        role,
    }
}

impl Region {
    /// Stores that hold it: `1* 2 3 4(learner)`, the leader with a star.
    pub(crate) fn peers_line(&self) -> String {
        let mut peers = self.peers.clone();
        peers.sort_by_key(|peer| peer.store_id);
        let word = |peer: &Peer| {
            let star = match &self.leader {
                Some(leader) if leader.id == peer.id => "*",
                _ => "",
            };
            match peer.role {
                "voter" => format!("{}{star}", peer.store_id),
                role => format!("{}{star}({role})", peer.store_id),
            }
        };
        peers.iter().map(word).collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests;
