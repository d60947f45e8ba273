//! Replacing and dropping a region's data in the engine.

use std::io;

use bytes::Bytes;
use tinykv_engine::{Engine, EngineError};
use tinykv_lsm::{Ingest, OriginId, WriteBatch};
use tinykv_raft::{EntryId, GroupId};
use tinykv_replica::{Destroy, KeyRange, RegionState, SnapshotHandle};

use crate::transport::snapshot::SnapshotFiles;

/// A received snapshot and what it replaces.
pub(crate) struct Ingestion<'a> {
    pub(crate) group: GroupId,
    /// The snapshot's last entry.
    pub(crate) snapshot: EntryId,
    /// The region afterwards.
    pub(crate) state: &'a RegionState,
    /// Where the engine keeps it.
    pub(crate) state_key: Bytes,
    /// Engine ranges of which nothing older stays.
    pub(crate) drop: &'a [KeyRange],
    pub(crate) handle: SnapshotHandle,
}

/// Takes a snapshot into the engine: drop, tables, region state and applied index in one durable
/// step (M6). Doing it again after a crash is fine.
pub(crate) fn ingest(
    engine: &Engine,
    files: &SnapshotFiles,
    ingestion: &Ingestion<'_>,
) -> Result<(), EngineError> {
    let state = ingestion.state.encode();
    let tables = files.complete(ingestion.handle, &ingestion.state_key, &state)?;
    // The tree stays a prefix of what was applied, for all groups at once: a parent's split must not
    // be applied again over what its child has become.
    engine.lsm().flush()?;
    let ingest = Ingest {
        drop: pairs(ingestion.drop),
        files: tables,
        applied: Some((OriginId(ingestion.group.0), ingestion.snapshot.index.0)),
    };
    engine.install(ingestion.group, ingestion.snapshot, &ingest)
}

/// Whether there was no space for what was to be done; nothing was.
pub(crate) fn is_disk_full(error: &EngineError) -> bool {
    match error {
        EngineError::Lsm(error) => error.is_disk_full(),
        EngineError::Io(error) => error.kind() == io::ErrorKind::StorageFull,
        _ => false,
    }
}

/// Drops the data of a dead peer, durably.
pub(crate) fn destroy(
    engine: &Engine,
    destroy: &Destroy,
    state_key: Bytes,
) -> Result<(), EngineError> {
    engine.lsm().flush()?;
    let mut batch = WriteBatch::new();
    batch.delete(state_key);
    batch.forget(OriginId(destroy.group.0));
    engine.write(&batch)?;
    engine.lsm().ingest(&Ingest {
        drop: pairs(&destroy.drop),
        files: Vec::new(),
        applied: None,
    })?;
    Ok(engine.lsm().flush()?)
}

fn pairs(ranges: &[KeyRange]) -> Vec<(Bytes, Bytes)> {
    let pair = |range: &KeyRange| (range.start.clone(), range.end.clone());
    ranges.iter().map(pair).collect()
}
