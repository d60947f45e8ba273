//! The MANIFEST: the history of version edits, and CURRENT, which names the one in force.
//!
//! ```text
//! 0      slot A   how far the file is known to be synced (written after a sync, in turns with B)
//! 4096   slot B
//! 8192   frames   length u32, checksum u32, edit, zeros up to a multiple of 4096;
//!                 the first edit is the whole state
//! ```
//!
//! An edit counts once its frame is synced. After a crash the file may end in a frame that is not
//! whole: that edit was never acted upon and is forgotten. A frame that does not verify *below*
//! the synced length that a slot names was acknowledged: that is damage, and an error. Slots and
//! frames stand in pages of their own, so no write ever touches a page that was synced before, and
//! at most one slot is in flight at any time, so one always verifies.
//!
//! A tree never appends to a MANIFEST of an earlier life: it begins a new one with the whole state
//! and switches CURRENT over to it.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use crc32c::crc32c_append;
use tinykv_env::{Env, FileHandle};
use tinykv_mutants::{Mutant, planted};

use crate::LsmError;
use crate::batch::{AppliedChange, OriginId};
use crate::codec::{Malformed, Reader};
use crate::version::{FileMeta, VersionEdit};

const CURRENT: &str = "CURRENT";
/// The name under which the next CURRENT is prepared.
pub(crate) const CURRENT_TMP: &str = "CURRENT.tmp";
const MANIFEST_PREFIX: &str = "MANIFEST-";
/// The newest version of the format.
const FORMAT_VERSION: u32 = 1;
const MAGIC: u64 = u64::from_le_bytes(*b"TinyKVmf");
const SLOT_BYTES: usize = 36;
const SLOT_OFFSETS: [u64; 2] = [0, 4096];
const FRAMES_OFFSET: u64 = 8192;
const FRAME_HEADER_BYTES: usize = 8;
/// Frames begin at multiples of this, the largest unit a disk may lose while writing part of it.
const FRAME_ALIGNMENT: usize = 4096;
/// A frame that claims more is not one.
const FRAME_BYTES_MAX: u32 = 1 << 30;

/// The name of the MANIFEST with this number.
pub(crate) fn manifest_name(number: u64) -> String {
    format!("{MANIFEST_PREFIX}{number:08}")
}

/// Whether a file name is that of a MANIFEST.
pub(crate) fn is_manifest_name(name: &str) -> bool {
    manifest_number(name).is_some()
}

fn manifest_number(name: &str) -> Option<u64> {
    name.strip_prefix(MANIFEST_PREFIX)?.parse().ok()
}

/// What the edits so far add up to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ManifestState {
    /// Tables by number, with their level.
    pub(crate) files: BTreeMap<u64, (usize, FileMeta)>,
    /// Durable applied indexes.
    pub(crate) applied: BTreeMap<OriginId, u64>,
    pub(crate) last_sequence: u64,
    pub(crate) next_file: u64,
}

impl ManifestState {
    /// Takes an edit in; refuses one that does not follow from what is here.
    pub(crate) fn apply(&mut self, edit: &VersionEdit) -> Result<(), Malformed> {
        for number in &edit.removed {
            if self.files.remove(number).is_none() {
                return Err(Malformed("an edit removes a table that is not there"));
            }
        }
        for (level, meta) in &edit.added {
            let entry = (*level, meta.clone());
            if self.files.insert(meta.number, entry).is_some() {
                return Err(Malformed("an edit adds a table twice"));
            }
        }
        for (origin, change) in &edit.applied {
            match change {
                AppliedChange::Advance(index) => self.applied.insert(*origin, *index),
                AppliedChange::Forget => self.applied.remove(origin),
            };
        }
        self.last_sequence = self.last_sequence.max(edit.last_sequence);
        self.next_file = self.next_file.max(edit.next_file);
        Ok(())
    }

