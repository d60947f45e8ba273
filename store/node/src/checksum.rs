//! Sums over what replicas hold, so that somebody can compare them (F3).
//!
//! A check is an entry of the region's log: every replica that applies it is to sum up the same state
//! and data. The shard's thread only takes a snapshot of the engine; a thread of the pool reads it, 16
//! MiB at a turn with a pause between turns, so that a check never takes more than a part of the disk
//! from those who ask for something. The sum waits on a board until the leader's store fetches it.
//!
//! What counts. The region's replicated state (range, epoch, peers, the machine's own), then each key and
//! value in order, with their lengths. Left out is what replicas may drop from their disks each at its
//! own time ([`StateMachine::is_content`]): values that have expired by the region's time.
//!
//! Bounds: [`RUNNING_MAX`] sums are worked out at once on a store, a further one is refused; the last
//! [`KEPT_MAX`] are kept. A replica that is started anew may apply the entry again, and sum up again:
//! nobody waits for that, and it ends up on the board like any other.
//!
//! [`StateMachine::is_content`]: tinykv_replica::StateMachine::is_content

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tinykv_lsm::{LsmError, Snapshot};
use tinykv_raft::{EntryId, GroupId};
use tinykv_replica::{Check, KeyRange, RegionState};
use tokio::sync::watch;

/// Sums worked out at once.
pub const RUNNING_MAX: usize = 4;
/// Sums that are kept.
pub const KEPT_MAX: usize = 256;
/// Bytes of keys and values read in one turn.
const TURN_BYTES_MAX: u64 = 16 << 20;

/// What a replica holds as of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sum {
    /// The last entry applied to it.
    pub entry: EntryId,
    /// CRC-32C of the region's state, then of all keys and values in order.
    pub crc32c: u32,
    /// How many there are.
    pub pairs: u64,
    /// Bytes of keys and values.
    pub bytes: u64,
}

/// Why there is no sum.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotSummed {
    /// See [`RUNNING_MAX`].
    #[error("the store works out {RUNNING_MAX} sums already")]
    Busy,
    /// The engine could not read.
    #[error("the replica cannot be read: {0}")]
    Unreadable(String),
}

/// The sums of a store, by region and check.
#[derive(Debug, Default)]
pub struct Checksums {
    board: Mutex<Board>,
    news: watch::Sender<()>,
}

type Key = (GroupId, u64);

#[derive(Debug, Default)]
struct Board {
    running: usize,
    /// `None`: being worked out.
    sums: BTreeMap<Key, Option<Result<Sum, NotSummed>>>,
    /// Those that are finished, from the oldest on.
    finished: VecDeque<Key>,
}

impl Checksums {
    /// Notes that a sum is being worked out; `false` if it must not be.
    pub(crate) fn begin(&self, check: &Check) -> bool {
        let key = (check.group, check.id);
        let mut board = self.board.lock();
        if board.running < RUNNING_MAX {
            board.running += 1;
            board.sums.insert(key, None);
            return true;
        }
        board.finish(key, Err(NotSummed::Busy));
        drop(board);
        self.news.send_replace(());
        false
    }

    /// Puts up what came of it.
    pub(crate) fn end(&self, check: &Check, result: Result<Sum, NotSummed>) {
        let mut board = self.board.lock();
        board.running -= 1;
        board.finish((check.group, check.id), result);
        drop(board);
        self.news.send_replace(());
    }

    /// Waits until there is a sum for a check, or the reason why there is none. For ever, if the
    /// check never comes: whoever waits sets a limit.
    pub async fn wait(&self, group: GroupId, check: u64) -> Result<Sum, NotSummed> {
        let mut news = self.news.subscribe();
        loop {
            news.borrow_and_update();
            if let Some(Some(result)) = self.board.lock().sums.get(&(group, check)) {
                return result.clone();
            }
            if news.changed().await.is_err() {
                // The sender is a part of `self`.
                unreachable!("the board is there as long as somebody looks at it");
            }
        }
    }
}

impl Board {
    fn finish(&mut self, key: Key, result: Result<Sum, NotSummed>) {
        self.sums.insert(key, Some(result));
        self.finished.push_back(key);
        if self.finished.len() > KEPT_MAX
            && let Some(oldest) = self.finished.pop_front()
        {
            self.sums.remove(&oldest);
        }
    }
}

/// Which pairs count: [`tinykv_replica::StateMachine::is_content`].
type IsContent = fn(&RegionState, &[u8], &Bytes) -> bool;

/// A sum that is being worked out, turn by turn.
pub(crate) struct Summing {
    snapshot: Snapshot,
    state: Arc<RegionState>,
    is_content: IsContent,
    /// What is left to be read.
    ranges: VecDeque<KeyRange>,
    sum: Sum,
}

impl Summing {
    pub(crate) fn new(check: &Check, snapshot: Snapshot, is_content: IsContent) -> Summing {
        Summing {
            snapshot,
            state: Arc::clone(&check.state),
            is_content,
            ranges: check.ranges.iter().cloned().collect(),
            sum: Sum {
                entry: check.entry,
                crc32c: framed(0, &check.state.encode()),
                pairs: 0,
                bytes: 0,
            },
        }
    }

    /// Reads on; the sum, once everything was read.
    pub(crate) fn turn(&mut self) -> Result<Option<Sum>, LsmError> {
        self.turn_of(TURN_BYTES_MAX)
    }

    fn turn_of(&mut self, bytes_max: u64) -> Result<Option<Sum>, LsmError> {
        let mut read = 0;
        while let Some(range) = self.ranges.front_mut() {
            let mut iter = self.snapshot.iter(&range.start, &range.end)?;
            let is_at_end = loop {
                if !iter.next()? {
                    break true;
                }
                let (key, value) = (iter.key(), iter.value());
                read += (key.len() + value.len()) as u64;
                if (self.is_content)(&self.state, key, &value) {
                    let crc = framed(self.sum.crc32c, key);
                    self.sum.crc32c = framed(crc, &value);
                    self.sum.pairs += 1;
                    self.sum.bytes += (key.len() + value.len()) as u64;
                }
                if read >= bytes_max {
                    // The key after this one.
                    range.start = Bytes::from([key, &[0]].concat());
                    break false;
                }
            };
            if !is_at_end {
                return Ok(None);
            }
            self.ranges.pop_front();
        }
        Ok(Some(self.sum))
    }
}

/// With its length in front, so that no byte can move from one string to the next unseen.
fn framed(crc: u32, bytes: &[u8]) -> u32 {
    let length = (bytes.len() as u64).to_le_bytes();
    crc32c::crc32c_append(crc32c::crc32c_append(crc, &length), bytes)
}

#[cfg(test)]
mod tests;
