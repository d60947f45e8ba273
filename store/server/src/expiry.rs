//! What has expired leaves the disk.
//!
//! Readers hide what has expired, so nothing depends on when, or whether, it leaves. It leaves in
//! compactions, on each store by itself. But a command that reads must find the same on all
//! replicas, now and when the log is replayed after a crash, so a value may leave only if no command
//! that is still to be applied can find it alive. A region's time never goes back, and commands
//! that come after a moment of it are applied at that moment or later. Those that a crash could
//! bring back come after what is flushed. Hence the cutoff of a region is its time **as flushed**.
//!
//! The records of regions in the tables are the whole truth about that, those of peers that were
//! removed from here included: each says that at this time its range was a region of its own, and
//! every region that has held those keys since has inherited that time, by splits, by merges (which
//! keep the later one) and by snapshots.
//!
//! Two things happen now and then, for regions where something can expire and nobody comes by: their
//! leaders move the time, and every table is compacted once more.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::RwLock;
use tinykv_engine::EngineOptions;
use tinykv_lsm::{CompactionFilter, Lsm, LsmError, Snapshot};
use tinykv_node::handle::Target;
use tinykv_raft::GroupId;
use tinykv_replica::{Command as Envelope, RegionEpoch, RegionState};

use crate::command::{Command, Operation};
use crate::machine::RegionTime;
use crate::reporting::Reporting;
use crate::space;
use crate::value::{PlacementTime, StoredValue};

/// How often cutoffs are read anew.
const REFRESH_INTERVAL: Duration = Duration::from_secs(10);
/// How often leaders move the time of regions in which something may expire.
const NUDGE_INTERVAL: Duration = Duration::from_secs(3600);
/// How often every table is compacted once more.
const REVISIT_INTERVAL: Duration = Duration::from_secs(24 * 3600);
/// How long moving a region's time may take.
const NUDGE_TIME_MAX: Duration = Duration::from_secs(10);

/// Up to when values may have expired to leave, range by range. Where ranges overlap, some of what
/// could leave stays.
#[derive(Debug, Default)]
struct Cutoffs {
    /// By first key: the end, and the time.
    ranges: BTreeMap<Bytes, (Bytes, PlacementTime)>,
    /// The regions they are of.
    regions: Vec<GroupId>,
}

impl Cutoffs {
    fn gather(flushed: &Snapshot) -> Result<Cutoffs, LsmError> {
        let all = space::region_states();
        let mut iter = flushed.iter(&all.start, &all.end)?;
        let mut cutoffs = Cutoffs::default();
        while iter.next()? {
            let Some(group) = space::region_of_state(iter.key()) else {
                continue;
            };
            // What cannot be read lets nothing go; whoever needs it says so.
            let Ok(state) = RegionState::decode(&iter.value()) else {
                continue;
            };
            let time = match RegionTime::decode(&state.machine) {
                Ok(RegionTime(time)) if time > PlacementTime(0) => time,
                _ => continue,
            };
            cutoffs.regions.push(group);
            for range in space::ranges(&state.region) {
                cutoffs.ranges.insert(range.start, (range.end, time));
            }
        }
        Ok(cutoffs)
    }

    fn of(&self, key: &[u8]) -> Option<PlacementTime> {
        let upto = (Bound::Unbounded, Bound::Included(key));
        let (_, (end, time)) = self.ranges.range::<[u8], _>(upto).next_back()?;
        (key < end.as_ref()).then_some(*time)
    }
}

/// Lets expired values go in compactions.
#[derive(Debug, Default)]
pub struct Expiry {
    cutoffs: RwLock<Arc<Cutoffs>>,
}

impl Expiry {
    /// Reads the cutoffs anew: what the tables say by now.
    ///
    /// # Errors
    /// I/O and damage of the tables; the cutoffs stay as they were.
    pub fn refresh(&self, lsm: &Lsm) -> Result<(), LsmError> {
        let cutoffs = Cutoffs::gather(&lsm.flushed_snapshot())?;
        *self.cutoffs.write() = Arc::new(cutoffs);
        Ok(())
    }

    /// The regions of this store in which something may expire.
    fn regions(&self) -> Vec<GroupId> {
        self.cutoffs.read().regions.clone()
    }
}

impl CompactionFilter for Expiry {
    fn drops(&self, key: &[u8], value: &[u8]) -> bool {
        let Some(expires_at) = StoredValue::expiry_of(value).filter(|_| space::is_raw(key)) else {
            return false;
        };
        let cutoff = self.cutoffs.read().of(key);
        cutoff.is_some_and(|cutoff| expires_at <= cutoff)
    }
}

/// The options of an engine whose compactions ask `expiry`.
pub fn engine_options(expiry: &Arc<Expiry>) -> EngineOptions {
    let mut options = EngineOptions::default();
    options.lsm.compaction_filter = Some(Arc::<Expiry>::clone(expiry));
    options
}

/// Keeps the cutoffs up to date until it is told to stop.
pub async fn run(reporting: Reporting, expiry: Arc<Expiry>) {
    let node = &reporting.node;
    let (mut nudged, mut revisited) = (node.now(), node.now());
    while !reporting.stop.is_requested() {
        let (filter, lsm) = (Arc::clone(&expiry), node.lsm().clone());
        match node.pool().run(move || filter.refresh(&lsm)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!("expired values stay for now: {error}"),
            Err(_closed) => return,
        }
        let (now, regions) = (node.now(), expiry.regions());
        if now >= nudged + NUDGE_INTERVAL {
            nudged = now;
            for group in &regions {
                move_time(&reporting, *group).await;
            }
        }
        if now >= revisited + REVISIT_INTERVAL && !regions.is_empty() {
            revisited = now;
            node.lsm().revisit();
        }
        tokio::select! {
            () = tokio::time::sleep(REFRESH_INTERVAL) => {}
            () = reporting.stop.requested() => return,
        }
    }
}

/// Moves the time of a region that is led here; another try comes an hour later.
async fn move_time(reporting: &Reporting, group: GroupId) {
    let node = &reporting.node;
    let led = node.directory().group(group).and_then(|entry| {
        let view = entry.view();
        let state = view.state.as_ref().filter(|_| view.leads)?;
        Some(state.region.epoch)
    });
    let now = reporting.clock.at(node.now());
    if let Some(epoch) = led.filter(|_| now > PlacementTime(0)) {
        let target = Target {
            group,
            peer: None,
            term: None,
            deadline: node.now() + NUDGE_TIME_MAX,
        };
        let outcome = node.propose(target, advance_time(epoch, now)).await;
        tracing::debug!(%group, ?outcome, "moved the time by which values expire");
    }
}

fn advance_time(epoch: RegionEpoch, now: PlacementTime) -> Envelope {
    let operation = Operation::AdvanceTime;
    let command = Command { now, operation };
    Envelope::build(epoch, command.encoded_len(), |out| command.encode_into(out))
}

#[cfg(test)]
mod tests;
