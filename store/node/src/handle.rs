//! What services do with a node.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tinykv_env::Env;
use tinykv_lsm::{Lsm, Snapshot};
use tinykv_raft::{GroupId, PeerId, Term};
use tinykv_replica::{
    AdminAction, AdminRequest, Birth, BusyReason, Command, Doubt, Event, GroupStatus, Outcome,
    Proposal, ReadRequest, Refusal, RegionEpoch, StateMachine, StoreId, WaiterId,
};
use tokio::sync::{oneshot, watch};

use crate::admission::{Admission, Verdict};
use crate::checksum::Checksums;
use crate::directory::Directory;
use crate::identity::Identity;
use crate::inbox::Refused;
use crate::lease::{Lease, NotInLease, read_in_lease};
use crate::metrics::NodeMetrics;
use crate::pool::Pool;
use crate::shards::Shards;
use crate::slowness::Latencies;
use crate::transport::Transport;

/// What a refused asker is told to wait when a shard has too many requests.
const INBOX_WAIT: Duration = Duration::from_millis(20);
/// What an entry carries besides its command, at most, in a record of the log.
const RECORD_OVERHEAD: usize = 64;

/// Whom a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The group.
    pub group: GroupId,
    /// The peer the asker means, if it says.
    pub peer: Option<PeerId>,
    /// The term in which a command is valid, if the asker says.
    pub term: Option<Term>,
    /// On the node's clock ([`NodeHandle::now`]): not proposed at or after it, answered by then.
    pub deadline: Duration,
}

/// Figures of a node for metrics and heartbeats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeFigures {
    /// Bytes that wait for the log's thread.
    pub log_queue_bytes: usize,
    /// Raft messages dropped because a shard's inbox was full.
    pub inbox_dropped: u64,
    /// Raft messages dropped because the queue to a store was full.
    pub transport_dropped: u64,
    /// Raft messages sent, those included that were dropped or lost.
    pub transport_sent: u64,
    /// Groups that sleep.
    pub asleep: usize,
}

/// A running node as its services see it. Cheap to clone; valid after the node's end, when
/// everything is refused.
pub struct NodeHandle<S: StateMachine> {
    pub(crate) inner: Arc<Inner<S>>,
}

pub(crate) struct Inner<S: StateMachine> {
    pub(crate) identity: Identity,
    pub(crate) env: Arc<dyn Env>,
    pub(crate) lsm: Lsm,
    pub(crate) pool: Pool,
    pub(crate) checksums: Arc<Checksums>,
    pub(crate) directory: Arc<Directory>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) shards: Arc<Shards<S>>,
    pub(crate) transport: Transport,
    pub(crate) record_bytes_max: usize,
    pub(crate) last_waiter: AtomicU64,
    pub(crate) metrics: NodeMetrics,
    pub(crate) asleep: Arc<watch::Sender<usize>>,
}

impl<S: StateMachine> Clone for NodeHandle<S> {
    fn clone(&self) -> NodeHandle<S> {
        NodeHandle {
            inner: Arc::clone(&self.inner),
        }
    }
}

impl<S: StateMachine> NodeHandle<S> {
    /// Who this process is.
    pub fn identity(&self) -> Identity {
        self.inner.identity
    }

    /// The monotonic clock by which leases, deadlines and the cores go.
    pub fn now(&self) -> Duration {
        self.inner.env.now()
    }

    /// The regions that live here.
    pub fn directory(&self) -> &Directory {
        &self.inner.directory
    }

    /// The engine, to take snapshots of.
    pub fn lsm(&self) -> &Lsm {
        &self.inner.lsm
    }

    /// Threads for reads that wait for the disk.
    pub fn pool(&self) -> &Pool {
        &self.inner.pool
    }

    /// What the replicas here were summed up to, for checks.
    pub fn checksums(&self) -> &Checksums {
        &self.inner.checksums
    }

    /// What those who wait for commands and syncs see.
    pub fn latencies(&self) -> &Latencies {
        &self.inner.metrics.latencies
    }

    /// Whether the disk is nearly full, so that writes which need space should be refused (D8).
    pub fn disk_is_low(&self) -> bool {
        self.inner.admission.disk_is_low()
    }

