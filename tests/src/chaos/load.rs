//! Clients at work on contended keys, and the history of what they saw.
//!
//! Every few seconds they turn to fresh keys, so that the history of each key stays short enough to
//! be decided. The keys lie in several regions; in each there are registers, a list and a counter.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tinykv_client::{Error, Options, RawClient, Reason};
use tinykv_env::Prng;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::checker::{Action, Operation, Outcome, Value};

/// In how many parts of the key space the keys lie.
pub(super) const PARTS: u64 = 6;
/// Registers in each part at a time.
const REGISTERS: u64 = 2;
/// How long clients stay with the same keys.
const ERA: Duration = Duration::from_secs(3);
/// Clients with routes and connections of their own.
const CLIENTS: u64 = 3;
/// Calls that each of them has open at most.
const CALLS: u64 = 4;
/// Each caller begins a call so often, if the one before is answered.
const PACE: Duration = Duration::from_millis(28);
/// A call is given up after this time.
const DEADLINE: Duration = Duration::from_secs(2);

/// What becomes known of all calls.
#[derive(Debug)]
pub(super) struct History {
    begin: Instant,
    inner: Mutex<Inner>,
    /// Calls that ended well, so far.
    succeeded: AtomicU64,
}

#[derive(Debug, Default)]
struct Inner {
    operations: Vec<Operation>,
    /// Why calls were refused, and how often.
    refusals: BTreeMap<&'static str, u64>,
}

impl History {
    pub(super) fn new() -> Arc<History> {
        Arc::new(History {
            begin: Instant::now(),
            inner: Mutex::default(),
            succeeded: AtomicU64::new(0),
        })
    }

    /// Operations so far, in no order.
    pub(super) fn operations(&self) -> Vec<Operation> {
        self.lock().operations.clone()
    }

    /// Why calls were refused so far.
    pub(super) fn refusals(&self) -> BTreeMap<&'static str, u64> {
        self.lock().refusals.clone()
    }

    /// How many calls ended well so far.
    pub(super) fn succeeded(&self) -> u64 {
        self.succeeded.load(Ordering::Relaxed)
    }

    fn now(&self) -> u64 {
        self.begin.elapsed().as_nanos() as u64
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a call and records it.
    pub(super) async fn call(
        &self,
        client: &RawClient,
        number: u64,
        key: &str,
        action: Action,
    ) -> Outcome {
        let begin = self.now();
        let done = carry_out(client, key, &action).await;
        let end = self.now();
        let outcome = match &done {
            Ok(outcome) => outcome.clone(),
            Err(Error::DefinitelyNot { .. }) => Outcome::DefinitelyNot,
            Err(Error::Undetermined { .. }) => Outcome::Unknown,
        };
        let mut inner = self.lock();
        match done {
            Ok(_) => {
                self.succeeded.fetch_add(1, Ordering::Relaxed);
            }
            Err(Error::DefinitelyNot { reason, .. }) => {
                *inner.refusals.entry(name_of(&reason)).or_default() += 1;
            }
            Err(Error::Undetermined { .. }) => {}
        }
        inner.operations.push(Operation {
            client: number,
            key: key.to_owned(),
            action,
            outcome: outcome.clone(),
            begin,
            end,
            at_once: None,
        });
        outcome
    }
}

async fn carry_out(client: &RawClient, key: &str, action: &Action) -> Result<Outcome, Error> {
    let key = key.to_owned();
    Ok(match action {
        Action::Get => Outcome::Found(client.get(key).await?.map(text)),
        Action::Put(value) => client
            .put(key, value.clone())
            .await
            .map(|()| Outcome::Done)?,
        Action::Delete => client.delete(key).await.map(|()| Outcome::Done)?,
        Action::CompareAndSwap { expected, new } => {
            let expected = expected.clone().map(Bytes::from);
            let swap = client.compare_and_swap(key, expected, new.clone()).await?;
            Outcome::Swapped {
                swapped: swap.swapped,
                previous: swap.previous.map(text),
            }
        }
        Action::Append(element) => Outcome::Appended(client.append(key, element.clone()).await?),
        Action::Increment(delta) => Outcome::Sum(client.increment(key, *delta).await?),
    })
}

/// What no client wrote shows in the history as it is.
fn text(value: Bytes) -> Value {
    String::from_utf8_lossy(&value).into_owned()
}

fn name_of(reason: &Reason) -> &'static str {
    match reason {
        Reason::DiskFull { .. } => DISK_FULL,
        Reason::Busy { .. } => "busy",
        Reason::NoLeader => "no_leader",
        Reason::RegionNotFound { .. } => "region_not_found",
        Reason::NotNow { .. } => "not_now",
        Reason::StoreUnreachable { .. } => "store_unreachable",
        Reason::PlacementUnreachable { .. } | Reason::PlacementNoLeader { .. } => "placement",
        Reason::Unknown { .. } => "unknown_to_placement",
        Reason::NoTime { .. } => "no_time",
        Reason::Invalid(_) | Reason::BadRequest { .. } => "invalid",
        Reason::Conflict(_) => "conflict",
        Reason::Refused { .. } => "refused",
    }
}

