//! What only a leader has: the progress of the others, its rounds, reads and transfer. It is one
//! value that exists exactly as long as the office, so nothing of it can survive a step-down.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use tinykv_mutants::{Mutant, planted};

use crate::message::{Force, Pulse, Seq};
use crate::progress::Progress;
use crate::ready::{ReadId, ReadReady};
use crate::types::{Configuration, LogIndex, PeerId, Term};

/// Rounds whose send time is remembered; beyond it every other one is forgotten, which makes a
/// lease that is counted from them only shorter.
const ROUNDS_MAX: usize = 64;

/// Reads waiting for confirmation; beyond it reads are refused.
pub(crate) const READS_MAX: usize = 1 << 16;

/// See the module.
#[derive(Debug)]
pub(crate) struct Leadership {
    /// Every peer of the configuration in force but the leader.
    pub(crate) progress: BTreeMap<PeerId, Progress>,
    /// The entry that began this leadership; nothing is read before it is committed, and there is
    /// no lease before it is applied.
    pub(crate) term_start: LogIndex,
    /// No membership change is proposed before this index is applied (R8).
    pub(crate) membership_floor: LogIndex,
    /// When this is committed, a majority of the configuration in force remembers, even after a
    /// crash, that what removed anybody before is committed.
    pub(crate) dismissal: LogIndex,
    /// Bytes of own proposals that are not committed.
    pub(crate) uncommitted_bytes: usize,
    /// Ticks since the last heartbeats.
    pub(crate) heartbeat_elapsed: u32,
    /// Ticks since the last check of the quorum.
    pub(crate) quorum_elapsed: u32,
    /// To whom a reluctant leader has offered its office already.
    pub(crate) offered: BTreeSet<PeerId>,
    /// The transfer under way.
    pub(crate) transfer: Option<Transfer>,
    /// The last round begun.
    pub(crate) seq: Seq,
    /// When rounds were begun, ascending; none older than the confirmed one is needed.
    rounds: VecDeque<Round>,
    /// Whether a round was begun in the running drain.
    is_round_open: bool,
    /// `seq` when heartbeats were last due: who has not echoed it gets the next one.
    pub(crate) heartbeat_seq: Seq,
    /// The last round that a quorum echoed.
    pub(crate) confirmed: Round,
    /// Rounds up to here give no lease: a transfer released the voters from them.
    lease_floor: Seq,
    /// Reads waiting for confirmation, in order of arrival.
    reads: VecDeque<PendingRead>,
}

/// One round: everything sent in one drain.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Round {
    pub(crate) seq: Seq,
    /// When it was begun; `None` if that was forgotten.
    pub(crate) sent_at: Option<Duration>,
}

/// A leader transfer under way.
#[derive(Debug)]
pub(crate) struct Transfer {
    pub(crate) target: PeerId,
    /// Ticks since it began.
    pub(crate) elapsed: u32,
    /// Set once the target was told to campaign. From then on no new round is begun, for who
    /// echoes a later one ignores the force.
    pub(crate) released: Option<Seq>,
    /// Whether the target must be told (again) in the next drain.
    pub(crate) is_due: bool,
}

impl Transfer {
    pub(crate) fn new(target: PeerId) -> Transfer {
        Transfer {
            target,
            elapsed: 0,
            released: None,
            is_due: true,
        }
    }
}

/// A read waiting for confirmation.
#[derive(Clone, Copy, Debug)]
struct PendingRead {
    id: ReadId,
    index: LogIndex,
    /// The first round that is begun after it arrived.
    needed: Seq,
}

impl Leadership {
    pub(crate) fn new(
        id: PeerId,
        configuration: &Configuration,
        term_start: LogIndex,
    ) -> Leadership {
        let others = configuration.peers().into_iter().filter(|peer| *peer != id);
        Leadership {
            progress: others
                .map(|peer| (peer, Progress::new(term_start)))
                .collect(),
            term_start,
            membership_floor: term_start.previous(),
            dismissal: term_start,
            uncommitted_bytes: 0,
            heartbeat_elapsed: 0,
            quorum_elapsed: 0,
            offered: BTreeSet::new(),
            transfer: None,
            seq: Seq(0),
            rounds: VecDeque::new(),
            is_round_open: false,
            heartbeat_seq: Seq(0),
            confirmed: Round {
                seq: Seq(0),
                sent_at: None,
            },
            lease_floor: Seq(0),
            reads: VecDeque::new(),
        }
    }

