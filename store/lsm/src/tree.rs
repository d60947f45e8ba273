//! The tree: what it owns, and how its state moves from one super version to the next.
//!
//! Three locks, none held across another's I/O but the manifest's, which *is* the single writer of
//! the MANIFEST file and is never taken by readers or writers of data:
//!
//! * `writer`: who holds it writes a batch into the active memtable, or replaces that memtable;
//! * `structure`: who holds it replaces the super version (a few pointers);
//! * `manifest`: who holds it makes an edit durable and then installs what it says.
//!
//! Order: manifest or jobs or writer before structure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use tinykv_sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tinykv_env::{DirLock, Env};
use tinykv_mutants::{Mutant, planted};
use tinykv_sync::ArcSwap;
use tinykv_sync::{Condvar, Mutex};

use crate::batch::{AppliedChange, OriginId, WriteBatch};
use crate::changes::Changes;
use crate::extent::Contents;
use crate::job::{self, Job, Jobs};
use crate::key::{self, Sequence};
use crate::memtable::Memtable;
use crate::pace::Pace;
use crate::pressure::{self, Pressure, Stalls};
use crate::snapshot::{Snapshot, SuperVersion};
use crate::statistics::{self, Counters, Statistics};
use crate::version::{
    FileContext, Manifest, ManifestState, TableFile, Version, VersionEdit, manifest_name,
    table_path,
};
use crate::{Ingest, LsmError, LsmOptions, checkpoint, extent, ingest, open};

/// An open tree. Cloning is cheap; all clones are the same tree. The directory stays locked until
/// the last clone, snapshot, iterator and job is gone.
#[derive(Clone, Debug)]
pub struct Lsm {
    inner: Arc<Inner>,
}

/// What all clones share.
pub(crate) struct Inner {
    pub(crate) options: LsmOptions,
    pub(crate) context: Arc<FileContext>,
    pub(crate) state: ArcSwap<SuperVersion>,
    /// Serialises replacements of the super version.
    pub(crate) structure: Mutex<()>,
    /// The newest sequence that snapshots see.
    pub(crate) visible: AtomicU64,
    pub(crate) writer: Mutex<Writer>,
    pub(crate) manifest: Mutex<Manifest>,
    /// The durable applied indexes.
    pub(crate) flushed: ArcSwap<BTreeMap<OriginId, u64>>,
    pub(crate) next_file: AtomicU64,
    /// Tables with lower numbers are due for the compaction filter once more.
    pub(crate) revisit_before: AtomicU64,
    pub(crate) jobs: Mutex<Jobs>,
    /// Notified whenever a claim on background work ends.
    pub(crate) changed: Condvar,
    /// The first final error.
    pub(crate) failure: OnceLock<LsmError>,
    pub(crate) counters: Counters,
    pub(crate) stalls: Stalls,
    pub(crate) pace: Pace,
    /// Held for the lifetime of the tree.
    pub(crate) _lock: Box<dyn DirLock>,
}

/// What writers share.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    /// The newest sequence given out.
    pub(crate) last_sequence: u64,
    /// Applied indexes as of the last write.
    pub(crate) applied: BTreeMap<OriginId, u64>,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lsm")
            .field("dir", &self.context.dir)
            .finish_non_exhaustive()
    }
}

impl Lsm {
    /// Opens the tree in `dir`, creating it if there is none; removes what a crash left behind.
    ///
    /// # Errors
    /// `InvalidOptions`, `InUse`, `NewerFormat`; `Corruption` of CURRENT or the MANIFEST, or if a
    /// table is missing. Damaged tables show when they are read.
    pub fn open(env: Arc<dyn Env>, dir: &Path, options: LsmOptions) -> Result<Lsm, LsmError> {
        let inner = open::open(env, dir, options)?;
        Ok(Lsm { inner })
    }

    /// The durable applied indexes of the tree in `dir`, without opening it and without changing
    /// anything; `None` if there is no tree. The caller sees to it that nobody works in it.
    ///
    /// # Errors
    /// Those of [`Lsm::open`] by which the directory cannot be used.
    pub fn look(
        env: &Arc<dyn Env>,
        dir: &Path,
    ) -> Result<Option<BTreeMap<OriginId, u64>>, LsmError> {
        open::look(env, dir)
    }

