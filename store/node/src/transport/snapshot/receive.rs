//! The receiving side of a snapshot.

use std::sync::Arc;

use tinykv_proto::peer::snapshot_request::Kind;
use tinykv_proto::peer::{Frame, SnapshotRequest};
use tinykv_raft::MessageBody;
use tinykv_replica::{KeyRange, PeerBody, ReceivedSnapshot, Region, SnapshotHandle, StoreId};
use tokio::sync::Semaphore;
use tonic::{Status, Streaming};

use super::chunk::Totals;
use super::files::{SnapshotFiles, SnapshotWriter};
use crate::pool::Pool;
use crate::transport::Shared;
use crate::transport::codec::{SnapshotHeader, decode_snapshot_header};
use crate::transport::refusal::Refused;
use crate::transport::roster::Guest;
use crate::transport::service::{check, may_speak};

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
        shared: &Shared,
        guest: &Guest,
        mut stream: Streaming<SnapshotRequest>,
    ) -> Result<(), Status> {
        let inner = &self.inner;
        let _slot = inner
            .slots
            .try_acquire()
            .map_err(|_| Status::resource_exhausted("too many snapshots at once"))?;
        let header = self.read_header(shared, guest, &mut stream).await?;
        let ranges = (inner.ranges)(&header.state.region);
        let files = inner.files.clone();
        let writer = self.on_disk(move || files.begin(ranges)).await?;
        let writer = writer.map_err(|error| Status::internal(error.to_string()))?;
        let handle = writer.handle();
        let mut unfinished = Unfinished {
            receiver: self,
            handle: Some(handle),
        };
        match self.read_chunks(shared, guest, &mut stream, writer).await {
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
        shared: &Shared,
        guest: &Guest,
        stream: &mut Streaming<SnapshotRequest>,
    ) -> Result<SnapshotHeader, Status> {
        let Some(Kind::Header(frame)) = shared.next(stream).await?.and_then(|request| request.kind)
        else {
            let expected = "a header";
            return Err(shared.refuse(Refused::OutOfOrder { expected }));
        };
        let refuse = |refused: Refused| shared.refuse(refused);
        check(guest, &frame).map_err(refuse)?;
        let header =
            decode_snapshot_header(&frame.payload).map_err(|malformed| refuse(malformed.into()))?;
        let message = &header.message;
        let is_snapshot = matches!(
            &message.body,
            PeerBody::Raft(raft) if matches!(raft.body, MessageBody::Snapshot(_))
        );
        let group = message.group;
        if !is_snapshot || group != header.state.region.id {
            let expected = "the header of a snapshot of one group";
            return Err(refuse(Refused::OutOfOrder { expected }));
        }
        may_speak(self.inner.store, guest, message).map_err(refuse)?;
        Ok(header)
    }

    async fn read_chunks(
        &self,
        shared: &Shared,
        guest: &Guest,
        stream: &mut Streaming<SnapshotRequest>,
        mut writer: SnapshotWriter,
    ) -> Result<(), Status> {
        loop {
            match shared.next(stream).await?.and_then(|request| request.kind) {
                Some(Kind::Chunk(frame)) => {
                    check(guest, &frame).map_err(|refused| shared.refuse(refused))?;
                    writer = self.add_chunk(writer, frame).await?;
                }
                Some(Kind::End(frame)) => {
                    check(guest, &frame).map_err(|refused| shared.refuse(refused))?;
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
