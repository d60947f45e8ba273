//! A naive model of the machine.

use std::collections::BTreeMap;

use super::super::*;
use crate::command::{Condition, Conflict, Expiry, NewExpiry};

/// What the commands mean, said once more and simply.
#[derive(Default)]
pub(super) struct Model {
    pub(super) time: u64,
    values: BTreeMap<Bytes, (Bytes, Option<u64>)>,
}

impl Model {
    fn put(&mut self, now: u64, write: &Write) {
        let expires_at = (write.ttl_ms > 0).then(|| {
            self.time = self.time.max(now);
            self.time.saturating_add(write.ttl_ms)
        });
        let payload = write.stored.slice(1..);
        self.values
            .insert(space::shown(&write.key), (payload, expires_at));
    }

    /// The live value of a key; looking at one that may expire moves the time.
    fn look(&mut self, now: u64, key: &Bytes) -> Option<(Bytes, Option<u64>)> {
        let found = self.values.get(key).cloned()?;
        if found.1.is_some() {
            self.time = self.time.max(now);
        }
        found
            .1
            .is_none_or(|expires_at| expires_at > self.time)
            .then_some(found)
    }

    fn expiry(&mut self, now: u64, ttl_ms: u64) -> Option<u64> {
        (ttl_ms > 0).then(|| {
            self.time = self.time.max(now);
            self.time.saturating_add(ttl_ms)
        })
    }

    fn update(&mut self, now: u64, operation: &Operation) -> Reply {
        match operation {
            Operation::Increment { key, delta } => {
                let key = space::shown(key);
                let (text, expires_at) = self.look(now, &key).unwrap_or(("0".into(), None));
                let text = std::str::from_utf8(&text).expect("the test stores text");
                let Some(number) = text.parse::<i64>().ok().filter(|n| n.to_string() == text)
                else {
                    return Reply::Conflict(Conflict::NotAnInteger);
                };
                let Some(sum) = number.checked_add(*delta) else {
                    return Reply::Conflict(Conflict::Overflow);
                };
                self.values
                    .insert(key, (sum.to_string().into(), expires_at));
                Reply::Sum(sum)
            }
            Operation::Append { key, suffix } => {
                let key = space::shown(key);
                let (head, expires_at) = self.look(now, &key).unwrap_or_default();
                let payload = Bytes::from([head, suffix.clone()].concat());
                let length = payload.len() as u64;
                self.values.insert(key, (payload, expires_at));
                Reply::Length(length)
            }
            Operation::PutIf {
                key,
                stored,
                condition,
                expiry,
            } => {
                let key = space::shown(key);
                let previous = self.look(now, &key);
                match (condition, &previous) {
                    (Condition::IfAbsent, Some(_)) | (Condition::IfPresent, None) => {
                        return Reply::Stored(false);
                    }
                    _ => {}
                }
                let expires_at = match expiry {
                    NewExpiry::After { ttl_ms } => self.expiry(now, *ttl_ms),
                    NewExpiry::Kept => previous.and_then(|(_, expires_at)| expires_at),
                };
                self.values.insert(key, (stored.slice(1..), expires_at));
                Reply::Stored(true)
            }
            Operation::Remove { keys } => {
                let mut removed = 0;
                for key in keys {
                    let key = space::shown(key);
                    removed += u64::from(self.look(now, &key).is_some());
                    self.values.remove(&key);
                }
                Reply::Removed(removed)
            }
            Operation::Expire { key, ttl_ms } => {
                let key = space::shown(key);
                let Some((payload, before)) = self.look(now, &key) else {
                    return Reply::Expiry(Expiry::NotFound);
                };
                let expires_at = self.expiry(now, *ttl_ms);
                self.values.insert(key, (payload, expires_at));
                let had_expiry = before.is_some();
                Reply::Expiry(Expiry::Changed { had_expiry })
            }
            _ => unreachable!("no update"),
        }
    }

    pub(super) fn apply(&mut self, command: &Command) -> Reply {
        let now = command.now.0;
        match &command.operation {
            update @ (Operation::Increment { .. }
            | Operation::Append { .. }
            | Operation::PutIf { .. }
            | Operation::Remove { .. }
            | Operation::Expire { .. }) => return self.update(now, update),
            Operation::AdvanceTime => self.time = self.time.max(now),
            Operation::Put(write) => self.put(now, write),
            Operation::Delete { key } => {
                self.values.remove(&space::shown(key));
            }
            Operation::BatchPut(writes) => writes.iter().for_each(|write| self.put(now, write)),
            Operation::BatchDelete { keys } => {
                for key in keys {
                    self.values.remove(&space::shown(key));
                }
            }
            Operation::DeleteRange { start, end } => {
                let (start, end) = (space::shown(start), space::shown(end));
                self.values.retain(|key, _| *key < start || *key >= end);
            }
            Operation::CompareAndSwap {
                key,
                expected,
                swap,
            } => {
                let shown = space::shown(key);
                let previous = match self.values.get(&shown) {
                    Some((_, Some(expires_at))) if *expires_at <= self.time.max(now) => None,
                    Some((payload, _)) => Some(payload.clone()),
                    None => None,
                };
                if self
                    .values
                    .get(&shown)
                    .is_some_and(|(_, expiry)| expiry.is_some())
                {
                    self.time = self.time.max(now);
                }
                let succeeded = previous == *expected;
                match swap {
                    Swap::Put { stored, ttl_ms } if succeeded => self.put(
                        now,
                        &Write {
                            key: key.clone(),
                            stored: stored.clone(),
                            ttl_ms: *ttl_ms,
                        },
                    ),
                    Swap::Delete if succeeded => {
                        self.values.remove(&shown);
                    }
                    _ => {}
                }
                return Reply::Swapped {
                    succeeded,
                    previous,
                };
            }
        }
        Reply::Done
    }

    pub(super) fn live(&self) -> BTreeMap<Bytes, Bytes> {
        let live = self.values.iter().filter(|(_, (_, expires_at))| {
            expires_at.is_none_or(|expires_at| expires_at > self.time)
        });
        live.map(|(key, (payload, _))| (key.clone(), payload.clone()))
            .collect()
    }
}
