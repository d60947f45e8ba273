//! What a client wants, and what it came to: calls to stores by the cores of the production client,
//! operations for the checker.

use std::time::Duration;

use bytes::Bytes;
use tinykv_client::batch::{Parts, sort_and_deduplicate};
use tinykv_client::range::{Pages, Removal, Scan, Visit};
use tinykv_client::retry::Access;
use tinykv_client::routing::{Point, Route};
use tinykv_proto::kvrpcpb::{self, KvPair};
use tinykv_proto::store;

use crate::checker::{Action, Operation, Outcome, Value};

use super::super::workload::Wanted;
use super::message::{Asked, Told};

/// Something wanted, on its way.
#[derive(Debug)]
pub(super) enum Task {
    /// One call.
    One { key: String, action: Action },
    /// Pages, each from one region.
    Scan(Pages),
    /// Reads, region by region.
    BatchGet(Parts<Vec<Bytes>>),
    /// Writes, region by region.
    BatchPut(Parts<Vec<(Bytes, Bytes)>>),
    /// A range, removed region by region.
    Remove(Removal),
}

/// One call: who made it, and when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) client: usize,
    pub(super) call: u64,
    pub(super) begin: Duration,
    pub(super) end: Duration,
}

impl Task {
    pub(super) fn new(wanted: Wanted) -> Task {
        let pair = |(key, value): (String, Value)| (Bytes::from(key), Bytes::from(value));
        match wanted {
            Wanted::One { key, action } => Task::One { key, action },
            Wanted::Scan {
                from,
                upto,
                direction,
                limit,
            } => Task::Scan(Pages::new(Scan {
                lower: Bytes::from(from),
                upper: Bytes::from(upto),
                direction,
                limit,
                keys_only: false,
            })),
            Wanted::BatchGet(keys) => {
                let keys = keys.into_iter().map(Bytes::from).collect();
                Task::BatchGet(Parts::new(sort_and_deduplicate(keys)))
            }
            Wanted::BatchPut(pairs) => {
                let pairs = pairs.into_iter().map(pair).collect();
                Task::BatchPut(Parts::new(sort_and_deduplicate(pairs)))
            }
            Wanted::Remove { from, upto } => {
                Task::Remove(Removal::new(Bytes::from(from), Bytes::from(upto)))
            }
        }
    }

    /// Where the next call goes; `None`: all is done. One call is done when it is answered.
    pub(super) fn point(&self) -> Option<Point> {
        match self {
            Task::One { key, .. } => Some(Point::At(Bytes::from(key.clone()))),
            Task::Scan(pages) => pages.point(),
            Task::BatchGet(parts) => parts.point(),
            Task::BatchPut(parts) => parts.point(),
            Task::Remove(removal) => removal.point(),
        }
    }

    pub(super) fn access(&self) -> Access {
        match self {
            Task::One {
                action: Action::Get,
                ..
            }
            | Task::Scan(_)
            | Task::BatchGet(_) => Access::Read,
            Task::One { .. } | Task::BatchPut(_) | Task::Remove(_) => Access::Write,
        }
    }

    pub(super) fn is_scan(&self) -> bool {
        matches!(self, Task::Scan(_))
    }

    /// The request of the next attempt.
    pub(super) fn asked(&mut self, route: &Route) -> Asked {
        match self {
            Task::One { key, action } => asked(key, action),
            Task::Scan(pages) => Asked::Scan(pages.request(route)),
            Task::BatchGet(parts) => Asked::BatchGet(kvrpcpb::RawBatchGetRequest {
                keys: parts.part(route).to_vec(),
                ..Default::default()
            }),
            Task::BatchPut(parts) => {
                let pair = |(key, value): &(Bytes, Bytes)| KvPair {
                    error: None,
                    key: key.clone(),
                    value: value.clone(),
                };
                Asked::BatchPut(kvrpcpb::RawBatchPutRequest {
                    pairs: parts.part(route).iter().map(pair).collect(),
                    ..Default::default()
                })
            }
            Task::Remove(removal) => Asked::DeleteRange(removal.request(route)),
        }
    }

    /// A call was answered: what it shows. Whether there is more to do, the next point tells.
    pub(super) fn on_told(
        &mut self,
        told: Told,
        route: &Route,
        span: Span,
        keys: &[String],
    ) -> Vec<Operation> {
        match (self, told) {
            (Task::One { key, action }, told) => {
                vec![span.operation(key, action.clone(), outcome(told), false)]
            }
            (Task::Scan(pages), Told::Scan(response)) => {
                let asked = pages.request(route);
                pages.on_answer(route, response);
                let visited = visited(asked, pages.rest());
                span.reads(&in_range(keys, &visited), &pages.page)
            }
            (Task::BatchGet(parts), Told::BatchGet(response)) => {
                let names: Vec<String> = parts.take().iter().map(text).collect();
                span.reads(&names, &response.pairs)
            }
            (Task::BatchPut(parts), Told::BatchPut(_)) => span.puts(parts.take(), &Outcome::Done),
            (Task::Remove(removal), Told::DeleteRange(response)) => {
                let asked = removal.request(route);
                removal.on_answer(route, response);
                let visited = (asked.start_key, asked.end_key);
                span.deletions(&in_range(keys, &visited), &Outcome::Done)
            }
            (task, told) => panic!("{task:?} is answered by {told:?}"),
        }
    }

