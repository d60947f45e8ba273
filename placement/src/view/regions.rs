//! What the leaders of regions report.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use thiserror::Error;
use tinykv_raft::{GroupId, PeerId, Term};
use tinykv_replica::{Peer, PeerRole, Region, StoreId};

use super::flow::{Counted, Flow};

/// A region as the leader of placement knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegionView {
    /// From the routes: the newest description known.
    pub region: Region,
    /// Who leads it, while that is sure.
    pub leader: Option<Peer>,
    /// The largest Raft term heard of; 0 before the first heartbeat.
    pub term: Term,
    /// Since when `leader` has led.
    pub leader_since: Duration,
    /// When it was cut, or began to be, as far as this leadership of placement saw that.
    pub cut_at: Option<Duration>,
    /// When it was last heard; `None` if never in this leadership of placement.
    pub heard_at: Option<Duration>,
    /// Peers that are not caught up.
    pub pending: BTreeSet<PeerId>,
    /// Peers that do not answer their leader, and for how long.
    pub down: BTreeMap<PeerId, Duration>,
    /// Sizes, and what was counted last.
    pub stats: RegionStats,
    /// What is read and written.
    pub flow: Flow,
}

/// What a heartbeat says about the data of a region.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RegionStats {
    /// Approximate size in bytes.
    pub size_bytes: u64,
    /// Approximate number of keys.
    pub keys: u64,
    /// What was read and written lately, unless nothing is said of that.
    pub counted: Option<Counted>,
}

/// One heartbeat of a region's leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegionReport {
    /// Its description as the leader has it applied.
    pub region: Region,
    /// The sender.
    pub leader: Peer,
    /// The term it leads in.
    pub term: Term,
    /// Peers that are not caught up.
    pub pending: BTreeSet<PeerId>,
    /// Peers that do not answer, and for how long.
    pub down: BTreeMap<PeerId, Duration>,
    /// Sizes and flows.
    pub stats: RegionStats,
}

/// The heartbeat comes from a leader that has been deposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("region {region} was heard in term {known}, this heartbeat is of term {found}")]
pub struct StaleTerm {
    /// The region.
    pub region: GroupId,
    /// The term heard of before.
    pub known: Term,
    /// The term of the refused heartbeat.
    pub found: Term,
}

impl RegionView {
    /// A region known from the routes only.
    pub fn unheard(region: Region) -> RegionView {
        RegionView {
            region,
            leader: None,
            term: Term(0),
            leader_since: Duration::ZERO,
            cut_at: None,
            heard_at: None,
            pending: BTreeSet::new(),
            down: BTreeMap::new(),
            stats: RegionStats::default(),
            flow: Flow::default(),
        }
    }

    pub(super) fn on_heartbeat(
        &mut self,
        report: RegionReport,
        now: Duration,
    ) -> Result<(), StaleTerm> {
        self.check_term(&report)?;
        if self.term != report.term || self.leader.map(|leader| leader.id) != Some(report.leader.id)
        {
            self.leader_since = now;
        }
        self.term = report.term;
        self.leader = Some(report.leader);
        self.heard_at = Some(now);
        // The newer description is in the routes already, unless another one overtook it.
        if !report.region.epoch.is_behind(self.region.epoch) {
            self.region = report.region;
        }
        self.pending = report.pending;
        self.down = report.down;
        self.stats = report.stats;
        if let Some(counted) = report.stats.counted {
            self.flow.hear(counted, now);
        }
        Ok(())
    }

    /// Whether a report may be believed: not of an earlier term, and not of the same term under
    /// another leader (R1 allows one per term, so that one is mistaken or lying).
    pub fn check_term(&self, report: &RegionReport) -> Result<(), StaleTerm> {
        let other_leader = self
            .leader
            .is_some_and(|leader| leader.id != report.leader.id);
        if report.term < self.term || (report.term == self.term && other_leader) {
            return Err(StaleTerm {
                region: report.region.id,
                known: self.term,
                found: report.term,
            });
        }
        Ok(())
    }

    /// The routes describe it so.
    pub(super) fn follow(&mut self, region: &Region, now: Duration) {
        let (new, old) = (region, &self.region);
        let keeps_end = new.end.is_empty() || (!old.end.is_empty() && old.end <= new.end);
        if new.start > old.start || !keeps_end {
            self.cut_at = Some(now);
        }
        self.region = region.clone();
    }

    pub(super) fn forget_leader_on(&mut self, store: StoreId) {
        if self.leader.is_some_and(|leader| leader.store == store) {
            self.leader = None;
        }
    }

    /// Peers that vote, in either half of a joint configuration.
    pub fn voters(&self) -> impl Iterator<Item = Peer> {
        self.region
            .peers
            .iter()
            .copied()
            .filter(|peer| peer.role != PeerRole::Learner)
    }

    /// Peers that only learn.
    pub fn learners(&self) -> impl Iterator<Item = Peer> {
        self.region
            .peers
            .iter()
            .copied()
            .filter(|peer| peer.role == PeerRole::Learner)
    }

    /// Whether a change of membership is half-way; nothing is scheduled until it is over.
    pub fn is_joint(&self) -> bool {
        self.region.peers.iter().any(|peer| peer.role.is_joint())
    }

    /// Whether the leader says that the peer answers and is caught up.
    pub fn is_current(&self, peer: PeerId) -> bool {
        !self.pending.contains(&peer) && !self.down.contains_key(&peer)
    }
}