    /// A new drain begins: the next message begins a new round.
    pub(crate) fn open_drain(&mut self) {
        self.is_round_open = false;
    }

    /// What a message carries that is sent now.
    pub(crate) fn pulse(&mut self, now: Duration, promise: Duration) -> Pulse {
        let is_released = self
            .transfer
            .as_ref()
            .is_some_and(|it| it.released.is_some());
        if !self.is_round_open && !is_released {
            self.is_round_open = true;
            self.seq = self.seq.next();
            self.rounds.push_back(Round {
                seq: self.seq,
                sent_at: Some(now),
            });
            if self.rounds.len() > ROUNDS_MAX {
                let mut position = 0;
                self.rounds.retain(|_| {
                    position += 1;
                    position % 2 == 1
                });
            }
        }
        Pulse {
            seq: self.seq,
            promise,
        }
    }

    /// Finds the last round that a quorum of this configuration has echoed. It may lie before
    /// what was confirmed if the configuration has just changed.
    pub(crate) fn confirm(&mut self, id: PeerId, configuration: &Configuration) {
        let echoed = |peer: PeerId| match self.progress.get(&peer) {
            Some(progress) => progress.echoed,
            None if peer == id => self.seq,
            None => Seq(0),
        };
        let seq = configuration.quorum_value(echoed).unwrap_or_default();
        if seq == self.confirmed.seq {
            return;
        }
        let known = self.rounds.partition_point(|round| round.seq <= seq);
        let sent_at = known
            .checked_sub(1)
            .and_then(|last| self.rounds[last].sent_at);
        self.confirmed = Round { seq, sent_at };
        self.rounds.drain(..known.saturating_sub(1));
    }

    /// When the round that gives the lease was begun.
    pub(crate) fn lease_since(&self) -> Option<Duration> {
        let is_handed_over = self.transfer.is_some() && !planted(Mutant::LeaseKeptInTransfer);
        if is_handed_over || self.confirmed.seq <= self.lease_floor {
            return None;
        }
        self.confirmed.sent_at
    }

    /// Takes a read that arrived when `commit` was committed. The caller has checked the limit.
    pub(crate) fn push_read(&mut self, id: ReadId, commit: LogIndex) {
        let needed = match planted(Mutant::ReadIndexReused) {
            true => self.confirmed.seq,
            false => self.seq.next(),
        };
        if self.reads.back().is_none_or(|read| read.needed < needed) {
            for progress in self.progress.values_mut() {
                progress.heartbeat_due = true;
            }
        }
        let index = match planted(Mutant::ReadIndexBeforeOwnCommit) {
            true => commit,
            false => commit.max(self.term_start),
        };
        self.reads.push_back(PendingRead { id, index, needed });
    }

    pub(crate) fn pending_reads(&self) -> usize {
        self.reads.len()
    }

    /// Reads that are confirmed, given that `commit` is committed.
    pub(crate) fn release_reads(&mut self, commit: LogIndex) -> Vec<ReadReady> {
        if commit < self.term_start && !planted(Mutant::ReadIndexBeforeOwnCommit) {
            return Vec::new();
        }
        let confirmed = self.confirmed.seq;
        let count = self.reads.partition_point(|read| read.needed <= confirmed);
        self.reads
            .drain(..count)
            .map(|read| ReadReady {
                id: read.id,
                index: read.index,
            })
            .collect()
    }

    /// Reads that will not be confirmed any more.
    pub(crate) fn abandon_reads(self) -> impl Iterator<Item = ReadId> {
        self.reads.into_iter().map(|read| read.id)
    }

    /// Tells the voters' promises up to the last round that they no longer bind.
    pub(crate) fn release(&mut self, term: Term) -> Option<Force> {
        let transfer = self.transfer.as_mut()?;
        let seq = *transfer.released.get_or_insert(self.seq);
        transfer.is_due = false;
        Some(Force { term, seq })
    }

    /// Goes on leading: a lease is won again by later rounds only.
    pub(crate) fn abandon_transfer(&mut self) {
        if self.transfer.take().is_some() {
            self.lease_floor = self.seq;
        }
    }
}
