//! How far one other peer is, in its leader's eyes, and how much may be on its way there.

use std::collections::VecDeque;

use crate::message::Seq;
use crate::status::{PeerState, PeerStatus};
use crate::types::{Entry, LogIndex};

/// See the module.
#[derive(Debug)]
pub(crate) struct Progress {
    /// How the peer is being replicated to.
    pub(crate) state: PeerState,
    /// Durable there and equal to the own log up to here. Rises only.
    pub(crate) matched: LogIndex,
    /// The next entry to send, above `matched`. In `Replicate` it runs ahead of the replies.
    pub(crate) next: LogIndex,
    /// The last round it echoed.
    pub(crate) echoed: Seq,
    /// The commit index it was told, as far as its log reached.
    pub(crate) commit_sent: LogIndex,
    /// In `Probe`: an append is on its way, no further one before a reply or a heartbeat.
    pub(crate) probing: bool,
    /// Heard from since the last check of the quorum.
    pub(crate) active: bool,
    /// It was sent something since the last heartbeat.
    pub(crate) sent: bool,
    /// It must be sent something in this drain, be it without entries.
    pub(crate) heartbeat_due: bool,
    /// Entries are being read from disk for it.
    pub(crate) fetching: bool,
    /// Entries read from disk for it, starting at `next`.
    pub(crate) provided: Vec<Entry>,
    /// Appends on their way, as (last index, bytes).
    in_flight: VecDeque<(LogIndex, usize)>,
    in_flight_bytes: usize,
}

impl Progress {
    pub(crate) fn new(next: LogIndex) -> Progress {
        Progress {
            state: PeerState::Probe,
            matched: LogIndex(0),
            next,
            echoed: Seq(0),
            commit_sent: LogIndex(0),
            probing: false,
            active: true,
            sent: false,
            heartbeat_due: false,
            fetching: false,
            provided: Vec::new(),
            in_flight: VecDeque::new(),
            in_flight_bytes: 0,
        }
    }

    /// The peer's log agrees up to `matched` and is durable up to `durable`.
    pub(crate) fn accepted(&mut self, matched: LogIndex, durable: LogIndex) {
        self.matched = self.matched.max(durable);
        match self.state {
            PeerState::Replicate => {
                self.next = self.next.max(matched.next());
                while self
                    .in_flight
                    .front()
                    .is_some_and(|(last, _)| *last <= durable)
                {
                    self.in_flight_bytes -=
                        self.in_flight.pop_front().map_or(0, |(_, bytes)| bytes);
                }
            }
            PeerState::Probe | PeerState::Snapshot => {
                self.restart(PeerState::Replicate, matched.max(self.matched).next());
            }
        }
        if self
            .provided
            .first()
            .is_some_and(|entry| entry.id.index != self.next)
        {
            self.provided.clear();
        }
    }

    /// Whether a rejection of `previous` says something new.
    pub(crate) fn is_news(&self, previous: LogIndex) -> bool {
        match self.state {
            PeerState::Replicate => previous > self.matched,
            PeerState::Probe => previous >= self.next.previous(),
            PeerState::Snapshot => false,
        }
    }

    /// Goes on one append at a time from `next`, or from right behind what is known to match.
    pub(crate) fn probe(&mut self, next: LogIndex) {
        self.restart(PeerState::Probe, next.max(self.matched.next()));
    }

    /// A snapshot is on its way.
    pub(crate) fn await_snapshot(&mut self) {
        self.restart(PeerState::Snapshot, self.next);
    }

    fn restart(&mut self, state: PeerState, next: LogIndex) {
        self.state = state;
        self.next = next;
        self.probing = false;
        self.commit_sent = self.matched.min(self.commit_sent);
        self.fetching = false;
        self.provided.clear();
        self.in_flight.clear();
        self.in_flight_bytes = 0;
    }

    /// Bytes of entries that may be sent now: `None` if nothing may.
    pub(crate) fn room(&self, bytes_max: usize, messages_max: usize) -> Option<usize> {
        let room = bytes_max.saturating_sub(self.in_flight_bytes);
        let open = match self.state {
            PeerState::Replicate => self.in_flight.len() < messages_max && room > 0,
            PeerState::Probe => !self.probing,
            PeerState::Snapshot => false,
        };
        open.then_some(room)
    }

    /// Whether nothing is on its way, so that even an entry larger than the window may be sent.
    pub(crate) fn is_idle(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// Entries up to `last` were sent.
    pub(crate) fn sent_entries(&mut self, last: LogIndex, bytes: usize) {
        match self.state {
            PeerState::Replicate => {
                self.next = last.next();
                self.in_flight.push_back((last, bytes));
                self.in_flight_bytes += bytes;
            }
            PeerState::Probe => self.probing = true,
            PeerState::Snapshot => {}
        }
    }

    pub(crate) fn status(&self) -> PeerStatus {
        PeerStatus {
            state: self.state,
            matched: self.matched,
            next: self.next,
            in_flight_bytes: self.in_flight_bytes,
            in_flight_messages: self.in_flight.len(),
            active: self.active,
        }
    }
}
