//! A scan as a client sees it: parts, one region each, that follow each other without a gap.

use std::time::Duration;

use bytes::Bytes;

use crate::checker::{Action, Operation, Outcome, Value};

use super::Finished;

/// A bound above every key of a run.
pub(super) const BEYOND_ALL: &str = "~";

/// What one region answered: all it holds from one key on and before another.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) client: u64,
    /// The attempt that brought it.
    pub(super) attempt: u64,
    pub(super) from: String,
    pub(super) upto: String,
    /// When it was asked.
    pub(super) begin: Duration,
    /// When it had answered.
    pub(super) end: Duration,
}

/// What a scan has read so far.
#[derive(Debug, Default)]
pub(super) struct Scan {
    operations: Vec<Operation>,
    parts: usize,
    across_split: bool,
}

impl Scan {
    /// A store said that a region is not what it was.
    pub(super) fn note_split(&mut self) {
        self.across_split = true;
    }

    /// Every key of the part was read: those that came have a value, the others have none (C4).
    pub(super) fn take(&mut self, keys: &[String], part: Part, pairs: Vec<(String, Value)>) {
        let Part {
            client,
            attempt,
            from,
            upto,
            begin,
            end,
        } = part;
        assert!(
            pairs.is_sorted_by(|a, b| a.0 < b.0),
            "C4: a region answers keys twice or out of order: {pairs:?}"
        );
        let stray = pairs.iter().find(|(key, _)| *key < from || *key >= upto);
        assert!(
            stray.is_none(),
            "C4: asked for {from} to {upto}, a region answers {stray:?}"
        );
        let (begin, end) = (begin.as_nanos() as u64, end.as_nanos() as u64);
        let mut shown = 0;
        for key in keys.iter().filter(|key| **key >= from && **key < upto) {
            let found = pairs.iter().find(|(name, _)| name == key);
            let found = found.map(|(_, value)| value.clone());
            shown += usize::from(found.is_some());
            self.operations.push(Operation {
                client,
                key: key.clone(),
                action: Action::Get,
                outcome: Outcome::Found(found),
                begin,
                end,
                at_once: Some(attempt),
            });
        }
        assert!(
            shown == pairs.len(),
            "C4: keys that nobody wrote in {pairs:?}"
        );
        self.parts += 1;
    }

    pub(super) fn finish(self, succeeded: bool) -> Finished {
        Finished {
            operations: self.operations,
            parts: self.parts,
            succeeded,
            unknown: false,
            across_split: self.across_split && succeeded,
        }
    }
}

/// Where a part ends: at the end of the scan or of the region.
pub(super) fn earlier(upto: &str, region_end: &Bytes) -> String {
    let region_end = String::from_utf8_lossy(region_end);
    match region_end.is_empty() || upto < &*region_end {
        true => upto.to_owned(),
        false => region_end.into_owned(),
    }
}
