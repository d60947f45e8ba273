//! What of the own state is durable, while several writes may be under way.

use std::collections::VecDeque;

use crate::ready::ReadyNumber;
use crate::types::{HardState, LogIndex, PeerId, Term};

/// See the module.
#[derive(Debug)]
pub(crate) struct Persistence {
    /// The number of the last Ready.
    last_number: ReadyNumber,
    /// Writes under way, oldest first.
    under_way: VecDeque<Write>,
    /// The hard state as last handed out.
    handed: HardState,
    /// Entries up to here were handed out to be written.
    written: LogIndex,
    /// Entries up to here are durable.
    durable: LogIndex,
    /// Term and vote that are durable.
    durable_vote: (Term, Option<PeerId>),
}

/// One Ready that is being written.
#[derive(Debug)]
struct Write {
    number: ReadyNumber,
    /// Entries up to here are durable with it; lowered when the log is cut in the meantime.
    upto: LogIndex,
    vote: (Term, Option<PeerId>),
}

impl Persistence {
    /// Everything that was recovered is durable.
    pub(crate) fn new(hard_state: HardState, last: LogIndex) -> Persistence {
        Persistence {
            last_number: ReadyNumber(0),
            under_way: VecDeque::new(),
            handed: hard_state,
            written: last,
            durable: last,
            durable_vote: (hard_state.term, hard_state.vote),
        }
    }

    pub(crate) fn durable(&self) -> LogIndex {
        self.durable
    }

    pub(crate) fn written(&self) -> LogIndex {
        self.written
    }

    pub(crate) fn handed(&self) -> HardState {
        self.handed
    }

    pub(crate) fn is_vote_durable(&self, term: Term, vote: Option<PeerId>) -> bool {
        self.durable_vote == (term, vote)
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.under_way.is_empty()
    }

    pub(crate) fn next_number(&mut self) -> ReadyNumber {
        self.last_number.0 += 1;
        self.last_number
    }

    /// A write goes out with the Ready `number`.
    pub(crate) fn begin(&mut self, number: ReadyNumber, hard_state: HardState, upto: LogIndex) {
        self.handed = hard_state;
        self.written = upto;
        let vote = (hard_state.term, hard_state.vote);
        self.under_way.push_back(Write { number, upto, vote });
    }

    /// All writes up to `number` are durable.
    pub(crate) fn finish(&mut self, number: ReadyNumber) {
        assert!(
            number <= self.last_number,
            "Ready {number:?} is said to be durable, the last was {:?}",
            self.last_number
        );
        while self
            .under_way
            .front()
            .is_some_and(|write| write.number <= number)
        {
            let Some(write) = self.under_way.pop_front() else {
                break;
            };
            self.durable = self.durable.max(write.upto);
            self.durable_vote = write.vote;
        }
    }

    /// The log was cut behind `last`: writes under way no longer make anything behind it durable,
    /// even if an entry with the same id comes back.
    pub(crate) fn cut(&mut self, last: LogIndex) {
        self.written = self.written.min(last);
        self.durable = self.durable.min(last);
        for write in &mut self.under_way {
            write.upto = write.upto.min(last);
        }
    }

    /// The log is replaced by a snapshot that ends in `last`; nothing is acknowledged before it is
    /// installed.
    pub(crate) fn replace(&mut self, last: LogIndex) {
        self.cut(LogIndex(0));
        self.written = last;
        self.durable = last;
    }
}
