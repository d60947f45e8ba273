//! Who of the other stores lives: one heartbeat a pair of stores instead of one a group.
//!
//! Groups that sleep are silent, so their peers cannot tell a sleeping leader from a dead one.
//! Their stores can: as long as two stores share a sleeping group (or one that would like to
//! sleep), they exchange calls and answers. One `Neighbours` a process; pure, driven by its shell:
//!
//! 1. [`Neighbours::need`] with what each run says in [`crate::Effects::neighbours`];
//! 2. [`Neighbours::on_heartbeat`] with each [`Heartbeat`] that arrives;
//! 3. [`Neighbours::poll`] after each of these and every tick: it says which heartbeats to send,
//!    and what to post to all shards ([`crate::Event::StoreFresh`], [`crate::Event::StoreLost`]).
//!
//! A store is lost when it is silent for too long, or when it has started again. A group sleeps only
//! while the stores that matter to it are fresh, so what is lost here wakes exactly those groups.
//! Nothing that is safe rests on any of this.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::region::StoreId;

/// How patient a store is with others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeighbourConfig {
    /// Time between two calls to a store from which nothing else is heard. Default 400 ms.
    pub call_every: Duration,
    /// Silence after which a store is lost. Default 1,200 ms.
    pub lost_after: Duration,
    /// The same for a store to which the connection broke. Default 300 ms.
    pub lost_after_break: Duration,
}

impl Default for NeighbourConfig {
    fn default() -> NeighbourConfig {
        NeighbourConfig {
            call_every: Duration::from_millis(400),
            lost_after: Duration::from_millis(1_200),
            lost_after_break: Duration::from_millis(300),
        }
    }
}

/// What a store says to another. May be lost; a later one outdates it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// Which start of the sending store this is; rises with each.
    pub boot: u64,
    /// Rises with each heartbeat within a boot.
    pub seq: u64,
    /// Whether it is a call, which is answered at once.
    pub is_call: bool,
}

/// What a shell has to do now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NeighbourNews {
    /// To be sent.
    pub heartbeats: Vec<(StoreId, Heartbeat)>,
    /// To be posted to all shards first ([`crate::Event::StoreLost`]).
    pub lost: Vec<StoreId>,
    /// To be posted to all shards then ([`crate::Event::StoreFresh`]).
    pub fresh: Vec<StoreId>,
}

/// See the module.
#[derive(Debug)]
pub struct Neighbours {
    boot: u64,
    config: NeighbourConfig,
    seq: u64,
    /// What each shard needs.
    needs: BTreeMap<usize, BTreeSet<StoreId>>,
    stores: BTreeMap<StoreId, Neighbour>,
    polled_at: Option<Duration>,
    news: NeighbourNews,
}

/// A store that some shard needs.
#[derive(Debug)]
struct Neighbour {
    /// Its last heartbeat: boot and seq.
    last: Option<(u64, u64)>,
    /// Whether the shards were told that it lives.
    is_fresh: bool,
    /// It is lost if nothing is heard until then.
    deadline: Duration,
    /// When it is to be called.
    call_at: Duration,
}

impl Neighbours {
    /// `boot` is larger at every start of this store.
    pub fn new(boot: u64, config: NeighbourConfig) -> Neighbours {
        Neighbours {
            boot,
            config,
            seq: 0,
            needs: BTreeMap::new(),
            stores: BTreeMap::new(),
            polled_at: None,
            news: NeighbourNews::default(),
        }
    }

    /// What a shard needs from now on, instead of what it needed before.
    pub fn need(&mut self, shard: usize, stores: impl IntoIterator<Item = StoreId>, now: Duration) {
        self.needs.insert(shard, stores.into_iter().collect());
        let needed: BTreeSet<StoreId> = self.needs.values().flatten().copied().collect();
        for (store, gone) in self
            .stores
            .extract_if(.., |store, _| !needed.contains(store))
        {
            if gone.is_fresh {
                // Nobody watches it any more.
                self.news.lost.push(store);
            }
        }
        for store in needed {
            self.stores.entry(store).or_insert(Neighbour {
                last: None,
                is_fresh: false,
                deadline: now + self.config.lost_after,
                call_at: now,
            });
        }
    }

    /// A heartbeat of another store has arrived.
    pub fn on_heartbeat(&mut self, from: StoreId, heartbeat: Heartbeat, now: Duration) {
        if heartbeat.is_call {
            let answer = self.heartbeat(false);
            self.news.heartbeats.push((from, answer));
        }
        let Some(store) = self.stores.get_mut(&from) else {
            return;
        };
        let (before, heard) = (store.last, (heartbeat.boot, heartbeat.seq));
        if before >= Some(heard) {
            return;
        }
        store.last = Some(heard);
        store.deadline = now + self.config.lost_after;
        // Whoever calls is told and tells; nobody has to call back.
        store.call_at = now + self.config.call_every;
        let is_restarted = before.is_some_and(|(boot, _)| boot < heartbeat.boot);
        if is_restarted && store.is_fresh {
            store.is_fresh = false;
            self.news.lost.push(from);
        }
        if !store.is_fresh {
            store.is_fresh = true;
            self.news.fresh.push(from);
        }
    }

    /// The transport lost its connection to a store: it is called at once, and given less time.
    pub fn on_unreachable(&mut self, store: StoreId, now: Duration) {
        if let Some(store) = self.stores.get_mut(&store) {
            store.deadline = store.deadline.min(now + self.config.lost_after_break);
            store.call_at = now;
        }
    }

    /// Everything that is to be done now. To be called every 100 ms at least.
    pub fn poll(&mut self, now: Duration) -> NeighbourNews {
        let since = self
            .polled_at
            .map_or(Duration::ZERO, |at| now.saturating_sub(at));
        self.polled_at = Some(now);
        // Whoever stood still himself has heard nobody: that says nothing about the others.
        let is_own_pause = since >= self.config.call_every;
        let mut calls = Vec::new();
        for (id, store) in &mut self.stores {
            if is_own_pause {
                store.deadline = store.deadline.max(now + self.config.lost_after);
                store.call_at = now;
            }
            if store.is_fresh && store.deadline <= now {
                store.is_fresh = false;
                self.news.lost.push(*id);
            }
            if store.call_at <= now {
                store.call_at = now + self.config.call_every;
                calls.push(*id);
            }
        }
        for store in calls {
            let call = self.heartbeat(true);
            self.news.heartbeats.push((store, call));
        }
        std::mem::take(&mut self.news)
    }

    fn heartbeat(&mut self, is_call: bool) -> Heartbeat {
        self.seq += 1;
        Heartbeat {
            boot: self.boot,
            seq: self.seq,
            is_call,
        }
    }
}

#[cfg(test)]
mod tests;
