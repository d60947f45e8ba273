//! Who of the other processes lives, so that groups may sleep.
//!
//! [`Neighbours`] decides; here it meets streams and shards. Whatever happens to it, it is asked at
//! once what follows: heartbeats go to the queues, and every shard is told who is lost and who is
//! fresh, in the order in which it was found out.

use std::time::Duration;

use tinykv_proto::peer;
use tinykv_replica::{Heartbeat, Neighbours, StoreId};

use super::{Shared, Transport};

impl Transport {
    /// What a shard wants to know about from now on, instead of what it wanted before.
    pub(crate) fn need(&self, shard: usize, stores: Vec<StoreId>) {
        self.watch(|neighbours, now| neighbours.need(shard, stores, now));
    }

    /// Time has passed; to be called every 100 ms at least.
    pub(crate) fn tick(&self) {
        self.watch(|_, _| ());
    }

    /// A heartbeat came in.
    pub(super) fn hear(&self, from: StoreId, heartbeat: peer::Heartbeat) {
        self.shared.metrics.heartbeats("received").inc();
        let heartbeat = heartbeat_from_proto(heartbeat);
        self.watch(|neighbours, now| neighbours.on_heartbeat(from, heartbeat, now));
    }

    /// The connection to a store broke, or there is still none.
    pub(super) fn lose(&self, store: StoreId) {
        self.shared.sink.unreachable(store);
        self.watch(|neighbours, now| neighbours.on_unreachable(store, now));
    }

    fn watch(&self, change: impl FnOnce(&mut Neighbours, Duration)) {
        let Shared { env, sink, .. } = &*self.shared;
        let mut neighbours = self.shared.neighbours.lock();
        let now = env.now();
        change(&mut neighbours, now);
        let news = neighbours.poll(now);
        // Told under the lock: what another thread finds out later has to arrive later.
        news.lost.into_iter().for_each(|store| sink.lost(store));
        news.fresh.into_iter().for_each(|store| sink.fresh(store));
        drop(neighbours);
        for (store, heartbeat) in news.heartbeats {
            self.shared.metrics.heartbeats("sent").inc();
            self.queue(store).push_heartbeat(heartbeat);
        }
    }
}

/// A heartbeat that came in.
pub fn heartbeat_from_proto(heartbeat: peer::Heartbeat) -> Heartbeat {
    let peer::Heartbeat { boot, seq, is_call } = heartbeat;
    Heartbeat { boot, seq, is_call }
}

/// A heartbeat as it travels.
pub fn heartbeat_to_proto(heartbeat: Heartbeat) -> peer::Heartbeat {
    let Heartbeat { boot, seq, is_call } = heartbeat;
    peer::Heartbeat { boot, seq, is_call }
}
