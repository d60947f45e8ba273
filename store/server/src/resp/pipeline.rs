//! The commands of one connection: when each may begin, and the order of the answers.
//!
//! A client need not wait for an answer before it sends the next command. Commands that touch
//! different keys, or only read the same ones, run at the same time; of two that touch the same key,
//! one of them writing it, the later waits for the earlier. Commands over the whole key space wait
//! for all before them and hold up all behind them. So every answer is what it would be one by one,
//! and answers leave in the order of the commands.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;

use super::command::{Access, Call};
use super::reply::{Protocol, Reply};

/// Which command of the connection; they count up from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Number(u64);

/// An answer that may leave.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// What is answered.
    pub(super) reply: Reply,
    /// The version of the protocol from this answer on, if it changes.
    pub(super) speak: Option<Protocol>,
}

/// The commands under way.
#[derive(Debug, Default)]
pub(super) struct Pipeline {
    /// In order; the front one is `first`.
    entries: VecDeque<Entry>,
    /// How many have left.
    first: u64,
    /// Commands that wait for no other, in any order.
    ready: VecDeque<Number>,
    /// Commands over the whole key space that have not ended, in order.
    everything: VecDeque<Number>,
    /// Who touches which key and has not ended.
    keys: HashMap<Bytes, Users>,
    /// Calls that were begun and have not ended.
    running: usize,
    /// Bytes of commands that have not ended, and of answers that have not left.
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    state: State,
    /// What is counted for it in `bytes`.
    size: usize,
    /// Commands it waits for.
    blockers: usize,
    /// Commands that wait for it.
    blocked: Vec<Number>,
}

#[derive(Debug)]
enum State {
    Waiting(Call),
    Running(Access),
    Done(Answer),
}

/// The last users of a key.
#[derive(Debug, Default)]
struct Users {
    /// The last one that writes it, unless that has ended.
    writer: Option<Number>,
    /// Those behind it that read it.
    readers: Vec<Number>,
}

impl Pipeline {
    /// Commands that have not been answered.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Calls that were begun and have not ended.
    pub(super) fn running(&self) -> usize {
        self.running
    }

    /// What it holds in memory.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// A command whose answer is known.
    pub(super) fn push_answer(&mut self, reply: Reply, speak: Option<Protocol>) {
        let size = reply.size();
        self.push(State::Done(Answer { reply, speak }), size);
    }

    /// A command that calls for a call. `size` is what its words take in memory.
    pub(super) fn push_call(&mut self, call: Call, size: usize) {
        let access = call.access();
        let number = self.push(State::Waiting(call), size);
        let blockers = match &access {
            Access::Everything => {
                self.everything.push_back(number);
                0
            }
            Access::Read(keys) => self.use_keys(number, keys, false),
            Access::Write(keys) => self.use_keys(number, keys, true),
        };
        self.entry(number).blockers = blockers;
        if blockers == 0 {
            self.ready.push_back(number);
        }
    }

    /// A call that may begin now, if there is one.
    pub(super) fn begin(&mut self) -> Option<(Number, Call)> {
        self.begin_if(|pipeline, number| pipeline.may_begin(number))
    }

    /// The call whose answer has to leave next, if it has not begun.
    pub(super) fn begin_first(&mut self) -> Option<(Number, Call)> {
        self.begin_if(|pipeline, number| number.0 == pipeline.first)
    }

    fn begin_if(&mut self, may: impl Fn(&Pipeline, Number) -> bool) -> Option<(Number, Call)> {
        let at = self.ready.iter().position(|number| may(self, *number))?;
        let number = self.ready.remove(at)?;
        let entry = self.entry(number);
        let running = State::Running(Access::Everything);
        let State::Waiting(call) = std::mem::replace(&mut entry.state, running) else {
            unreachable!("what is ready waits");
        };
        entry.state = State::Running(call.access());
        self.running += 1;
        Some((number, call))
    }

    /// A call has ended.
    pub(super) fn end(&mut self, number: Number, reply: Reply) {
        let size = reply.size();
        let entry = self.entry(number);
        let answer = Answer { reply, speak: None };
        let State::Running(access) = std::mem::replace(&mut entry.state, State::Done(answer))
        else {
            unreachable!("only what was begun ends");
        };
        let before = std::mem::replace(&mut entry.size, size);
        let blocked = std::mem::take(&mut entry.blocked);
        self.bytes = self.bytes + size - before;
        self.running -= 1;
        match access {
            Access::Everything => self.everything.retain(|it| *it != number),
            Access::Read(keys) | Access::Write(keys) => self.leave_keys(number, &keys),
        }
        for waiting in blocked {
            let entry = self.entry(waiting);
            entry.blockers -= 1;
            if entry.blockers == 0 {
                self.ready.push_back(waiting);
            }
        }
    }

    /// The next answer, if it is known.
    pub(super) fn next_answer(&mut self) -> Option<Answer> {
        let front = self.entries.front()?;
        if !matches!(front.state, State::Done(_)) {
            return None;
        }
        let entry = self.entries.pop_front()?;
        self.first += 1;
        self.bytes -= entry.size;
        match entry.state {
            State::Done(answer) => Some(answer),
            State::Waiting(_) | State::Running(_) => None,
        }
    }

    fn push(&mut self, state: State, size: usize) -> Number {
        let number = Number(self.first + self.entries.len() as u64);
        self.bytes += size;
        self.entries.push_back(Entry {
            state,
            size,
            blockers: 0,
            blocked: Vec::new(),
        });
        number
    }

    fn entry(&mut self, number: Number) -> &mut Entry {
        let at = number.0.checked_sub(self.first);
        let entry = at.and_then(|at| self.entries.get_mut(at as usize));
        entry.expect("only what has not left is named")
    }

    /// Whether a ready command is not held up by one over the whole key space, or, if it is one
    /// itself, by any.
    fn may_begin(&self, number: Number) -> bool {
        match self.everything.front() {
            None => true,
            Some(first) if number == *first => {
                let before = (number.0 - self.first) as usize;
                let mut before = self.entries.iter().take(before);
                before.all(|entry| matches!(entry.state, State::Done(_)))
            }
            Some(first) => number < *first,
        }
    }

    /// Notes who touches keys; returns for how many commands it has to wait. One that names a key
    /// twice does not wait for itself.
    fn use_keys(&mut self, number: Number, keys: &[Bytes], writes: bool) -> usize {
        let mut blockers = Vec::new();
        for key in keys {
            let users = self.keys.entry(key.clone()).or_default();
            let writer = users.writer.filter(|writer| *writer != number);
            if writes {
                let readers = std::mem::take(&mut users.readers);
                // Readers waited for the writer before them.
                match readers.is_empty() {
                    true => blockers.extend(writer),
                    false => blockers.extend(readers),
                }
                users.writer = Some(number);
            } else {
                blockers.extend(writer);
                if users.readers.last() != Some(&number) {
                    users.readers.push(number);
                }
            }
        }
        blockers.sort_unstable();
        blockers.dedup();
        for blocker in &blockers {
            self.entry(*blocker).blocked.push(number);
        }
        blockers.len()
    }

    /// Forgets that an ended command touches keys.
    fn leave_keys(&mut self, number: Number, keys: &[Bytes]) {
        for key in keys {
            let Some(users) = self.keys.get_mut(key) else {
                continue;
            };
            if users.writer == Some(number) {
                users.writer = None;
            }
            users.readers.retain(|reader| *reader != number);
            if users.writer.is_none() && users.readers.is_empty() {
                self.keys.remove(key);
            }
        }
    }
}

#[cfg(test)]
mod tests;
