//! Birth, recovery, damage and death of a peer.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tinykv_raft::{
    Configuration, Entry, EntryId, GroupId, HardState, Initial, LeadershipChange, LogIndex, Raft,
};
use tinykv_wal::{Record, RecoveredGroup};

use super::log::LogExtent;
use super::merging::Merging;
use super::requests::Requests;
use super::resting::Resting;
use super::{Install, Replica};
use crate::apply::Overlay;
use crate::config::ShardConfig;
use crate::effects::RegionChange;
use crate::event::Birth;
use crate::machine::{ReadError, StateMachine};
use crate::outcome::{Doubt, Outcome, Refusal};
use crate::record::{BirthRecord, TombstoneRecord};
use crate::region::{FIRST_ENTRY, Peer, Region, RegionState};
use crate::run::{Durable, Run};
use crate::shard::RecoveredReplica;

impl<S: StateMachine> Replica<S> {
    /// A founding member with its first state.
    pub(crate) fn found(birth: Birth, machine: S, run: &mut Run<'_, S::Reply>) -> Replica<S> {
        let Birth { peer, state } = birth;
        let group = state.region.id;
        let initial = founding(&state, run.now);
        let record = BirthRecord {
            peer,
            epoch: state.region.epoch,
            start: state.region.start.clone(),
            state: Some(state.clone()),
            parent: None,
            may_have_lived: false,
        };
        run.record(Record::Birth {
            group,
            birth: record.encode(),
            hard_state: initial.hard_state,
            truncated: FIRST_ENTRY,
        });
        let mut replica = Replica::with(group, &record, initial, machine, run.config);
        replica.await_durable(Durable::Birth, run);
        replica.set_state(state);
        replica.is_state_dirty = true;
        replica.restore(run);
        replica
    }

    /// A peer that a message calls into life. It waits for a snapshot, unless it may have lived here
    /// before: then it takes no part.
    pub(crate) fn awaken(
        group: GroupId,
        birth: &BirthRecord,
        machine: S,
        run: &mut Run<'_, S::Reply>,
    ) -> Replica<S> {
        let initial = Initial::new(Configuration::default(), run.now);
        run.record(Record::Birth {
            group,
            birth: birth.encode(),
            hard_state: initial.hard_state,
            truncated: initial.truncated,
        });
        let mut replica = Replica::with(group, birth, initial, machine, run.config);
        replica.await_durable(Durable::Birth, run);
        if let Err(error) = check_new(birth) {
            replica.on_damage(error, run);
        }
        replica
    }

    /// A peer found by a restart. What cannot be right makes it damaged; the others go on.
    pub(crate) fn recover(
        found: RecoveredReplica,
        mut birth: BirthRecord,
        split_floor: LogIndex,
        machine: S,
        run: &mut Run<'_, S::Reply>,
    ) -> Replica<S> {
        let (group, parent) = (found.group, birth.parent);
        let is_new = check_new(&birth);
        let known = known_state::<S>(&found, birth.state.take(), run);
        let left = known.as_ref().ok().cloned().flatten();
        let recovered = known.and_then(|state| {
            let mut log = found.log;
            check_whole(&log)?;
            is_new?;
            let applied = match found.applied {
                LogIndex(0) if state.is_some() => FIRST_ENTRY.index,
                applied => applied,
            };
            if log.last.index < split_floor {
                return Err(ReadError(format!(
                    "its log ends with {} but children were born at {split_floor}",
                    log.last
                )));
            }
            // Whoever was born at an entry proves that it is committed.
            log.hard_state.commit = log.hard_state.commit.max(split_floor);
            let initial = recover_log(log, found.tail, state.as_ref(), applied, run.now)?;
            Ok((state, initial))
        });
        let (state, initial) = match recovered {
            Ok(recovered) => recovered,
            Err(error) => {
                let initial = Initial::new(Configuration::default(), run.now);
                let mut replica = Replica::with(group, &birth, initial, machine, run.config);
                replica.birth_is_durable = true;
                replica.parent = parent;
                replica.split_floor = split_floor;
                // Whom to ask whether it was removed, and what its burial has to drop.
                let is_absorbed = Self::is_absorbed(left.as_ref());
                if let Some(state) = left {
                    replica.set_state(state);
                }
                if is_absorbed {
                    replica.log.flushed = found.applied;
                    replica.lie_down();
                } else {
                    replica.on_damage(error, run);
                }
                return replica;
            }
        };
        let mut replica = Replica::with(group, &birth, initial, machine, run.config);
        replica.birth_is_durable = true;
        replica.parent = parent;
        replica.split_floor = split_floor;
        replica.log.flushed = found.applied;
        if Self::is_absorbed(state.as_ref()) {
            if let Some(state) = state {
                replica.set_state(state);
            }
            replica.lie_down();
        } else if parent.is_some() && found.applied == LogIndex(0) {
            replica.awaits_parent = true;
            if let Some(state) = state {
                replica.set_state(state);
            }
        } else if let Some(state) = state {
            let is_unwritten = found.applied == LogIndex(0);
            replica.change_state(state, run);
            replica.is_state_dirty = false;
            if is_unwritten {
                replica.is_state_dirty = true;
                replica.write_applied(run);
            }
            replica.restore(run);
        }
        replica
    }

