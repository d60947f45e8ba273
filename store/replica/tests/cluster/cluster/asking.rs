//! Clients: appends and reads, at the leader or wherever.

use std::time::Duration;

use tinykv_raft::GroupId;
use tinykv_replica::{Command, Event, Proposal, ReadRequest, RegionEpoch, WaiterId};

use super::Figures;
use super::{Cluster, KEYS_PER_GROUP, Open};
use crate::history::{Ending, History};
use crate::lists::encode_append;
use crate::random::Random;
use crate::store::Store;

impl Cluster {
    pub(super) fn ask_something(&mut self) {
        if !self.random.chance(3) {
            return;
        }
        let key = format!(
            "g{}k{}",
            self.random.between(1, self.founded),
            self.random.below(KEYS_PER_GROUP)
        );
        let founder = GroupId(self.random.between(1, self.founded));
        // Now and then somebody asks whom they knew long ago.
        let group = match self.group_of(&key) {
            Some(group) if !self.random.chance(10) => group,
            _ => founder,
        };
        let stores = self.stores.len() as u64;
        let store = match self.leader_store(group) {
            Some(leader) if !self.random.chance(6) => leader,
            _ => self.random.between(1, stores),
        };
        let is_read = self.random.chance(4);
        self.ask(store, group, &key, is_read);
    }

    pub(super) fn ask(&mut self, store: u64, group: GroupId, key: &str, is_read: bool) {
        let home = &mut self.stores[store as usize - 1];
        if !home.is_up() {
            return;
        }
        let epoch = home
            .regions
            .get(&group)
            .map(|(_, state)| state.region.epoch);
        let epoch = match epoch {
            Some(epoch) if !self.random.chance(20) => epoch,
            _ => RegionEpoch::FIRST,
        };
        let wait = self.random.between(self.patience.0, self.patience.1);
        let deadline = home.clock(self.now) + Duration::from_millis(wait);
        self.next_waiter += 1;
        let waiter = WaiterId(self.next_waiter);
        let append = if is_read {
            None
        } else {
            Some(self.next_number + 1)
        };
        let operation = self.history.invoke(key, append);
        self.open
            .insert((store, waiter), Open::Operation(operation));
        let event = match append {
            None => Event::Read(ReadRequest {
                group,
                peer: None,
                epoch: Some(epoch),
                deadline,
                waiter,
            }),
            Some(number) => {
                self.next_number = number;
                let write = |out: &mut _| encode_append(key.as_bytes(), number, out);
                let command = Command::build(epoch, 16, write);
                Event::Propose(Proposal {
                    group,
                    peer: None,
                    term: None,
                    command,
                    deadline,
                    waiter,
                })
            }
        };
        home.inbox.push(event);
    }
}

/// A read that asks nobody, by the rules of [`tinykv_replica::LeaseCell`].
pub(super) fn lease_read(
    store: &Store,
    clock: Duration,
    history: &mut History,
    random: &mut Random,
    figures: &mut Figures,
    founded: u64,
) {
    let cells: Vec<_> = store.leases.values().copied().collect();
    let Some(cell) = random.pick(&cells) else {
        return;
    };
    let Some((_, state)) = store.regions.get(&cell.group) else {
        return;
    };
    let base = random.between(1, founded);
    let key = format!("g{base}k{}", random.below(KEYS_PER_GROUP));
    let is_covered = state.region.epoch == cell.epoch && state.region.contains(key.as_bytes());
    if clock >= cell.valid_until || !is_covered {
        return;
    }
    figures.lease_reads += 1;
    let operation = history.invoke(&key, None);
    history.end(operation, Ending::Saw(store.list(key.as_bytes())));
}
