//! What operators ask for by hand, checked at once.
//!
//! A wish becomes a decision with the rule [`Rule::Manual`] or a refusal whose sentence says what
//! would be right. While its operator is under way nothing else is planned for the region; after
//! it has ended the rules leave the region alone for [`HANDS_OFF`], as long as all its voters are
//! healthy, so that nothing asked for by hand is undone within seconds.

mod merging;
mod refusal;

use std::time::Duration;

use bytes::Bytes;
use tinykv_raft::GroupId;
use tinykv_replica::{Peer, PeerRole, StoreId};

use super::locations::Locations;
use super::operator::PEERS_MAX;
use super::reason::{Fact, Reason, Rule};
use super::safety::{first_damaged, is_healthy, may_remove};
use super::{Action, Decision};
use crate::state::Settings;
use crate::view::{ClusterView, RegionView, StoreState};

pub use refusal::ManualRefusal;

/// For so long after a hand-made operator has ended no rule touches its region, unless one of its
/// voters is not healthy.
pub const HANDS_OFF: Duration = Duration::from_secs(60);

/// Keys of one split, as many as the leader of a region carries out at once.
pub const SPLIT_KEYS_MAX: usize = 64;

/// The longest split key in bytes: above the routing key of the longest key there may be.
const SPLIT_KEY_BYTES_MAX: usize = 128 << 10;

/// Something to be done to a region, by hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Manual {
    /// Split.
    Split {
        /// Stored (routing) keys strictly inside the region, ascending; empty: in the middle.
        keys: Vec<Bytes>,
    },
    /// Another peer is to lead.
    TransferLeader {
        /// Its store.
        to: StoreId,
    },
    /// One more voter.
    AddPeer {
        /// Its store.
        to: StoreId,
    },
    /// One peer less.
    RemovePeer {
        /// Its store.
        from: StoreId,
    },
    /// A peer goes elsewhere.
    MovePeer {
        /// Where it is.
        from: StoreId,
        /// Where it shall be.
        to: StoreId,
    },
    /// The region becomes a part of a neighbour.
    Merge {
        /// The neighbour.
        target: GroupId,
    },
}

impl Manual {
    /// The other region it is about.
    pub fn target(&self) -> Option<GroupId> {
        match self {
            Manual::Merge { target } => Some(*target),
            _ => None,
        }
    }
}

/// Makes a decision of a wish, or says why not.
pub fn decide(
    view: &ClusterView,
    settings: &Settings,
    id: GroupId,
    wish: &Manual,
    now: Duration,
) -> Result<Decision, ManualRefusal> {
    let region = check_free(view, id)?;
    let case = Case {
        view,
        settings,
        region,
        now,
    };
    let action = match wish {
        Manual::Split { keys } => case.split(keys)?,
        Manual::TransferLeader { to } => case.transfer(*to)?,
        Manual::AddPeer { to } => {
            case.check_target(*to, None)?;
            if region.region.peers.len() >= PEERS_MAX {
                return Err(ManualRefusal::TooManyPeers { region: id });
            }
            Action::AddReplica { to: *to }
        }
        Manual::RemovePeer { from } => case.remove(*from)?,
        Manual::MovePeer { from, to } => {
            let old = case.peer_on(*from)?;
            case.check_target(*to, Some(old))?;
            Action::ReplaceReplica {
                old: old.id,
                from: *from,
                to: *to,
            }
        }
        Manual::Merge { target } => case.merge(*target)?,
    };
    Ok(Decision {
        region: id,
        epoch: region.region.epoch,
        action,
        reason: case.reason(),
    })
}

/// Whether anything can be asked of the region now.
pub fn check_free(view: &ClusterView, id: GroupId) -> Result<&RegionView, ManualRefusal> {
    let Some(region) = view.regions.get(&id) else {
        return Err(ManualRefusal::UnknownRegion { region: id });
    };
    if let Some(operator) = view.operators.get(&id) {
        return Err(ManualRefusal::Busy {
            region: id,
            operator: operator.id,
            kind: operator.action.name(),
            rule: operator.reason.rule,
        });
    }
    if region.leader.is_none() {
        return Err(ManualRefusal::NoLeader { region: id });
    }
    if region.is_joint() {
        return Err(ManualRefusal::Joint { region: id });
    }
    Ok(region)
}

struct Case<'a> {
    view: &'a ClusterView,
    settings: &'a Settings,
    region: &'a RegionView,
    now: Duration,
}

