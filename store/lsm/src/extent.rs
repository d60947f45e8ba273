//! How much a range of keys holds, and where about its middle is.
//!
//! Neither reads data blocks. The size of a part of a table is told by the offsets in its index.
//! The middle is found from *stretches*: a stretch is so many bytes of keys behind one key, up to
//! and with another. A table is one stretch, or its index partitions are, or their data blocks;
//! it is cut finer only where a stretch holds more than a 64th of everything. So at most 63
//! tables are opened and 63 index blocks read, however large the range is.

use std::sync::Arc;

use bytes::Bytes;

use crate::memtable::Memtable;
use crate::range::KeyRange;
use crate::snapshot::SuperVersion;
use crate::table::{Stretch, Table};
use crate::version::TableFile;

/// A stretch that holds more than this part of all bytes is cut finer.
const FINENESS: u64 = 64;

/// What tables hold of a range of keys, about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Bytes on disk.
    pub bytes: u64,
    /// Entries: each version of a key, and each removal of one.
    pub entries: u64,
}

/// About how many bytes of the table hold `start..end`; an empty `end` is none.
pub(crate) fn size_inside(file: &TableFile, start: &[u8], end: &[u8]) -> u64 {
    let range = &file.meta().range;
    if is_outside(range, start, end) {
        return 0;
    }
    let starts_inside = start <= range.start.as_ref();
    let ends_inside = end.is_empty() || range.ends_before(end);
    if starts_inside && ends_inside {
        return file.meta().size;
    }
    let Ok(table) = file.table() else {
        return file.meta().size;
    };
    let from = if starts_inside {
        0
    } else {
        table.offset_of(start)
    };
    let to = if ends_inside {
        file.meta().size
    } else {
        table.offset_of(end)
    };
    to.saturating_sub(from)
}

fn is_outside(range: &KeyRange, start: &[u8], end: &[u8]) -> bool {
    range.ends_before(start) || (!end.is_empty() && range.start.as_ref() >= end)
}

/// See [`Lsm::approximate_middle`](crate::Lsm::approximate_middle).
pub(crate) fn middle(state: &SuperVersion, start: &[u8], end: &[u8]) -> Option<Bytes> {
    let mut cuts = Cuts::new(start, end);
    let files = state.version.files().map(|(_, file)| file);
    let files: Vec<&Arc<TableFile>> = files
        .filter(|file| !is_outside(&file.meta().range, start, end))
        .collect();
    let mut in_memory: Vec<&Arc<Memtable>> = state.memtables().collect();
    let in_tables: u64 = files.iter().map(|file| file.meta().size).sum();
    in_memory.retain(|memtable| memtable.bytes() > in_tables / FINENESS);
    let in_memory_bytes: u64 = in_memory.iter().map(|memtable| memtable.bytes()).sum();
    let fine = (in_tables + in_memory_bytes) / FINENESS;
    for memtable in in_memory {
        memtable.stretches(start, end, |stretch| cuts.add(&stretch));
    }
    let mut partitions: Vec<(Arc<Table>, usize, Stretch)> = Vec::new();
    for file in files {
        let meta = file.meta();
        let table = if meta.size > fine {
            file.table().ok()
        } else {
            None
        };
        match table {
            Some(table) => {
                let stretches = table.partition_stretches();
                let stretches = stretches.into_iter().enumerate();
                let inside = stretches.filter(|(_, stretch)| cuts.meets(stretch));
                partitions.extend(inside.map(|(number, s)| (table.clone(), number, s)));
            }
            None => cuts.add(&Stretch {
                after: meta.range.start.clone(),
                last: meta.range.end.clone(),
                bytes: meta.size,
            }),
        }
    }
    let fine = (partitions.iter().map(|(_, _, s)| s.bytes).sum::<u64>() + cuts.bytes) / FINENESS;
    for (table, number, stretch) in partitions {
        let blocks = if stretch.bytes > fine {
            table.block_stretches(number, stretch.after.clone()).ok()
        } else {
            None
        };
        for stretch in blocks.unwrap_or_else(|| vec![stretch]) {
            cuts.add(&stretch);
        }
    }
    cuts.middle()
}

