//! What `tinykv-sync` has, on shuttle: every lock, swap, atomic and wait is a point at which the
//! schedule of a test may let another thread go on, and a test runs under many schedules. For tests
//! alone; nothing of it works outside of [`explore`].
//!
//! # What it sees, and what not
//!
//! It sees the locks of the tree, its super version and memtables, and the queue of the standalone
//! store. It does not see into the skip list, the block cache, the log and the simulated disk:
//! those take their steps whole. Atomics are sequentially consistent here, whatever their ordering
//! says; that what the product asks for is enough only real threads can show (`threads.rs`).
//!
//! Waits with a limit always reach it: time passes as the schedule likes.
//!
//! # Seeing that it would find a mistake
//!
//! [`explore_with`] plants a [`Fault`] into the primitives, which is what the code would be if it
//! forgot them; each test then has to fail.

mod condvar;
mod mutex;
mod swap;

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::{Config, FailurePersistence, Runner};

pub use condvar::{Condvar, WaitTimeoutResult};
pub use mutex::{Mutex, MutexGuard};
pub use shuttle::sync::atomic;
pub use shuttle::thread;
pub use swap::ArcSwap;

/// A mistake in the use of the primitives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Locks that hold no data, so whose only use is to exclude, exclude nobody.
    EmptyLocksExcludeNobody,
    /// Who is to be woken is not.
    WakesAreLost,
}

thread_local! {
    /// Shuttle's threads all run on the thread of the test.
    static PLANTED: Cell<Option<Fault>> = const { Cell::new(None) };
}

pub(crate) fn planted(fault: Fault) -> bool {
    PLANTED.get() == Some(fault)
}

/// Steps after which a schedule counts as one that never ends.
const STEPS_MAX: usize = 1_000_000;
/// Merging and the codecs are not shy of the stack.
const STACK_BYTES: usize = 1 << 20;
/// Of the schedules this part changes threads at few places, chosen by chance (PCT), which finds
/// what needs an exact but short order; the others change at any.
const PCT_PART: usize = 3;
const PCT_CHANGES: usize = 3;

/// How many schedules to run: so many, times the environment's `TINYKV_CASES`.
pub fn schedules(ordinary: usize) -> usize {
    let factor = std::env::var("TINYKV_CASES").ok();
    let factor = factor.and_then(|factor| factor.parse().ok());
    ordinary * factor.unwrap_or(1).max(1)
}

/// Runs a test under so many schedules, the same ones each time; panics with the schedule's name
/// under the first that fails.
pub fn explore(name: &str, schedules: usize, test: impl Fn() + Send + Sync + Clone + 'static) {
    #[expect(clippy::disallowed_methods, reason = "only says how long it took")]
    let begin = Instant::now();
    let pct = schedules / PCT_PART;
    let random = RandomScheduler::new_from_seed(SEED, schedules - pct);
    let ran = Runner::new(random, config()).run(test.clone());
    let by_chance = PctScheduler::new_from_seed(SEED, PCT_CHANGES, pct);
    let ran = ran + Runner::new(by_chance, config()).run(test);
    assert_eq!(ran, schedules, "every schedule was run");
    eprintln!("{name}: {ran} schedules in {:?}", begin.elapsed());
}

/// As [`explore`], with a mistake planted; whether a schedule found it.
pub fn explore_with(
    fault: Fault,
    name: &str,
    schedules: usize,
    test: impl Fn() + Send + Sync + Clone + 'static,
) -> bool {
    PLANTED.set(Some(fault));
    let done = catch_unwind(AssertUnwindSafe(|| explore(name, schedules, test)));
    PLANTED.set(None);
    done.is_err()
}

const SEED: u64 = 0x7469_6e79;

fn config() -> Config {
    let mut config = Config::new();
    config.stack_size = STACK_BYTES;
    config.max_steps = shuttle::MaxSteps::FailAfter(STEPS_MAX);
    config.failure_persistence = FailurePersistence::Print;
    config.silence_warnings = true;
    config
}