    /// Makes a batch visible, in memory. It is durable once [`Lsm::flushed`] has reached its
    /// applied indexes. Never waits for I/O and never refuses for lack of room; ask
    /// [`Lsm::pressure`] before admitting work.
    ///
    /// # Errors
    /// `InvalidInput` for a key or value that is too long or an applied index that goes back;
    /// nothing was written then. `Final` and `Closed`.
    pub fn write(&self, batch: &WriteBatch) -> Result<Sequence, LsmError> {
        self.inner.check()?;
        batch.validate()?;
        let mut writer = self.inner.writer.lock();
        let moves = writer.check_applied(batch)?;
        let count = batch.len() as u64;
        let last = writer.last_sequence + count;
        assert!(last <= key::SEQUENCE_MAX, "sequences are used up");
        let mut state = self.inner.state();
        if state.active.bytes() >= self.inner.options.memtable_bytes_max
            || state.active.is_fragmented()
        {
            self.inner.replace_active();
            state = self.inner.state();
        }
        state.active.insert(batch, writer.last_sequence + 1);
        for (origin, change) in moves {
            match change {
                AppliedChange::Advance(index) => writer.applied.insert(origin, index),
                AppliedChange::Forget => writer.applied.remove(&origin),
            };
        }
        writer.last_sequence = last;
        // Never back: an ingest announces its sequence without the write lock.
        self.inner.visible.fetch_max(last, Ordering::AcqRel);
        self.inner.counters.written(batch.bytes());
        Ok(Sequence(last))
    }

    /// The state as of now; everything written before the call is in it.
    pub fn snapshot(&self) -> Snapshot {
        // The state first: a newer visible sequence than the state's hides nothing.
        let state = self.inner.state();
        Snapshot::new(state, self.inner.visible.load(Ordering::Acquire))
    }

    /// What would be found after a crash now: the state without what is in memory only.
    pub fn flushed_snapshot(&self) -> Snapshot {
        let state = self.inner.state();
        let visible = self.inner.visible.load(Ordering::Acquire);
        Snapshot::new(Arc::new(state.without_memtables()), visible)
    }

    /// The applied index of an origin, in memory; 0 for an unknown one.
    pub fn applied(&self, origin: OriginId) -> u64 {
        let writer = self.inner.writer.lock();
        writer.applied.get(&origin).copied().unwrap_or(0)
    }

    /// The applied indexes that would be found after a crash now.
    pub fn flushed(&self) -> BTreeMap<OriginId, u64> {
        BTreeMap::clone(&self.inner.flushed.load())
    }

    /// The durable applied index of one origin; 0 for an unknown one.
    pub fn flushed_of(&self, origin: OriginId) -> u64 {
        let flushed = self.inner.flushed.load();
        flushed.get(&origin).copied().unwrap_or(0)
    }

    /// Closes the active memtable, so that the next planned job flushes it. False if it is empty.
    ///
    /// # Errors
    /// `Final` and `Closed`.
    pub fn rotate(&self) -> Result<bool, LsmError> {
        self.inner.check()?;
        Ok(self.inner.rotate())
    }

    /// Makes everything written so far durable: rotates and runs the flushes here. Waits for a
    /// flush that another thread runs, so nobody may call this while sitting on an unrun
    /// [`Job`].
    ///
    /// # Errors
    /// Those of [`Job::run`].
    pub fn flush(&self) -> Result<(), LsmError> {
        self.inner.flush()
    }

    /// The most urgent piece of background work that nobody works on yet. Flushes come first, for
    /// they free memory; then compactions; then the removal of files.
    pub fn plan(&self) -> Option<Job> {
        self.plan_brief().or_else(|| {
            self.inner.check().ok()?;
            job::plan_compaction(&self.inner).or_else(|| job::plan_purge(&self.inner))
        })
    }

    /// Work that must not wait behind a long compaction and takes no longer than a flush: the flush
    /// that is due, if nobody runs one, or else a merge of small tables of level 0. For a thread that
    /// does nothing else.
    pub fn plan_brief(&self) -> Option<Job> {
        self.inner.check().ok()?;
        job::plan_flush(&self.inner).or_else(|| job::plan_small_merge(&self.inner))
    }

    /// Runs jobs here until none is due.
    ///
    /// # Errors
    /// The first one of a job.
    pub fn settle(&self) -> Result<(), LsmError> {
        while let Some(job) = self.plan() {
            job.run()?;
        }
        Ok(())
    }

