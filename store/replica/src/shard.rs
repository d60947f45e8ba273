//! Many groups, one owner.

mod calling;
mod merging;
mod nameless;
mod recovery;
mod routing;
mod sleeping;
mod splitting;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tinykv_raft::{GroupId, PeerId};

use crate::config::ShardConfig;
use crate::effects::{Effects, PersistToken, RegionChange};
use crate::event::Event;
use crate::grave::Grave;
use crate::machine::{Reader, StateMachine};
use crate::region::{Peer, StoreId};
use crate::replica::{GroupStatus, Replica};
use crate::run::{Awaiting, Run};
use crate::territory::Territory;

use self::sleeping::Sleepers;

pub use self::recovery::{RecoverError, RecoveredReplica, RecoveredTombstone};

/// Makes the state machine of a group when its peer begins to live here.
pub type Factory<S> = Box<dyn Fn(GroupId) -> S + Send>;

/// All groups of one shard thread. Deterministic: the same events at the same times, over the same
/// reader, give the same effects.
pub struct Shard<S: StateMachine> {
    config: ShardConfig,
    factory: Factory<S>,
    replicas: BTreeMap<GroupId, Replica<S>>,
    graves: BTreeMap<GroupId, Grave>,
    /// Runs whose records are not known durable yet, oldest first.
    unpersisted: VecDeque<(PersistToken, Vec<Awaiting>)>,
    last_token: PersistToken,
    /// Groups that something happened to in this run.
    touched: BTreeSet<GroupId>,
    /// Children born here in splits, by parent. Some may be gone.
    children: BTreeMap<GroupId, BTreeSet<GroupId>>,
    /// Children woken by a split that the last run applied.
    newly_awake: BTreeSet<GroupId>,
    /// Graves whose parents have yet to apply the split.
    graves_awaiting: BTreeSet<GroupId>,
    sleepers: Sleepers,
    /// Stores known to live ([`Event::StoreFresh`]).
    fresh: BTreeSet<StoreId>,
    /// What the groups of the whole store hold.
    territory: Arc<Territory>,
    /// Peers with an id from this one on are new ([`Event::NewPeersFrom`]).
    new_peers_from: Option<PeerId>,
    /// The clock of the last run.
    now: Duration,
    /// After [`Event::Shutdown`] everything is refused.
    is_shut_down: bool,
}

impl<S: StateMachine> Shard<S> {
    /// A shard without groups.
    pub fn new(config: ShardConfig, factory: Factory<S>) -> Shard<S> {
        Shard {
            config,
            factory,
            replicas: BTreeMap::new(),
            graves: BTreeMap::new(),
            unpersisted: VecDeque::new(),
            last_token: PersistToken(0),
            touched: BTreeSet::new(),
            children: BTreeMap::new(),
            newly_awake: BTreeSet::new(),
            graves_awaiting: BTreeSet::new(),
            sleepers: Sleepers::default(),
            fresh: BTreeSet::new(),
            territory: Arc::default(),
            new_peers_from: None,
            now: Duration::ZERO,
            is_shut_down: false,
        }
    }

    /// Takes all events and says what is to be done. `now` is the monotonic clock, read by the
    /// shell just before; it never goes back.
    pub fn run_once(
        &mut self,
        inbox: &mut Vec<Event>,
        now: Duration,
        reader: &dyn Reader,
    ) -> Effects<S::Reply> {
        assert!(
            now >= self.now,
            "the monotonic clock went back from {:?} to {now:?}",
            self.now
        );
        self.now = now;
        for event in inbox.iter() {
            // Also for whoever is born in this run.
            if let Event::SetWillingness(willingness) = event {
                self.config.willingness = *willingness;
            }
        }
        let config = self.config.clone();
        let mut run = Run::new(now, &config, reader);
        run.fresh = std::mem::take(&mut self.fresh);
        self.after_splits(&mut run);
        for event in inbox.drain(..) {
            self.dispatch(event, &mut run);
        }
        self.finish(run)
    }

    /// The groups that live here, ascending.
    pub fn groups(&self) -> impl Iterator<Item = GroupId> {
        self.replicas.keys().copied()
    }

