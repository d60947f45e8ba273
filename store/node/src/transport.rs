//! Traffic between the peers of Raft groups.
//!
//! Each pair of processes has one stream of frames per direction; a frame carries messages of
//! many groups under a checksum; heartbeats of the process itself go between frames, as long as
//! groups sleep (`watch`). The sender's side of a stream (`connection`) owns a queue
//! bounded in bytes, beyond which messages are dropped: Raft sends again. When a connection
//! breaks, every shard is told at once. The receiver's side (`service`) checks who is there
//! before it reads a frame (M12): same cluster, the right store, an incarnation and start number
//! that are not outdated. Snapshots travel on streams of their own (`snapshot`).
//!
//! What needs no socket is public for the simulator, which sends what passes between stores through
//! it: the bytes of messages, the seal of a frame, the checks of a hello.

mod codec;
mod connection;
mod queue;
mod refusal;
mod roster;
mod service;
pub(crate) mod snapshot;
mod watch;

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use tinykv_env::Env;
use tinykv_replica::{NeighbourConfig, Neighbours, PeerMessage, StoreId};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, Streaming};

use crate::identity::Identity;
use crate::metrics::NodeMetrics;
use crate::spawn::Tasks;

pub use codec::{
    CodecError, SnapshotHeader, decode_messages, decode_snapshot_header, encode_messages,
    encode_snapshot_header,
};
pub use connection::seal;
pub use refusal::Refused;
pub use roster::{Admitted, Guest, Roster, introduction};
pub use service::{PeerService, check, may_come};
pub use watch::{heartbeat_from_proto, heartbeat_to_proto};

pub(crate) use codec::size as message_size;
use queue::PeerQueue;

/// The wire format of frames and snapshots; another one is refused at the hello.
pub const WIRE_VERSION: u32 = 1;

/// Largest encoded gRPC message between peers: a frame holds at least one message, an append at
/// least one entry, and an entry at most the largest value with its surroundings.
const GRPC_BYTES_MAX: usize = 64 << 20;

/// Where a store can be reached, and who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// `host:port`, as the store advertises it.
    pub address: String,
    /// The incarnation the store registered with, if known: another one is not that store.
    pub incarnation: Option<u64>,
    /// The start number it last registered with, if known: a lower one is a copy of an old disk.
    pub start_number: Option<u64>,
}

/// Knows where stores are: for a store, placement; for a placement member, its configuration.
pub trait Resolver: Send + Sync + 'static {
    /// The store's destination, `None` if it is not known or cannot be found out now. Called for
    /// each connection, so it may ask somebody, within a second or so.
    fn resolve(&self, store: StoreId) -> BoxFuture<'_, Option<Destination>>;

    /// Where this process is reached, `host:port`, if others may have nobody to ask; else empty.
    fn own_address(&self) -> String {
        String::new()
    }

    /// Somebody who cannot be resolved has spoken, passed the checks, and said where it is reached.
    fn introduced(&self, _store: StoreId, _destination: Destination) {}
}

/// Where what comes in goes to: the shards.
pub(crate) trait Sink: Send + Sync + 'static {
    /// Messages of any groups.
    fn deliver(&self, messages: Vec<PeerMessage>);
    /// The connection to the store broke; messages may be lost.
    fn unreachable(&self, store: StoreId);
    /// The store's process ended or was started anew.
    fn dead(&self, store: StoreId);
    /// A store that somebody wants to know about lives, as far as its heartbeats tell.
    fn fresh(&self, store: StoreId);
    /// A store that was fresh is silent or was started anew.
    fn lost(&self, store: StoreId);
}

/// The sending side. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Transport {
    shared: Arc<Shared>,
}

struct Shared {
    identity: Identity,
    resolver: Arc<dyn Resolver>,
    sink: Arc<dyn Sink>,
    roster: Roster,
    tasks: Tasks,
    stop: CancellationToken,
    queues: Mutex<BTreeMap<StoreId, Arc<PeerQueue>>>,
    metrics: NodeMetrics,
    env: Arc<dyn Env>,
    neighbours: Mutex<Neighbours>,
}

impl Shared {
    /// Counts and logs what is not taken; what the other side is told.
    fn refuse(&self, refused: Refused) -> Status {
        self.metrics.refused(refused.reason()).inc();
        tracing::warn!("not taken from a peer: {refused}");
        refused.status()
    }

    /// The next element of a stream that comes in.
    async fn next<T>(&self, stream: &mut Streaming<T>) -> Result<Option<T>, Status> {
        stream
            .message()
            .await
            .map_err(|status| match status.code() {
                // Said by the decoder, which has read the length and nothing else.
                Code::OutOfRange => self.refuse(Refused::TooLarge),
                _ => status,
            })
    }
}

impl Transport {
    pub(crate) fn new(
        identity: Identity,
        resolver: Arc<dyn Resolver>,
        sink: Arc<dyn Sink>,
        tasks: Tasks,
        metrics: NodeMetrics,
        env: Arc<dyn Env>,
    ) -> Transport {
        // The start number rises with each start, as a boot has to.
        let boot = identity.start_number;
        Transport {
            shared: Arc::new(Shared {
                identity,
                resolver,
                sink,
                roster: Roster::default(),
                tasks,
                stop: CancellationToken::new(),
                queues: Mutex::default(),
                metrics,
                env,
                neighbours: Mutex::new(Neighbours::new(boot, NeighbourConfig::default())),
            }),
        }
    }

    /// Queues messages to their stores, from any thread, without waiting.
    pub(crate) fn send(&self, messages: Vec<PeerMessage>) {
        for message in messages {
            let store = message.to.store;
            self.queue(store).push(message);
        }
    }

    /// Closes all connections, in both directions. What is queued is lost, as in a crash.
    pub(crate) fn stop(&self) {
        self.shared.stop.cancel();
    }

    /// The tasks of all connections.
    pub(crate) fn tasks(&self) -> Tasks {
        self.shared.tasks.clone()
    }

    /// Whether the stream to a store is up, as far as this side knows; true for this store itself.
    pub(crate) fn is_connected(&self, store: StoreId) -> bool {
        let here = StoreId(self.shared.identity.member_id);
        let queues = self.shared.queues.lock();
        store == here || queues.get(&store).is_some_and(|queue| queue.is_connected())
    }

    /// Messages dropped so far because a queue was full.
    pub(crate) fn dropped(&self) -> u64 {
        let queues = self.shared.queues.lock();
        queues.values().map(|queue| queue.dropped()).sum()
    }

    /// Messages sent so far, those included that were dropped or lost.
    pub(crate) fn sent(&self) -> u64 {
        let queues = self.shared.queues.lock();
        queues.values().map(|queue| queue.pushed()).sum()
    }

    fn queue(&self, store: StoreId) -> Arc<PeerQueue> {
        let mut queues = self.shared.queues.lock();
        let queue = queues.entry(store).or_insert_with(|| {
            let queue = Arc::new(PeerQueue::new(store));
            let task = connection::run(self.clone(), Arc::clone(&queue));
            self.shared.tasks.spawn("connection to a peer", task);
            queue
        });
        Arc::clone(queue)
    }
}

#[cfg(test)]
mod tests;