    fn as_edit(&self) -> VersionEdit {
        let applied = self.applied.iter();
        VersionEdit {
            added: self.files.values().cloned().collect(),
            removed: Vec::new(),
            applied: applied
                .map(|(origin, index)| (*origin, AppliedChange::Advance(*index)))
                .collect(),
            last_sequence: self.last_sequence,
            next_file: self.next_file,
        }
    }
}

/// The MANIFEST in force, as its only writer holds it.
#[derive(Debug)]
pub(crate) struct Manifest {
    file: FileHandle,
    number: u64,
    /// Where the next frame goes.
    end: u64,
    /// Syncs so far; the slots take turns.
    syncs: u64,
    state: ManifestState,
}

impl Manifest {
    /// Begins the MANIFEST `number` with a state, synced, and makes CURRENT name it.
    pub(crate) fn create(
        env: &Arc<dyn Env>,
        dir: &Path,
        number: u64,
        state: ManifestState,
    ) -> Result<Manifest, LsmError> {
        let manifest = Manifest::write_state(env, dir, number, state)?;
        switch_current(env, dir, number)?;
        Ok(manifest)
    }

    fn write_state(
        env: &Arc<dyn Env>,
        dir: &Path,
        number: u64,
        state: ManifestState,
    ) -> Result<Manifest, LsmError> {
        let file = env.create(&dir.join(manifest_name(number)))?;
        let frame = encode_frame(number, FRAMES_OFFSET, &state.as_edit().encode())?;
        let end = FRAMES_OFFSET + frame.len() as u64;
        // Zeros reserve the place of slot B, so that a full disk cannot get between an edit and
        // its slot.
        let mut bytes = encode_slot(number, end);
        bytes.resize(FRAMES_OFFSET as usize, 0);
        bytes.extend_from_slice(&frame);
        file.write_at(&bytes, 0)?;
        file.sync_data().map_err(LsmError::from_sync)?;
        env.sync_dir(dir).map_err(LsmError::from_sync)?;
        Ok(Manifest {
            file,
            number,
            end,
            syncs: 1,
            state,
        })
    }

    pub(crate) fn state(&self) -> &ManifestState {
        &self.state
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Its length in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.end
    }

    /// Makes an edit durable. After an error that is not final nothing has happened.
    pub(crate) fn append(&mut self, edit: &VersionEdit) -> Result<(), LsmError> {
        let mut next = self.state.clone();
        next.apply(edit).map_err(|Malformed(reason)| {
            LsmError::corruption(self.file.path(), self.end, reason)
        })?;
        let frame = encode_frame(self.number, self.end, &edit.encode())?;
        if let Err(error) = self.file.write_at(&frame, self.end) {
            // Part of the frame may stand in the file; were all of it there, a later life would
            // believe it.
            self.file.set_len(self.end).map_err(LsmError::from_sync)?;
            return Err(error.into());
        }
        if !planted(Mutant::ManifestUnsynced) {
            self.file.sync_data().map_err(LsmError::from_sync)?;
        }
        self.end += frame.len() as u64;
        self.state = next;
        let slot = SLOT_OFFSETS[(self.syncs % 2) as usize];
        self.syncs += 1;
        // The next sync makes the slot durable. Only a lost slot in *this* file makes damage look
        // like a torn end, so an error here must not pass for success of the next sync.
        self.file
            .write_at(&encode_slot(self.number, self.end), slot)
            .map_err(LsmError::from_sync)
    }
}

/// What a directory holds.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) state: ManifestState,
    /// The number of the MANIFEST it was read from.
    pub(crate) number: u64,
}

