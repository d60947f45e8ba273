//! What waits for its connection: messages and, before them, heartbeats.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use tinykv_replica::{Heartbeat, PeerMessage, StoreId};
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
    pushed: AtomicU64,
    dropped: AtomicU64,
    /// Whether the stream is up, as far as this side knows.
    connected: AtomicBool,
}

#[derive(Default)]
struct Waiting {
    messages: VecDeque<PeerMessage>,
    bytes: usize,
    /// The newest call and the newest answer: either outdates those before it.
    call: Option<Heartbeat>,
    answer: Option<Heartbeat>,
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.messages.is_empty() && self.call.is_none() && self.answer.is_none()
    }
}

/// What is sent next.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Load {
    /// About this process.
    pub(super) heartbeats: Vec<Heartbeat>,
    /// One frame of messages, or none.
    pub(super) messages: Vec<PeerMessage>,
}

impl PeerQueue {
    pub(super) fn new(store: StoreId) -> PeerQueue {
        PeerQueue {
            store,
            waiting: Mutex::default(),
            wake: Notify::new(),
            pushed: AtomicU64::new(0),
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

    pub(super) fn push_heartbeat(&self, heartbeat: Heartbeat) {
        let mut waiting = self.waiting.lock();
        match heartbeat.is_call {
            true => waiting.call = Some(heartbeat),
            false => waiting.answer = Some(heartbeat),
        }
        drop(waiting);
        self.wake.notify_one();
    }

    pub(super) fn push(&self, message: PeerMessage) {
        self.pushed.fetch_add(1, Ordering::Relaxed);
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

    /// What is sent next, something at least; waits for it.
    pub(super) async fn take(&self) -> Load {
        loop {
            let load = self.try_take();
            if load != Load::default() {
                return load;
            }
            self.wake.notified().await;
        }
    }

    /// Waits until there is something to send.
    pub(super) async fn filled(&self) {
        while self.waiting.lock().is_empty() {
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

    /// Messages that were to be sent, dropped ones included.
    pub(super) fn pushed(&self) -> u64 {
        self.pushed.load(Ordering::Relaxed)
    }

    fn try_take(&self) -> Load {
        let mut waiting = self.waiting.lock();
        let heartbeats = [waiting.call.take(), waiting.answer.take()];
        let mut messages = Vec::new();
        let mut bytes = 0;
        while bytes < FRAME_BYTES
            && let Some(message) = waiting.messages.pop_front()
        {
            let size = codec::size(&message);
            bytes += size;
            waiting.bytes -= size;
            messages.push(message);
        }
        Load {
            heartbeats: heartbeats.into_iter().flatten().collect(),
            messages,
        }
    }
}
