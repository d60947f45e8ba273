//! Who waits for which answer. Owned by one shard thread; everybody in it is answered once.

use std::collections::BTreeMap;

use tinykv_replica::{Doubt, Outcome, Refusal, WaiterId};
use tokio::sync::oneshot;

/// Where the outcome of one request goes.
pub(crate) type Reply<R> = oneshot::Sender<Outcome<R>>;

/// The open requests of one shard.
pub(crate) struct Waiters<R> {
    open: BTreeMap<WaiterId, Reply<R>>,
}

impl<R> Waiters<R> {
    pub(crate) fn new() -> Waiters<R> {
        Waiters {
            open: BTreeMap::new(),
        }
    }

    /// # Panics
    /// When the id is taken: ids are never reused.
    pub(crate) fn insert(&mut self, waiter: WaiterId, reply: Reply<R>) {
        let taken = self.open.insert(waiter, reply);
        assert!(taken.is_none(), "waiter {waiter:?} registered twice");
    }

    /// Answers one waiter.
    ///
    /// # Panics
    /// When nobody waits under this id: the core answered twice.
    pub(crate) fn answer(&mut self, waiter: WaiterId, outcome: Outcome<R>) {
        let reply = self.open.remove(&waiter);
        let reply = reply.unwrap_or_else(|| panic!("waiter {waiter:?} answered twice"));
        answer(reply, outcome);
    }

    /// Answers everybody who is left when the thread ends. Their requests may be in the log.
    pub(crate) fn abandon(&mut self) {
        for reply in std::mem::take(&mut self.open).into_values() {
            answer(reply, Outcome::Undetermined(Doubt::ShuttingDown));
        }
    }
}

/// Answers a request that never reached a shard: it has certainly not happened.
pub(crate) fn refuse<R>(reply: Reply<R>, refusal: Refusal) {
    answer(reply, Outcome::DefinitelyNot(refusal));
}

fn answer<R>(reply: Reply<R>, outcome: Outcome<R>) {
    // The asker may be gone (its connection broke); then nobody is left to tell.
    let _unheard = reply.send(outcome);
}
