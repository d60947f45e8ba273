//! The state as rows: what stands in the engine, and how a state is made from it again.
//!
//! | key | value |
//! | --- | --- |
//! | `c` | cluster id, next id, timestamp bound, bootstrapped |
//! | `e` + store id | a store that is to lead nothing: its id |
//! | `f` + store id | a store that was forgotten: its id |
//! | `g` | settings |
//! | `m` + member id | a member |
//! | `r` + region id | a region |
//! | `s` + store id | a store |
//! | `x` + member id | a member that was removed: as it was |
//!
//! Ids are big-endian, so rows of a kind are in order. Every value has a format version.

use bytes::Bytes;
use thiserror::Error;
use tinykv_raft::{GroupId, PeerId};
use tinykv_replica::{Region, StoreId};

use super::codec::{DecodeError, Reader, Writer};
use super::records::{MemberRecord, StoreRecord, decode_region, encode_region};
use super::settings::Settings;
use super::{FIRST_ID, State};

const VERSION: u8 = 1;

const CLUSTER: u8 = b'c';
const EVICTED: u8 = b'e';
const FORGOTTEN: u8 = b'f';
const SETTINGS: u8 = b'g';
const MEMBER: u8 = b'm';
const REGION: u8 = b'r';
const STORE: u8 = b's';
const REMOVED_MEMBER: u8 = b'x';

/// One stored row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Unique within the group.
    pub key: Bytes,
    /// Versioned.
    pub value: Bytes,
}

/// A change of one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowChange {
    /// The row has this value from now on.
    Put(Row),
    /// The row is gone.
    Delete {
        /// Its key.
        key: Bytes,
    },
}

/// Rows that do not make a state. The data is damaged or from a later release; the process stops.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("row {key:02x?} of the placement state cannot be read: {cause}")]
pub struct RestoreError {
    /// The row's key.
    pub key: Bytes,
    /// What is wrong with its value.
    pub cause: DecodeError,
}

impl RowChange {
    pub(super) fn put_settings(settings: &Settings) -> RowChange {
        put(SETTINGS, None, |out| settings.encode(out))
    }

    pub(super) fn put_member(member: &MemberRecord) -> RowChange {
        put(MEMBER, Some(member.id.0), |out| member.encode(out))
    }

    pub(super) fn delete_member(id: PeerId) -> RowChange {
        RowChange::Delete {
            key: key(MEMBER, Some(id.0)),
        }
    }

    pub(super) fn put_removed_member(member: &MemberRecord) -> RowChange {
        put(REMOVED_MEMBER, Some(member.id.0), |out| member.encode(out))
    }

    pub(super) fn put_region(region: &Region) -> RowChange {
        put(REGION, Some(region.id.0), |out| encode_region(region, out))
    }

    pub(super) fn put_store(store: &StoreRecord) -> RowChange {
        put(STORE, Some(store.id.0), |out| store.encode(out))
    }

    pub(super) fn put_forgotten(id: StoreId) -> RowChange {
        put(FORGOTTEN, Some(id.0), |out| out.u64(id.0))
    }

    pub(super) fn delete_region(id: GroupId) -> RowChange {
        RowChange::Delete {
            key: key(REGION, Some(id.0)),
        }
    }

    pub(super) fn put_evicted(id: StoreId) -> RowChange {
        put(EVICTED, Some(id.0), |out| out.u64(id.0))
    }

    pub(super) fn delete_evicted(id: StoreId) -> RowChange {
        RowChange::Delete {
            key: key(EVICTED, Some(id.0)),
        }
    }

    pub(super) fn delete_store(id: StoreId) -> RowChange {
        RowChange::Delete {
            key: key(STORE, Some(id.0)),
        }
    }
}

impl State {
    pub(super) fn cluster_row(&self) -> RowChange {
        put(CLUSTER, None, |out| {
            out.u64(self.cluster_id);
            out.u64(self.next_id);
            out.u64(self.timestamp_bound_ms);
            out.u8(u8::from(self.bootstrapped));
        })
    }

    /// Makes the state from all its rows, in any order.
    pub fn restore(rows: impl IntoIterator<Item = Row>) -> Result<State, RestoreError> {
        let mut state = State::default();
        for row in rows {
            state.restore_row(&row).map_err(|cause| RestoreError {
                key: row.key.clone(),
                cause,
            })?;
        }
        Ok(state)
    }

    fn restore_row(&mut self, row: &Row) -> Result<(), DecodeError> {
        let mut from = Reader::new(&row.value);
        let kind = from.open(VERSION, "row")?;
        if row.key.first() != Some(&kind) {
            return Err(DecodeError::Unknown {
                field: "row kind",
                value: u64::from(kind),
            });
        }
        match kind {
            CLUSTER => {
                self.cluster_id = from.u64("cluster id")?;
                self.next_id = from.u64("next id")?.max(FIRST_ID);
                self.timestamp_bound_ms = from.u64("timestamp bound")?;
                self.bootstrapped = from.u8("bootstrapped")? != 0;
            }
            EVICTED => {
                self.evicted.insert(StoreId(from.u64("store id")?));
            }
            FORGOTTEN => {
                self.forgotten.insert(StoreId(from.u64("store id")?));
            }
            SETTINGS => self.settings = Settings::decode(&mut from)?,
            MEMBER => {
                let member = MemberRecord::decode(&mut from)?;
                self.members.insert(member.id, member);
            }
            REMOVED_MEMBER => {
                let member = MemberRecord::decode(&mut from)?;
                self.removed_members.insert(member.id, member);
            }
            REGION => {
                self.routes.insert(decode_region(&mut from)?);
            }
            STORE => {
                let store = StoreRecord::decode(&mut from)?;
                self.stores.insert(store.id, store);
            }
            other => {
                return Err(DecodeError::Unknown {
                    field: "row kind",
                    value: u64::from(other),
                });
            }
        }
        from.finish()
    }
}

fn key(kind: u8, id: Option<u64>) -> Bytes {
    let mut key = vec![kind];
    if let Some(id) = id {
        key.extend_from_slice(&id.to_be_bytes());
    }
    Bytes::from(key)
}

fn put(kind: u8, id: Option<u64>, encode: impl FnOnce(&mut Writer)) -> RowChange {
    let mut out = Writer::new(VERSION, kind);
    encode(&mut out);
    RowChange::Put(Row {
        key: key(kind, id),
        value: out.finish(),
    })
}
