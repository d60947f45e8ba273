//! The receiving end of replication: appends and snapshots.

use tinykv_mutants::{Mutant, planted};

use crate::error::StepError;
use crate::message::{Append, AppendOutcome, AppendReply, MessageBody, Seq};
use crate::raft::{Office, Raft, Wait, is_membership};
use crate::types::{Entry, EntryId, LogIndex, Payload, PeerId, SnapshotMetadata, Term};

/// Indexes from the network stay below this, far from overflow.
const INDEX_MAX: LogIndex = LogIndex(1 << 62);

impl Raft {
    pub(crate) fn on_append(
        &mut self,
        from: PeerId,
        term: Term,
        append: Append,
    ) -> Result<(), StepError> {
        check_shape(&append, term)?;
        if term < self.term {
            self.reply(from, Seq(0), AppendOutcome::StaleTerm, Wait::No);
            return Ok(());
        }
        self.check_leader(from, term)?;
        self.check_committed(from, &append)?;
        self.follow(from, term);
        let seq = self.promise(append.pulse);
        let (outcome, wait) = if self.installing.is_some() {
            (AppendOutcome::Busy, Wait::No)
        } else if self.configuration.voters.is_empty() {
            // Changes of membership would be applied to nothing, and make of a newcomer the only
            // voter it knows of.
            (AppendOutcome::NeedsSnapshot, Wait::No)
        } else {
            self.accept(append)
        };
        self.reply(from, seq, outcome, wait);
        Ok(())
    }

    /// Two leaders in a term cannot be (R1).
    fn check_leader(&self, from: PeerId, term: Term) -> Result<(), StepError> {
        match self.leader {
            Some(leader) if term == self.term && leader != from => {
                Err(StepError::TwoLeaders { from, term, leader })
            }
            _ => Ok(()),
        }
    }