/// Reads the state of the tree in `dir`; `None` if there is no tree.
pub(crate) fn recover(env: &Arc<dyn Env>, dir: &Path) -> Result<Option<Recovered>, LsmError> {
    let path = dir.join(CURRENT);
    if !env.exists(&path)? {
        return refuse_remains(env, dir).map(|()| None);
    }
    let text = read_all(env, &path)?;
    let number = decode_current(&text)
        .map_err(|Malformed(reason)| LsmError::corruption(&path, 0, reason))?;
    let manifest = dir.join(manifest_name(number));
    let bytes = match read_all(env, &manifest) {
        Err(LsmError::Io { source }) if source.kind() == io::ErrorKind::NotFound => {
            return Err(LsmError::corruption(
                &manifest,
                0,
                "missing, though CURRENT names it",
            ));
        }
        other => other?,
    };
    let state = replay(&manifest, number, &bytes)?;
    Ok(Some(Recovered { state, number }))
}

/// Without CURRENT there may be the first MANIFEST as a crash during the first start leaves it,
/// without any edit; anything more says that CURRENT was lost.
fn refuse_remains(env: &Arc<dyn Env>, dir: &Path) -> Result<(), LsmError> {
    for entry in env.list_dir(dir)? {
        let lost = match manifest_number(&entry.name) {
            None => entry.name.ends_with(".sst"),
            Some(1) => {
                let path = dir.join(&entry.name);
                replay(&path, 1, &read_all(env, &path)?).is_ok_and(|state| state.last_sequence > 0)
            }
            Some(_) => true,
        };
        if lost {
            let reason = format!("missing, though there is {}", entry.name);
            return Err(LsmError::corruption(&dir.join(CURRENT), 0, reason));
        }
    }
    Ok(())
}

fn replay(path: &Path, number: u64, bytes: &[u8]) -> Result<ManifestState, LsmError> {
    let corrupt = |offset: u64, reason: &str| LsmError::corruption(path, offset, reason);
    let slots = SLOT_OFFSETS.map(|offset| decode_slot(bytes, number, offset));
    let mut synced = None;
    for slot in slots {
        match slot {
            Ok(end) => synced = synced.max(Some(end)),
            Err(SlotError::Newer(found)) => {
                return Err(LsmError::NewerFormat {
                    file: path.to_owned(),
                    found,
                    known: FORMAT_VERSION,
                });
            }
            Err(SlotError::Malformed) => {}
        }
    }
    let synced = synced.ok_or_else(|| corrupt(0, "neither slot of the synced length verifies"))?;
    let mut state = ManifestState::default();
    let mut offset = FRAMES_OFFSET;
    loop {
        let edit = match decode_frame(number, offset, bytes) {
            Ok(edit) => edit,
            Err(Malformed(reason)) if offset < synced => return Err(corrupt(offset, reason)),
            // A torn end: the edit was never acted upon.
            Err(_) => return Ok(state),
        };
        let next = offset + frame_bytes(edit.len()) as u64;
        VersionEdit::decode(edit)
            .and_then(|edit| state.apply(&edit))
            .map_err(|Malformed(reason)| corrupt(offset, reason))?;
        offset = next;
    }
}

/// Writes a complete tree description into a directory of its own (checkpoints).
pub(crate) fn write_fresh(
    env: &Arc<dyn Env>,
    dir: &Path,
    state: ManifestState,
) -> Result<(), LsmError> {
    Manifest::create(env, dir, 1, state).map(|_| ())
}

fn switch_current(env: &Arc<dyn Env>, dir: &Path, number: u64) -> Result<(), LsmError> {
    let tmp = dir.join(CURRENT_TMP);
    if env.exists(&tmp)? {
        env.remove_file(&tmp)?;
    }
    let file = env.create(&tmp)?;
    file.write_at(encode_current(number).as_bytes(), 0)?;
    file.sync_data().map_err(LsmError::from_sync)?;
    // From here on it is unknown which of the two is in force until the directory is synced.
    env.rename(&tmp, &dir.join(CURRENT))
        .and_then(|()| env.sync_dir(dir))
        .map_err(LsmError::from_sync)
}