    /// Lets every table that stands here now go through the compaction filter once more, when
    /// nothing else is due: entries that expire where nobody writes are compacted by nothing else.
    /// To be called now and then (it writes all tables anew), as the standalone store does; forgotten
    /// when the tree is closed. Does nothing without a filter.
    pub fn revisit(&self) {
        if self.inner.options.compaction_filter.is_some() {
            let next = self.inner.next_file.load(Ordering::Relaxed);
            self.inner.revisit_before.store(next, Ordering::Relaxed);
            self.inner.context.changes.note();
        }
    }

    /// By which to wait until there may be something to do.
    pub fn changes(&self) -> Changes {
        self.inner.context.changes.clone()
    }

    /// How hard admission should brake.
    pub fn pressure(&self) -> Pressure {
        pressure::measure(&self.inner.state(), &self.inner.options)
    }

    /// Drops ranges and takes in finished tables in one durable step; everything that was written
    /// into the ranges before is durable then, too. The caller writes nothing into the ranges (nor
    /// for the origin) while this runs. Doing it again after a crash is fine.
    ///
    /// Like [`Lsm::flush`] it may wait for a flush that another thread runs.
    ///
    /// # Errors
    /// `InvalidInput` for tables that overlap or were not made by [`SstWriter`](crate::SstWriter),
    /// `Corruption` if one does not verify; nothing has changed then.
    pub fn ingest(&self, ingest: &Ingest) -> Result<(), LsmError> {
        self.inner.note(ingest::run(&self.inner, ingest))
    }

    /// A copy of the tree, everything written so far included, in a new or empty directory on the
    /// same file system, by hard links. It opens like any tree.
    ///
    /// # Errors
    /// `InvalidInput` if the directory is not empty.
    pub fn checkpoint(&self, dir: &Path) -> Result<(), LsmError> {
        self.inner.note(checkpoint::run(&self.inner, dir))
    }

    /// About how many bytes of tables hold `start..end` (an empty `end`: to the last key). What is
    /// in memory does not count. May read index blocks; what cannot be read counts whole.
    pub fn approximate_size(&self, start: &[u8], end: &[u8]) -> u64 {
        self.approximate_contents(start, end).bytes
    }

    /// The same, with about how many entries of tables lie there: what newer ones hide and what
    /// removes others counts, too. Of a table that reaches beyond the range, entries are taken to
    /// be spread as its bytes are.
    pub fn approximate_contents(&self, start: &[u8], end: &[u8]) -> Contents {
        let state = self.inner.state();
        let mut contents = Contents::default();
        for (_, file) in state.version.files() {
            let bytes = extent::size_inside(file, start, end);
            let (size, entries) = (file.meta().size.max(1), file.meta().entries);
            let share = u128::from(entries) * u128::from(bytes) / u128::from(size);
            contents.bytes += bytes;
            contents.entries += u64::try_from(share).unwrap_or(entries);
        }
        contents
    }

    /// A key about in the middle of `start..end` (an empty `end`: to the last key) by bytes, those
    /// in memory included: above `start`, below `end`, with something on either side. `None` when
    /// it cannot tell, as for a range that is empty or holds little more than a block.
    ///
    /// Costs at most 63 index blocks, and a few thousand keys of the memtables. It reads no data
    /// blocks, so what newer writes hide still counts.
    pub fn approximate_middle(&self, start: &[u8], end: &[u8]) -> Option<Bytes> {
        extent::middle(&self.inner.state(), start, end)
    }

    /// Reads every block of every table from disk and returns what does not verify; a table that
    /// is damaged in several places is named once.
    pub fn verify(&self) -> Vec<LsmError> {
        let state = self.inner.state();
        let results = state.version.files().map(|(_, file)| {
            // Opened anew, so that what is in memory hides nothing.
            file.open().and_then(|table| table.verify())
        });
        results.filter_map(Result::err).collect()
    }

    /// Figures for the status page.
    pub fn statistics(&self) -> Statistics {
        statistics::gather(&self.inner)
    }

    /// Lets every later write and job fail with [`LsmError::Closed`]. Snapshots stay readable.
    pub fn close(&self) {
        // A final error that came first stays the answer.
        self.inner.failure.get_or_init(|| LsmError::Closed);
    }

    /// The settings it was opened with.
    pub fn options(&self) -> &LsmOptions {
        &self.inner.options
    }
}