    pub(super) fn with(
        group: GroupId,
        birth: &BirthRecord,
        initial: Initial,
        machine: S,
        config: &ShardConfig,
    ) -> Replica<S> {
        let truncated = initial.truncated;
        let peer = birth.peer;
        let raft = Raft::new(raft_config(group, peer, config), initial);
        let applied = raft.applied();
        let term = raft.term_at(applied).unwrap_or_default();
        Replica {
            group,
            peer,
            birth_is_durable: false,
            birth_epoch: birth.epoch,
            state: None,
            region: Arc::new(Region {
                id: group,
                start: birth.start.clone(),
                ..Region::default()
            }),
            is_state_dirty: false,
            applied: EntryId {
                term,
                index: applied,
            },
            leadership: LeadershipChange {
                role: raft.role(),
                leader: raft.leader(),
                term: raft.term(),
            },
            raft,
            machine,
            committed: VecDeque::new(),
            committed_bytes: 0,
            parked: None,
            is_being_checked: false,
            overlay: Overlay::default(),
            requests: Requests::default(),
            transfer: None,
            merging: Merging::default(),
            offered: None,
            installing: None,
            snapshots_wanted: Vec::new(),
            sending: BTreeMap::new(),
            log: LogExtent::new(truncated),
            published: None,
            dismissing: Vec::new(),
            dismissed: Vec::new(),
            strangers: BTreeMap::new(),
            heard: BTreeMap::new(),
            rest: Resting::default(),
            campaign_at: None,
            leaderless_ticks: 0,
            damaged: false,
            parent: None,
            awaits_parent: false,
            reads_nothing: false,
            is_heir: false,
            proposed_split: None,
            splitting: None,
            split_floor: LogIndex(0),
            leaves_after_split: false,
            leaving_ticks: 0,
            is_leaving: false,
        }
    }

    pub(super) fn restore(&mut self, run: &mut Run<'_, S::Reply>) {
        let state = self.state.clone().expect("restored only with a state");
        if let Err(error) = self.machine.restore(&state, run.reader) {
            self.on_damage(error, run);
        }
    }

    /// The replica cannot go on. It answers everybody and falls silent until it is replaced (D7).
    pub(super) fn on_damage(&mut self, error: ReadError, run: &mut Run<'_, S::Reply>) {
        if self.damaged {
            return;
        }
        self.disown(run);
        self.damaged = true;
        let is_idle = |install: &mut Install| install.is_refused;
        // What the shell could not start will not be asked for again; it must not keep the peer
        // from being buried.
        self.installing.take_if(is_idle);
        self.fail_all(Doubt::Damaged, &Refusal::Damaged, run);
        self.discard_offer(run);
        self.forget_arrival(run);
        self.forget_absorbing(run);
        run.effects.damaged.push((self.group, self.peer.id, error));
    }

