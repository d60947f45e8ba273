//! Which regions have grown too large.
//!
//! A region's size on disk changes when its data is flushed, and a region becomes this store's
//! business when it is led here. So only regions led here are looked at, and each only when its
//! flushed index, or its range, is another than when it was looked at last. Compaction makes them
//! smaller only, which can wait.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tinykv_lsm::{Contents, Lsm, OriginId};
use tinykv_raft::GroupId;
use tinykv_replica::{Region, RegionEpoch, RegionState};

use super::{NotSplit, Places, SplitReason};
use crate::reporting::Reporting;
use crate::space;

/// How often it is looked for regions that have grown.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Splits begun in one look.
const SPLITS_MAX: usize = 4;

/// Approximate contents, on disk, of the regions led here, as they were last looked at.
#[derive(Debug, Default)]
pub struct Sizes {
    known: Mutex<BTreeMap<GroupId, Looked>>,
}

/// What a region was like when it was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Looked {
    flushed: u64,
    version: u64,
    contents: Contents,
}

impl Sizes {
    /// What a region holds, if it was looked at since its range last changed.
    pub fn of(&self, region: &Region) -> Option<Contents> {
        let known = self.known.lock();
        let looked = known.get(&region.id)?;
        (looked.version == region.epoch.version).then_some(looked.contents)
    }

    /// Those of the regions that are to be looked at; everything about others is forgotten.
    fn outdated(
        &self,
        led: Vec<Arc<RegionState>>,
        flushed: impl Fn(OriginId) -> u64,
    ) -> Vec<(Arc<RegionState>, u64)> {
        let mut known = self.known.lock();
        let before = std::mem::take(&mut *known);
        let mut outdated = Vec::new();
        for state in led {
            let region = &state.region;
            let flushed = flushed(OriginId(region.id.0));
            match before.get(&region.id) {
                Some(looked)
                    if looked.flushed == flushed && looked.version == region.epoch.version =>
                {
                    known.insert(region.id, *looked);
                }
                _ => outdated.push((state, flushed)),
            }
        }
        outdated
    }

    fn note(&self, region: &Region, flushed: u64, contents: Contents) {
        let looked = Looked {
            flushed,
            version: region.epoch.version,
            contents,
        };
        self.known.lock().insert(region.id, looked);
    }

    /// The region will be looked at again.
    fn forget(&self, group: GroupId) {
        self.known.lock().remove(&group);
    }
}

/// What tables hold of a region, about. May read index blocks.
pub fn measure(lsm: &Lsm, region: &Region) -> Contents {
    let mut sum = Contents::default();
    for range in space::ranges(region) {
        let contents = lsm.approximate_contents(&range.start, &range.end);
        sum.bytes += contents.bytes;
        sum.entries += contents.entries;
    }
    sum
}

/// Looks for regions of at least `split_size` bytes until it is told to stop, and splits them;
/// 0: measures only.
pub async fn run(reporting: Reporting, split_size: u64) {
    while !reporting.stop.is_requested() {
        look(&reporting, split_size).await;
        tokio::select! {
            () = tokio::time::sleep(LOOK_INTERVAL) => {}
            () = reporting.stop.requested() => return,
        }
    }
}

async fn look(reporting: &Reporting, split_size: u64) {
    let node = &reporting.node;
    let led = node.directory().all().into_iter().filter_map(|entry| {
        let view = entry.view();
        view.state.clone().filter(|_| view.leads)
    });
    let outdated = reporting
        .sizes
        .outdated(led.collect(), |origin| node.lsm().flushed_of(origin));
    if outdated.is_empty() {
        return;
    }
    let lsm = node.lsm().clone();
    let measured = node.pool().run(move || {
        let measured = outdated.into_iter().map(|(state, flushed)| {
            let contents = measure(&lsm, &state.region);
            (state, flushed, contents)
        });
        measured.collect::<Vec<_>>()
    });
    let Ok(measured) = measured.await else {
        return;
    };
    let mut begun = 0;
    for (state, flushed, contents) in measured {
        let region = &state.region;
        let bytes = contents.bytes;
        let is_large = split_size > 0 && bytes >= split_size;
        if is_large && begun == SPLITS_MAX {
            // Not noted: its turn comes with the next look.
            continue;
        }
        reporting.sizes.note(region, flushed, contents);
        if is_large {
            begun += 1;
            begin(reporting, region.id, region.epoch, bytes);
        }
    }
}

fn begin(reporting: &Reporting, group: GroupId, epoch: RegionEpoch, bytes: u64) {
    let (splitter, sizes) = (
        Arc::clone(&reporting.splitter),
        Arc::clone(&reporting.sizes),
    );
    reporting.tasks.spawn("split by size", async move {
        tracing::debug!(%group, bytes, "the region is large");
        let split = splitter.split(group, Some(epoch), Places::Middle, SplitReason::Size);
        match split.await {
            Ok(_) => {}
            // Only more data changes that.
            Err(problem @ NotSplit::NoMiddle) => splitter.complain(group, &problem),
            Err(problem) => {
                splitter.complain(group, &problem);
                sizes.forget(group);
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(id: u64, version: u64) -> Arc<RegionState> {
        let mut state = RegionState::default();
        state.region.id = GroupId(id);
        state.region.epoch.version = version;
        Arc::new(state)
    }

    fn holding(bytes: u64) -> Contents {
        Contents { bytes, entries: 1 }
    }

    fn outdated(sizes: &Sizes, led: &[Arc<RegionState>], flushed: &[(u64, u64)]) -> Vec<u64> {
        let flushed = |origin: OriginId| {
            let mut known = flushed.iter().filter(|(id, _)| *id == origin.0);
            known.next().map_or(0, |(_, index)| *index)
        };
        let outdated = sizes.outdated(led.to_vec(), flushed);
        outdated
            .into_iter()
            .map(|(state, _)| state.region.id.0)
            .collect()
    }

    #[test]
    fn only_what_changed_is_looked_at() {
        let sizes = Sizes::default();
        let both = [region(1, 1), region(2, 1)];
        assert_eq!(outdated(&sizes, &both, &[]), [1, 2], "new here");
        sizes.note(&both[0].region, 0, holding(10));
        sizes.note(&both[1].region, 5, holding(20));
        assert_eq!(outdated(&sizes, &both, &[(2, 5)]), [0; 0]);
        assert_eq!(sizes.of(&both[1].region), Some(holding(20)));
        assert_eq!(outdated(&sizes, &both, &[(2, 6)]), [2], "flushed");
        sizes.note(&both[1].region, 6, holding(30));
        let split = [region(1, 2), region(2, 1)];
        assert_eq!(sizes.of(&split[0].region), None, "of another range");
        assert_eq!(outdated(&sizes, &split, &[(2, 6)]), [1], "split");
        sizes.note(&split[0].region, 0, holding(5));
        assert_eq!(outdated(&sizes, &split[..1], &[(2, 6)]), [0; 0]);
        assert_eq!(outdated(&sizes, &split, &[(2, 6)]), [2], "led here again");
        sizes.note(&split[1].region, 6, holding(30));
        sizes.forget(GroupId(2));
        assert_eq!(outdated(&sizes, &split, &[(2, 6)]), [2], "asked for");
    }
}