    /// The longest command ([`Command::len`]) the log can hold, in bytes.
    pub fn command_bytes_max(&self) -> usize {
        self.inner.record_bytes_max - RECORD_OVERHEAD
    }

    /// Proposes a command and waits for its outcome. Dropping the future does not take the
    /// command back.
    pub async fn propose(&self, target: Target, command: Command) -> Outcome<S::Reply> {
        if command.len() > self.command_bytes_max() {
            return Outcome::DefinitelyNot(Refusal::Malformed {
                problem: "the command is larger than the log can hold",
            });
        }
        match self.inner.admission.command() {
            Verdict::After(Duration::ZERO) => {}
            Verdict::After(delay) => tokio::time::sleep(delay).await,
            Verdict::Busy { reason, wait } => {
                return Outcome::DefinitelyNot(Refusal::Busy { reason, wait });
            }
        }
        let begun = self.now();
        let request = |waiter| {
            Event::Propose(Proposal {
                group: target.group,
                peer: target.peer,
                term: target.term,
                command,
                deadline: target.deadline,
                waiter,
            })
        };
        let outcome = self.ask(target.group, request).await;
        if matches!(outcome, Outcome::Ok(_)) {
            let taken = self.now().saturating_sub(begun);
            self.inner.metrics.latencies.on_command(taken);
        }
        outcome
    }

    /// Waits until a read outside the lease may be served (ReadIndex). On success take a snapshot
    /// of [`NodeHandle::lsm`], then check epoch and range against the directory.
    pub async fn read(&self, target: Target, epoch: Option<RegionEpoch>) -> Outcome<S::Reply> {
        let request = |waiter| {
            Event::Read(ReadRequest {
                group: target.group,
                peer: target.peer,
                epoch,
                deadline: target.deadline,
                waiter,
            })
        };
        self.ask(target.group, request).await
    }

    /// Takes a snapshot that may be read under the group's lease, without crossing to another
    /// thread. `fits` says whether keys, epoch, term and peer of the request fit the lease.
    ///
    /// # Errors
    /// When there is no such lease: ask [`NodeHandle::read`].
    pub fn read_in_lease(
        &self,
        group: GroupId,
        fits: impl FnOnce(&Lease) -> bool,
    ) -> Result<Snapshot, NotInLease> {
        let entry = self.inner.directory.group(group).ok_or(NotInLease)?;
        read_in_lease(
            entry.lease(),
            fits,
            || self.inner.lsm.snapshot(),
            || self.inner.env.now(),
        )
    }

    /// Asks a leader for a change of membership, a transfer of leadership or a command of the
    /// driver, and waits for the outcome.
    pub async fn admin(
        &self,
        group: GroupId,
        action: AdminAction,
        deadline: Duration,
    ) -> Outcome<S::Reply> {
        let request = |waiter| {
            Event::Admin(AdminRequest {
                group,
                action,
                deadline,
                waiter: Some(waiter),
            })
        };
        self.ask(group, request).await
    }

    /// Brings a peer of a new group to life here (bootstrap). It is in the directory once it is.
    pub fn create(&self, birth: Birth) {
        let group = birth.state.region.id;
        self.inner
            .shards
            .of(group)
            .push_notice(Event::Create(birth));
    }

    /// Has a peer destroyed that does not belong to its group any more; a younger one stays.
    pub fn destroy(&self, group: GroupId, peer: PeerId) {
        let destroy = Event::Destroy { group, peer };
        self.inner.shards.of(group).push_notice(destroy);
    }

    /// Ids of peers from this one on were given out after this process began: who has one never lived
    /// here before. After damage of the log no other newcomer is trusted (D6).
    pub fn new_peers_from(&self, first: PeerId) {
        self.inner.shards.broadcast(|| Event::NewPeersFrom(first));
    }

    /// Tells the groups led from a store that it is gone, as placement may know first.
    pub fn store_is_dead(&self, store: StoreId) {
        self.inner.shards.broadcast(|| Event::StoreDead(store));
    }

