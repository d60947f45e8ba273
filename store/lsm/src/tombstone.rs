//! Range tombstones, cut into fragments that do not overlap.
//!
//! Tombstones of overlapping ranges are cut at each other's ends, so that "which range delete
//! covers this key" is one binary search. A memtable keeps every sequence of a fragment, because
//! its readers may stand before the newest; tables keep the newest alone, because nobody who
//! reads a table stands before anything in it.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::codec::{Malformed, Reader, put_bytes, put_varint};

/// A range and the deletes that cover all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fragment {
    /// The first key covered.
    pub(crate) start: Bytes,
    /// The first key not covered; above `start`.
    pub(crate) end: Bytes,
    /// Sequences of the deletes, newest first, never empty.
    pub(crate) sequences: Arc<[u64]>,
}

/// Fragments in key order, none overlapping another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fragments {
    list: Vec<Fragment>,
}

impl Fragments {
    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Fragment> {
        self.list.iter()
    }

    /// First and last bound.
    pub(crate) fn span(&self) -> Option<(&Bytes, &Bytes)> {
        Some((&self.list.first()?.start, &self.list.last()?.end))
    }

    /// The newest delete at or before `sequence` that covers the key; 0 if none does.
    pub(crate) fn cover(&self, user: &[u8], sequence: u64) -> u64 {
        let index = self.list.partition_point(|f| f.end.as_ref() <= user);
        match self.list.get(index) {
            Some(fragment) if fragment.start.as_ref() <= user => fragment
                .sequences
                .iter()
                .copied()
                .find(|&s| s <= sequence)
                .unwrap_or(0),
            _ => 0,
        }
    }

    /// Whether deletes newer than `sequence` cover every key of `start..=end` without a gap.
    pub(crate) fn covers_all(&self, start: &[u8], end: &[u8], sequence: u64) -> bool {
        let mut reached = start;
        for fragment in &self.list {
            if fragment.end.as_ref() <= reached {
                continue;
            }
            let newest = fragment.sequences.first().copied().unwrap_or(0);
            if fragment.start.as_ref() > reached || newest <= sequence {
                return false;
            }
            reached = &fragment.end;
            if reached > end {
                return true;
            }
        }
        false
    }

    /// These and one more delete, which must be newer than all.
    pub(crate) fn with(&self, start: &Bytes, end: &Bytes, sequence: u64) -> Fragments {
        let mut list = Vec::with_capacity(self.list.len() + 2);
        // Everything of `start..end` below this bound has been emitted.
        let mut reached = start.clone();
        let mut cut = |from: &Bytes, to: &Bytes, sequences: Arc<[u64]>| {
            if from < to {
                list.push(Fragment {
                    start: from.clone(),
                    end: to.clone(),
                    sequences,
                });
            }
        };
        let alone: Arc<[u64]> = Arc::from([sequence]);
        for old in &self.list {
            if old.end <= *start {
                cut(&old.start, &old.end, old.sequences.clone());
                continue;
            }
            if old.start >= *end {
                cut(&reached, end, alone.clone());
                reached = end.clone();
                cut(&old.start, &old.end, old.sequences.clone());
                continue;
            }
            let from = (&old.start).max(start);
            let to = (&old.end).min(end);
            cut(&old.start, start, old.sequences.clone());
            cut(&reached, from, alone.clone());
            let both = std::iter::once(sequence).chain(old.sequences.iter().copied());
            cut(from, to, both.collect());
            cut(end, &old.end, old.sequences.clone());
            reached = to.clone();
        }
        cut(&reached, end, alone);
        Fragments { list }
    }

