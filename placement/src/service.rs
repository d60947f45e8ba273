//! gRPC: `pdpb.PD`, `keyspacepb.Keyspace` and our own `tinykv.placement.Placement`.
//!
//! Handlers only translate: a question goes to the desk and the state, the answer back into a
//! message. Rules of WIRE A2 for every answer: a header is always there and its error absent on
//! success; a wrong cluster id is FAILED_PRECONDITION; not leading is UNAVAILABLE.

mod askers;
mod greetings;
mod heartbeats;
mod keyspaces;
mod members;
mod operators;
mod overview;
mod pd;
mod regions;
mod scatter;
mod splits;
mod steering;
mod stores;
mod timestamps;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use tinykv_proto::pdpb;
use tinykv_raft::PeerId;
use tonic::Status;

use crate::acquaintance::Acquaintance;
use crate::config::{FirstMember, InitialCluster};
use crate::desk::Desk;
use crate::group::ProposeError;
use crate::leadership::Leadership;
use crate::neighbours::Neighbours;
use crate::state::Refusal;

pub(crate) use overview::{count_complete, count_stores};

use askers::Askers;

/// What a stream of answers is.
type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// How long an election is waited out. Just under the two seconds that released clients give a
/// call: a look-up that fails makes some of them lose writes (WIRE A2).
const PATIENCE: Duration = Duration::from_millis(1_900);

/// Between two questions of who leads.
const SEARCH_PAUSE: Duration = Duration::from_millis(20);

/// Who leads.
enum Leader {
    /// This member.
    Here(Arc<Leadership>),
    /// Another one.
    There(PeerId),
}

/// All services. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Service {
    shared: Arc<Shared>,
}

struct Shared {
    desk: Arc<Desk>,
    neighbours: Arc<Neighbours>,
    acquaintance: Arc<Acquaintance>,
    /// Members known from the start.
    first: Vec<FirstMember>,
    askers: Askers,
}

impl Service {
    pub(crate) fn new(
        desk: Arc<Desk>,
        cluster: &InitialCluster,
        neighbours: Arc<Neighbours>,
        acquaintance: Arc<Acquaintance>,
    ) -> Service {
        Service {
            shared: Arc::new(Shared {
                desk,
                neighbours,
                acquaintance,
                first: cluster.members().to_vec(),
                askers: Askers::default(),
            }),
        }
    }

    fn desk(&self) -> &Desk {
        &self.shared.desk
    }

    /// The leadership of this member, waiting out an election; UNAVAILABLE if another one leads.
    async fn lead(&self) -> Result<Arc<Leadership>, Status> {
        match self.find_leader().await {
            Some(Leader::Here(leadership)) => Ok(leadership),
            Some(Leader::There(_)) | None => Err(Status::unavailable(
                "this member does not lead the placement group",
            )),
        }
    }

    /// Who leads, waiting out an election. Another member is believed to lead only if it says so
    /// now: Raft notices a dead leader later than whoever asks it.
    async fn find_leader(&self) -> Option<Leader> {
        let search = async {
            loop {
                if let Some(leadership) = self.desk().await_leadership(PATIENCE).await {
                    return Leader::Here(leadership);
                }
                if let Some(other) = self.desk().group().office().leader
                    && let Ok(answer) = self.shared.neighbours.greet(other).await
                    && answer.leads
                {
                    return Leader::There(other);
                }
                tokio::time::sleep(SEARCH_PAUSE).await;
            }
        };
        tokio::time::timeout(PATIENCE, search).await.ok()
    }

    /// Checks the cluster id of a request and makes the header of its answer.
    fn header(
        &self,
        request: Option<&pdpb::RequestHeader>,
    ) -> Result<pdpb::ResponseHeader, Status> {
        let own = self.cluster_id()?;
        let asked = request.map_or(0, |header| header.cluster_id);
        if asked == own {
            Ok(success(own))
        } else {
            Err(Status::failed_precondition(format!(
                "the request is for cluster {asked}, this is cluster {own}"
            )))
        }
    }

    /// As [`Service::header`]; operators may ask before they know the cluster's id.
    fn operator_header(
        &self,
        request: Option<&pdpb::RequestHeader>,
    ) -> Result<pdpb::ResponseHeader, Status> {
        match request.map_or(0, |header| header.cluster_id) {
            0 => Ok(success(self.cluster_id()?)),
            _ => self.header(request),
        }
    }

    /// The cluster's id; UNAVAILABLE before the first leader has chosen it.
    fn cluster_id(&self) -> Result<u64, Status> {
        let id = self.desk().group().state().read().cluster_id();
        id.ok_or_else(|| Status::unavailable("the placement group has not begun to work yet"))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn success(cluster_id: u64) -> pdpb::ResponseHeader {
    pdpb::ResponseHeader {
        cluster_id,
        error: None,
    }
}

/// The header of an answer that says no.
fn failure(
    mut header: pdpb::ResponseHeader,
    kind: pdpb::ErrorType,
    message: impl Into<String>,
) -> pdpb::ResponseHeader {
    header.error = Some(pdpb::Error {
        r#type: kind.into(),
        message: message.into(),
    });
    header
}

/// The header of an answer that a command was refused with.
fn refusal(header: pdpb::ResponseHeader, refusal: &Refusal) -> pdpb::ResponseHeader {
    let kind = match refusal {
        Refusal::AlreadyBootstrapped => pdpb::ErrorType::AlreadyBootstrapped,
        Refusal::NotBootstrapped => pdpb::ErrorType::NotBootstrapped,
        Refusal::TombstoneStore { .. } => pdpb::ErrorType::StoreTombstone,
        Refusal::AddressTaken { .. } => pdpb::ErrorType::DuplicatedEntry,
        Refusal::UnknownStore { .. } | Refusal::UnknownMember { .. } => {
            pdpb::ErrorType::EntryNotFound
        }
        Refusal::UnknownRegion { .. } => pdpb::ErrorType::RegionNotFound,
        Refusal::BadBootstrap { .. }
        | Refusal::BadStore { .. }
        | Refusal::BadRegion { .. }
        | Refusal::BadSettings { .. }
        | Refusal::BadLife { .. }
        | Refusal::NeededStore { .. }
        | Refusal::NoTombstone { .. }
        | Refusal::LastLeader { .. }
        | Refusal::LastMember { .. }
        | Refusal::UnknownLevel { .. }
        | Refusal::HeldStore { .. }
        | Refusal::OutOfRange { .. } => pdpb::ErrorType::InvalidValue,
        Refusal::ForeignStore { .. }
        | Refusal::OutdatedStore { .. }
        | Refusal::BadMember { .. }
        | Refusal::StaleRegion { .. } => pdpb::ErrorType::Unknown,
    };
    failure(header, kind, refusal.to_string())
}

/// Commands of ours may be repeated, so whatever happened the asker tries again.
fn unavailable(error: &ProposeError) -> Status {
    Status::unavailable(error.to_string())
}