/// Keys that cut what the stretches hold into so many parts of about the same size, rising; fewer
/// if there are not so many places.
pub(crate) fn divide(mut stretches: Vec<Stretch>, parts: usize) -> Vec<Bytes> {
    let total: u64 = stretches.iter().map(|stretch| stretch.bytes).sum();
    stretches.sort_by(|a, b| a.last.cmp(&b.last));
    let mut before = 0;
    let mut cuts: Vec<Bytes> = Vec::new();
    for stretch in stretches {
        before += stretch.bytes;
        let due = (cuts.len() as u64 + 1) * total / (parts as u64).max(1);
        if cuts.len() + 1 < parts && before >= due && cuts.last() < Some(&stretch.last) {
            cuts.push(stretch.last);
        }
    }
    cuts
}

/// Where a range may be cut, and how much would lie before each place.
struct Cuts<'a> {
    start: &'a [u8],
    /// Empty: none.
    end: &'a [u8],
    /// Bytes of everything added, as far as it lies inside.
    bytes: u64,
    /// The first key there is, as far as anybody knows.
    first: Option<Bytes>,
    /// Keys strictly inside, each with the bytes that end at it.
    places: Vec<(Bytes, u64)>,
}

impl<'a> Cuts<'a> {
    fn new(start: &'a [u8], end: &'a [u8]) -> Cuts<'a> {
        Cuts {
            start,
            end,
            bytes: 0,
            first: None,
            places: Vec::new(),
        }
    }

    fn ends_by(&self, key: &[u8]) -> bool {
        !self.end.is_empty() && self.end <= key
    }

    fn meets(&self, stretch: &Stretch) -> bool {
        stretch.last.as_ref() > self.start && !self.ends_by(&stretch.after)
    }

    fn add(&mut self, stretch: &Stretch) {
        if !self.meets(stretch) {
            return;
        }
        let behind = self.ends_by(&stretch.last);
        // Nobody knows how much of it is inside; half of it is wrong by half at most.
        let bytes = if stretch.after.as_ref() < self.start || behind {
            stretch.bytes / 2
        } else {
            stretch.bytes
        };
        self.bytes += bytes;
        if self
            .first
            .as_ref()
            .is_none_or(|first| stretch.after < first)
        {
            self.first = Some(stretch.after.clone());
        }
        if !behind {
            self.places.push((stretch.last.clone(), bytes));
        }
    }

    /// The place with most nearly half of the bytes before it; none if all places have everything
    /// on one side.
    fn middle(mut self) -> Option<Bytes> {
        self.places.sort();
        let half = self.bytes / 2;
        let mut before = 0;
        let mut best: Option<(u64, &Bytes)> = None;
        for places in self.places.chunk_by(|a, b| a.0 == b.0) {
            before += places.iter().map(|(_, bytes)| bytes).sum::<u64>();
            let off = before.abs_diff(half);
            let something_before = places.first().map(|(key, _)| key) > self.first.as_ref();
            let divides = something_before && before > 0 && before < self.bytes;
            if divides && best.is_none_or(|(best, _)| off < best) {
                best = places.first().map(|(key, _)| (off, key));
            }
        }
        best.map(|(_, key)| key.clone())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::divide;
    use crate::table::Stretch;

    fn stretch(last: &str, bytes: u64) -> Stretch {
        Stretch {
            after: Bytes::new(),
            last: Bytes::copy_from_slice(last.as_bytes()),
            bytes,
        }
    }

    #[test]
    fn parts_are_about_equal() {
        let cut = |names: &str, parts| {
            let stretches = names.chars().map(|name| stretch(&name.to_string(), 10));
            let cuts = divide(stretches.collect(), parts);
            String::from_utf8(cuts.concat()).expect("letters")
        };
        assert_eq!(cut("", 4), "");
        assert_eq!(cut("abcdefgh", 0), "");
        assert_eq!(cut("abcdefgh", 1), "");
        assert_eq!(cut("hgfedcba", 2), "d");
        assert_eq!(cut("abcdefgh", 4), "bdf");
        assert_eq!(cut("aabbccddeeffgghh", 4), "bdf");
        assert_eq!(cut("aaaaaaaa", 4), "a");
        assert_eq!(cut("ab", 4), "ab");
    }

    #[test]
    fn one_large_stretch_is_one_part() {
        let stretches = vec![stretch("a", 1), stretch("b", 100), stretch("c", 1)];
        assert_eq!(divide(stretches, 3), ["b", "c"]);
    }
}