    /// The newest delete at or before `sequence` of every range in any of `parts`.
    pub(crate) fn merge<'a>(
        parts: impl IntoIterator<Item = &'a Fragments>,
        sequence: u64,
    ) -> Fragments {
        // At each bound, which sequences begin (+) and end (-) to cover.
        let mut bounds: BTreeMap<&Bytes, Vec<(u64, bool)>> = BTreeMap::new();
        for fragment in parts.into_iter().flat_map(|part| &part.list) {
            let newest = fragment.sequences.iter().copied().find(|&s| s <= sequence);
            if let Some(newest) = newest {
                bounds
                    .entry(&fragment.start)
                    .or_default()
                    .push((newest, true));
                bounds
                    .entry(&fragment.end)
                    .or_default()
                    .push((newest, false));
            }
        }
        let mut list: Vec<Fragment> = Vec::new();
        let mut active: BTreeMap<u64, usize> = BTreeMap::new();
        let mut open: Option<(&Bytes, u64)> = None;
        for (bound, changes) in bounds {
            for (sequence, begins) in changes {
                let count = active.entry(sequence).or_default();
                // Ends and begins at one bound come in any order, so the count may wrap between.
                *count = if begins {
                    count.wrapping_add(1)
                } else {
                    count.wrapping_sub(1)
                };
            }
            active.retain(|_, count| *count != 0);
            let newest = active.last_key_value().map(|(&sequence, _)| sequence);
            if open.map(|(_, sequence)| sequence) == newest {
                continue;
            }
            if let Some((start, sequence)) = open {
                list.push(Fragment {
                    start: start.clone(),
                    end: bound.clone(),
                    sequences: Arc::from([sequence]),
                });
            }
            open = newest.map(|sequence| (bound, sequence));
        }
        assert!(open.is_none(), "every fragment ends");
        Fragments { list }
    }

    /// What of these lies in `from..to`; `None` is no bound.
    pub(crate) fn clip(&self, from: Option<&[u8]>, to: Option<&[u8]>) -> Fragments {
        if from.zip(to).is_some_and(|(from, to)| from >= to) {
            return Fragments::default();
        }
        let first = from.map_or(0, |from| {
            self.list.partition_point(|f| f.end.as_ref() <= from)
        });
        let last = to.map_or(self.list.len(), |to| {
            self.list.partition_point(|f| f.start.as_ref() < to)
        });
        let inside = self.list.get(first..last).unwrap_or(&[]);
        let list = inside
            .iter()
            .map(|fragment| Fragment {
                start: match from {
                    Some(from) if from > fragment.start.as_ref() => Bytes::copy_from_slice(from),
                    _ => fragment.start.clone(),
                },
                end: match to {
                    Some(to) if to < fragment.end.as_ref() => Bytes::copy_from_slice(to),
                    _ => fragment.end.clone(),
                },
                sequences: fragment.sequences.clone(),
            })
            .collect();
        Fragments { list }
    }

    /// Only the fragments for which `keep` holds.
    pub(crate) fn retain(&mut self, keep: impl FnMut(&Fragment) -> bool) {
        self.list.retain(keep);
    }

    /// Oldest and newest sequence.
    pub(crate) fn sequences(&self) -> Option<(u64, u64)> {
        let all = || self.list.iter().flat_map(|f| f.sequences.iter().copied());
        Some((all().min()?, all().max()?))
    }

    /// As it stands in a table: the newest sequence of each fragment.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_varint(&mut out, self.list.len() as u64);
        for fragment in &self.list {
            put_bytes(&mut out, &fragment.start);
            put_bytes(&mut out, &fragment.end);
            put_varint(&mut out, fragment.sequences.first().copied().unwrap_or(0));
        }
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Fragments, Malformed> {
        let mut reader = Reader::new(bytes);
        let count = reader.length()?;
        let mut list: Vec<Fragment> = Vec::with_capacity(count.min(reader.remaining()));
        for _ in 0..count {
            let fragment = Fragment {
                start: reader.owned_bytes()?,
                end: reader.owned_bytes()?,
                sequences: Arc::from([reader.varint()?]),
            };
            if fragment.start >= fragment.end
                || list.last().is_some_and(|last| last.end > fragment.start)
            {
                return Err(Malformed("range tombstones are out of order"));
            }
            list.push(fragment);
        }
        if !reader.is_empty() {
            return Err(Malformed("bytes behind the range tombstones"));
        }
        Ok(Fragments { list })
    }
}

#[cfg(test)]
mod tests;
