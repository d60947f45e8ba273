//! Opening: from a directory to a log one can write to.
//!
//! A recovered log is never continued in the segment it ended in: the writer begins a new one,
//! whose first frame says where the log that counts ended. So what was torn off can never come
//! back, and no frame is written where bytes of unknown fate stand. The first frame also records
//! which groups are damaged; it is synced before anybody is told anything.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use tinykv_env::Env;
use tinykv_raft::GroupId;

use crate::codec::next_record;
use crate::frame::{FRAME_HEADER, FrameHeader};
use crate::index::{GroupLog, Index, SegmentUse, Tombstone};
use crate::scan::{Chain, Scan, contents};
use crate::segment::{self, Listing, Pool, Segment};
use crate::stored::Stored;
use crate::writer::{End, Wal};
use crate::{Damage, Position, Recovered, WalError, WalOptions};

/// See [`Wal::open`].
pub(crate) fn open(
    env: Arc<dyn Env>,
    dir: &Path,
    options: WalOptions,
) -> Result<(Wal, Recovered), WalError> {
    options.validate()?;
    env.create_dir_all(dir)?;
    if let Some(parent) = dir.parent() {
        env.sync_dir(parent)?;
    }
    let listing = segment::list(&*env, dir)?;
    if listing.has_identity {
        return open_existing(env, dir, options, &listing);
    }
    segment::remove_debris(&*env, dir, &listing)?;
    create(env, dir, options)
}

/// The identity comes last: until it is there, the directory is no log.
fn create(
    env: Arc<dyn Env>,
    dir: &Path,
    options: WalOptions,
) -> Result<(Wal, Recovered), WalError> {
    let log_id = env.random_u64();
    let pool = Pool::new(env.clone(), dir, options.segment_bytes, &[]);
    let mut wal = Wal::new(env.clone(), dir, options, log_id, pool);
    wal.begin(1, Vec::new())?;
    segment::write_identity(&*env, dir, log_id).map_err(|e| wal.fail(e))?;
    let recovered = Recovered {
        durable: wal.durable(),
        ..Recovered::default()
    };
    Ok((wal, recovered))
}

fn open_existing(
    env: Arc<dyn Env>,
    dir: &Path,
    options: WalOptions,
    listing: &Listing,
) -> Result<(Wal, Recovered), WalError> {
    let log_id = segment::read_identity(&*env, dir)?;
    let scan = Scan::read(&*env, log_id, &listing.files)?;
    let mut chain = scan.chain(dir).ok_or_else(|| WalError::Unusable {
        path: dir.to_owned(),
        what: "not one frame of the log can be read",
    })?;
    if listing.has_marker {
        chain.damage.push(Damage {
            path: segment::marker_path(dir),
            offset: 0,
            what: "an fsync failed in an earlier life",
        });
    }
    let pool = Pool::new(env.clone(), dir, options.segment_bytes, &listing.files);
    let mut wal = Wal::new(env.clone(), dir, options, log_id, pool);
    let mut index = replay(log_id, &scan, &chain)?;
    mark_damaged(&mut index, &mut chain, dir);
    sync_tail(&index, &chain).map_err(|e| wal.fail(e))?;
    // Each frame tells how many files there are: what a killed process created must not go with
    // the power after that (D2).
    env.sync_dir(dir).map_err(|e| wal.fail(e))?;
    let damaged = newly_recorded(&index, &chain);
    let recovered_groups = index.recovered_groups();
    let tombstones = index.tombstones.iter();
    let tombstones = tombstones.map(|(id, t)| (*id, t.payload.clone())).collect();

    for file in scan.files {
        if !index.segments.contains_key(&file.segment) {
            let whole = file.segment > 0 && file.len == wal.options.segment_bytes;
            wal.pool.give(file.file, if whole { file.len } else { 0 });
        }
    }
    wal.index = Arc::new(Mutex::new(index));
    wal.end = End {
        offset: 0,
        continues: chain.end,
        number: chain.frames.last().map_or(0, |frame| frame.number),
    };
    wal.durable = chain.end;
    wal.oldest = chain.oldest;
    wal.damage_known = if chain.damage.is_empty() {
        chain.damage_known
    } else {
        chain.end
    };
    wal.begin(chain.segment_max + 1, damaged)?;
    if listing.has_marker {
        segment::remove_marker(&*env, dir).map_err(|e| wal.fail(e))?;
    }
    let recovered = Recovered {
        groups: recovered_groups,
        tombstones,
        damaged: chain.damage,
        durable: wal.durable(),
        torn_frames: chain.torn,
    };
    Ok((wal, recovered))
}

