//! Keys and values of a snapshot in order.
//!
//! The merge yields every version of every key; an [`Iter`] shows of each key the newest version
//! its snapshot may see, unless that is a delete or a range tombstone covers it. Walking forward
//! the first visible version of a key decides and the merge stands on it; walking backward all
//! versions of a key pass before it is shown, and the merge stands before them.

mod merge;
mod source;

pub(crate) use merge::Merge;
pub(crate) use source::{LevelIter, Source};

use bytes::Bytes;

use crate::LsmError;
use crate::key::{self, Kind};
use crate::snapshot::Snapshot;
use crate::tombstone::Fragments;

/// Where an iterator stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Position {
    /// Not moved yet.
    Start,
    /// On a key, and the merge on the version shown, looking forward.
    AtForward,
    /// On a key, and the merge before all its versions, looking backward.
    AtBackward,
    /// Before the first key.
    Before,
    /// Behind the last key.
    Behind,
}

/// A cursor over a [`Snapshot`], both directions. Owns what it needs, so it lives as long as it
/// likes; the tables and memtables of the snapshot live with it.
///
/// After an error it stands on no key and should be positioned anew.
#[derive(Debug)]
pub struct Iter {
    /// Keeps the tables on disk until the iterator has opened them.
    _snapshot: Snapshot,
    sequence: u64,
    merge: Merge,
    /// Range tombstones of everything merged, inside the bounds.
    tombstones: Fragments,
    lower: Bytes,
    /// Empty: none.
    upper: Bytes,
    /// The length of keys shown; `None`: any.
    key_len: Option<usize>,
    position: Position,
    key: Vec<u8>,
    value: Bytes,
}

impl Iter {
    pub(crate) fn new(
        snapshot: Snapshot,
        merge: Merge,
        tombstones: Fragments,
        lower: &[u8],
        upper: &[u8],
    ) -> Iter {
        Iter {
            sequence: snapshot.sequence().0,
            _snapshot: snapshot,
            merge,
            tombstones,
            lower: Bytes::copy_from_slice(lower),
            upper: Bytes::copy_from_slice(upper),
            key_len: None,
            position: Position::Start,
            key: Vec::new(),
            value: Bytes::new(),
        }
    }

    /// Shows keys of this length alone.
    pub(crate) fn of_length(self, key_len: usize) -> Iter {
        Iter {
            key_len: Some(key_len),
            ..self
        }
    }

    /// Goes to the first key at or after `key`; false if there is none inside the bounds.
    pub fn seek(&mut self, key: &[u8]) -> Result<bool, LsmError> {
        self.leave(Position::Behind);
        let from = key.max(&self.lower);
        self.merge
            .seek(&key::encode_seek(from, key::SEQUENCE_MAX))?;
        self.find_forward()
    }

    /// Goes to the last key at or before `key`; false if there is none inside the bounds.
    pub fn seek_back(&mut self, key: &[u8]) -> Result<bool, LsmError> {
        self.leave(Position::Before);
        if !self.upper.is_empty() && key >= self.upper.as_ref() {
            return self.last();
        }
        // Behind every version of the key.
        self.merge.seek_before(&key::encode(key, 0, Kind::Delete))?;
        self.find_backward()
    }

    /// Goes to the first key.
    pub fn first(&mut self) -> Result<bool, LsmError> {
        self.seek(&[])
    }

    /// Goes to the last key.
    pub fn last(&mut self) -> Result<bool, LsmError> {
        self.leave(Position::Before);
        if self.upper.is_empty() {
            self.merge.last()?;
        } else {
            let upper = key::encode_seek(&self.upper, key::SEQUENCE_MAX);
            self.merge.seek_before(&upper)?;
        }
        self.find_backward()
    }

