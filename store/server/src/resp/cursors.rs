//! Where scans go on: Redis's cursors are integers, ours stand for keys.

use std::collections::BTreeMap;

use bytes::Bytes;

/// Most cursors remembered.
const CURSORS_MAX: usize = 16_384;

/// Most bytes of keys remembered.
const BYTES_MAX: usize = 8 << 20;

/// Cursors fit into 53 bits, which every language has as an integer.
const FIRST_BITS: u32 = 52;

/// The scans of a door that are not finished. Of too many, the oldest are forgotten. A cursor may
/// be used again as long as it is remembered, as an asker does that got no answer.
#[derive(Debug)]
pub(super) struct Cursors {
    /// Where each goes on. They are given in rising order.
    keys: BTreeMap<u64, Bytes>,
    /// Bytes of `keys`.
    bytes: usize,
    /// The next cursor to give.
    next: u64,
}

impl Cursors {
    /// No scans yet. A random start keeps cursors of an earlier process, or of another store, from
    /// being mistaken for these.
    pub(super) fn new(random: u64) -> Cursors {
        Cursors {
            keys: BTreeMap::new(),
            bytes: 0,
            next: (random >> (64 - FIRST_BITS)).max(1),
        }
    }

    /// A cursor that goes on at a key, of which a copy is kept: nothing pins the page it stood in.
    pub(super) fn give(&mut self, key: &[u8]) -> u64 {
        let cursor = self.next;
        self.next += 1;
        self.bytes += key.len();
        self.keys.insert(cursor, Bytes::copy_from_slice(key));
        while self.keys.len() > CURSORS_MAX || self.bytes > BYTES_MAX {
            let Some((_, forgotten)) = self.keys.pop_first() else {
                break;
            };
            self.bytes -= forgotten.len();
        }
        cursor
    }

    /// Where a cursor goes on.
    pub(super) fn find(&self, cursor: u64) -> Option<Bytes> {
        self.keys.get(&cursor).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_stands_for_its_key_until_it_is_forgotten() {
        let mut cursors = Cursors::new(u64::MAX);
        let first = cursors.give(b"a");
        assert!(first < 1 << 53);
        assert_eq!(cursors.find(first), Some(Bytes::from_static(b"a")));
        assert_eq!(cursors.find(first), Some(Bytes::from_static(b"a")));
        assert_eq!(cursors.find(first + 1), None);
        for _ in 0..CURSORS_MAX {
            cursors.give(b"b");
        }
        assert_eq!(cursors.find(first), None);
        assert_eq!(cursors.keys.len(), CURSORS_MAX);
    }

    #[test]
    fn long_keys_are_counted_in_bytes() {
        let mut cursors = Cursors::new(0);
        for _ in 0..1000 {
            cursors.give(&[7; 64 << 10]);
        }
        assert!(cursors.bytes <= BYTES_MAX, "{}", cursors.bytes);
        assert_eq!(cursors.keys.len(), BYTES_MAX / (64 << 10));
        assert_eq!(cursors.find(0), None, "0 begins a scan");
    }
}