impl Case<'_> {
    fn split(&self, keys: &[Bytes]) -> Result<Action, ManualRefusal> {
        let region = &self.region.region;
        if keys.len() > SPLIT_KEYS_MAX {
            return Err(ManualRefusal::TooManyKeys { count: keys.len() });
        }
        for key in keys {
            if key.len() > SPLIT_KEY_BYTES_MAX {
                return Err(ManualRefusal::KeyTooLong { bytes: key.len() });
            }
            if *key == region.start || (*key == region.end && !key.is_empty()) {
                return Err(ManualRefusal::KeyAtBorder {
                    region: region.id,
                    key: key.clone(),
                });
            }
            if !region.contains(key) {
                return Err(ManualRefusal::KeyOutside {
                    region: region.id,
                    key: key.clone(),
                });
            }
        }
        for pair in keys.windows(2) {
            let key = pair[1].clone();
            match pair[0].cmp(&key) {
                std::cmp::Ordering::Less => {}
                std::cmp::Ordering::Equal => return Err(ManualRefusal::KeyTwice { key }),
                std::cmp::Ordering::Greater => {
                    return Err(ManualRefusal::KeysNotAscending { key });
                }
            }
        }
        self.check_whole()?;
        Ok(Action::Split {
            keys: keys.to_vec(),
        })
    }

    /// What a region lacks comes first; the operator of a split would be in the way of that.
    fn check_whole(&self) -> Result<(), ManualRefusal> {
        let region = self.region.region.id;
        let (voters, wanted) = (self.region.voters().count(), self.view.replicas_wanted);
        if voters < wanted as usize {
            return Err(ManualRefusal::Incomplete {
                region,
                voters,
                wanted,
            });
        }
        match first_damaged(self.view, self.region) {
            None => Ok(()),
            Some(damaged) => Err(ManualRefusal::Damaged {
                region,
                store: damaged.store,
                peer: damaged.id,
            }),
        }
    }

    fn transfer(&self, to: StoreId) -> Result<Action, ManualRefusal> {
        let peer = self.peer_on(to)?;
        let (region, store) = (self.region.region.id, to);
        let leader = self.region.leader.expect("check_free was asked");
        if leader.id == peer.id {
            return Err(ManualRefusal::LeadsAlready {
                region,
                store,
                peer: peer.id,
            });
        }
        self.check_up(to)?;
        if self.view.evicted.contains(&to) {
            return Err(ManualRefusal::Evicted { store });
        }
        if !self.is_healthy(peer) {
            return Err(ManualRefusal::Unfit {
                region,
                store,
                peer: peer.id,
            });
        }
        Ok(Action::TransferLeader {
            from: leader.store,
            to,
        })
    }

    /// A learner may always go. A voter may go if most of the voters wanted stay, and most of
    /// those that stay are healthy.
    fn remove(&self, from: StoreId) -> Result<Action, ManualRefusal> {
        let peer = self.peer_on(from)?;
        let staying: Vec<Peer> = self
            .region
            .voters()
            .filter(|voter| voter.id != peer.id)
            .collect();
        let wanted = self.view.replicas_wanted;
        let enough = peer.role == PeerRole::Learner || staying.len() > wanted as usize / 2;
        let id = peer.id;
        if !enough || !may_remove(self.view, self.region, id, self.settings, self.now) {
            return Err(ManualRefusal::Needed {
                region: self.region.region.id,
                store: from,
                left: staying.len(),
                healthy: staying
                    .iter()
                    .filter(|voter| self.is_healthy(**voter))
                    .count(),
                wanted,
            });
        }
        let leads = self.region.leader.is_some_and(|leader| leader.id == id);
        let successor = staying.iter().find(|voter| self.is_healthy(**voter));
        Ok(Action::RemovePeer {
            peer: id,
            from,
            leader_to: successor.filter(|_| leads).map(|voter| voter.store),
        })
    }

    fn peer_on(&self, store: StoreId) -> Result<Peer, ManualRefusal> {
        if !self.view.stores.contains_key(&store) {
            return Err(ManualRefusal::UnknownStore { store });
        }
        let region = &self.region.region;
        region
            .peer_on(store)
            .ok_or_else(|| ManualRefusal::HasNoPeer {
                region: region.id,
                store,
                on: self.stores(),
            })
    }

    /// Whether a new peer may go to the store when `leaving` leaves.
    fn check_target(&self, store: StoreId, leaving: Option<Peer>) -> Result<(), ManualRefusal> {
        let Some(known) = self.view.stores.get(&store) else {
            return Err(ManualRefusal::UnknownStore { store });
        };
        let region = &self.region.region;
        if let Some(there) = region.peer_on(store) {
            return Err(ManualRefusal::HasPeer {
                region: region.id,
                store,
                peer: there.id,
                on: self.stores(),
            });
        }
        self.check_up(store)?;
        if known.stats.is_stopping {
            return Err(ManualRefusal::StoreStopping { store });
        }
        let staying = region.peers.iter().copied();
        let staying = staying.filter(|peer| Some(peer.id) != leaving.map(|leaving| leaving.id));
        let locations = Locations::new(self.view, self.settings);
        match self.settings.isolation_level {
            Some(level) if locations.is_too_close(store, staying) => Err(ManualRefusal::TooClose {
                region: region.id,
                store,
                level,
                on: self.stores(),
            }),
            _ => Ok(()),
        }
    }

    fn check_up(&self, store: StoreId) -> Result<(), ManualRefusal> {
        match self.view.store_state(store, self.settings, self.now) {
            StoreState::Up => Ok(()),
            state => Err(ManualRefusal::StoreNotUp { store, state }),
        }
    }

    fn is_healthy(&self, peer: Peer) -> bool {
        is_healthy(self.view, self.region, peer, self.settings, self.now)
    }

    fn stores(&self) -> Vec<StoreId> {
        let peers = &self.region.region.peers;
        peers.iter().map(|peer| peer.store).collect()
    }

    fn reason(&self) -> Reason {
        let facts = [
            ("wanted", self.view.replicas_wanted as usize),
            ("voters", self.region.voters().count()),
        ];
        Reason {
            rule: Rule::Manual,
            facts: Fact::list(facts.map(|(name, value)| (name, value as u64))),
            chosen: None,
            losers: Vec::new(),
            neighbours: Vec::new(),
        }
    }
}