impl Writer {
    /// The batch's moves of applied indexes, unless one goes back.
    fn check_applied(
        &self,
        batch: &WriteBatch,
    ) -> Result<BTreeMap<OriginId, AppliedChange>, LsmError> {
        let mut moves = BTreeMap::new();
        for (origin, change) in batch.applied_changes() {
            let reached = match moves.get(origin) {
                Some(AppliedChange::Advance(index)) => *index,
                Some(AppliedChange::Forget) => 0,
                None => self.applied.get(origin).copied().unwrap_or(0),
            };
            if let AppliedChange::Advance(index) = change
                && *index < reached
            {
                return Err(applied_goes_back(*origin, reached, *index));
            }
            moves.insert(*origin, *change);
        }
        Ok(moves)
    }
}

fn applied_goes_back(origin: OriginId, reached: u64, index: u64) -> LsmError {
    LsmError::invalid(format!(
        "the applied index of origin {} goes back from {reached} to {index}",
        origin.0
    ))
}

impl Inner {
    pub(crate) fn state(&self) -> Arc<SuperVersion> {
        self.state.load_full()
    }

    /// The first final error, if there was one.
    pub(crate) fn check(&self) -> Result<(), LsmError> {
        self.failure
            .get()
            .map_or(Ok(()), |error| Err(error.clone()))
    }

    /// Keeps a final error for everybody to see.
    pub(crate) fn note<T>(&self, result: Result<T, LsmError>) -> Result<T, LsmError> {
        if let Err(error) = &result
            && error.is_final()
        {
            self.failure.get_or_init(|| error.clone());
        }
        result
    }

