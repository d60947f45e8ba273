//! Messages that wait for their connection.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use tinykv_replica::{PeerMessage, StoreId};
use tokio::sync::Notify;

use super::codec;

/// Bytes that wait for one store; further messages are dropped.
const QUEUE_BYTES_MAX: usize = 64 << 20;
/// A frame is closed when it has reached this size.
const FRAME_BYTES: usize = 1 << 20;

/// The queue of one store: shards and the log's thread push, one connection task takes.
pub(super) struct PeerQueue {
    store: StoreId,
    waiting: Mutex<Waiting>,
    wake: Notify,
    dropped: AtomicU64,
    /// Whether the stream is up, as far as this side knows.
    connected: AtomicBool,
}

#[derive(Default)]
struct Waiting {
    messages: VecDeque<PeerMessage>,
    bytes: usize,
}

impl PeerQueue {
    pub(super) fn new(store: StoreId) -> PeerQueue {
        PeerQueue {
            store,
            waiting: Mutex::default(),
            wake: Notify::new(),
            dropped: AtomicU64::new(0),
            connected: AtomicBool::new(false),
        }
    }

    pub(super) fn set_connected(&self, connected: bool) {
        self.connected.store(connected, Ordering::Release);
    }

    pub(super) fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Acquire)
    }

    pub(super) fn store(&self) -> StoreId {
        self.store
    }

    pub(super) fn push(&self, message: PeerMessage) {
        let size = codec::size(&message);
        let mut waiting = self.waiting.lock();
        if waiting.bytes + size > QUEUE_BYTES_MAX {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        waiting.bytes += size;
        waiting.messages.push_back(message);
        drop(waiting);
        self.wake.notify_one();
    }

    /// The messages of the next frame, at least one; waits for it.
    pub(super) async fn take(&self) -> Vec<PeerMessage> {
        loop {
            let frame = self.try_take();
            if !frame.is_empty() {
                return frame;
            }
            self.wake.notified().await;
        }
    }

    /// Waits until there is something to send.
    pub(super) async fn filled(&self) {
        while self.waiting.lock().messages.is_empty() {
            self.wake.notified().await;
        }
    }

    /// Forgets what waits: it is too old to be worth sending.
    pub(super) fn clear(&self) {
        *self.waiting.lock() = Waiting::default();
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    fn try_take(&self) -> Vec<PeerMessage> {
        let mut waiting = self.waiting.lock();
        let mut frame = Vec::new();
        let mut bytes = 0;
        while bytes < FRAME_BYTES
            && let Some(message) = waiting.messages.pop_front()
        {
            let size = codec::size(&message);
            bytes += size;
            waiting.bytes -= size;
            frame.push(message);
        }
        frame
    }
}
