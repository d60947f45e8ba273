//! How things reach a shard thread.
//!
//! Bounds and what happens at them: Raft messages are counted in bytes and dropped when there are
//! too many (Raft sends again); requests are counted and refused; notices (durability, fetched
//! values, finished jobs) answer something the shard itself asked for, so they are bounded by
//! what it asks, and are never dropped.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tinykv_replica::{Event, PeerMessage, Shard, StateMachine, WaiterId};
use tokio::sync::oneshot;

use crate::transport::message_size;
use crate::waiters::Reply;

/// Bytes of Raft messages that wait for one shard.
const MESSAGE_BYTES_MAX: usize = 64 << 20;
/// Requests that wait for one shard to look at them.
const REQUESTS_MAX: usize = 16 << 10;

/// One thing for a shard to look at.
pub(crate) enum Item<S: StateMachine> {
    /// A message or a notice.
    Event(Event),
    /// Something that is answered.
    Request(Event, WaiterId, Reply<S::Reply>),
    /// A question about the shard's groups.
    Query(Question<S>),
}

/// Runs on the shard's thread.
pub(crate) type Question<S> = Box<dyn FnOnce(&Shard<S>) + Send>;

/// Why a request was not taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Too many requests wait.
    Full,
    /// The thread has ended or is about to.
    Closed,
}

/// The inbox of one shard: many push, its thread takes.
pub(crate) struct Inbox<S: StateMachine> {
    waiting: Mutex<Waiting<S>>,
    wake: Condvar,
    dropped: AtomicU64,
}

struct Waiting<S: StateMachine> {
    items: Vec<Item<S>>,
    message_bytes: usize,
    requests: usize,
    closed: bool,
}

impl<S: StateMachine> Inbox<S> {
    pub(crate) fn new() -> Inbox<S> {
        Inbox {
            waiting: Mutex::new(Waiting {
                items: Vec::new(),
                message_bytes: 0,
                requests: 0,
                closed: false,
            }),
            wake: Condvar::new(),
            dropped: AtomicU64::new(0),
        }
    }

    /// Delivers messages; those that do not fit are dropped.
    pub(crate) fn push_messages(&self, messages: impl IntoIterator<Item = PeerMessage>) {
        let mut waiting = self.waiting.lock();
        for message in messages {
            let size = message_size(&message);
            if waiting.closed || waiting.message_bytes + size > MESSAGE_BYTES_MAX {
                self.dropped.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            waiting.message_bytes += size;
            waiting.items.push(Item::Event(Event::Message(message)));
        }
        drop(waiting);
        self.wake.notify_one();
    }

    /// Delivers a request.
    pub(crate) fn push_request(
        &self,
        event: Event,
        waiter: WaiterId,
        reply: Reply<S::Reply>,
    ) -> Result<(), Refused> {
        let mut waiting = self.waiting.lock();
        if waiting.closed {
            return Err(Refused::Closed);
        }
        if waiting.requests >= REQUESTS_MAX {
            return Err(Refused::Full);
        }
        waiting.requests += 1;
        waiting.items.push(Item::Request(event, waiter, reply));
        drop(waiting);
        self.wake.notify_one();
        Ok(())
    }

    /// Delivers a notice. After the end of the thread nobody is left to notice.
    pub(crate) fn push_notice(&self, event: Event) {
        self.push(Item::Event(event));
    }

    /// Asks the shard; `None` after its end.
    pub(crate) fn query<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Shard<S>) -> T + Send + 'static,
    ) -> oneshot::Receiver<T> {
        let (answer, receiver) = oneshot::channel();
        self.push(Item::Query(Box::new(move |shard| {
            // The asker may have stopped waiting; then nobody needs the answer.
            let _unwanted = answer.send(question(shard));
        })));
        receiver
    }

    /// All that waits; after `patience` at most, even if nothing does.
    pub(crate) fn take(&self, patience: Duration) -> Vec<Item<S>> {
        let mut waiting = self.waiting.lock();
        if waiting.items.is_empty() && !patience.is_zero() {
            self.wake.wait_for(&mut waiting, patience);
        }
        waiting.message_bytes = 0;
        waiting.requests = 0;
        std::mem::take(&mut waiting.items)
    }

    /// Accepts nothing more and returns what still waits.
    pub(crate) fn close(&self) -> Vec<Item<S>> {
        let mut waiting = self.waiting.lock();
        waiting.closed = true;
        std::mem::take(&mut waiting.items)
    }

    /// Raft messages dropped so far because the inbox was full.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    fn push(&self, item: Item<S>) {
        let mut waiting = self.waiting.lock();
        if waiting.closed {
            return;
        }
        waiting.items.push(item);
        drop(waiting);
        self.wake.notify_one();
    }
}

#[cfg(test)]
mod tests;
