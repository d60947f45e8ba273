//! Whether all replicas of a region hold the same (F3).
//!
//! The leader's store puts an entry into the region's log. Every replica that applies it sums up its
//! state and data as of that entry, in the background ([`tinykv_node::checksum`]), and keeps the sum for
//! whoever fetches it. The leader's store fetches its own and those of the other peers' stores, and
//! compares ([`compare`]). It is the same index for all: no write has to stop, and a follower that is
//! behind is compared when it gets there, if that is in time.
//!
//! What differs is reported, in the answer, as an error in the log and by a metric
//! (`tinykv_store_checks`), with region, index, peers and all sums; and nothing else is done. Which replica
//! is wrong cannot be told for sure from sums: that a majority agrees makes it likely that the other
//! one is, but a bug shared by two looks the same. Whoever looks after the cluster decides, and removes
//! a peer by `region remove-peer`.
//!
//! A replica that does not tell in time (its store is down, or busy with other checks) is no difference:
//! it is named with the reason.
//!
//! Bounds: one check of a region at a time, and [`CHECKS_MAX`] per store as the leader's; of sums, see
//! [`tinykv_node::checksum`].

pub mod compare;
mod figures;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use tinykv_env::Env;
use tinykv_node::checksum::Sum;
use tinykv_node::handle::NodeHandle;
use tinykv_node::transport::Resolver;
use tinykv_proto::check as pb;
use tinykv_proto::check::check_client::CheckClient;
use tinykv_raft::{EntryId, GroupId, LogIndex, Term};
use tinykv_replica::{
    AdminAction, AdminCommand, Answer, Outcome, Peer, Refusal, Region, RegionEpoch,
};
use tonic::Request;
use tonic::transport::Endpoint;

use crate::machine::RawMachine;
use compare::Compared;
use figures::{Ended, Figures};

/// Checks that a store leads at once.
pub const CHECKS_MAX: usize = 2;

/// How long another store may take to be connected to.
const CONNECT_TIME: Duration = Duration::from_secs(3);

/// Of the time for a check, what is left for the answer.
const WAY_BACK: Duration = Duration::from_millis(200);

/// Why a region was not checked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotChecked {
    /// Ask the leader's store.
    #[error("region {0} is not led from this store; ask its leader's")]
    NotLeader(GroupId),
    /// An earlier check of it is under way.
    #[error("region {0} is being checked already; ask again when that is done")]
    UnderWay(GroupId),
    /// See [`CHECKS_MAX`].
    #[error("this store checks {CHECKS_MAX} regions already; ask again when one is done")]
    Busy,
    /// There is no such region here.
    #[error("region {0} does not live on this store; ask the placement driver where it does")]
    UnknownRegion(GroupId),
    /// The log did not take the entry.
    #[error("region {group} did not take the check: {reason}; ask again")]
    NotTaken {
        /// The region.
        group: GroupId,
        /// What the leader says.
        reason: String,
    },
}

/// What one replica told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The replica.
    pub peer: Peer,
    /// Its sum, or why it told none.
    pub sum: Result<Sum, String>,
}

/// Checks regions led here, and tells the sums of replicas here.
#[derive(Clone)]
pub struct Checker {
    shared: Arc<Shared>,
}

struct Shared {
    node: NodeHandle<RawMachine>,
    env: Arc<dyn Env>,
    stores: Arc<dyn Resolver>,
    under_way: Mutex<BTreeSet<GroupId>>,
    figures: Figures,
}

/// Held while a region is checked.
struct UnderWay<'a> {
    checker: &'a Checker,
    group: GroupId,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.checker.shared.under_way.lock().remove(&self.group);
    }
}

impl Checker {
    /// Nothing is under way.
    pub fn new(
        node: NodeHandle<RawMachine>,
        env: Arc<dyn Env>,
        stores: Arc<dyn Resolver>,
    ) -> Checker {
        Checker {
            shared: Arc::new(Shared {
                node,
                env,
                stores,
                under_way: Mutex::default(),
                figures: Figures::default(),
            }),
        }
    }

    /// Adds its figures to a registry.
    pub fn register(&self, registry: &mut Registry) {
        self.shared.figures.register(registry);
    }

    /// Compares all replicas of a region led here; in so much time. Also the region as it was then.
    ///
    /// # Errors
    /// If there was no check.
    pub async fn check(
        &self,
        group: GroupId,
        time: Duration,
    ) -> Result<(Arc<Region>, Compared), NotChecked> {
        let checked = self.try_check(group, time).await;
        let outcome = match &checked {
            Err(_) => Ended::Refused,
            Ok((_, compared)) if compared.differs() => Ended::Different,
            Ok((_, compared)) if compared.is_complete() => Ended::Same,
            Ok(_) => Ended::Incomplete,
        };
        self.shared.figures.count(outcome);
        if let Ok((_, compared)) = &checked
            && compared.differs()
        {
            let replicas = &compared.replicas;
            tracing::error!(%group, ?replicas, "REPLICAS DIFFER: {}", compared.sentence());
        }
        checked
    }

