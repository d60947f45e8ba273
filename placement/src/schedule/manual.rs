//! What operators ask for by hand, checked at once.
//!
//! A wish becomes a decision with the rule [`Rule::Manual`] or a refusal whose sentence says what
//! would be right. While its operator is under way nothing else is planned for the region; after
//! it has ended the rules leave the region alone for [`HANDS_OFF`], as long as all its voters are
//! healthy, so that nothing asked for by hand is undone within seconds.

use std::time::Duration;

use bytes::Bytes;
use thiserror::Error;
use tinykv_raft::{GroupId, PeerId};
use tinykv_replica::{Peer, PeerRole, StoreId};

use super::reason::{Fact, Reason, Rule};
use super::safety::{is_healthy, may_remove};
use super::{Action, Decision};
use crate::state::Settings;
use crate::view::{ClusterView, RegionView, StoreState};

/// For so long after a hand-made operator has ended no rule touches its region, unless one of its
/// voters is not healthy.
pub const HANDS_OFF: Duration = Duration::from_secs(60);

/// Keys of one split, as many as the leader of a region carries out at once.
pub const SPLIT_KEYS_MAX: usize = 64;

/// The longest split key in bytes: above the routing key of the longest key there may be.
const SPLIT_KEY_BYTES_MAX: usize = 128 << 10;

/// Peers of a region that may be asked for by hand.
const PEERS_MAX: usize = 7;

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
}

