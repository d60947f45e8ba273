//! The receiving side: who is there, is the frame intact, then on to the shards.

use std::sync::Arc;

use tinykv_proto::peer::deliver_request::Kind;
use tinykv_proto::peer::peer_server::{Peer, PeerServer};
use tinykv_proto::peer::{
    DeliverReply, DeliverRequest, Frame, Hello, SnapshotReply, SnapshotRequest,
};
use tinykv_raft::MessageBody;
use tinykv_replica::{PeerBody, PeerMessage, StoreId};
use tonic::{Request, Response, Status, Streaming};

use super::roster::{Admitted, Guest};
use super::snapshot::SnapshotReceiver;
use super::{GRPC_BYTES_MAX, Shared, Transport, codec};

/// The gRPC service through which other processes reach the peers that live here.
#[derive(Clone)]
pub struct PeerService {
    shared: Arc<Shared>,
    snapshots: SnapshotReceiver,
}

impl PeerService {
    pub(crate) fn new(transport: &Transport, snapshots: SnapshotReceiver) -> PeerService {
        PeerService {
            shared: Arc::clone(&transport.shared),
            snapshots,
        }
    }

    /// The service as a route of the process's server.
    pub fn into_server(self) -> PeerServer<PeerService> {
        PeerServer::new(self)
            .max_decoding_message_size(GRPC_BYTES_MAX)
            .max_encoding_message_size(GRPC_BYTES_MAX)
    }

    async fn admit(&self, hello: &Hello) -> Result<Guest, Status> {
        let store = StoreId(hello.from);
        let registered = self.shared.resolver.resolve(store).await;
        let roster = &self.shared.roster;
        match roster.admit(&self.shared.identity, hello, registered.as_ref()) {
            Ok(Admitted::Known(guest)) => Ok(guest),
            Ok(Admitted::Restarted(guest)) => {
                self.shared.sink.dead(store);
                Ok(guest)
            }
            Err(refusal) => {
                tracing::warn!(%store, "refused a peer: {}", refusal.message());
                Err(refusal)
            }
        }
    }

    async fn read_frames(
        &self,
        mut stream: Streaming<DeliverRequest>,
    ) -> Result<Response<DeliverReply>, Status> {
        let first = stream.message().await?.and_then(|first| first.kind);
        let Some(Kind::Hello(hello)) = first else {
            return Err(Status::invalid_argument(
                "the stream does not begin with a hello",
            ));
        };
        let guest = self.admit(&hello).await?;
        while let Some(request) = stream.message().await? {
            let Some(Kind::Frame(frame)) = request.kind else {
                return Err(Status::invalid_argument("a second hello"));
            };
            check(&guest, &frame)?;
            let mut messages = codec::decode_messages(&frame.payload).map_err(|error| {
                tracing::error!(store = %guest.store, "{error}");
                Status::invalid_argument(error.to_string())
            })?;
            messages.retain(|message| may_come(&guest, message));
            self.shared.sink.deliver(messages);
        }
        Ok(Response::new(DeliverReply {}))
    }
}

#[tonic::async_trait]
impl Peer for PeerService {
    async fn deliver(
        &self,
        request: Request<Streaming<DeliverRequest>>,
    ) -> Result<Response<DeliverReply>, Status> {
        tokio::select! {
            outcome = self.read_frames(request.into_inner()) => outcome,
            () = self.shared.stop.cancelled() => Err(stopping()),
        }
    }

    async fn send_snapshot(
        &self,
        request: Request<Streaming<SnapshotRequest>>,
    ) -> Result<Response<SnapshotReply>, Status> {
        let mut stream = request.into_inner();
        let receive = async {
            let hello = super::snapshot::read_hello(&mut stream).await?;
            let guest = self.admit(&hello).await?;
            self.snapshots.receive(&guest, stream).await
        };
        tokio::select! {
            outcome = receive => outcome.map(|()| Response::new(SnapshotReply {})),
            () = self.shared.stop.cancelled() => Err(stopping()),
        }
    }
}

/// A store speaks for its own peers, and a snapshot's message comes with its data only.
fn may_come(guest: &Guest, message: &PeerMessage) -> bool {
    let is_snapshot = matches!(
        &message.body,
        PeerBody::Raft(raft) if matches!(raft.body, MessageBody::Snapshot(_))
    );
    let may_come = message.from.store == guest.store && !is_snapshot;
    if !may_come {
        tracing::warn!(store = %guest.store, group = %message.group, "dropped a message");
    }
    may_come
}

/// Checks that the sender may still speak and that its bytes arrived as they were sent (D7).
pub(super) fn check(guest: &Guest, frame: &Frame) -> Result<(), Status> {
    if !guest.is_current() {
        return Err(Status::failed_precondition(format!(
            "store {} was started anew",
            guest.store
        )));
    }
    if crc32c::crc32c(&frame.payload) != frame.crc32c {
        tracing::error!(store = %guest.store, "a frame with a wrong checksum arrived");
        return Err(Status::data_loss("wrong checksum of a frame"));
    }
    Ok(())
}

fn stopping() -> Status {
    Status::unavailable("the process is stopping")
}