    async fn try_check(
        &self,
        group: GroupId,
        time: Duration,
    ) -> Result<(Arc<Region>, Compared), NotChecked> {
        let _under_way = self.begin(group)?;
        let node = &self.shared.node;
        let time = time.saturating_sub(WAY_BACK);
        let deadline = node.now() + time;
        let epoch = self.led_epoch(group)?;
        let id = self.shared.env.random_u64();
        let region = self.propose(group, epoch, id, deadline).await?;
        let told = region.peers.iter().map(|peer| async move {
            let left = deadline.saturating_sub(node.now());
            let sum = tokio::time::timeout(left, self.sum_of(*peer, group, id, left)).await;
            Told {
                peer: *peer,
                sum: sum.unwrap_or_else(|_| Err("it did not tell in time".to_owned())),
            }
        });
        let told = futures::future::join_all(told).await;
        Ok((region, compare::compare(told)))
    }

    fn begin(&self, group: GroupId) -> Result<UnderWay<'_>, NotChecked> {
        let mut under_way = self.shared.under_way.lock();
        if under_way.contains(&group) {
            return Err(NotChecked::UnderWay(group));
        }
        if under_way.len() >= CHECKS_MAX {
            return Err(NotChecked::Busy);
        }
        under_way.insert(group);
        Ok(UnderWay {
            checker: self,
            group,
        })
    }

    fn led_epoch(&self, group: GroupId) -> Result<RegionEpoch, NotChecked> {
        let entry = self.shared.node.directory().group(group);
        let view = entry.ok_or(NotChecked::UnknownRegion(group))?.view();
        match &view.state {
            Some(state) if view.leads => Ok(state.region.epoch),
            _ => Err(NotChecked::NotLeader(group)),
        }
    }

    /// Puts the check into the log; the region as it was there.
    async fn propose(
        &self,
        group: GroupId,
        epoch: RegionEpoch,
        id: u64,
        deadline: Duration,
    ) -> Result<Arc<Region>, NotChecked> {
        let command = AdminCommand::Check { id };
        let action = AdminAction::Command { epoch, command };
        let not_taken = |reason| Err(NotChecked::NotTaken { group, reason });
        match self.shared.node.admin(group, action, deadline).await {
            Outcome::Ok(Answer::Changed(region)) => Ok(region),
            Outcome::Ok(_) => unreachable!("a check is answered by its region"),
            Outcome::DefinitelyNot(Refusal::NotLeader { .. }) => Err(NotChecked::NotLeader(group)),
            Outcome::DefinitelyNot(refusal) => not_taken(format!("{refusal:?}")),
            Outcome::Undetermined(doubt) => not_taken(format!("{doubt:?}")),
        }
    }

    async fn sum_of(
        &self,
        peer: Peer,
        group: GroupId,
        id: u64,
        time: Duration,
    ) -> Result<Sum, String> {
        if peer.store.0 == self.shared.node.identity().member_id {
            return self.sum_here(group, id).await;
        }
        let store = self.shared.stores.resolve(peer.store).await;
        let store = store.ok_or("nobody knows where its store is")?;
        let endpoint = Endpoint::from_shared(format!("http://{}", store.address))
            .map_err(|error| error.to_string())?
            .connect_timeout(CONNECT_TIME);
        let unreachable = |error| format!("its store cannot be reached: {error}");
        let channel = endpoint.connect().await.map_err(unreachable)?;
        let mut request = Request::new(pb::ReplicaSumRequest {
            region_id: group.0,
            check_id: id,
        });
        request.set_timeout(time);
        let answer = CheckClient::new(channel).replica_sum(request).await;
        let answer = answer.map_err(|status| status.message().to_owned())?;
        let pb::ReplicaSumResponse { sum, error } = answer.into_inner();
        let sum = sum.ok_or(error)?;
        Ok(Sum {
            entry: EntryId {
                index: LogIndex(sum.index),
                term: Term(sum.term),
            },
            crc32c: sum.crc32c,
            pairs: sum.pairs,
            bytes: sum.bytes,
        })
    }

    /// What a replica here summed up; waits until it has.
    pub async fn sum_here(&self, group: GroupId, check: u64) -> Result<Sum, String> {
        let sums = self.shared.node.checksums();
        sums.wait(group, check)
            .await
            .map_err(|error| error.to_string())
    }
}