fn encode_current(number: u64) -> String {
    let name = manifest_name(number);
    let checksum = crc32c_append(0, name.as_bytes());
    format!("{name} {checksum:08x}\n")
}

fn decode_current(bytes: &[u8]) -> Result<u64, Malformed> {
    let name = std::str::from_utf8(bytes)
        .ok()
        .and_then(|text| text.split(' ').next());
    let number = name.and_then(manifest_number);
    match number {
        Some(number) if encode_current(number).as_bytes() == bytes => Ok(number),
        _ => Err(Malformed("does not name a MANIFEST")),
    }
}

fn encode_slot(number: u64, end: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(SLOT_BYTES);
    out.extend_from_slice(&MAGIC.to_le_bytes());
    out.extend_from_slice(&number.to_le_bytes());
    out.extend_from_slice(&end.to_le_bytes());
    out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
    let checksum = crc32c_append(0, &out);
    out.extend_from_slice(&checksum.to_le_bytes());
    out
}

enum SlotError {
    Malformed,
    Newer(u32),
}

impl From<Malformed> for SlotError {
    fn from(_: Malformed) -> SlotError {
        SlotError::Malformed
    }
}

fn decode_slot(bytes: &[u8], number: u64, offset: u64) -> Result<u64, SlotError> {
    let bytes = bytes.get(offset as usize..).unwrap_or(&[]);
    let mut reader = Reader::new(bytes);
    let magic = reader.u64()?;
    let named = reader.u64()?;
    let end = reader.u64()?;
    let version = reader.u32()?;
    let checksum = reader.u32()?;
    if magic != MAGIC || named != number || crc32c_append(0, &bytes[..28]) != checksum {
        return Err(SlotError::Malformed);
    }
    if version > FORMAT_VERSION {
        return Err(SlotError::Newer(version));
    }
    Ok(end)
}

fn frame_checksum(number: u64, offset: u64, edit: &[u8]) -> u32 {
    let crc = crc32c_append(0, &number.to_le_bytes());
    let crc = crc32c_append(crc, &offset.to_le_bytes());
    let crc = crc32c_append(crc, &(edit.len() as u64).to_le_bytes());
    crc32c_append(crc, edit)
}

fn encode_frame(number: u64, offset: u64, edit: &[u8]) -> Result<Vec<u8>, LsmError> {
    let len = u32::try_from(edit.len())
        .ok()
        .filter(|len| *len <= FRAME_BYTES_MAX)
        .ok_or_else(|| LsmError::invalid("a version edit larger than 1 GiB"))?;
    let mut out = Vec::with_capacity(frame_bytes(edit.len()));
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(&frame_checksum(number, offset, edit).to_le_bytes());
    out.extend_from_slice(edit);
    out.resize(frame_bytes(edit.len()), 0);
    Ok(out)
}

/// What a frame takes, header and padding included.
fn frame_bytes(edit: usize) -> usize {
    (edit + FRAME_HEADER_BYTES).next_multiple_of(FRAME_ALIGNMENT)
}

fn decode_frame(number: u64, offset: u64, bytes: &[u8]) -> Result<&[u8], Malformed> {
    let frame = usize::try_from(offset)
        .ok()
        .and_then(|offset| bytes.get(offset..))
        .ok_or(Malformed("ends too early"))?;
    let mut reader = Reader::new(frame);
    let len = reader.u32()?;
    let checksum = reader.u32()?;
    let edit = reader.take(len as usize)?;
    if frame_checksum(number, offset, edit) != checksum {
        return Err(Malformed("an edit's checksum does not hold"));
    }
    Ok(edit)
}

fn read_all(env: &Arc<dyn Env>, path: &Path) -> Result<Vec<u8>, LsmError> {
    let file = env.open(path)?;
    let len = file.len()?;
    let len = usize::try_from(len)
        .ok()
        .filter(|len| *len <= 4 << 30)
        .ok_or_else(|| LsmError::corruption(path, len, "far too long"))?;
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}
