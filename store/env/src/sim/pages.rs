//! The contents of one file as a disk with a volatile cache sees them.
//!
//! A file is its pages as every reader of the running process sees them, plus an *undo* list: for
//! each page written since the last sync, what the disk really holds. A sync forgets the undo
//! list; a crash decides, page by page or sector by sector, which of the two survives.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::Prng;

use super::CrashMode;

/// Pages are written back as a whole, in any order.
pub(super) const PAGE: usize = 4096;
/// Only a sector is written atomically.
pub(super) const SECTOR: usize = 512;

/// Shared by the copies of a machine and by the undo list until one of them writes it.
type Page = Arc<[u8; PAGE]>;

/// Contents, volatile and durable, of one file. Pages that are not there read as zeros.
#[derive(Clone, Default)]
pub(super) struct Pages {
    len: u64,
    pages: BTreeMap<u64, Page>,
    /// Length on the disk.
    durable_len: u64,
    /// What the disk holds of pages written since the last sync (`None`: zeros).
    undo: BTreeMap<u64, Option<Page>>,
    /// Pages whose write-back failed: the cache calls them clean, the disk never got them. A
    /// later successful sync does not bring them back; only writing them again does.
    lost: BTreeMap<u64, Option<Page>>,
}

impl fmt::Debug for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pages")
            .field("len", &self.len)
            .field("unsynced_pages", &self.undo.len())
            .finish_non_exhaustive()
    }
}

impl Pages {
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Memory in use for contents, in bytes; what a capacity limit counts.
    pub(super) fn allocated(&self) -> u64 {
        (self.pages.len() * PAGE) as u64
    }

    /// Bytes of new pages that a write would need.
    pub(super) fn growth(&self, offset: u64, len: usize) -> u64 {
        page_numbers(offset, len)
            .filter(|n| !self.pages.contains_key(n))
            .count() as u64
            * PAGE as u64
    }

    pub(super) fn read(&self, buf: &mut [u8], offset: u64) -> usize {
        let available = self.len.saturating_sub(offset).min(buf.len() as u64) as usize;
        let buf = &mut buf[..available];
        buf.fill(0);
        for (number, range) in page_ranges(offset, available) {
            if let Some(page) = self.pages.get(&number) {
                let start = (offset + range.start as u64) as usize % PAGE;
                let len = range.len();
                buf[range].copy_from_slice(&page[start..start + len]);
            }
        }
        available
    }

    pub(super) fn write(&mut self, buf: &[u8], offset: u64) {
        for (number, range) in page_ranges(offset, buf.len()) {
            self.remember(number);
            let page = self.page_mut(number);
            let start = (offset + range.start as u64) as usize % PAGE;
            page[start..start + range.len()].copy_from_slice(&buf[range]);
        }
        self.len = self.len.max(offset + buf.len() as u64);
    }

    pub(super) fn set_len(&mut self, len: u64) {
        if len < self.len {
            let first_gone = len.div_ceil(PAGE as u64);
            let gone: Vec<u64> = self.pages.range(first_gone..).map(|(n, _)| *n).collect();
            for number in gone {
                self.remember(number);
                self.pages.remove(&number);
            }
            let within = (len % PAGE as u64) as usize;
            let last = len / PAGE as u64;
            if within > 0 && self.pages.contains_key(&last) {
                self.remember(last);
                self.page_mut(last)[within..].fill(0);
            }
        }
        self.len = len;
    }

    pub(super) fn sync(&mut self) {
        self.undo.clear();
        self.durable_len = self.len;
    }

    /// What a failed fsync leaves on Linux: pages marked clean that never reached the disk.
    pub(super) fn fail_sync(&mut self) {
        for (number, old) in std::mem::take(&mut self.undo) {
            self.lost.entry(number).or_insert(old);
        }
    }

