//! The cluster at one glance: placement's overview as values that can be printed.

use bytes::Bytes;
use serde::Serialize;
use tinykv_proto::placement::{
    OperatorStatus, OverviewRequest, OverviewResponse, RegionStatus, StoreStatus,
};
use tinykv_proto::{metapb, pdpb};

use crate::command::Failure;
use crate::placement::{Asked, Link, bare, probe, refused};
use crate::text;

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
    /// `up` or `down`; none if it was not asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) state: Option<&'static str>,
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
    /// Whether it is to lead nothing.
    pub(crate) is_evicted: bool,
    /// 1 fine, 100 stuck, 0 not told.
    pub(crate) slow_score: u64,
    /// Peers that may be added to it at once.
    pub(crate) additions_max: u32,
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
    /// Flows of late.
    pub(crate) read_bytes_per_s: u64,
    pub(crate) read_keys_per_s: u64,
    pub(crate) written_bytes_per_s: u64,
    pub(crate) written_keys_per_s: u64,
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

/// Something being done to a region, or that was.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Operator {
    pub(crate) id: u64,
    pub(crate) region_id: u64,
    pub(crate) kind: String,
    /// `running`, `success`, `timeout` or `cancelled`.
    pub(crate) state: String,
    pub(crate) rule: String,
    pub(crate) reason: String,
    /// All steps, in order.
    pub(crate) steps: Vec<String>,
    /// The one at work.
    pub(crate) step: String,
    /// Its number, from 0.
    pub(crate) step_index: u32,
    pub(crate) age_ms: u64,
    /// How long it may go on.
    pub(crate) timeout_ms: u64,
    /// Of one that did not succeed: why.
    pub(crate) outcome: String,
}

impl Operator {
    pub(crate) fn of(status: &OperatorStatus) -> Operator {
        let step = status.steps.get(status.step as usize);
        Operator {
            id: status.id,
            region_id: status.region_id,
            kind: status.kind.clone(),
            state: status.state.clone(),
            rule: status.rule.clone(),
            reason: status.reason.clone(),
            step: step.cloned().unwrap_or_default(),
            steps: status.steps.clone(),
            step_index: status.step,
            age_ms: status.age_ms,
            timeout_ms: status.timeout_ms,
            outcome: status.outcome.clone(),
        }
    }
}

/// The cluster without its regions.
pub(crate) async fn overview(link: &Link) -> Result<Overview, Failure> {
    ask(link, false).await
}

/// As [`overview`], with the regions in key order.
pub(crate) async fn overview_with_regions(link: &Link) -> Result<Overview, Failure> {
    ask(link, true).await
}

/// As [`overview`]; each member of the placement driver is asked whether it is there.
pub(crate) async fn overview_with_probes(link: &Link) -> Result<Overview, Failure> {
    let mut overview = ask(link, false).await?;
    let probes = overview.members.iter().map(|member| probe(&member.address));
    let probed = futures::future::join_all(probes).await;
    overview.take_probes(probed);
    Ok(overview)
}

async fn ask(link: &Link, with_regions: bool) -> Result<Overview, Failure> {
    let answer = link
        .ask(Asked::Question, |mut client| async move {
            let request = OverviewRequest {
                with_regions,
                ..OverviewRequest::default()
            };
            client.overview(request).await
        })
        .await?;
    refused(answer.header.as_ref())?;
    Ok(Overview::of(&answer))
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
            operators: answer.operators.iter().map(Operator::of).collect(),
            region_list,
        }
    }

    /// Takes in whether each member is there.
    fn take_probes(&mut self, probed: Vec<Result<(), String>>) {
        for (member, probed) in self.members.iter_mut().zip(probed) {
            member.state = Some(if probed.is_ok() { "up" } else { "down" });
            if let Err(cause) = probed {
                self.problems.push(format!(
                    "placement member {} ({}) does not answer: {cause}",
                    member.name, member.address
                ));
            }
        }
        self.healthy = self.problems.is_empty();
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
        .filter(|store| !["up", "offline", "tombstone"].contains(&store.state.as_str()))
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
        address: member
            .client_urls
            .first()
            .map_or_else(String::new, |url| bare(url).to_owned()),
        leader: member.member_id == leader,
        state: None,
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
        is_evicted: status.is_evicted,
        slow_score: status.slow_score,
        additions_max: status.additions_max,
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
        read_bytes_per_s: status.read_bytes_per_s,
        read_keys_per_s: status.read_keys_per_s,
        written_bytes_per_s: status.written_bytes_per_s,
        written_keys_per_s: status.written_keys_per_s,
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