    pub(crate) fn new_file_number(&self) -> u64 {
        self.next_file.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn sync_dir(&self) -> Result<(), LsmError> {
        if planted(Mutant::TreeDirectoryUnsynced) {
            return Ok(());
        }
        let synced = self.context.env.sync_dir(&self.context.dir);
        self.note(synced.map_err(LsmError::from_sync))
    }

    /// Removes tables that no edit names, after `error` ended the work they were for. After a
    /// final error nothing is touched: an edit that names them may be durable.
    pub(crate) fn remove_tables(&self, numbers: &[u64], error: &LsmError) {
        if error.is_final() || self.failure.get().is_some() {
            return;
        }
        for number in numbers {
            // Whatever stays behind is removed at the next start.
            let path = table_path(&self.context.dir, *number);
            let _ = self.context.env.remove_file(&path);
        }
    }

    /// Removes files that no version names any more; those that cannot be removed stay due.
    pub(crate) fn purge(&self) -> Result<(), LsmError> {
        let mut result = Ok(());
        for path in self.context.graveyard.take() {
            if let Err(error) = self.context.env.remove_file(&path) {
                self.context.graveyard.push(path);
                result = Err(error.into());
            }
        }
        result
    }

    /// Closes the active memtable unless it is empty.
    pub(crate) fn rotate(&self) -> bool {
        let _writer = self.writer.lock();
        if self.state().active.is_empty() {
            return false;
        }
        self.replace_active();
        true
    }

    /// The caller holds the write lock.
    fn replace_active(&self) {
        let _structure = self.structure.lock();
        let old = self.state();
        let immutables = std::iter::once(&old.active).chain(&old.immutables);
        self.state.store(Arc::new(SuperVersion {
            active: Arc::new(Memtable::new()),
            immutables: immutables.cloned().collect(),
            version: old.version.clone(),
            floor: old.floor,
        }));
        self.note_pressure();
        self.context.changes.note();
    }

    /// Called whenever pressure may have reached or left its limit.
    fn note_pressure(&self) {
        let pressure = pressure::measure(&self.state(), &self.options);
        self.stalls.note(&pressure, self.context.env.now());
    }

    pub(crate) fn flush(self: &Arc<Inner>) -> Result<(), LsmError> {
        self.check()?;
        self.rotate();
        let Some(newest) = self.state().immutables.first().cloned() else {
            return Ok(());
        };
        loop {
            self.check()?;
            let waits = |inner: &Inner| {
                let state = inner.state();
                state.immutables.iter().any(|m| Arc::ptr_eq(m, &newest))
            };
            if !waits(self) {
                return Ok(());
            }
            if let Some(job) = job::plan_flush(self) {
                job.run()?;
                continue;
            }
            let mut jobs = self.jobs.lock();
            while jobs.flushing {
                self.changed.wait(&mut jobs);
            }
        }
    }

    /// Two sequences for an ingest: of what it drops and of what it takes in.
    pub(crate) fn reserve_for_ingest(
        &self,
        applied: Option<(OriginId, u64)>,
    ) -> Result<(u64, u64), LsmError> {
        let mut writer = self.writer.lock();
        if let Some((origin, index)) = applied {
            let reached = writer.applied.get(&origin).copied().unwrap_or(0);
            if index < reached {
                return Err(applied_goes_back(origin, reached, index));
            }
        }
        let first = writer.last_sequence + 1;
        writer.last_sequence += 2;
        Ok((first, first + 1))
    }

    pub(crate) fn set_applied(&self, origin: OriginId, index: u64) {
        self.writer.lock().applied.insert(origin, index);
    }

    /// The durable state and a version that keeps its files.
    pub(crate) fn durable_state(&self) -> (ManifestState, Arc<Version>) {
        let manifest = self.manifest.lock();
        (manifest.state().clone(), self.state().version.clone())
    }

    /// As [`Inner::commit`]; the added tables are removed if nothing came of it.
    pub(crate) fn commit_or_remove(
        &self,
        edit: VersionEdit,
        added: Vec<(usize, Arc<TableFile>)>,
        flushed: &[Arc<Memtable>],
        floor: Option<u64>,
    ) -> Result<(), LsmError> {
        let numbers: Vec<u64> = added.iter().map(|(_, f)| f.meta().number).collect();
        self.commit(edit, added, flushed, floor)
            .inspect_err(|error| self.remove_tables(&numbers, error))
    }

    /// Makes an edit durable, then lets readers see what it says: without the `flushed` memtables,
    /// with the `added` tables, whose sequences up to `floor` are visible at once.
    pub(crate) fn commit(
        &self,
        mut edit: VersionEdit,
        added: Vec<(usize, Arc<TableFile>)>,
        flushed: &[Arc<Memtable>],
        floor: Option<u64>,
    ) -> Result<(), LsmError> {
        // Held across I/O on purpose: whoever holds it is the single writer of the MANIFEST, and
        // versions are installed in the order of their edits.
        let mut manifest = self.manifest.lock();
        self.check()?;
        edit.next_file = self.next_file.load(Ordering::Relaxed);
        let appended = self
            .roll_if_large(&mut manifest)
            .and_then(|()| manifest.append(&edit));
        self.note(appended)?;
        // Before the memtables leave the state: that is what whoever waits for a flush waits for.
        self.flushed
            .store(Arc::new(manifest.state().applied.clone()));
        let removed: BTreeSet<u64> = edit.removed.iter().copied().collect();
        let moved: BTreeSet<u64> = added.iter().map(|(_, f)| f.meta().number).collect();
        {
            let _structure = self.structure.lock();
            let old = self.state();
            for (_, file) in old.version.files() {
                let number = file.meta().number;
                if removed.contains(&number) && !moved.contains(&number) {
                    file.mark_obsolete();
                }
            }
            let is_flushed = |m: &Arc<Memtable>| flushed.iter().any(|f| Arc::ptr_eq(f, m));
            let immutables = old.immutables.iter().filter(|m| !is_flushed(m));
            self.state.store(Arc::new(SuperVersion {
                active: old.active.clone(),
                immutables: immutables.cloned().collect(),
                version: Arc::new(old.version.apply(&removed, &added)),
                floor: old.floor.max(floor.unwrap_or(0)),
            }));
        }
        if let Some(floor) = floor {
            self.visible.fetch_max(floor, Ordering::AcqRel);
        }
        self.note_pressure();
        self.context.changes.note();
        Ok(())
    }

    /// Begins a new MANIFEST when the one in force is long.
    fn roll_if_large(&self, manifest: &mut Manifest) -> Result<(), LsmError> {
        if manifest.size() < self.options.manifest_bytes_max {
            return Ok(());
        }
        let number = self.new_file_number();
        let mut state = manifest.state().clone();
        state.next_file = self.next_file.load(Ordering::Relaxed);
        let context = &self.context;
        let path = context.dir.join(manifest_name(number));
        let new = match Manifest::create(&context.env, &context.dir, number, state) {
            Ok(new) => new,
            Err(error) => {
                if !error.is_final() {
                    // Whatever stays behind is removed at the next start.
                    let _ = context.env.remove_file(&path);
                }
                return Err(error);
            }
        };
        let old = std::mem::replace(manifest, new);
        let path = context.dir.join(manifest_name(old.number()));
        context.graveyard.push(path);
        Ok(())
    }
}