    /// Whether the stream of messages to a store is up right now, as far as this side knows: a store
    /// that just died is not worth being named as a leader. True for this store itself.
    pub fn is_connected(&self, store: StoreId) -> bool {
        self.inner.transport.is_connected(store)
    }

    /// How many groups sleep here: they cost neither ticks nor messages. Hears of every change.
    pub fn asleep(&self) -> watch::Receiver<usize> {
        self.inner.asleep.subscribe()
    }

    /// A picture of one group; `None` if it does not live here.
    pub async fn status(&self, group: GroupId) -> Option<GroupStatus> {
        let inbox = self.inner.shards.of(group);
        let answer = inbox.query(move |shard| shard.status(group));
        answer.await.ok().flatten()
    }

    /// Pictures of these groups, of those that live here. Each shard is asked once, so many groups
    /// cost it hardly more wake-ups than one.
    pub async fn statuses_of(&self, groups: &[GroupId]) -> BTreeMap<GroupId, GroupStatus> {
        let shards = &self.inner.shards;
        let mut asked: BTreeMap<usize, Vec<GroupId>> = BTreeMap::new();
        for group in groups {
            let shard = shards.number(*group);
            asked.entry(shard).or_default().push(*group);
        }
        let mut pictures = BTreeMap::new();
        for (number, groups) in asked {
            let answer = shards.all()[number].query(move |shard| {
                let status = |group| Some((group, shard.status(group)?));
                groups.into_iter().filter_map(status).collect::<Vec<_>>()
            });
            pictures.extend(answer.await.unwrap_or_default());
        }
        pictures
    }

    /// Pictures of all groups, by id.
    pub async fn statuses(&self) -> Vec<(GroupId, GroupStatus)> {
        let mut all = Vec::new();
        for inbox in self.inner.shards.all() {
            let answer = inbox.query(|shard| {
                let groups: Vec<GroupId> = shard.groups().collect();
                let status = |group| Some((group, shard.status(group)?));
                groups.into_iter().filter_map(status).collect::<Vec<_>>()
            });
            all.extend(answer.await.unwrap_or_default());
        }
        all.sort_by_key(|(group, _)| *group);
        all
    }

    /// Asks the shard of a group anything, for instance about its state machine; `None` after the
    /// node's end. The question runs on the shard's thread and must be short.
    pub async fn query<T: Send + 'static>(
        &self,
        group: GroupId,
        question: impl FnOnce(&tinykv_replica::Shard<S>) -> T + Send + 'static,
    ) -> Option<T> {
        self.inner.shards.of(group).query(question).await.ok()
    }

    /// Figures for metrics.
    pub fn figures(&self) -> NodeFigures {
        let inboxes = self.inner.shards.all();
        NodeFigures {
            log_queue_bytes: self.inner.admission.log_queue_bytes(),
            inbox_dropped: inboxes.iter().map(|inbox| inbox.dropped()).sum(),
            transport_dropped: self.inner.transport.dropped(),
            transport_sent: self.inner.transport.sent(),
            asleep: *self.inner.asleep.borrow(),
        }
    }

    pub(crate) fn metrics(&self) -> &NodeMetrics {
        &self.inner.metrics
    }

    /// Sends one request to the group's shard and waits; it is always answered.
    async fn ask(
        &self,
        group: GroupId,
        request: impl FnOnce(WaiterId) -> Event,
    ) -> Outcome<S::Reply> {
        let waiter = WaiterId(self.inner.last_waiter.fetch_add(1, Ordering::Relaxed) + 1);
        let (reply, outcome) = oneshot::channel();
        let pushed = self
            .inner
            .shards
            .of(group)
            .push_request(request(waiter), waiter, reply);
        match pushed {
            Ok(()) => outcome
                .await
                .unwrap_or(Outcome::Undetermined(Doubt::ShuttingDown)),
            Err(Refused::Full) => Outcome::DefinitelyNot(Refusal::Busy {
                reason: BusyReason::Inbox,
                wait: INBOX_WAIT,
            }),
            Err(Refused::Closed) => Outcome::DefinitelyNot(Refusal::ShuttingDown),
        }
    }
}
