//! What disks do to a process besides crashing: they fill up, break their word, rot.

use std::path::Path;

use tinykv_env::Env;
use tinykv_raft::GroupId;
use tinykv_replica::StateMachine;

use super::{Host, Hurt};

/// Where the engine keeps its log.
const LOG: &str = "data/wal";
/// So much of the newest segment is durable before an older one is damaged: frames in there tell
/// that the older one was durable.
const PROOF_BYTES: u64 = 12 << 10;

impl<S: StateMachine> Host<S> {
    /// From now on only so many bytes more fit on the disk.
    pub(in crate::sim) fn fill_disk(&mut self, slack: u64) {
        const LARGE: u64 = 1 << 60;
        self.env.set_capacity(Some(LARGE));
        let available = self.env.available_space(Path::new("")).unwrap_or(LARGE);
        self.env.set_capacity(Some(LARGE - available + slack));
    }

    /// Whether commands are refused because the log waits for space (D8).
    pub(in crate::sim) fn is_out_of_space(&self) -> bool {
        let running = self.running.as_ref();
        running.is_some_and(|running| running.log_is_stuck)
    }

    /// One of the next syncs will fail.
    pub(in crate::sim) fn fail_sync(&mut self, syncs: u64) {
        let number = self.env.sync_count() + syncs;
        self.failing_sync = Some(number);
        self.env.fail_sync_at(number);
    }

    /// No sync will fail but one that has already.
    pub(in crate::sim) fn disarm_sync(&mut self) {
        if !self.sync_has_failed() {
            self.failing_sync = None;
            self.env.fail_sync_at(u64::MAX);
        }
    }

    /// Whether a sync has failed in this life.
    pub(in crate::sim) fn sync_has_failed(&self) -> bool {
        let failing = self.failing_sync;
        failing.is_some_and(|number| self.env.sync_count() >= number)
    }

    /// Turns a bit over in the log's last segment but one, if what follows proves that it was
    /// durable. For a process that is about to be stopped.
    pub(in crate::sim) fn damage_log(&mut self, place: u64) -> bool {
        let Some(running) = &self.running else {
            return false;
        };
        let status = running.wal.status();
        let (segment, offset) = (status.durable.0 >> 32, status.durable.0 & 0xffff_ffff);
        if status.segments_used < 2 || status.end.0 >> 32 != segment || offset < PROOF_BYTES {
            return false;
        }
        let Some((path, len)) = self.file_of(segment - 1) else {
            return false;
        };
        // In the first frame: it is one of the log for certain.
        let offset = place % len;
        let flipped = self.env.flip(Path::new(&path), offset, 1 << (place % 8));
        let flipped = flipped.is_ok();
        if flipped {
            self.hurt = Some(Hurt::DamagedLog);
        }
        flipped
    }

    /// The file of a segment, and the length of its first frame.
    fn file_of(&self, segment: u64) -> Option<(String, u64)> {
        let files = self.env.list_dir(Path::new(LOG)).ok()?;
        files.into_iter().find_map(|entry| {
            let path = format!("{LOG}/{}", entry.name);
            let file = self.env.open(Path::new(&path)).ok()?;
            let mut header = [0; 64];
            file.read_exact_at(&mut header, 0).ok()?;
            let position = u64::from_le_bytes(header[16..24].try_into().ok()?);
            let payload = u32::from_le_bytes(header[12..16].try_into().ok()?);
            let is_it = position == segment << 32;
            is_it.then(|| (path, 64 + u64::from(payload)))
        })
    }

    /// Whether what was acknowledged here may be lost.
    pub(in crate::sim) fn is_hurt(&self) -> bool {
        self.running.is_none() || self.broke_its_word()
    }

    /// Whether its disk broke its word in a way that it knows of, or soon will.
    pub(in crate::sim) fn broke_its_word(&self) -> bool {
        self.hurt.is_some() || self.failing_sync.is_some() || !self.damaged().is_empty()
    }

    /// Groups whose replica here is damaged.
    pub(in crate::sim) fn damaged(&self) -> Vec<u64> {
        let Some(running) = &self.running else {
            return Vec::new();
        };
        let is_damaged = |group: &GroupId| {
            let status = running.shard.status(*group);
            status.is_some_and(|status| status.damaged)
        };
        let groups = running.shard.groups().filter(is_damaged);
        groups.map(|group| group.0).collect()
    }
}