    /// Turns the volatile state into what a crash leaves.
    pub(super) fn crash(&mut self, mode: CrashMode, random: &mut Prng) {
        if mode == CrashMode::KeepAll {
            // The page cache outlives the process, and so does what it has not written back.
            return;
        }
        if mode == CrashMode::LoseDirectoryEntries {
            self.undo.clear();
            self.lost.clear();
            self.durable_len = self.len;
            return;
        }
        let keep_len = mode != CrashMode::DropUnsynced && random.chance(2);
        let lost: Vec<_> = std::mem::take(&mut self.lost).into_iter().collect();
        let dirty: Vec<_> = std::mem::take(&mut self.undo).into_iter().collect();
        for (number, old) in dirty {
            match mode {
                CrashMode::DropUnsynced => self.put(number, old),
                CrashMode::KeepRandomPages if random.chance(2) => self.put(number, old),
                CrashMode::TearSectors => self.tear(number, old, random, false),
                CrashMode::CorruptSectors => self.tear(number, old, random, true),
                _ => {}
            }
        }
        for (number, old) in lost {
            self.put(number, old);
        }
        if !keep_len {
            self.cut(self.durable_len);
        }
        self.durable_len = self.len;
    }

    /// Inverts the bits of `mask` in one byte, on the disk and in the cache: silent damage.
    pub(super) fn flip(&mut self, offset: u64, mask: u8) {
        let at = offset as usize % PAGE;
        let number = offset / PAGE as u64;
        self.page_mut(number)[at] ^= mask;
        if let Some(Some(page)) = self.undo.get_mut(&number) {
            Arc::make_mut(page)[at] ^= mask;
        }
    }

    /// Saves what the disk holds of a page before its first change since the last sync.
    fn remember(&mut self, number: u64) {
        let old = match self.lost.remove(&number) {
            Some(on_disk) => on_disk,
            None => self.pages.get(&number).cloned(),
        };
        self.undo.entry(number).or_insert(old);
    }

    /// A page to write into; zeros if it is not there yet.
    fn page_mut(&mut self, number: u64) -> &mut [u8; PAGE] {
        Arc::make_mut(self.pages.entry(number).or_insert_with(zeros))
    }

    fn put(&mut self, number: u64, page: Option<Page>) {
        match page {
            Some(page) => {
                self.pages.insert(number, page);
            }
            None => {
                self.pages.remove(&number);
            }
        }
    }

    /// Each sector of a dirty page is old or new by chance; with `corrupt` some are neither.
    fn tear(&mut self, number: u64, old: Option<Page>, random: &mut Prng, corrupt: bool) {
        let old = old.unwrap_or_else(zeros);
        let page = self.page_mut(number);
        for start in (0..PAGE).step_by(SECTOR) {
            let sector = start..start + SECTOR;
            let changed = page[sector.clone()] != old[sector.clone()];
            if random.chance(2) {
                page[sector.clone()].copy_from_slice(&old[sector]);
            } else if corrupt && changed && random.chance(2) {
                random.fill(&mut page[sector]);
            }
        }
    }

    /// Shortens to `len` (no-op when shorter already); bytes past it are zeros from now on.
    fn cut(&mut self, len: u64) {
        self.set_len(len);
        self.undo.clear();
    }
}

fn zeros() -> Page {
    Arc::new([0; PAGE])
}

fn page_numbers(offset: u64, len: usize) -> std::ops::Range<u64> {
    if len == 0 {
        return 0..0;
    }
    offset / PAGE as u64..(offset + len as u64).div_ceil(PAGE as u64)
}

/// Splits `len` bytes at `offset` into (page number, range within the buffer).
fn page_ranges(offset: u64, len: usize) -> impl Iterator<Item = (u64, std::ops::Range<usize>)> {
    page_numbers(offset, len).map(move |number| {
        let page_start = number * PAGE as u64;
        let start = page_start.saturating_sub(offset) as usize;
        let end = ((page_start + PAGE as u64 - offset) as usize).min(len);
        (number, start..end)
    })
}
