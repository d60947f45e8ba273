//! The calls of clients.
//!
//! [`Calls`] carries them out: reads in `read`, writes in `write`, both for the raw calls in `raw`
//! and `update`. Messages are taken apart and put together in front of it (`answer` for TiKV's,
//! `own` for ours); `tikv` is TiKV's gRPC service, `batch` its stream of many calls. `check` is the
//! service of a [`crate::check::Checker`].

mod answer;
mod batch;
pub(crate) mod check;
pub mod convert;
mod deadline;
mod figures;
mod load;
mod raw;
mod read;
mod split;
mod update;
mod write;

mod own;
mod tikv;

use std::sync::Arc;
use std::time::Duration;

use figures::{Ended, Figures, Kind};
use prometheus_client::registry::Registry;
use tinykv_keys::Asker;
use tinykv_node::handle::NodeHandle;
use tinykv_node::process::Stop;
use tinykv_node::spawn::Tasks;
use tinykv_proto::errorpb;
use tinykv_replica::{Refusal, StoreId};
use tonic::Status;

use crate::admission::Admission;
use crate::checks::{RegionError, Target, without_dead_leader};
use crate::clock::PlacementClock;
use crate::limits::Refused;
use crate::machine::RawMachine;
use crate::outcome;
use crate::raw::read::Unanswered;
use crate::splitting::Splitter;

pub(crate) use convert::{epoch, peer_to_proto, region_to_proto};

/// Carries out the calls of clients. Cheap to clone.
#[derive(Clone)]
pub struct Calls {
    shared: Arc<Shared>,
}

struct Shared {
    store: StoreId,
    node: NodeHandle<RawMachine>,
    clock: Arc<PlacementClock>,
    admission: Admission,
    /// Writes go on here when their asker is gone.
    tasks: Tasks,
    /// Ends the streams of calls.
    stop: Stop,
    splitter: Arc<Splitter>,
    figures: Figures,
}

/// Why a call was not carried out.
#[derive(Debug)]
enum Failed {
    /// Not here, or not now.
    Region(RegionError),
    /// Not at all.
    Refused(Refused),
    /// The engine could not read; the operator has to look.
    Broken(String),
}

impl From<RegionError> for Failed {
    fn from(error: RegionError) -> Failed {
        Failed::Region(error)
    }
}

impl From<Refused> for Failed {
    fn from(refused: Refused) -> Failed {
        Failed::Refused(refused)
    }
}

/// How a failure is told where the response has a text beside the region error.
struct Told {
    region_error: Option<errorpb::Error>,
    text: String,
}

impl Failed {
    /// A response with a region error and, where users of older clients must see it, a text.
    ///
    /// An undetermined write sets both. Clients that know `undetermined_result` look at it;
    /// others would take an error without a known field for one they may repeat, but show a text
    /// to their user and repeat nothing.
    fn tell(self, asker: Asker) -> Result<Told, Status> {
        match self {
            Failed::Region(error) => Ok(Told {
                text: convert::text(&error),
                region_error: Some(convert::error_to_proto(&error, asker)),
            }),
            Failed::Refused(refused) => Ok(Told {
                region_error: None,
                text: refused.to_string(),
            }),
            Failed::Broken(reason) => Err(Status::data_loss(reason)),
        }
    }
}

impl Calls {
    /// Carries out calls on the replicas of a node. `stop` ends streams of calls, which would
    /// otherwise be open as long as their clients wish.
    pub fn new(
        node: NodeHandle<RawMachine>,
        clock: Arc<PlacementClock>,
        tasks: Tasks,
        stop: Stop,
        splitter: Arc<Splitter>,
    ) -> Calls {
        Calls {
            shared: Arc::new(Shared {
                store: StoreId(node.identity().member_id),
                admission: Admission::new(node.lsm().clone()),
                node,
                clock,
                tasks,
                stop,
                splitter,
                figures: Figures::default(),
            }),
        }
    }

    /// The gRPC services.
    pub fn routes(&self) -> tonic::service::Routes {
        let mut routes = tonic::service::Routes::builder();
        routes.add_service(tikv::server(self.clone()));
        routes.add_service(own::server(self.clone()));
        routes.routes()
    }

    /// Adds the calls' figures to a registry.
    pub fn register(&self, registry: &mut Registry) {
        self.shared.figures.register(registry);
    }

    /// Counts a call by how it ended.
    fn count<T>(&self, kind: Kind, outcome: &Result<T, Failed>) {
        let ended = match outcome {
            Ok(_) => Ended::Ok,
            Err(Failed::Region(RegionError::Undetermined { .. })) => Ended::Undetermined,
            Err(_) => Ended::DefinitelyNot,
        };
        self.shared.figures.count(kind, ended);
    }

    /// What an asker is told about a refusal of the replica.
    fn refused(&self, refusal: Refusal, target: &Target) -> RegionError {
        self.sure(outcome::refused(refusal, target))
    }

    /// The same error without a hint at a leader that is cut off from here, and maybe dead.
    fn sure(&self, error: RegionError) -> RegionError {
        without_dead_leader(error, |store| self.shared.node.is_connected(store))
    }

    /// The moment, on the monotonic clock, at which the asker stops waiting.
    fn deadline(&self, patience: Duration) -> Duration {
        self.shared.node.now() + patience
    }
}

impl From<Unanswered> for Failed {
    fn from(unanswered: Unanswered) -> Failed {
        match unanswered {
            Unanswered::TooLong => Failed::Refused(Refused::AnswerTooLong),
            other => Failed::Broken(other.to_string()),
        }
    }
}
