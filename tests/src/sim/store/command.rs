//! What clients ask for, as commands of the production state machine; what it holds, as answers.

use bytes::Bytes;
use tinykv_replica::{Command, Region, RegionEpoch};
use tinykv_store::command::{self, Operation, Reply, Swap, Write};
use tinykv_store::raw::read::{Depth, Order, Scan, Values, View};
use tinykv_store::space::Space;
use tinykv_store::value::{PlacementTime, StoredValue};

use crate::checker::{Action, Outcome, Value};

use super::super::client::{Answer, Request};
use super::super::host::Trouble;
use super::Store;

impl Store {
    /// Reads what a client asked for from a snapshot taken now.
    pub(super) fn read(&self, region: &Region, request: &Request) -> Result<Answer, Trouble> {
        let Some(running) = &self.host.running else {
            return Ok(Answer::NotHere);
        };
        let snapshot = running.engine.lsm().snapshot();
        let view = View {
            snapshot: &snapshot,
            region,
            now: PlacementTime(0),
            depth: Depth::Disk,
        };
        match request {
            Request::One { key, .. } => {
                let found = view
                    .get(Space::Plain, key.as_bytes())
                    .map_err(|error| self.host.trouble(&error))?;
                let found = found.map(|stored| text(&stored.payload));
                Ok(Answer::Ok(Outcome::Found(found)))
            }
            Request::Scan { from, upto } => {
                let scan = Scan {
                    lower: from.as_bytes(),
                    upper: upto.as_bytes(),
                    order: Order::Forward,
                    keys_max: usize::MAX,
                    values: Values::Included,
                    bytes_max: None,
                };
                let scanned = view
                    .scan(Space::Plain, &scan)
                    .map_err(|error| self.host.trouble(&error))?;
                let pairs = scanned.pairs.iter();
                Ok(Answer::Scanned {
                    pairs: pairs.map(|(key, value)| (text(key), text(value))).collect(),
                    end: region.end.clone(),
                })
            }
        }
    }
}

fn text(bytes: &Bytes) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub(super) fn command_of(epoch: RegionEpoch, key: &str, action: &Action) -> Command {
    let key = Space::Plain.engine_key(key.as_bytes());
    let stored = |value: &Value| StoredValue::encode_plain(value.as_bytes());
    let operation = match action {
        Action::Get => Operation::AdvanceTime,
        Action::Put(value) => Operation::Put(Write {
            key,
            stored: stored(value),
            ttl_ms: 0,
        }),
        Action::Delete => Operation::Delete { key },
        Action::CompareAndSwap { expected, new } => Operation::CompareAndSwap {
            key,
            expected: expected.as_ref().map(|value| Bytes::from(value.clone())),
            swap: Swap::Put {
                stored: stored(new),
                ttl_ms: 0,
            },
        },
        Action::Append(suffix) => Operation::Append {
            key,
            suffix: Bytes::from(suffix.clone()),
        },
        Action::Increment(delta) => Operation::Increment { key, delta: *delta },
    };
    let command = command::Command {
        now: PlacementTime(0),
        operation,
    };
    Command::build(epoch, command.encoded_len(), |out| command.encode_into(out))
}

pub(super) fn outcome_of(reply: Reply) -> Outcome {
    match reply {
        Reply::Done => Outcome::Done,
        Reply::Swapped {
            succeeded,
            previous,
        } => Outcome::Swapped {
            swapped: succeeded,
            previous: previous.map(|value| text(&value)),
        },
        Reply::Length(length) => Outcome::Appended(length),
        Reply::Sum(sum) => Outcome::Sum(sum),
        other => panic!("no client asked for {other:?}"),
    }
}
