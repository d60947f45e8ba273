//! The receiving side: who is there, is the frame intact, then on to the shards.

use tinykv_proto::peer::deliver_request::Kind;
use tinykv_proto::peer::peer_server::{Peer, PeerServer};
use tinykv_proto::peer::{
    DeliverReply, DeliverRequest, Frame, Hello, SnapshotReply, SnapshotRequest, snapshot_request,
};
use tinykv_raft::MessageBody;
use tinykv_replica::{PeerBody, PeerMessage, StoreId};
use tonic::{Request, Response, Status, Streaming};

use super::refusal::Refused;
use super::roster::{Admitted, Guest, introduction};
use super::snapshot::SnapshotReceiver;
use super::{GRPC_BYTES_MAX, Transport, codec};

/// The gRPC service through which other processes reach the peers that live here.
#[derive(Clone)]
pub struct PeerService {
    transport: Transport,
    snapshots: SnapshotReceiver,
}

impl PeerService {
    pub(crate) fn new(transport: &Transport, snapshots: SnapshotReceiver) -> PeerService {
        PeerService {
            transport: transport.clone(),
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
        let registered = self.transport.shared.resolver.resolve(store).await;
        let shared = &self.transport.shared;
        let admitted = shared
            .roster
            .admit(&shared.identity, hello, registered.as_ref())
            .map_err(|refused| shared.refuse(refused))?;
        if let Some(destination) = introduction(hello, registered.as_ref()) {
            shared.resolver.introduced(store, destination);
        }
        Ok(match admitted {
            Admitted::Known(guest) => guest,
            Admitted::Restarted(guest) => {
                shared.sink.dead(store);
                guest
            }
        })
    }

    async fn read_frames(
        &self,
        mut stream: Streaming<DeliverRequest>,
    ) -> Result<Response<DeliverReply>, Status> {
        let refuse = |refused: Refused| self.transport.shared.refuse(refused);
        let out_of_order = |expected| refuse(Refused::OutOfOrder { expected });
        let first = self.transport.shared.next(&mut stream).await?;
        let Some(Kind::Hello(hello)) = first.and_then(|first| first.kind) else {
            return Err(out_of_order("a hello"));
        };
        let here = StoreId(self.transport.shared.identity.member_id);
        let guest = self.admit(&hello).await?;
        while let Some(request) = self.transport.shared.next(&mut stream).await? {
            let frame = match request.kind {
                Some(Kind::Frame(frame)) => frame,
                Some(Kind::Heartbeat(heartbeat)) => {
                    is_current(&guest).map_err(refuse)?;
                    self.transport.hear(guest.store, heartbeat);
                    continue;
                }
                Some(Kind::Hello(_)) | None => return Err(out_of_order("a frame")),
            };
            check(&guest, &frame).map_err(refuse)?;
            let mut messages = codec::decode_messages(&frame.payload)
                .map_err(|malformed| refuse(malformed.into()))?;
            messages.retain(|message| match may_come(here, &guest, message) {
                Ok(()) => true,
                Err(refused) => {
                    refuse(refused);
                    false
                }
            });
            self.transport.shared.sink.deliver(messages);
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
            () = self.transport.shared.stop.cancelled() => Err(stopping()),
        }
    }

    async fn send_snapshot(
        &self,
        request: Request<Streaming<SnapshotRequest>>,
    ) -> Result<Response<SnapshotReply>, Status> {
        let mut stream = request.into_inner();
        let receive = async {
            let first = self.transport.shared.next(&mut stream).await?;
            let Some(snapshot_request::Kind::Hello(hello)) = first.and_then(|first| first.kind)
            else {
                let expected = "a hello";
                return Err(self
                    .transport
                    .shared
                    .refuse(Refused::OutOfOrder { expected }));
            };
            let guest = self.admit(&hello).await?;
            self.snapshots
                .receive(&self.transport.shared, &guest, stream)
                .await
        };
        tokio::select! {
            outcome = receive => outcome.map(|()| Response::new(SnapshotReply {})),
            () = self.transport.shared.stop.cancelled() => Err(stopping()),
        }
    }
}

/// A snapshot's message comes with its data only.
///
/// # Errors
/// Why it is dropped.
pub fn may_come(here: StoreId, guest: &Guest, message: &PeerMessage) -> Result<(), Refused> {
    may_speak(here, guest, message)?;
    match &message.body {
        PeerBody::Raft(raft) if matches!(raft.body, MessageBody::Snapshot(_)) => {
            let group = message.group;
            Err(Refused::SnapshotWithoutData { group })
        }
        _ => Ok(()),
    }
}

/// A store speaks for its own peers, and to ours.
pub(super) fn may_speak(
    here: StoreId,
    guest: &Guest,
    message: &PeerMessage,
) -> Result<(), Refused> {
    let (group, from, to) = (message.group, message.from.store, message.to.store);
    if from != guest.store {
        let guest = guest.store;
        return Err(Refused::ForeignPeer { guest, group, from });
    }
    match to == here {
        true => Ok(()),
        false => Err(Refused::Misaddressed { group, to, here }),
    }
}

fn is_current(guest: &Guest) -> Result<(), Refused> {
    match guest.is_current() {
        true => Ok(()),
        false => Err(Refused::Superseded { from: guest.store }),
    }
}

/// Checks that the sender may still speak and that its bytes arrived as they were sent (D7).
///
/// # Errors
/// Why the stream is closed.
pub fn check(guest: &Guest, frame: &Frame) -> Result<(), Refused> {
    is_current(guest)?;
    if crc32c::crc32c(&frame.payload) != frame.crc32c {
        let bytes = frame.payload.len();
        return Err(Refused::Checksum { bytes });
    }
    Ok(())
}

fn stopping() -> Status {
    Status::unavailable("the process is stopping")
}
