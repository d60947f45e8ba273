//! What shards give to the log's thread.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tinykv_replica::{PeerMessage, PersistToken};
use tinykv_wal::Batch;

use crate::admission::Admission;
use crate::transport::message_size;

/// The records of one run of a shard, and what may be said once they are durable.
pub(crate) struct WalWork {
    /// The number of the shard that waits for the token.
    pub(crate) shard: usize,
    /// What is posted back.
    pub(crate) token: PersistToken,
    /// Possibly empty: the promises may rest on earlier records.
    pub(crate) batch: Batch,
    /// Promises, sent once the batch is durable.
    pub(crate) messages: Vec<PeerMessage>,
}

impl WalWork {
    fn bytes(&self) -> usize {
        self.batch.size() + self.messages.iter().map(message_size).sum::<usize>()
    }
}

/// Shards push, the log's thread takes all there is. A shard never waits here; instead admission
/// lets nothing more in while the queue is longer than its limit, so that it exceeds the limit by
/// one run of each shard at most.
pub(crate) struct WalQueue {
    waiting: Mutex<Waiting>,
    wake: Condvar,
    admission: Arc<Admission>,
}

#[derive(Default)]
struct Waiting {
    works: Vec<WalWork>,
    bytes: usize,
    closed: bool,
}

/// What the thread finds.
pub(crate) struct Taken {
    pub(crate) works: Vec<WalWork>,
    /// Nothing more will come.
    pub(crate) closed: bool,
}

impl WalQueue {
    pub(crate) fn new(admission: Arc<Admission>) -> WalQueue {
        WalQueue {
            waiting: Mutex::default(),
            wake: Condvar::new(),
            admission,
        }
    }

    pub(crate) fn push(&self, work: WalWork) {
        let bytes = work.bytes();
        self.admission.log_queue_grew(bytes);
        let mut waiting = self.waiting.lock();
        waiting.bytes += bytes;
        waiting.works.push(work);
        drop(waiting);
        self.wake.notify_one();
    }

    /// All there is, in the order it came; after `patience` at most, even if nothing did.
    pub(crate) fn take(&self, patience: Duration) -> Taken {
        let mut waiting = self.waiting.lock();
        if waiting.works.is_empty() && !waiting.closed && !patience.is_zero() {
            self.wake.wait_for(&mut waiting, patience);
        }
        let bytes = std::mem::take(&mut waiting.bytes);
        let taken = Taken {
            works: std::mem::take(&mut waiting.works),
            closed: waiting.closed,
        };
        drop(waiting);
        self.admission.log_queue_shrank(bytes);
        taken
    }

    /// Says that no shard will push any more.
    pub(crate) fn close(&self) {
        self.waiting.lock().closed = true;
        self.wake.notify_one();
    }
}