    /// Goes to the following key; from the start position, or from before the first key, to the
    /// first. Once it has returned false it stands behind the last key.
    #[expect(
        clippy::should_implement_trait,
        reason = "fallible, and does not hand out the item"
    )]
    pub fn next(&mut self) -> Result<bool, LsmError> {
        match self.position {
            Position::Start | Position::Before => self.first(),
            Position::Behind => Ok(false),
            Position::AtForward => {
                self.leave(Position::Behind);
                self.skip_versions()?;
                self.find_forward()
            }
            Position::AtBackward => {
                self.leave(Position::Behind);
                self.merge.seek(&key::encode(&self.key, 0, Kind::Delete))?;
                self.skip_versions()?;
                self.find_forward()
            }
        }
    }

    /// Goes to the preceding key; from the start position, or from behind the last key, to the
    /// last. Once it has returned false it stands before the first key.
    pub fn prev(&mut self) -> Result<bool, LsmError> {
        match self.position {
            Position::Start | Position::Behind => self.last(),
            Position::Before => Ok(false),
            Position::AtBackward => {
                self.leave(Position::Before);
                self.find_backward()
            }
            Position::AtForward => {
                self.leave(Position::Before);
                let first = key::encode_seek(&self.key, key::SEQUENCE_MAX);
                self.merge.seek_before(&first)?;
                self.find_backward()
            }
        }
    }

    /// Whether it stands on a key.
    pub fn valid(&self) -> bool {
        matches!(self.position, Position::AtForward | Position::AtBackward)
    }

    /// The key it stands on; empty when it stands on none.
    pub fn key(&self) -> &[u8] {
        if self.valid() { &self.key } else { &[] }
    }

    /// The value it stands on; empty when it stands on none. Shares the bytes of the block or
    /// memtable and keeps them alive.
    pub fn value(&self) -> Bytes {
        self.value.clone()
    }

    /// Stands on no key from now on; `self.key` stays for those who look from there.
    fn leave(&mut self, position: Position) {
        self.position = position;
        self.value = Bytes::new();
    }

    /// Leaves all versions of `self.key` behind, looking forward.
    fn skip_versions(&mut self) -> Result<(), LsmError> {
        while self.merge.valid() && key::user(self.merge.key()) == self.key {
            self.merge.step()?;
        }
        Ok(())
    }

    fn find_forward(&mut self) -> Result<bool, LsmError> {
        while self.merge.valid() {
            let internal = self.merge.key();
            let user = key::user(internal);
            if !self.upper.is_empty() && user >= self.upper.as_ref() {
                break;
            }
            let (sequence, kind) = key::split_trailer(internal).unwrap_or((u64::MAX, 0));
            if sequence > self.sequence {
                self.merge.step()?;
                continue;
            }
            self.key.clear();
            self.key.extend_from_slice(user);
            if self.shows(sequence, kind) {
                self.value = self.merge.value();
                self.position = Position::AtForward;
                return Ok(true);
            }
            self.skip_versions()?;
        }
        Ok(false)
    }

    fn find_backward(&mut self) -> Result<bool, LsmError> {
        while self.merge.valid() {
            let user = key::user(self.merge.key());
            if user < self.lower.as_ref() {
                break;
            }
            self.key.clear();
            self.key.extend_from_slice(user);
            // The oldest version comes first, so the last visible one is the newest.
            let mut newest = None;
            while self.merge.valid() && key::user(self.merge.key()) == self.key {
                let (sequence, kind) =
                    key::split_trailer(self.merge.key()).unwrap_or((u64::MAX, 0));
                if sequence <= self.sequence {
                    newest = Some((sequence, kind, self.merge.value()));
                }
                self.merge.step()?;
            }
            if let Some((sequence, kind, value)) = newest
                && self.shows(sequence, kind)
            {
                self.value = value;
                self.position = Position::AtBackward;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether this version of `self.key` gives it a value.
    fn shows(&self, sequence: u64, kind: u8) -> bool {
        kind == Kind::Put as u8
            && self.key_len.is_none_or(|len| len == self.key.len())
            && self.tombstones.cover(&self.key, self.sequence) < sequence
    }
}