    /// What is committed here is in the log of every later leader (R3).
    fn check_committed(&self, from: PeerId, append: &Append) -> Result<(), StepError> {
        let commit = self.log.commit();
        let ids = append.entries.iter().map(|entry| entry.id);
        for received in std::iter::once(append.previous).chain(ids) {
            if received.index > commit {
                break;
            }
            match self.log.term(received.index) {
                Some(term) if term != received.term => {
                    let committed = EntryId {
                        term,
                        index: received.index,
                    };
                    return Err(StepError::CommittedConflict {
                        from,
                        received,
                        committed,
                    });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Takes what fits the log, and says how far it agrees with the leader's.
    fn accept(&mut self, append: Append) -> (AppendOutcome, Wait) {
        let Append {
            previous,
            mut entries,
            commit,
            ..
        } = append;
        let own_commit = self.log.commit();
        let upto = LogIndex(previous.index.0 + entries.len() as u64);
        if upto <= own_commit {
            let durable = own_commit.min(self.persistence.durable());
            return (
                AppendOutcome::Accepted {
                    matched: own_commit,
                    durable,
                },
                Wait::No,
            );
        }
        if previous.index < own_commit {
            entries.retain(|entry| entry.id.index > own_commit);
        } else if self.log.term(previous.index) != Some(previous.term)
            && !(planted(Mutant::PreviousUnchecked) && self.log.last().index >= previous.index)
        {
            let hint = self.log.last_of_term(previous.index, previous.term);
            return (
                AppendOutcome::Rejected {
                    previous: previous.index,
                    hint,
                },
                Wait::No,
            );
        }
        let is_heartbeat = entries.is_empty();
        for entry in entries {
            self.take(entry);
        }
        self.log.raise_commit(commit.min(upto));
        if is_heartbeat {
            let durable = upto.min(self.persistence.durable());
            (
                AppendOutcome::Accepted {
                    matched: upto,
                    durable,
                },
                Wait::No,
            )
        } else {
            let wait = match planted(Mutant::AckBeforeFsync) {
                true => Wait::No,
                false => Wait::Persist,
            };
            (
                AppendOutcome::Accepted {
                    matched: upto,
                    durable: upto,
                },
                wait,
            )
        }
    }

    /// Takes one entry unless it is there; what contradicts it is dropped with all behind it.
    fn take(&mut self, entry: Entry) {
        match self.log.term(entry.id.index) {
            Some(term) if term == entry.id.term || planted(Mutant::ConflictKept) => return,
            Some(_) => self.cut(entry.id.index),
            None => {}
        }
        if is_membership(&entry) {
            self.memberships.insert(entry.id.index);
        }
        self.log.push(entry);
    }

    fn cut(&mut self, from: LogIndex) {
        self.log.drop_from(from);
        self.persistence.cut(from.previous());
        self.memberships.split_off(&from);
        self.unseen_upto = self.unseen_upto.min(from.previous());
    }

    /// Answers the leader; several acknowledgements in one drain become one.
    fn reply(&mut self, to: PeerId, seq: Seq, outcome: AppendOutcome, wait: Wait) {
        let term = self.term;
        if let AppendOutcome::Accepted { matched: upto, .. } = outcome
            && wait == Wait::Persist
            && let Some((last, Wait::Persist)) = self.outbox.messages.last_mut()
            && (last.to, last.term) == (to, term)
            && let MessageBody::AppendReply(earlier) = &mut last.body
            && let AppendOutcome::Accepted { matched, durable } = &mut earlier.outcome
        {
            earlier.seq = earlier.seq.max(seq);
            *matched = upto.max(*matched);
            *durable = upto.max(*durable);
            return;
        }
        self.send(
            to,
            MessageBody::AppendReply(AppendReply { seq, outcome }),
            wait,
        );
    }

    /// The data of a snapshot has arrived.
    pub(crate) fn on_snapshot(
        &mut self,
        from: PeerId,
        term: Term,
        metadata: SnapshotMetadata,
    ) -> Result<(), StepError> {
        let last = metadata.last;
        if last.index == LogIndex(0) || last.index > INDEX_MAX || last.term > term {
            return Err(StepError::Malformed(
                "a snapshot that ends where no snapshot can",
            ));
        }
        metadata
            .configuration
            .check()
            .map_err(StepError::Malformed)?;
        if term < self.term {
            self.reply(from, Seq(0), AppendOutcome::StaleTerm, Wait::No);
            return Ok(());
        }
        self.check_leader(from, term)?;
        self.follow(from, term);
        if self.installing.is_some() {
            self.reply(from, Seq(0), AppendOutcome::Busy, Wait::No);
            return Ok(());
        }
        let is_in_log = self.log.term(last.index) == Some(last.term);
        if (last.index <= self.log.commit() || is_in_log)
            && !planted(Mutant::SnapshotOverNewerState)
        {
            // Nothing that is here may be replaced by less (R9).
            if is_in_log {
                self.log.raise_commit(last.index);
            }
            let matched = last.index.max(self.log.commit());
            let durable = matched.min(self.persistence.durable());
            self.reply(
                from,
                Seq(0),
                AppendOutcome::Accepted { matched, durable },
                Wait::No,
            );
            return Ok(());
        }
        self.log.restore(last);
        self.persistence.replace(last.index);
        self.memberships.clear();
        self.unseen_upto = LogIndex(0);
        self.outbox.provided.clear();
        self.outbox.is_fetching = false;
        self.outbox.install = Some(metadata.clone());
        self.installing = Some(metadata);
        Ok(())
    }

    /// The snapshot of [`Ready::install`](crate::Ready) is installed and durable.
    pub fn on_snapshot_installed(&mut self, metadata: &SnapshotMetadata) {
        assert!(
            self.installing.as_ref() == Some(metadata),
            "installed {metadata:?} instead of {:?}",
            self.installing
        );
        self.installing = None;
        self.log.set_applied(metadata.last.index);
        self.configuration = metadata.configuration.clone();
        if let Some(leader) = self.leader
            && matches!(self.office, Office::Follower)
        {
            let (matched, durable) = (metadata.last.index, metadata.last.index);
            self.reply(
                leader,
                Seq(0),
                AppendOutcome::Accepted { matched, durable },
                Wait::No,
            );
        }
    }
}

/// Whether the append can come from a correct leader of this term at all.
fn check_shape(append: &Append, term: Term) -> Result<(), StepError> {
    if append.previous.index > INDEX_MAX || append.entries.len() as u64 > INDEX_MAX.0 {
        return Err(StepError::Malformed("index out of range"));
    }
    let mut last = append.previous;
    if last.index == LogIndex(0) && last.term != Term(0) {
        return Err(StepError::Malformed("a term before the log"));
    }
    for entry in &append.entries {
        if entry.id.index != last.index.next() {
            return Err(StepError::Malformed("a gap between entries"));
        }
        if entry.id.term < last.term {
            return Err(StepError::Malformed("terms that go back"));
        }
        if let Payload::Membership(change) = &entry.payload {
            change.check().map_err(StepError::Malformed)?;
        }
        last = entry.id;
    }
    if last.term > term {
        return Err(StepError::Malformed(
            "entries of a later term than the sender's",
        ));
    }
    Ok(())
}
