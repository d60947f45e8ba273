//! The state machine of the placement group: [`State`] over the group's rows.
//!
//! The state is small and lives in memory as a whole; its rows stand in the engine so that a
//! restart or a snapshot finds it again. The shard thread is the only writer. Everybody else
//! reads through [`SharedState`], whose lock is held for look-ups in memory and nothing else.

use std::cell::Cell;
use std::ops::Deref;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use parking_lot::{RwLock, RwLockReadGuard};
use tinykv_raft::{EntryId, GroupId};
use tinykv_replica::{
    ApplyContext, KeyRange, NeedsKeys, ReadError, Reader, Refusal, Region, RegionState,
    StateMachine,
};

use crate::state::{Command, Reply, Row, RowChange, State};

/// First byte of the engine keys of rows.
const ROWS: u8 = b'p';
/// First byte of the engine key of a group's description.
const GROUPS: u8 = b'g';

/// The state as of the last applied entry: one writer, many readers.
#[derive(Clone, Debug, Default)]
pub struct SharedState {
    state: Arc<RwLock<State>>,
}

impl SharedState {
    /// Looks at the state. Hold it briefly, never across an await, and never look again meanwhile:
    /// with the writer waiting in between, the second look would wait for it and it for the first.
    ///
    /// # Panics
    /// In debug builds, if this thread looks already.
    pub fn read(&self) -> StateGuard<'_> {
        debug_assert!(
            !LOOKS.replace(true),
            "this thread looks at the state already: with a writer waiting, both wait for ever"
        );
        StateGuard {
            state: self.state.read(),
        }
    }
}

thread_local! {
    /// Whether this thread holds a [`StateGuard`].
    static LOOKS: Cell<bool> = const { Cell::new(false) };
}

/// The state, which stays as it is while this is held.
#[derive(Debug)]
pub struct StateGuard<'a> {
    state: RwLockReadGuard<'a, State>,
}

impl Deref for StateGuard<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}

impl Drop for StateGuard<'_> {
    fn drop(&mut self) {
        LOOKS.set(false);
    }
}

/// What the driver replicates.
#[derive(Debug)]
pub struct Machine {
    shared: SharedState,
}

impl Machine {
    /// A machine whose state is seen through `shared`.
    pub fn new(shared: SharedState) -> Machine {
        Machine { shared }
    }
}

impl StateMachine for Machine {
    type Reply = Reply;

    fn ranges(_region: &Region) -> Vec<KeyRange> {
        vec![rows()]
    }

    fn state_key(group: GroupId) -> Bytes {
        let mut key = BytesMut::with_capacity(9);
        key.put_u8(GROUPS);
        key.put_u64(group.0);
        key.freeze()
    }

    fn check(_region: &Arc<Region>, command: &Bytes) -> Result<(), Refusal> {
        match Command::decode(command) {
            Ok(_) => Ok(()),
            Err(_) => Err(Refusal::Malformed {
                problem: "no command of the placement group",
            }),
        }
    }

    fn restore(&mut self, _state: &RegionState, reader: &dyn Reader) -> Result<(), ReadError> {
        let pairs = reader.scan(&rows())?;
        let stored = pairs.into_iter().map(|(key, value)| Row {
            key: key.slice(1..),
            value,
        });
        let restored = State::restore(stored).map_err(|error| ReadError(error.to_string()))?;
        *self.shared.state.write() = restored;
        Ok(())
    }

    fn apply(
        &mut self,
        _region: &Arc<Region>,
        _entry: EntryId,
        command: &Bytes,
        context: &mut ApplyContext<'_>,
    ) -> Result<Reply, NeedsKeys> {
        let command = Command::decode(command).expect("check was asked right before");
        let mut changes = Vec::new();
        let reply = self.shared.state.write().apply(command, &mut changes);
        for change in changes {
            match change {
                RowChange::Put(row) => context.put(engine_key(&row.key), row.value),
                RowChange::Delete { key } => context.delete(engine_key(&key)),
            }
        }
        Ok(reply)
    }
}

fn rows() -> KeyRange {
    KeyRange {
        start: Bytes::from_static(&[ROWS]),
        end: Bytes::from_static(&[ROWS + 1]),
    }
}

fn engine_key(row: &[u8]) -> Bytes {
    let mut key = BytesMut::with_capacity(1 + row.len());
    key.put_u8(ROWS);
    key.put_slice(row);
    key.freeze()
}