/// Enters every record of the chain into new books.
fn replay(log_id: u64, scan: &Scan, chain: &Chain) -> Result<Index, WalError> {
    let mut index = Index::default();
    let mut by_segment: BTreeMap<u32, Vec<&FrameHeader>> = BTreeMap::new();
    for frame in &chain.frames {
        let frames = by_segment.entry(frame.position.segment()).or_default();
        frames.push(frame);
    }
    for scanned in &scan.files {
        if by_segment.contains_key(&scanned.segment) {
            let segment = SegmentUse {
                segment: Arc::new(Segment {
                    number: scanned.segment,
                    file: scanned.file.clone(),
                    len: scanned.len,
                }),
                groups: std::collections::BTreeSet::new(),
            };
            index.segments.insert(scanned.segment, segment);
        }
    }
    for (number, frames) in by_segment {
        let segment = index.segments[&number].segment.clone();
        let contents = contents(&segment.file)?;
        for frame in frames {
            replay_frame(log_id, &mut index, &contents, frame).ok_or_else(|| {
                WalError::Unusable {
                    path: segment.file.path().to_owned(),
                    what: "a valid frame holds what this version cannot read",
                }
            })?;
        }
    }
    index.written = chain.end;
    index.durable = chain.end;
    Ok(index)
}

fn replay_frame(
    log_id: u64,
    index: &mut Index,
    contents: &[u8],
    frame: &FrameHeader,
) -> Option<()> {
    // It was verified in the scan; the file may have changed under us all the same.
    FrameHeader::open(log_id, contents, frame.position.offset()).ok()?;
    let start = (frame.position.offset() + FRAME_HEADER) as usize;
    let payload = contents.get(start..start + frame.payload_len as usize)?;
    let mut at = 0;
    while at < payload.len() {
        let found = next_record(log_id, payload, at)?;
        let stored = found.decode()?;
        let position = frame.position.0 + u64::from(FRAME_HEADER) + at as u64;
        index.apply(&stored, Position(position), found.len as u32);
        at += found.len;
    }
    Some(())
}

/// Damage may have hit any group: nobody knows what stood in a frame that cannot be read.
fn mark_damaged(index: &mut Index, chain: &mut Chain, dir: &Path) {
    for group in index.check() {
        let known = index
            .groups
            .get(&group)
            .is_some_and(|log| log.state.damaged);
        if !known && chain.damage.is_empty() {
            chain.damage.push(Damage {
                path: dir.to_owned(),
                offset: 0,
                what: "the log of a group has a gap",
            });
        }
    }
    if !chain.damage.is_empty() {
        for log in index.groups.values_mut() {
            log.state.damaged = true;
        }
    }
}

/// What was read may have come from a cache that a killed process left unsynced.
fn sync_tail(index: &Index, chain: &Chain) -> io::Result<()> {
    for (_, segment) in index.segments.range(chain.watermark.segment()..) {
        segment.segment.file.sync_data()?;
    }
    Ok(())
}

/// What this start has to put on record when it has found damage: all graves, and the states of all
/// damaged groups. A group that lost its birth has a place of its own in the log again by that.
///
/// After a failed sync what was read may stand in the cache alone, which calls it written: a grave
/// that went with the power would let its dead peer serve again. Where its group lives again, the grave
/// kills nobody.
fn newly_recorded(index: &Index, chain: &Chain) -> Vec<Stored> {
    if chain.damage.is_empty() {
        return Vec::new();
    }
    let grave = |(id, tombstone): (&GroupId, &Tombstone)| Stored::Tombstone {
        group: *id,
        payload: tombstone.payload.clone(),
        carried: index.groups.contains_key(id),
    };
    let carried = |(id, log): (&GroupId, &GroupLog)| {
        log.state.damaged.then(|| Stored::Carried {
            group: *id,
            state: log.state.clone(),
        })
    };
    let carried = index.groups.iter().filter_map(carried);
    index.tombstones.iter().map(grave).chain(carried).collect()
}