    /// Answers everybody who waits, and takes the lease back.
    pub(crate) fn fail_all(
        &mut self,
        doubt: Doubt,
        refusal: &Refusal,
        run: &mut Run<'_, S::Reply>,
    ) {
        let (proposed, reads) = self.requests.take_all();
        for waiting in proposed {
            run.reply(Some(waiting.waiter), Outcome::Undetermined(doubt));
        }
        for waiting in reads {
            run.refuse(Some(waiting.waiter), refusal.clone());
        }
        self.end_transfer(Outcome::Undetermined(doubt), run);
        self.void_lease(run);
    }

    pub(super) fn void_lease(&mut self, run: &mut Run<'_, S::Reply>) {
        if self.published.take().is_some() {
            run.effects.lease_voids.push(self.group);
        }
    }

    /// The end: everybody is answered, the tombstone is recorded. The data goes once that is
    /// durable; what is returned says what there is.
    pub(crate) fn bury(mut self, run: &mut Run<'_, S::Reply>) -> TombstoneRecord {
        assert!(
            self.installing.is_none(),
            "a peer does not die while its data is being replaced"
        );
        self.fail_all(Doubt::RegionGone, &Refusal::RegionNotFound, run);
        self.discard_offer(run);
        self.forget_arrival(run);
        self.forget_absorbing(run);
        let record = self.tombstone(self.heir());
        run.record(Record::Tombstone {
            group: self.group,
            payload: record.encode(),
        });
        self.await_durable(Durable::Tombstone, run);
        run.announce(RegionChange::Gone {
            group: self.group,
            peer: self.peer.id,
        });
        record
    }

    /// The end of a peer whose tombstone is recorded already, beside its target's installation.
    pub(crate) fn end_unrecorded(mut self, run: &mut Run<'_, S::Reply>) {
        self.fail_all(Doubt::RegionGone, &Refusal::RegionNotFound, run);
        self.forget_arrival(run);
        self.forget_absorbing(run);
        run.announce(RegionChange::Gone {
            group: self.group,
            peer: self.peer.id,
        });
    }

    /// Placement says that this peer is no member any more, or that its group is no more: then its
    /// target here may have yet to absorb it.
    pub(crate) fn leave(&mut self) {
        if self.may_go() && (self.damaged || !self.leaves_only_unneeded()) {
            self.go();
        }
    }

    /// The group itself says that it is no member any more. So no merge can need it: what is frozen
    /// changes no membership, hence any freeze with this peer in it was rolled back.
    pub(crate) fn on_removed(&mut self) {
        if self.may_go() && (self.damaged || !self.is_awaited_by_target()) {
            self.go();
        }
    }

    fn may_go(&self) -> bool {
        self.installing.is_none() && !self.is_stopped()
    }

    fn go(&mut self) {
        if self.damaged {
            self.is_leaving = true;
        } else if self.awaits_parent {
            // Whoever said so says it again; until then its keys are the parent's.
        } else if self.owes_children() {
            self.leaves_after_split = true;
        } else {
            self.is_leaving = true;
        }
    }

    /// It goes, but its log is still needed to bring back what children began with.
    pub(crate) fn leave_slowly(&mut self, run: &mut Run<'_, S::Reply>) {
        self.fail_all(Doubt::RegionGone, &Refusal::RegionNotFound, run);
        if self.leaving_ticks.is_multiple_of(FLUSH_TICKS) {
            self.leaving_ticks += 1;
            run.effects.flushes.push(self.group);
        }
    }
}

/// Ticks after which a flush is asked for again.
const FLUSH_TICKS: u32 = 40;