    /// Groups whose peer here leads.
    pub fn led_groups(&self) -> impl Iterator<Item = GroupId> {
        let led = self
            .replicas
            .iter()
            .filter(|(_, replica)| replica.is_leader());
        led.map(|(group, _)| *group)
    }

    /// The peer of a group that lives here.
    pub fn peer(&self, group: GroupId) -> Option<Peer> {
        self.replicas.get(&group).map(Replica::peer)
    }

    /// A picture of a group. It copies; not for hot paths.
    pub fn status(&self, group: GroupId) -> Option<GroupStatus> {
        self.replicas
            .get(&group)
            .map(|replica| replica.status(self.now, &self.config))
    }

    /// The state machine of a group that lives here.
    pub fn machine(&self, group: GroupId) -> Option<&S> {
        self.replicas.get(&group).map(Replica::machine)
    }

    /// Ends a run: what follows for each touched group, who dies, and what must become durable.
    fn finish(&mut self, mut run: Run<'_, S::Reply>) -> Effects<S::Reply> {
        let mut finished = BTreeSet::new();
        while let Some(group) = self.touched.pop_first() {
            self.finish_group(group, &mut run);
            finished.insert(group);
        }
        for group in finished {
            if let Some(replica) = self.replicas.get_mut(&group) {
                replica.end_run();
            }
            self.note_sleep(group);
        }
        run.effects.neighbours = self.sleepers.take_news();
        self.fresh = std::mem::take(&mut run.fresh);
        self.complete_regions(&mut run);
        self.hold_regions(&run);
        let must_persist = !run.effects.wal.is_empty()
            || !run.effects.messages_after_persist.is_empty()
            || !run.awaiting.is_empty();
        if must_persist {
            self.last_token = PersistToken(self.last_token.0 + 1);
            run.effects.persist = Some(self.last_token);
            self.unpersisted.push_back((self.last_token, run.awaiting));
        }
        run.effects
    }

    fn finish_group(&mut self, group: GroupId, run: &mut Run<'_, S::Reply>) {
        if !self.is_shut_down {
            // Apply goes on in the run in which the last birth is known to be durable; several
            // splits may follow each other.
            self.prepare_split(group, run);
            loop {
                let Some(replica) = self.replicas.get_mut(&group) else {
                    return;
                };
                replica.finish(run);
                if !self.prepare_split(group, run) {
                    break;
                }
            }
        }
        let Some(replica) = self.replicas.get_mut(&group) else {
            return;
        };
        replica.stop_if_wanted(run);
        if replica.is_damaged() && replica.owes_children() {
            self.orphan_children(group, run);
        }
        self.bury_leaving(group, run);
    }

    /// Buries a peer that leaves, once nobody here needs its log any more.
    fn bury_leaving(&mut self, group: GroupId, run: &mut Run<'_, S::Reply>) {
        let Some(replica) = self.replicas.get_mut(&group).filter(|it| it.is_leaving()) else {
            return;
        };
        if replica.may_be_buried() {
            self.bury(group, run);
        } else {
            replica.leave_slowly(run);
        }
    }

    fn bury(&mut self, group: GroupId, run: &mut Run<'_, S::Reply>) {
        if let Some(replica) = self.replicas.remove(&group) {
            let record = replica.bury(run);
            if record.leftover.is_none() {
                self.territory.release(group);
            }
            self.graves.insert(group, Grave::dug(record));
        }
    }

    /// Before anybody can see what this run did, it is known who holds what from now on.
    fn hold_regions(&self, run: &Run<'_, S::Reply>) {
        let changes = run.effects.region_changes.iter();
        self.territory
            .hold(changes.filter_map(|change| match change {
                RegionChange::Region { state, .. } => Some((state.region.id, state.region.range())),
                RegionChange::Leader { .. } | RegionChange::Gone { .. } => None,
            }));
        // A damaged peer never served what it found, or was born with; its burial drops it all the
        // same. Until then it must be nobody else's.
        for (group, ..) in &run.effects.damaged {
            if let Some(region) = self.replicas.get(group).and_then(Replica::region) {
                self.territory.keep(*group, region.range());
            }
        }
    }
}
