//! The stream of region heartbeats: reports come in, orders go out.
//!
//! The stream of answers does all the work while it is polled: it takes whatever is there first, a
//! heartbeat or an order of the desk. So nothing is spawned, and a store that does not read its
//! orders is not listened to either. When it is dropped the store's leaders become uncertain.

use std::sync::Arc;

use futures::{StreamExt, stream};
use tinykv_proto::pdpb;
use tinykv_raft::Term;
use tinykv_replica::{Region, StoreId};
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use super::stores::check_sender;
use super::{Answers, Service, failure, refusal, unavailable};
use crate::convert::{order_to_proto, report_from_proto};
use crate::leadership::Leadership;
use crate::schedule::Order;
use crate::state::Reply;
use crate::view::RegionReport;

/// One store's stream.
struct Session {
    service: Service,
    leadership: Arc<Leadership>,
    heartbeats: Streaming<pdpb::RegionHeartbeatRequest>,
    /// Once the first heartbeat has said whose stream it is.
    open: Option<Open>,
}

/// A stream that orders are sent on.
struct Open {
    leadership: Arc<Leadership>,
    store: StoreId,
    number: u64,
    orders: mpsc::Receiver<Order>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.leadership.close_stream(self.store, self.number);
    }
}

impl Service {
    pub(super) async fn heartbeat_stream(
        &self,
        heartbeats: Streaming<pdpb::RegionHeartbeatRequest>,
    ) -> Result<Answers<pdpb::RegionHeartbeatResponse>, Status> {
        let session = Session {
            service: self.clone(),
            leadership: self.lead().await?,
            heartbeats,
            open: None,
        };
        let answers = stream::unfold(Some(session), |session| async {
            let mut session = session?;
            let answer = session.next().await?;
            // An error is the last thing on a stream.
            let rest = answer.is_ok().then_some(session);
            Some((answer, rest))
        });
        Ok(Box::pin(answers))
    }
}

impl Session {
    /// The next answer; `None` when the store has closed its side.
    async fn next(&mut self) -> Option<Result<pdpb::RegionHeartbeatResponse, Status>> {
        loop {
            let ended = self.leadership.ended.clone();
            tokio::select! {
                () = ended.cancelled() => {
                    return Some(Err(Status::unavailable("this member does not lead any more")));
                }
                order = next_order(&mut self.open) => {
                    match order {
                        Some(order) => return Some(self.order(&order)),
                        None => {
                            let newer = "the store has opened a newer stream";
                            return Some(Err(Status::aborted(newer)));
                        }
                    }
                }
                heartbeat = self.heartbeats.next() => {
                    let answer = match heartbeat? {
                        Ok(heartbeat) => self.on_heartbeat(&heartbeat).await,
                        Err(status) => Err(status),
                    };
                    match answer {
                        Ok(None) => {}
                        Ok(Some(response)) => return Some(Ok(response)),
                        Err(status) => return Some(Err(status)),
                    }
                }
            }
        }
    }

    fn order(&self, order: &Order) -> Result<pdpb::RegionHeartbeatResponse, Status> {
        let mut response = order_to_proto(order);
        response.header = Some(super::success(self.service.cluster_id()?));
        Ok(response)
    }

    /// An answer if there is something to say: why the heartbeat was not believed.
    async fn on_heartbeat(
        &mut self,
        heartbeat: &pdpb::RegionHeartbeatRequest,
    ) -> Result<Option<pdpb::RegionHeartbeatResponse>, Status> {
        let header = self.service.header(heartbeat.header.as_ref())?;
        let refuse = |header, region| {
            Ok(Some(pdpb::RegionHeartbeatResponse {
                header: Some(header),
                region_id: region,
                ..pdpb::RegionHeartbeatResponse::default()
            }))
        };
        let report = report_from_proto(heartbeat).map_err(Status::invalid_argument)?;
        let region = report.region.id;
        let store = report.leader.store;
        let group = self.service.desk().group().clone();
        let sender = check_sender(&group.state().read(), heartbeat.header.as_ref(), store);
        if let Err((kind, sentence)) = sender {
            return refuse(failure(header, kind, sentence), region.0);
        }
        self.open(store);
        let removed = match self.update_route(&report).await? {
            Reply::Routed { removed } => removed,
            Reply::Refused(reason) => {
                tracing::debug!("heartbeat refused: {reason}");
                return refuse(refusal(header, &reason), region.0);
            }
            other => return Err(Status::internal(format!("unexpected reply {other:?}"))),
        };
        let told = {
            // Always in this order: state, then coordinator.
            let state = group.state().read();
            self.leadership
                .on_region_heartbeat(report, &removed, &state, group.now())
        };
        match told {
            // Orders come on the stream of whoever leads, which is this one.
            Ok(()) => Ok(None),
            Err(stale) => {
                tracing::debug!("heartbeat refused: {stale}");
                let header = failure(header, pdpb::ErrorType::Unknown, stale.to_string());
                refuse(header, region.0)
            }
        }
    }

    fn open(&mut self, store: StoreId) {
        if self.open.as_ref().is_some_and(|open| open.store == store) {
            return;
        }
        let (number, orders) = self.leadership.open_stream(store);
        self.open = Some(Open {
            leadership: Arc::clone(&self.leadership),
            store,
            number,
            orders,
        });
    }

    /// Brings the routes up to the report, through the log if they change.
    async fn update_route(&self, report: &RegionReport) -> Result<Reply, Status> {
        let regions = std::slice::from_ref(&report.region);
        let term = self.leadership.term;
        self.service.update_routes(regions, term).await
    }
}

impl Service {
    /// Brings the routes up to what leaders report, through the log if they change.
    pub(super) async fn update_routes(
        &self,
        regions: &[Region],
        term: Term,
    ) -> Result<Reply, Status> {
        let group = self.desk().group();
        let update = group.state().read().route_update(regions);
        match update {
            Err(reason) => Ok(Reply::Refused(reason)),
            Ok(None) => Ok(Reply::Routed {
                removed: Vec::new(),
            }),
            Ok(Some(command)) => group
                .propose(&command, Some(term))
                .await
                .map_err(|error| unavailable(&error)),
        }
    }
}

async fn next_order(open: &mut Option<Open>) -> Option<Order> {
    match open {
        Some(open) => open.orders.recv().await,
        None => std::future::pending().await,
    }
}
