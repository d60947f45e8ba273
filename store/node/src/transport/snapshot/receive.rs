//! The receiving side of a snapshot.

use std::sync::Arc;

use tinykv_proto::peer::snapshot_request::Kind;
use tinykv_proto::peer::{Frame, Hello, SnapshotRequest};
use tinykv_raft::MessageBody;
use tinykv_replica::{KeyRange, PeerBody, ReceivedSnapshot, Region, SnapshotHandle, StoreId};
use tokio::sync::Semaphore;
use tonic::{Status, Streaming};

use super::chunk::Totals;
use super::files::{SnapshotFiles, SnapshotWriter};
use crate::pool::Pool;
use crate::transport::codec::{SnapshotHeader, decode_snapshot_header};
use crate::transport::roster::Guest;
use crate::transport::service::check;

/// Snapshots received at once; a further one is refused and sent again later.
const RECEIVE_MAX: usize = 4;

/// Receives snapshots. Cheap to clone.
#[derive(Clone)]
pub(crate) struct SnapshotReceiver {
    inner: Arc<Inner>,
}

struct Inner {
    store: StoreId,
    files: SnapshotFiles,
    pool: Pool,
    slots: Semaphore,
    ranges: fn(&Region) -> Vec<KeyRange>,
    done: Box<dyn Fn(ReceivedSnapshot) + Send + Sync>,
}

impl SnapshotReceiver {
    /// `ranges` says which engine keys a region may hold; `done` is told of every snapshot that
    /// arrived whole.
    pub(crate) fn new(
        store: StoreId,
        files: SnapshotFiles,
        pool: Pool,
        ranges: fn(&Region) -> Vec<KeyRange>,
        done: impl Fn(ReceivedSnapshot) + Send + Sync + 'static,
    ) -> SnapshotReceiver {
        SnapshotReceiver {
            inner: Arc::new(Inner {
                store,
                files,
                pool,
                slots: Semaphore::new(RECEIVE_MAX),
                ranges,
                done: Box::new(done),
            }),
        }
    }

    /// Receives the rest of a stream behind its hello.
    pub(in crate::transport) async fn receive(
        &self,
        guest: &Guest,
        mut stream: Streaming<SnapshotRequest>,
    ) -> Result<(), Status> {
        let inner = &self.inner;
        let _slot = inner
            .slots
            .try_acquire()
            .map_err(|_| Status::resource_exhausted("too many snapshots at once"))?;
        let header = self.read_header(guest, &mut stream).await?;
        let ranges = (inner.ranges)(&header.state.region);
        let files = inner.files.clone();
        let writer = self.on_disk(move || files.begin(ranges)).await?;
        let writer = writer.map_err(|error| Status::internal(error.to_string()))?;
        let handle = writer.handle();
        let mut unfinished = Unfinished {
            receiver: self,
            handle: Some(handle),
        };
        match self.read_chunks(guest, &mut stream, writer).await {
            Ok(()) => {
                unfinished.handle = None;
                tracing::info!(
                    group = %header.message.group,
                    from = %guest.store,
                    "received a snapshot"
                );
                (inner.done)(ReceivedSnapshot {
                    message: header.message,
                    state: header.state,
                    handle,
                });
                Ok(())
            }
            Err(status) => {
                tracing::warn!(
                    group = %header.message.group,
                    from = %guest.store,
                    "a snapshot was not received: {}",
                    status.message()
                );
                Err(status)
            }
        }
    }

    async fn read_header(
        &self,
        guest: &Guest,
        stream: &mut Streaming<SnapshotRequest>,
    ) -> Result<SnapshotHeader, Status> {
        let Some(Kind::Header(frame)) = next(stream).await? else {
            return Err(Status::invalid_argument("a header was expected"));
        };
        check(guest, &frame)?;
        let header = decode_snapshot_header(&frame.payload)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let message = &header.message;
        let is_snapshot = matches!(
            &message.body,
            PeerBody::Raft(raft) if matches!(raft.body, MessageBody::Snapshot(_))
        );
        if !is_snapshot
            || message.to.store != self.inner.store
            || message.from.store != guest.store
            || message.group != header.state.region.id
        {
            return Err(Status::invalid_argument("the header does not belong here"));
        }
        Ok(header)
    }

    async fn read_chunks(
        &self,
        guest: &Guest,
        stream: &mut Streaming<SnapshotRequest>,
        mut writer: SnapshotWriter,
    ) -> Result<(), Status> {
        loop {
            match next(stream).await? {
                Some(Kind::Chunk(frame)) => {
                    check(guest, &frame)?;
                    writer = self.add_chunk(writer, frame).await?;
                }
                Some(Kind::End(frame)) => {
                    check(guest, &frame)?;
                    let expected = Totals::decode(&frame.payload)
                        .ok_or_else(|| Status::invalid_argument("a malformed end"))?;
                    let finished = self.on_disk(move || writer.finish(expected)).await?;
                    return finished.map(|_| ()).map_err(Status::data_loss);
                }
                _ => return Err(Status::aborted("the stream ended before its end")),
            }
        }
    }

    async fn add_chunk(
        &self,
        mut writer: SnapshotWriter,
        frame: Frame,
    ) -> Result<SnapshotWriter, Status> {
        let added = self.on_disk(move || writer.add(&frame.payload).map(|()| writer));
        added.await?.map_err(Status::data_loss)
    }

    fn discard(&self, handle: SnapshotHandle) {
        let files = self.inner.files.clone();
        self.inner.pool.push(Box::new(move || {
            if let Err(error) = files.discard(handle) {
                tracing::warn!("cannot remove a broken snapshot: {error}");
            }
        }));
    }

    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Status> {
        let done = self.inner.pool.run(work).await;
        done.map_err(|_| Status::unavailable("the process is stopping"))
    }
}

/// A snapshot that is still coming in. A receiver that gives up, or is dropped where it waits
/// because the connection is gone, leaves no files behind.
struct Unfinished<'a> {
    receiver: &'a SnapshotReceiver,
    handle: Option<SnapshotHandle>,
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if let Some(handle) = self.handle.take() {
            self.receiver.discard(handle);
        }
    }
}

/// The first element of a stream.
pub(in crate::transport) async fn read_hello(
    stream: &mut Streaming<SnapshotRequest>,
) -> Result<Hello, Status> {
    match next(stream).await? {
        Some(Kind::Hello(hello)) => Ok(hello),
        _ => Err(Status::invalid_argument(
            "the stream does not begin with a hello",
        )),
    }
}

async fn next(stream: &mut Streaming<SnapshotRequest>) -> Result<Option<Kind>, Status> {
    Ok(stream.message().await?.and_then(|request| request.kind))
}
