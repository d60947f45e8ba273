//! The sending side of a snapshot.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tinykv_lsm::{Iter, LsmError, Snapshot};
use tinykv_proto::peer::SnapshotRequest;
use tinykv_proto::peer::snapshot_request::Kind;
use tinykv_replica::{KeyRange, SnapshotSend};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;

use super::chunk::{ChunkBuilder, Totals};
use crate::pool::Pool;
use crate::transport::codec::{SnapshotHeader, encode_snapshot_header};
use crate::transport::connection::{open, seal};
use crate::transport::{Shared, Transport};

/// Snapshots sent at once; further ones wait, holding nothing but a view of the tree.
const SEND_MAX: usize = 4;
/// A chunk is closed when it has reached this size.
const CHUNK_BYTES: usize = 512 << 10;
/// Chunks between the disk and the socket.
const CHUNKS_IN_FLIGHT: usize = 4;
/// A receiver that takes nothing for this long is given up.
const STALL_MAX: Duration = Duration::from_secs(30);

/// Sends snapshots. Cheap to clone.
#[derive(Clone)]
pub(crate) struct SnapshotSender {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    pool: Pool,
    slots: Semaphore,
    bytes_per_second: u64,
}

impl SnapshotSender {
    /// Each snapshot is throttled to `bytes_per_second`.
    pub(crate) fn new(transport: &Transport, pool: Pool, bytes_per_second: u64) -> SnapshotSender {
        SnapshotSender {
            inner: Arc::new(Inner {
                shared: Arc::clone(&transport.shared),
                pool,
                slots: Semaphore::new(SEND_MAX),
                bytes_per_second: bytes_per_second.max(1),
            }),
        }
    }

    /// Sends what `view` shows of the snapshot's ranges, then says whether all of it arrived.
    pub(crate) fn start(
        &self,
        send: SnapshotSend,
        view: Snapshot,
        done: impl FnOnce(bool) + Send + 'static,
    ) {
        let inner = Arc::clone(&self.inner);
        let task = async move {
            let (group, to) = (send.message.group, send.message.to.store);
            let outcome = tokio::select! {
                outcome = inner.stream(send, view) => outcome,
                () = inner.shared.stop.cancelled() => Err("the process is stopping".to_owned()),
            };
            match &outcome {
                Ok(totals) => {
                    tracing::info!(%group, %to, pairs = totals.pairs, "sent a snapshot");
                }
                Err(error) => tracing::warn!(%group, %to, error, "a snapshot was not delivered"),
            }
            done(outcome.is_ok());
        };
        self.inner.shared.tasks.spawn("snapshot to a peer", task);
    }
}

impl Inner {
    async fn stream(&self, send: SnapshotSend, view: Snapshot) -> Result<Totals, String> {
        let slot = self.slots.acquire().await;
        let _slot = slot.map_err(|_| "the process is stopping")?;
        let (mut client, hello) = open(&self.shared, send.message.to.store).await?;
        let header = encode_snapshot_header(&SnapshotHeader {
            message: send.message,
            state: tinykv_replica::RegionState::clone(&send.state),
        });
        let (requests, receiver) = mpsc::channel(CHUNKS_IN_FLIGHT);
        let feed = async {
            put(&requests, Kind::Hello(hello)).await?;
            put(&requests, Kind::Header(seal(header))).await?;
            let totals = self
                .feed_chunks(&requests, Cursor::new(view, send.ranges))
                .await?;
            put(&requests, Kind::End(seal(totals.encode()))).await?;
            drop(requests);
            Ok::<Totals, String>(totals)
        };
        let call = client.send_snapshot(ReceiverStream::new(receiver));
        // The call ends early only by a refusal, which says more than the feed that it cuts off.
        tokio::pin!(feed, call);
        tokio::select! {
            fed = &mut feed => {
                let totals = fed?;
                match tokio::time::timeout(STALL_MAX, call).await {
                    Ok(Ok(_)) => Ok(totals),
                    Ok(Err(status)) => Err(status.message().to_owned()),
                    Err(_) => Err("the receiver does not answer".to_owned()),
                }
            }
            answer = &mut call => Err(match answer {
                Ok(_) => "the receiver ended the stream".to_owned(),
                Err(status) => status.message().to_owned(),
            }),
        }
    }

    async fn feed_chunks(
        &self,
        requests: &mpsc::Sender<SnapshotRequest>,
        mut cursor: Cursor,
    ) -> Result<Totals, String> {
        loop {
            let read = self.pool.run(move || {
                let chunk = cursor.next_chunk();
                chunk.map(|chunk| (cursor, chunk))
            });
            let read = read.await.map_err(|_| "the process is stopping")?;
            let (next_cursor, chunk) = read.map_err(|error| error.to_string())?;
            cursor = next_cursor;
            let Some(chunk) = chunk else {
                return Ok(cursor.totals);
            };
            let nanos = chunk.len() as u64 * 1_000_000_000 / self.bytes_per_second;
            let pace = tokio::time::sleep(Duration::from_nanos(nanos));
            put(requests, Kind::Chunk(seal(chunk))).await?;
            pace.await;
        }
    }
}

async fn put(requests: &mpsc::Sender<SnapshotRequest>, kind: Kind) -> Result<(), String> {
    let request = SnapshotRequest { kind: Some(kind) };
    match requests.send_timeout(request, STALL_MAX).await {
        Ok(()) => Ok(()),
        Err(mpsc::error::SendTimeoutError::Timeout(_)) => Err("the receiver is stalled".to_owned()),
        // The call knows why; it is polled beside this and wins.
        Err(mpsc::error::SendTimeoutError::Closed(_)) => std::future::pending().await,
    }
}

/// Walks over the ranges of a snapshot, a chunk at a time.
struct Cursor {
    view: Snapshot,
    ranges: VecDeque<KeyRange>,
    iter: Option<Iter>,
    totals: Totals,
}

impl Cursor {
    fn new(view: Snapshot, mut ranges: Vec<KeyRange>) -> Cursor {
        ranges.sort_by(|a, b| a.start.cmp(&b.start));
        Cursor {
            view,
            ranges: ranges.into(),
            iter: None,
            totals: Totals::default(),
        }
    }

    /// The next pairs; `None` at the end.
    fn next_chunk(&mut self) -> Result<Option<Bytes>, LsmError> {
        let mut chunk = ChunkBuilder::default();
        while chunk.len() < CHUNK_BYTES {
            let Some(iter) = &mut self.iter else {
                let Some(range) = self.ranges.pop_front() else {
                    break;
                };
                self.iter = Some(self.view.iter(&range.start, &range.end)?);
                continue;
            };
            match iter.next()? {
                true => chunk.add(iter.key(), &iter.value()),
                false => self.iter = None,
            }
        }
        let (payload, pairs) = chunk.finish();
        if pairs == 0 {
            return Ok(None);
        }
        self.totals.add(&payload, pairs);
        Ok(Some(payload))
    }
}
