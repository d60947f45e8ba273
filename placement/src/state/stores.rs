//! Commands about stores: they join, leave, are forgotten, and are kept from leading.
//!
//! A store is who it registered as (D9): its incarnation never changes, its start number never
//! falls. One that has left never returns, also when its record is forgotten.

use tinykv_replica::StoreId;

use super::records::{StoreLife, StoreRecord};
use super::rows::RowChange;
use super::{FIRST_ID, Refusal, Reply, State};

impl State {
    pub(super) fn put_store(
        &mut self,
        mut store: StoreRecord,
        changes: &mut Vec<RowChange>,
    ) -> Result<Reply, Refusal> {
        if !self.bootstrapped {
            return Err(Refusal::NotBootstrapped);
        }
        self.check_store(&store)?;
        self.merge_labels(&mut store)?;
        if let Some(known) = self.stores.get(&store.id) {
            // A restart neither ends nor begins a drain.
            store.life = known.life;
        }
        if self.stores.get(&store.id) != Some(&store) {
            changes.push(RowChange::put_store(&store));
            self.stores.insert(store.id, store);
        }
        Ok(Reply::Done)
    }

    /// D9: the record fits what is known about its id and its addresses.
    pub(super) fn check_store(&self, store: &StoreRecord) -> Result<(), Refusal> {
        let bad = |what: &str| Refusal::BadStore {
            store: store.id,
            what: what.into(),
        };
        if store.id.0 < FIRST_ID || store.id.0 >= self.next_id {
            return Err(bad("its id was not given out by this cluster"));
        }
        if store.address.is_empty() {
            return Err(bad("it names no address"));
        }
        if store.incarnation == 0 || store.start_number == 0 {
            return Err(bad("it names no incarnation or no start number"));
        }
        if self.has_left(store.id) {
            return Err(Refusal::TombstoneStore { store: store.id });
        }
        if let Some(known) = self.stores.get(&store.id) {
            if known.incarnation != store.incarnation {
                return Err(Refusal::ForeignStore {
                    store: store.id,
                    known: known.incarnation,
                    found: store.incarnation,
                });
            }
            if store.start_number < known.start_number {
                return Err(Refusal::OutdatedStore {
                    store: store.id,
                    known: known.start_number,
                    found: store.start_number,
                });
            }
        }
        let holder = self.stores.values().find(|other| {
            other.id != store.id
                && other.life != StoreLife::Tombstone
                && other.address == store.address
        });
        match holder {
            Some(holder) => Err(Refusal::AddressTaken {
                address: store.address.clone(),
                holder: holder.id,
            }),
            None => Ok(()),
        }
    }

    pub(super) fn set_store_life(
        &mut self,
        id: StoreId,
        life: StoreLife,
        changes: &mut Vec<RowChange>,
    ) -> Result<Reply, Refusal> {
        let held = self.region_on(id).is_some();
        let (serving, wanted) = (self.serving().count(), self.replicas_wanted());
        let Some(store) = self.stores.get_mut(&id) else {
            return Err(Refusal::UnknownStore { store: id });
        };
        if (store.life, life) == (StoreLife::Serving, StoreLife::Leaving)
            && serving <= wanted as usize
        {
            return Err(Refusal::NeededStore {
                store: id,
                others: serving - 1,
                wanted,
            });
        }
        let allowed = match (store.life, life) {
            (from, to) if from == to => true,
            (StoreLife::Serving, StoreLife::Leaving) | (StoreLife::Leaving, StoreLife::Serving) => {
                true
            }
            // Only once nothing is left on it.
            (StoreLife::Leaving, StoreLife::Tombstone) => !held,
            _ => false,
        };
        if !allowed {
            return Err(Refusal::BadLife {
                store: id,
                from: store.life,
                to: life,
            });
        }
        if store.life != life {
            store.life = life;
            changes.push(RowChange::put_store(store));
        }
        Ok(Reply::Done)
    }

    pub(super) fn forget_store(
        &mut self,
        id: StoreId,
        changes: &mut Vec<RowChange>,
    ) -> Result<Reply, Refusal> {
        if self.forgotten.contains(&id) {
            return Ok(Reply::Done);
        }
        if !self.stores.contains_key(&id) {
            return Err(Refusal::UnknownStore { store: id });
        }
        if !self.has_left(id) {
            return Err(Refusal::NoTombstone { store: id });
        }
        if let Some(region) = self.region_on(id).map(|region| region.id) {
            return Err(Refusal::HeldStore { store: id, region });
        }
        self.stores.remove(&id);
        self.forgotten.insert(id);
        changes.push(RowChange::delete_store(id));
        changes.push(RowChange::put_forgotten(id));
        if self.evicted.remove(&id) {
            changes.push(RowChange::delete_evicted(id));
        }
        Ok(Reply::Done)
    }

    /// The store is to lead nothing. Somebody must be left who may.
    pub(super) fn evict_leaders(
        &mut self,
        id: StoreId,
        changes: &mut Vec<RowChange>,
    ) -> Result<Reply, Refusal> {
        self.check_present(id)?;
        let may_lead = |other: &StoreRecord| other.id != id && !self.evicted.contains(&other.id);
        if !self.serving().any(may_lead) {
            return Err(Refusal::LastLeader { store: id });
        }
        if self.evicted.insert(id) {
            changes.push(RowChange::put_evicted(id));
        }
        Ok(Reply::Done)
    }

    pub(super) fn admit_leaders(
        &mut self,
        id: StoreId,
        changes: &mut Vec<RowChange>,
    ) -> Result<Reply, Refusal> {
        self.check_present(id)?;
        if self.evicted.remove(&id) {
            changes.push(RowChange::delete_evicted(id));
        }
        Ok(Reply::Done)
    }

    /// A store that is there and has not left.
    pub(super) fn check_present(&self, id: StoreId) -> Result<(), Refusal> {
        match self.stores.get(&id).map(|store| store.life) {
            None | Some(StoreLife::Tombstone) => Err(Refusal::UnknownStore { store: id }),
            Some(StoreLife::Serving | StoreLife::Leaving) => Ok(()),
        }
    }
}
