//! A life of a log, generated from a seed, with what it may remember after it.

use std::path::Path;
use std::sync::Arc;

use tinykv_env::{CrashMode, Env, Prng, SimEnv};
use tinykv_wal::{Batch, Recovered, Wal, WalError, WalOptions};

use crate::model::Model;

pub(crate) const DIR: &str = "data/wal";

/// A log under test, and every state it went through.
#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) env: SimEnv,
    pub(crate) random: Prng,
    pub(crate) options: WalOptions,
    pub(crate) wal: Option<Wal>,
    /// The state after each batch that was handed to the log, the empty one first.
    pub(crate) history: Vec<Model>,
    /// The state known durable, as a place in `history`.
    pub(crate) synced: usize,
    /// How often something was copied or recycled.
    pub(crate) recycled: u32,
    /// Void frames that the last opening found.
    pub(crate) torn_frames: u64,
    /// The I/O at which the machine stops for good.
    crash_at: Option<u64>,
    payload_max: u64,
}

pub(crate) fn small_options() -> WalOptions {
    WalOptions {
        segment_bytes: 16 << 10,
        segments_target: 3,
        segments_max: 10,
        segments_spare: 1,
    }
}

impl Life {
    pub(crate) fn new(seed: u64) -> Life {
        let env = SimEnv::new(seed);
        env.create_dir_all(Path::new("data")).expect("create");
        env.sync_dir(Path::new("")).expect("sync");
        Life {
            env,
            random: Prng::new(seed),
            options: small_options(),
            wal: None,
            history: vec![Model::default()],
            synced: 0,
            recycled: 0,
            torn_frames: 0,
            crash_at: None,
            payload_max: 700,
        }
    }

    /// Lets the machine stop at the `n`-th I/O.
    pub(crate) fn crash_at(&mut self, n: u64) {
        self.crash_at = Some(n);
        self.env.crash_at(n);
    }

    /// The same life on another machine.
    pub(crate) fn fork(&self, env: SimEnv) -> Life {
        Life {
            env,
            random: self.random.clone(),
            options: self.options.clone(),
            wal: None,
            history: self.history.clone(),
            synced: self.synced,
            recycled: 0,
            torn_frames: 0,
            crash_at: None,
            payload_max: self.payload_max,
        }
    }

    /// Steps of a seeded life, until they are done or the machine stops. Errors while the
    /// machine runs are failures of the test.
    pub(crate) fn live(&mut self, steps: u32) {
        if self.wal.is_none() && !self.open() {
            return;
        }
        for _ in 0..steps {
            if !self.step() {
                return;
            }
        }
    }

    /// Recovers and checks what was found; false when the machine stopped meanwhile.
    pub(crate) fn open(&mut self) -> bool {
        let env: Arc<dyn Env> = self.env.shared();
        let opened = Wal::open(env, Path::new(DIR), self.options.clone());
        let Some((wal, recovered)) = self.unless_stopped(opened) else {
            return false;
        };
        self.check(&wal, &recovered);
        self.torn_frames = recovered.torn_frames;
        self.wal = Some(wal);
        true
    }

    /// The prefix rule: a state the log went through, and none older than the last synced one.
    fn check(&mut self, wal: &Wal, recovered: &Recovered) {
        assert_eq!(recovered.damaged, vec![], "a torn tail is no damage");
        let found = Model::of(recovered, &wal.reader());
        let possible = &self.history[self.synced..];
        let Some(at) = possible.iter().rposition(|state| *state == found) else {
            panic!(
                "recovered what the log never was\nfound: {found:#?}\nlast synced: {:#?}\nlast: {:#?}",
                possible.first(),
                possible.last()
            );
        };
        // What was found once is durable: it may not be lost by the next crash.
        self.synced += at;
        self.history.truncate(self.synced + 1);
    }

    fn step(&mut self) -> bool {
        match self.random.below(20) {
            0..=10 => self.append(),
            11..=15 => self.sync(),
            16..=18 => self.maintain(),
            _ => self.restart(),
        }
    }

    pub(crate) fn append(&mut self) -> bool {
        let state = self.history.last().expect("never empty");
        let batch = state.random_batch(&mut self.random, self.payload_max);
        self.append_batch(&batch)
    }

    pub(crate) fn append_batch(&mut self, batch: &Batch) -> bool {
        let mut after = self.history.last().expect("never empty").clone();
        after.apply(batch);
        self.history.push(after);
        let wal = self.wal.as_mut().expect("open");
        match wal.append(batch) {
            Err(WalError::Full { .. }) => {
                self.history.pop();
                self.make_room()
            }
            other => self.unless_stopped(other).is_some(),
        }
    }

    pub(crate) fn sync(&mut self) -> bool {
        let result = self.wal.as_mut().expect("open").sync();
        let done = self.unless_stopped(result).is_some();
        if done {
            self.synced = self.history.len() - 1;
        }
        done
    }

    pub(crate) fn maintain(&mut self) -> bool {
        let result = self.wal.as_mut().expect("open").maintain();
        let Some(upkeep) = self.unless_stopped(result) else {
            return false;
        };
        assert_eq!(upkeep.unreadable, vec![]);
        self.recycled += upkeep.recycled;
        // A log that holds too much is truncated, as a flush would allow.
        upkeep.pinned.is_empty() || self.make_room()
    }

    fn make_room(&mut self) -> bool {
        let batch = self.history.last().expect("never empty").truncate_all();
        let mut after = self.history.last().expect("never empty").clone();
        after.apply(&batch);
        self.history.push(after);
        let wal = self.wal.as_mut().expect("open");
        let result = wal.append(&batch).and_then(|_| wal.maintain());
        self.unless_stopped(result).is_some()
    }

    /// A crash in the middle of the trace; the recovery is part of the trace.
    fn restart(&mut self) -> bool {
        self.wal = None;
        let mode = *self.random.pick(&CrashMode::ALL).expect("some modes");
        self.env.crash(mode);
        if let Some(n) = self.crash_at {
            self.env.crash_at(n);
        }
        self.open()
    }

    fn unless_stopped<T>(&self, result: Result<T, WalError>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(_) if self.env.is_stopped() => None,
            Err(error) => panic!("the machine runs, but: {error}"),
        }
    }
}