/// What a group begins with.
pub(super) fn founding(state: &RegionState, now: Duration) -> Initial {
    Initial {
        hard_state: HardState {
            term: FIRST_ENTRY.term,
            vote: None,
            commit: FIRST_ENTRY.index,
        },
        applied: FIRST_ENTRY.index,
        truncated: FIRST_ENTRY,
        last: FIRST_ENTRY,
        ..Initial::new(state.region.configuration(), now)
    }
}

fn raft_config(group: GroupId, peer: Peer, config: &ShardConfig) -> tinykv_raft::Config {
    let seed = (config.seed ^ group.0.rotate_left(32)).wrapping_add(peer.id.0);
    tinykv_raft::Config {
        election_ticks_min: config.election_ticks_min,
        election_ticks_max: config.election_ticks_max,
        heartbeat_ticks: config.heartbeat_ticks,
        append_bytes_max: config.append_bytes_max,
        in_flight_bytes_max: config.in_flight_bytes_max,
        in_flight_messages_max: config.in_flight_messages_max,
        uncommitted_bytes_max: config.uncommitted_bytes_max,
        memory_bytes_max: config.memory_bytes_max,
        promise: config.promise,
        willingness: config.willingness,
        ..tinykv_raft::Config::new(peer.id, seed)
    }
}

/// What makes a log useless as it is.
fn check_whole(log: &RecoveredGroup) -> Result<(), ReadError> {
    let problem = if log.damaged {
        "its log is damaged below what was acknowledged"
    } else if log.installing.is_some() {
        "an installation was not done again"
    } else {
        return Ok(());
    };
    Err(ReadError(problem.to_owned()))
}

fn check_new(birth: &BirthRecord) -> Result<(), ReadError> {
    if !birth.may_have_lived {
        return Ok(());
    }
    let problem = "the log was damaged, and what stood in it of this peer is lost";
    Err(ReadError(problem.to_owned()))
}

/// The region's state, from the LSM or, where it has nothing yet, from the birth record.
fn known_state<S: StateMachine>(
    found: &RecoveredReplica,
    at_birth: Option<RegionState>,
    run: &Run<'_, S::Reply>,
) -> Result<Option<RegionState>, ReadError> {
    match stored_state::<S>(found, run)? {
        None => Ok(at_birth),
        stored => Ok(stored),
    }
}

/// The region's state as the LSM has it; `None` if it has applied nothing of the group.
pub(crate) fn stored_state<S: StateMachine>(
    found: &RecoveredReplica,
    run: &Run<'_, S::Reply>,
) -> Result<Option<RegionState>, ReadError> {
    if found.applied == LogIndex(0) {
        return Ok(None);
    }
    let Some(bytes) = run.reader.load(&S::state_key(found.group))? else {
        return Err(ReadError(
            "the engine has data of it but no region state".to_owned(),
        ));
    };
    let state = RegionState::decode(&bytes).map_err(|error| ReadError(error.to_string()))?;
    if state.region.id != found.group {
        return Err(ReadError("its region state is another group's".to_owned()));
    }
    Ok(Some(state))
}

fn recover_log(
    log: RecoveredGroup,
    tail: Vec<Entry>,
    state: Option<&RegionState>,
    applied: LogIndex,
    now: Duration,
) -> Result<Initial, ReadError> {
    if applied < log.truncated.index {
        return Err(ReadError(format!(
            "its log begins behind {} but only {applied} is applied",
            log.truncated
        )));
    }
    if applied > log.last.index {
        return Err(ReadError(format!(
            "its log ends with {} but {applied} is applied",
            log.last
        )));
    }
    let mut hard_state = log.hard_state;
    hard_state.commit = hard_state.commit.max(applied).min(log.last.index);
    hard_state.term = hard_state.term.max(log.last.term);
    Ok(Initial {
        hard_state,
        configuration: state
            .map(|state| state.region.configuration())
            .unwrap_or_default(),
        applied,
        truncated: log.truncated,
        terms: log.terms,
        last: log.last,
        tail,
        started_at: now,
        birth: tinykv_raft::Birth::Restarted,
    })
}