/// Why a wish cannot be fulfilled. `Display` is one sentence that says what would be right.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ManualRefusal {
    /// No such region.
    #[error("region {region} is not known: list the regions for those that are")]
    UnknownRegion {
        /// The id asked for.
        region: GroupId,
    },
    /// Something is being done there already.
    #[error(
        "region {region} is busy: operator {operator} ({kind}, {rule}) is at work on it; wait for \
         it or cancel it"
    )]
    Busy {
        /// The region.
        region: GroupId,
        /// The operator at work.
        operator: u64,
        /// What it does.
        kind: &'static str,
        /// Why it does.
        rule: Rule,
    },
    /// Nobody could carry it out.
    #[error("region {region} has no known leader now: ask again once it has one")]
    NoLeader {
        /// The region.
        region: GroupId,
    },
    /// A change of membership is half-way.
    #[error("region {region} is changing its members: ask again once that is over")]
    Joint {
        /// The region.
        region: GroupId,
    },
    /// More keys than one split takes.
    #[error("a split takes at most {SPLIT_KEYS_MAX} keys at once, not {count}")]
    TooManyKeys {
        /// How many there were.
        count: usize,
    },
    /// The key belongs to another region.
    #[error(
        "key {} lies outside region {region}: split the region that contains it",
        Key(key)
    )]
    KeyOutside {
        /// The region.
        region: GroupId,
        /// The key.
        key: Bytes,
    },
    /// Longer than any key that is stored.
    #[error("a split key of {bytes} bytes is longer than any key that is stored")]
    KeyTooLong {
        /// How long it is.
        bytes: usize,
    },
    /// A part would be empty.
    #[error(
        "key {} is a border of region {region} already: a split key lies strictly inside",
        Key(key)
    )]
    KeyAtBorder {
        /// The region.
        region: GroupId,
        /// The key.
        key: Bytes,
    },
    /// A part would be empty.
    #[error("key {} is given twice: name each split key once", Key(key))]
    KeyTwice {
        /// The key.
        key: Bytes,
    },
    /// The keys are in no order.
    #[error(
        "key {} follows a larger one: give split keys in ascending order",
        Key(key)
    )]
    KeysNotAscending {
        /// The smaller, later one.
        key: Bytes,
    },
    /// No such store.
    #[error("store {store} does not exist: list the stores for those that do")]
    UnknownStore {
        /// The id asked for.
        store: StoreId,
    },
    /// The store takes nothing now.
    #[error("store {store} is {state}: name a store that is up")]
    StoreNotUp {
        /// Which.
        store: StoreId,
        /// How it is.
        state: StoreState,
    },
    /// The store says that it goes down.
    #[error("store {store} is shutting down: name a store that stays up")]
    StoreStopping {
        /// Which.
        store: StoreId,
    },
    /// One peer per store.
    #[error(
        "store {store} has peer {peer} of region {region} already: name a store that has none \
         (the region is on {})",
        Stores(on)
    )]
    HasPeer {
        /// The region.
        region: GroupId,
        /// The store asked for.
        store: StoreId,
        /// Who is there.
        peer: PeerId,
        /// Where the region is.
        on: Vec<StoreId>,
    },
    /// There is nothing to move, remove or lead.
    #[error(
        "store {store} has no peer of region {region}: it is on {}",
        Stores(on)
    )]
    HasNoPeer {
        /// The region.
        region: GroupId,
        /// The store asked for.
        store: StoreId,
        /// Where the region is.
        on: Vec<StoreId>,
    },
    /// It is so already.
    #[error("peer {peer} on store {store} leads region {region} already: name another store")]
    LeadsAlready {
        /// The region.
        region: GroupId,
        /// The store asked for.
        store: StoreId,
        /// The leader.
        peer: PeerId,
    },
    /// Only a caught-up voter can lead.
    #[error(
        "peer {peer} on store {store} cannot lead region {region} now: it is not a caught-up voter"
    )]
    Unfit {
        /// The region.
        region: GroupId,
        /// The store asked for.
        store: StoreId,
        /// The peer there.
        peer: PeerId,
    },
    /// A bound on peers.
    #[error("region {region} has {PEERS_MAX} peers, the most there may be: remove one first")]
    TooManyPeers {
        /// The region.
        region: GroupId,
    },
    /// M10.
    #[error(
        "region {region} needs its voter on store {store}: without it {left} of {wanted} wanted \
         voters would be left, {healthy} of them healthy; add a peer elsewhere first, or move this one"
    )]
    Needed {
        /// The region.
        region: GroupId,
        /// The store asked for.
        store: StoreId,
        /// Voters that would be left.
        left: usize,
        /// Of them, healthy ones.
        healthy: usize,
        /// Voters the region should have.
        wanted: u32,
    },
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
            case.check_target(*to)?;
            if region.region.peers.len() >= PEERS_MAX {
                return Err(ManualRefusal::TooManyPeers { region: id });
            }
            Action::AddReplica { to: *to }
        }
        Manual::RemovePeer { from } => case.remove(*from)?,
        Manual::MovePeer { from, to } => {
            let old = case.peer_on(*from)?;
            case.check_target(*to)?;
            Action::ReplaceReplica {
                old: old.id,
                from: *from,
                to: *to,
            }
        }
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
        Ok(Action::Split {
            keys: keys.to_vec(),
        })
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

    /// Whether a new peer may go to the store.
    fn check_target(&self, store: StoreId) -> Result<(), ManualRefusal> {
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
        Ok(())
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
            facts: facts
                .map(|(name, value)| Fact {
                    name,
                    value: value as u64,
                })
                .to_vec(),
            chosen: None,
            losers: Vec::new(),
        }
    }
}

/// The longest part of a key that a sentence shows, in bytes.
const SHOWN_BYTES_MAX: usize = 64;

/// A key in a sentence: as text if it is plain, else hexadecimal; long ones cut.
struct Key<'a>(&'a Bytes);

impl std::fmt::Display for Key<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = &self.0[..self.0.len().min(SHOWN_BYTES_MAX)];
        match std::str::from_utf8(shown) {
            Ok(text) if !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic()) => {
                write!(f, "`{text}`")?;
            }
            _ => {
                f.write_str("0x")?;
                for byte in shown {
                    write!(f, "{byte:02x}")?;
                }
            }
        }
        if shown.len() < self.0.len() {
            f.write_str("…")?;
        }
        Ok(())
    }
}

/// `stores 1, 2 and 3`.
struct Stores<'a>(&'a [StoreId]);

impl std::fmt::Display for Stores<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            [] => f.write_str("no store"),
            [only] => write!(f, "store {only}"),
            [first, rest @ .., last] => {
                write!(f, "stores {first}")?;
                for store in rest {
                    write!(f, ", {store}")?;
                }
                write!(f, " and {last}")
            }
        }
    }
}