    /// A call has failed: what it leaves behind. A batch of writes goes on with its other parts.
    pub(super) fn on_failed(
        &mut self,
        outcome: &Outcome,
        span: Span,
        keys: &[String],
    ) -> (Vec<Operation>, GoesOn) {
        match self {
            Task::One { key, action } => {
                let operation = span.operation(key, action.clone(), outcome.clone(), false);
                (vec![operation], GoesOn::No)
            }
            Task::Scan(_) | Task::BatchGet(_) => (Vec::new(), GoesOn::No),
            Task::BatchPut(parts) => (span.puts(parts.take(), outcome), GoesOn::Yes),
            Task::Remove(removal) => {
                // How far the region reaches that was asked last, nobody knows by now.
                let (lower, upper) = removal.rest();
                let rest = in_range(keys, &(lower.clone(), upper.clone()));
                let deletions = span.deletions(&rest, outcome);
                (deletions, GoesOn::No)
            }
        }
    }
}

/// Whether something goes on after one of its calls has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GoesOn {
    Yes,
    No,
}

impl Span {
    fn operation(self, key: &str, action: Action, outcome: Outcome, shared: bool) -> Operation {
        Operation {
            client: self.client as u64,
            key: key.to_owned(),
            action,
            outcome,
            begin: self.begin.as_nanos() as u64,
            end: self.end.as_nanos() as u64,
            at_once: shared.then_some(self.call),
        }
    }

    /// Every key was read: those that came have a value, the others have none (C4).
    fn reads(self, keys: &[String], pairs: &[KvPair]) -> Vec<Operation> {
        let stray = pairs.iter().find(|pair| !keys.contains(&text(&pair.key)));
        assert!(
            stray.is_none(),
            "C4: asked for {keys:?}, a region answers {stray:?}"
        );
        let ordered = |less: fn(&Bytes, &Bytes) -> bool| {
            pairs.is_sorted_by(|one, other| less(&one.key, &other.key))
        };
        assert!(
            ordered(|one, other| one < other) || ordered(|one, other| one > other),
            "C4: a region answers keys twice or out of order: {pairs:?}"
        );
        let read = |key: &String| {
            let pair = pairs.iter().find(|pair| pair.key == key.as_bytes());
            let value = pair.map(|pair| text(&pair.value));
            self.operation(key, Action::Get, Outcome::Found(value), true)
        };
        keys.iter().map(read).collect()
    }

    fn puts(self, part: &[(Bytes, Bytes)], outcome: &Outcome) -> Vec<Operation> {
        let put = |(key, value): &(Bytes, Bytes)| {
            let action = Action::Put(text(value));
            self.operation(&text(key), action, outcome.clone(), true)
        };
        part.iter().map(put).collect()
    }

    fn deletions(self, keys: &[String], outcome: &Outcome) -> Vec<Operation> {
        let delete = |key: &String| self.operation(key, Action::Delete, outcome.clone(), true);
        keys.iter().map(delete).collect()
    }
}

fn asked(key: &str, action: &Action) -> Asked {
    let key = Bytes::from(key.to_owned());
    let bytes = |value: &Value| Bytes::from(value.clone());
    match action {
        Action::Get => Asked::Get(kvrpcpb::RawGetRequest {
            key,
            ..Default::default()
        }),
        Action::Put(value) => Asked::Put(kvrpcpb::RawPutRequest {
            key,
            value: bytes(value),
            ..Default::default()
        }),
        Action::Delete => Asked::Delete(kvrpcpb::RawDeleteRequest {
            key,
            ..Default::default()
        }),
        Action::CompareAndSwap { expected, new } => Asked::Swap(kvrpcpb::RawCasRequest {
            key,
            value: bytes(new),
            previous_not_exist: expected.is_none(),
            previous_value: expected.as_ref().map(bytes).unwrap_or_default(),
            ..Default::default()
        }),
        Action::Append(element) => Asked::Append(store::RawAppendRequest {
            key,
            value: bytes(element),
            ..Default::default()
        }),
        Action::Increment(delta) => Asked::Increment(store::RawIncrementRequest {
            key,
            delta: *delta,
            ..Default::default()
        }),
    }
}

fn outcome(told: Told) -> Outcome {
    match told {
        Told::Get(response) => Outcome::Found((!response.not_found).then(|| text(&response.value))),
        Told::Put(_) | Told::Delete(_) => Outcome::Done,
        Told::Swap(response) => Outcome::Swapped {
            swapped: response.succeed,
            previous: (!response.previous_not_exist).then(|| text(&response.previous_value)),
        },
        Told::Append(response) => Outcome::Appended(response.length),
        Told::Increment(response) => Outcome::Sum(response.value),
        other => panic!("one operation is answered by {other:?}"),
    }
}

/// What a page has shown of the range that a region was asked for: up to where the rest of the
/// scan begins, or all.
fn visited(asked: kvrpcpb::RawScanRequest, rest: (&Bytes, &Bytes)) -> (Bytes, Bytes) {
    let kvrpcpb::RawScanRequest {
        start_key,
        end_key,
        reverse,
        ..
    } = asked;
    match reverse {
        true if *rest.1 == start_key => (end_key, start_key),
        true => (end_key.max(rest.1.clone()), start_key),
        false if *rest.0 == start_key => (start_key, end_key),
        false if end_key.is_empty() => (start_key, rest.0.clone()),
        false => (start_key, end_key.min(rest.0.clone())),
    }
}

/// The keys from the first bound on and below the second; an empty one is no bound.
fn in_range(keys: &[String], range: &(Bytes, Bytes)) -> Vec<String> {
    let (lower, upper) = range;
    let inside = |key: &&String| {
        let key = key.as_bytes();
        key >= &lower[..] && (upper.is_empty() || key < &upper[..])
    };
    keys.iter().filter(inside).cloned().collect()
}

fn text(bytes: &Bytes) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
