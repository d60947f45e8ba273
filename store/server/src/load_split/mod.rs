//! Regions that are busy are split where that divides their load.
//!
//! Once a second the flow of all regions is looked at. A region led here whose requests, or bytes in
//! and out, stay above a threshold for some seconds ([`watch`]) is sampled meanwhile: a reservoir
//! keeps an even choice of the keys and ranges that were asked for. Then a boundary is chosen that
//! leaves about as much of the sample on either side ([`divide`]), and the region goes the way of all
//! splits ([`crate::splitting`]).
//!
//! Not every load can be divided. A single hot key, scans that reach over every boundary, and
//! inserts at an end that moves on would leave one part as busy as the whole was: then nothing is
//! split, and the reason is counted (`tinykv_store_load_splits`) and logged once. After either outcome
//! the region is left alone for a while ([`watch::COOLDOWN`]): a split takes its time to show, and what
//! could not be divided now will hardly be in a second.
//!
//! Everything that decides is pure: time, rates and the seed of the reservoir are passed in.
//!
//! Bounds: `SAMPLES_MAX` samples of a region that is watched; at most `SPLITS_MAX` splits are begun in
//! a look.

pub mod divide;
pub mod watch;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use tinykv_node::directory::RegionEntry;
use tinykv_node::traffic::reservoir::{Reservoir, Sample};
use tinykv_raft::GroupId;
use tinykv_replica::Region;

use crate::reporting::Reporting;
use crate::reporting::flows::Found;
use crate::space;
use crate::splitting::{Places, SplitReason};
use divide::NotDivided;
use watch::{Rate, Step, Thresholds, Watch};

/// How often the flow of all regions is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Requests of which a boundary is chosen.
const SAMPLES_MAX: usize = 512;
/// Splits begun in one look; the rest is watched for longer.
const SPLITS_MAX: usize = 4;

/// How often a busy region was split, and why not.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    outcomes: Family<Labels, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    outcome: Outcome,
}

/// What became of a region that stayed busy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
enum Outcome {
    /// It was split.
    Split,
    /// There was a boundary, but the split did not come about.
    Failed,
    /// See [`NotDivided::OneKey`].
    OneKey,
    /// See [`NotDivided::ScansSpan`].
    ScansSpan,
    /// See [`NotDivided::Moves`].
    Moves,
    /// See [`NotDivided::TooFewSamples`].
    TooFewSamples,
}

impl From<NotDivided> for Outcome {
    fn from(reason: NotDivided) -> Outcome {
        match reason {
            NotDivided::OneKey { .. } => Outcome::OneKey,
            NotDivided::ScansSpan { .. } => Outcome::ScansSpan,
            NotDivided::Moves => Outcome::Moves,
            NotDivided::TooFewSamples(_) => Outcome::TooFewSamples,
        }
    }
}

impl Figures {
    /// Adds them to a registry.
    pub fn register(&self, registry: &mut Registry) {
        let help = "Busy regions: how often they were split, or why not";
        registry.register("tinykv_store_load_splits", help, self.outcomes.clone());
    }

    fn count(&self, outcome: Outcome) {
        self.outcomes.get_or_create(&Labels { outcome }).inc();
    }
}

/// Looks at the flow of all regions until it is told to stop, and splits those that are busy.
pub async fn run(reporting: Reporting, thresholds: Thresholds, figures: Figures) {
    let mut looker = Looker {
        reporting,
        thresholds,
        figures,
        watches: BTreeMap::new(),
    };
    while !looker.reporting.stop.is_requested() {
        looker.look();
        tokio::select! {
            () = tokio::time::sleep(LOOK_INTERVAL) => {}
            () = looker.reporting.stop.requested() => return,
        }
    }
}

struct Looker {
    reporting: Reporting,
    thresholds: Thresholds,
    figures: Figures,
    /// Regions that are busy, or were a short time ago.
    watches: BTreeMap<GroupId, Watch>,
}

impl Looker {
    fn look(&mut self) {
        let now = self.reporting.node.now();
        let entries = self.reporting.node.directory().all();
        let found = self.reporting.flows.look(entries, now);
        self.watches.retain(|_, watch| !watch.is_over(now));
        let mut begun = 0;
        for found in found {
            if found.has_become_busy {
                self.reporting.news.note(found.entry.group());
            }
            begun += usize::from(self.step(&found, now, begun < SPLITS_MAX));
        }
    }

    /// Whether a split was begun.
    fn step(&mut self, found: &Found, now: Duration, may_split: bool) -> bool {
        let entry = &found.entry;
        let rate = Rate {
            requests_per_s: found.added.requests_per_s(),
            bytes_per_s: found.added.bytes_per_s(),
        };
        let is_over = entry.view().leads && self.thresholds.are_exceeded(rate);
        if !is_over && !self.watches.contains_key(&entry.group()) {
            return false;
        }
        let watch = self.watches.entry(entry.group()).or_default();
        match watch.observe(is_over, may_split, now) {
            Step::Nothing => false,
            Step::Begin => {
                let seed = self.reporting.env.random_u64();
                let reservoir = Reservoir::new(SAMPLES_MAX, seed);
                entry.traffic().watch(reservoir);
                false
            }
            Step::End => {
                entry.traffic().unwatch();
                false
            }
            Step::Choose => {
                let samples = entry.traffic().unwatch().unwrap_or_default();
                self.divide(entry, &samples, rate)
            }
        }
    }

    fn divide(&self, entry: &RegionEntry, samples: &[Sample], rate: Rate) -> bool {
        let view = entry.view();
        let Some(state) = &view.state else {
            return false;
        };
        let region = Arc::new(state.region.clone());
        match divide::choose(&space::bounds(&region), samples) {
            Ok(boundary) => {
                self.split(region, Bytes::from(boundary.into_bytes()), rate);
                true
            }
            Err(reason) => {
                self.figures.count(reason.into());
                tracing::info!(group = %region.id, ?rate, "busy, but not split: {reason}");
                false
            }
        }
    }

    fn split(&self, region: Arc<Region>, boundary: Bytes, rate: Rate) {
        let splitter = Arc::clone(&self.reporting.splitter);
        let figures = self.figures.clone();
        self.reporting.tasks.spawn("split by load", async move {
            let group = region.id;
            tracing::info!(%group, ?rate, "the region is busy");
            let places = Places::At(vec![boundary]);
            let split = splitter.split(group, Some(region.epoch), places, SplitReason::Load);
            match split.await {
                Ok(_) => figures.count(Outcome::Split),
                Err(problem) => {
                    figures.count(Outcome::Failed);
                    splitter.complain(group, &problem);
                }
            }
        });
    }
}