/// How [`History::refusals`] calls a disk without room.
pub(super) const DISK_FULL: &str = "disk_full";

/// A key that no history checks, in a part.
pub(super) fn probe_key(part: u64) -> String {
    format!("c{part}~probe")
}

/// Where the parts begin, all but the first, which has no such border.
pub(super) fn borders() -> Vec<String> {
    (1..PARTS).map(|part| format!("c{part}")).collect()
}

/// A border between the keys that were used and those that will be, in a part.
pub(super) fn border_of_now(history: &History, part: u64) -> String {
    format!("c{part}-{:06}", era(history) + 1)
}

fn era(history: &History) -> u64 {
    history.begin.elapsed().as_secs() / ERA.as_secs()
}

/// Clients at work. Dropping it ends them.
#[derive(Debug)]
pub(super) struct Load {
    stop: Arc<AtomicBool>,
    tasks: JoinSet<()>,
    history: Arc<History>,
}

impl Load {
    /// Lets clients work.
    pub(super) fn start(placements: &[String], history: &Arc<History>, random: &mut Prng) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for client in 0..CLIENTS {
            let raw = client_of(placements, DEADLINE);
            for call in 0..CALLS {
                let caller = Caller {
                    client: raw.clone(),
                    number: client * CALLS + call,
                    history: Arc::clone(history),
                    stop: Arc::clone(&stop),
                    random: random.fork(),
                    written: 0,
                    seen: BTreeMap::new(),
                };
                tasks.spawn(caller.work());
            }
        }
        Load {
            stop,
            tasks,
            history: Arc::clone(history),
        }
    }

    /// Ends the work and waits for the calls under way. Then every key is read once more: what was
    /// acknowledged last must be there.
    ///
    /// # Errors
    /// A key cannot be read.
    pub(super) async fn stop(mut self, placements: &[String]) -> Result<(), String> {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended.map_err(|error| error.to_string())?;
        }
        let mut keys: Vec<String> = self
            .history
            .operations()
            .into_iter()
            .map(|o| o.key)
            .collect();
        keys.sort_unstable();
        keys.dedup();
        let client = client_of(placements, LAST_DEADLINE);
        for key in &keys {
            let number = CLIENTS * CALLS;
            if self.history.call(&client, number, key, Action::Get).await == Outcome::DefinitelyNot
            {
                return Err(format!("{key} cannot be read within {LAST_DEADLINE:?}"));
            }
        }
        Ok(())
    }
}

/// How long the last read of a key may take.
const LAST_DEADLINE: Duration = Duration::from_secs(30);

/// A client that gives up after this time.
pub(super) fn client_of(placements: &[String], deadline: Duration) -> RawClient {
    RawClient::new(placements, Options { deadline })
}

/// One caller: a call at a time.
struct Caller {
    client: RawClient,
    number: u64,
    history: Arc<History>,
    stop: Arc<AtomicBool>,
    random: Prng,
    /// How many values it has used.
    written: u64,
    /// What it saw last in the keys of this era.
    seen: BTreeMap<String, Option<Value>>,
}

impl Caller {
    async fn work(mut self) {
        let mut pace = interval(PACE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last_era = 0;
        while !self.stop.load(Ordering::Relaxed) {
            pace.tick().await;
            let era = era(&self.history);
            if era != last_era {
                self.seen.clear();
                last_era = era;
            }
            let (key, action) = self.draw(era);
            let outcome = self
                .history
                .call(&self.client, self.number, &key, action.clone())
                .await;
            self.remember(key, &action, outcome);
        }
    }

    fn draw(&mut self, era: u64) -> (String, Action) {
        let part = self.random.below(PARTS);
        let kind = self.random.below(10);
        let slot = match kind {
            0 => "list".to_owned(),
            1 => "sum".to_owned(),
            _ => format!("r{}", self.random.below(REGISTERS)),
        };
        let key = format!("c{part}-{era:06}-{slot}");
        let dice = self.random.below(100);
        let action = match (kind, dice) {
            (_, 0..35) => Action::Get,
            (0, _) => Action::Append(format!("{};", self.value())),
            // Large and arbitrary, so that a sum shows what is in it.
            (1, _) => Action::Increment(self.random.between(1, 1 << 40) as i64),
            (_, 35..40) => Action::Delete,
            (_, 40..70) => Action::Put(self.value()),
            _ => Action::CompareAndSwap {
                expected: self.seen.get(&key).cloned().flatten(),
                new: self.value(),
            },
        };
        (key, action)
    }

    /// A value nobody else writes.
    fn value(&mut self) -> Value {
        self.written += 1;
        format!("v{}.{}", self.number, self.written)
    }

    fn remember(&mut self, key: String, action: &Action, outcome: Outcome) {
        let holds = match (action, outcome) {
            (_, Outcome::Found(found)) => found,
            (Action::Put(value), Outcome::Done) => Some(value.clone()),
            (Action::Delete, Outcome::Done) => None,
            (Action::CompareAndSwap { new, .. }, Outcome::Swapped { swapped, previous }) => {
                match swapped {
                    true => Some(new.clone()),
                    false => previous,
                }
            }
            _ => return,
        };
        self.seen.insert(key, holds);
    }
}
