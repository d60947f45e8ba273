//! Which regions are hot: read or written so much more than others that where they are matters.

use std::time::Duration;

use crate::state::Settings;
use crate::view::{ClusterView, RegionView};

/// A region with less load a second than this is never hot: 128 KiB, or 512 keys.
const LOAD_MIN: u64 = 128 << 10;

/// Nor is one with less than so many times what a region has on average: where all are alike,
/// counting regions says enough.
const TIMES_AVERAGE: u64 = 2;

/// The load from which a region is hot; none is while `hot_limit` is 0.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heat {
    from: u64,
    now: Duration,
}

impl Heat {
    pub(super) fn new(view: &ClusterView, settings: &Settings, now: Duration) -> Heat {
        let loads = view.regions.values().map(|known| known.flow.at(now).load());
        let total = loads.fold(0, u64::saturating_add);
        let average = total / u64::try_from(view.regions.len().max(1)).unwrap_or(u64::MAX);
        Heat {
            from: match settings.hot_limit {
                0 => u64::MAX,
                _ => LOAD_MIN.max(average.saturating_mul(TIMES_AVERAGE)),
            },
            now,
        }
    }

    pub(super) fn is_hot(&self, region: &RegionView) -> bool {
        region.flow.at(self.now).load() >= self.from
    }
}
