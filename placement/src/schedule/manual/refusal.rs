//! What is said to wishes that do not fit.

use std::fmt;

use bytes::Bytes;
use thiserror::Error;
use tinykv_raft::{GroupId, PeerId};
use tinykv_replica::StoreId;

use super::SPLIT_KEYS_MAX;
use crate::schedule::Rule;
use crate::schedule::operator::PEERS_MAX;
use crate::state::Level;
use crate::view::StoreState;

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
    /// Its leaders are evicted.
    #[error(
        "store {store} is to lead nothing: name another store, or end that with \
         `store cancel-evict-leader`"
    )]
    Evicted {
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
    /// The settings want replicas farther apart.
    #[error(
        "store {store} is too close to another replica of region {region} for isolation_level \
         {level}: name a store elsewhere, or change that setting (the region is on {})",
        Stores(on)
    )]
    TooClose {
        /// The region.
        region: GroupId,
        /// The store asked for.
        store: StoreId,
        /// The level on which replicas are to be apart.
        level: Level,
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
    /// It is not what it is to be yet; first things first.
    #[error(
        "region {region} has {voters} of {wanted} voters: ask again when it has exactly \
         these, which is being seen to"
    )]
    Incomplete {
        /// The region.
        region: GroupId,
        /// What it has.
        voters: usize,
        /// What it is to have.
        wanted: u32,
    },
    /// D6: first things first.
    #[error(
        "peer {peer} of region {region} on store {store} is damaged: ask again when it is \
         replaced, which is being seen to"
    )]
    Damaged {
        /// The region.
        region: GroupId,
        /// Where the peer is.
        store: StoreId,
        /// Which.
        peer: PeerId,
    },
    /// A region cannot take in itself.
    #[error("region {region} cannot be merged with itself: name a region beside it")]
    WithItself {
        /// The region.
        region: GroupId,
    },
    /// Only neighbours can become one.
    #[error(
        "regions {region} and {target} are not neighbours: region {region} can be merged into {}",
        Regions(neighbours)
    )]
    NotNeighbours {
        /// The region.
        region: GroupId,
        /// The region asked for.
        target: GroupId,
        /// Those beside it.
        neighbours: Vec<GroupId>,
    },
    /// Scans of some clients end there.
    #[error(
        "the border {} between regions {region} and {target} is the edge of a keyspace, which \
         stays: name a region on the same side of it",
        Key(key)
    )]
    BorderStays {
        /// The region.
        region: GroupId,
        /// The region asked for.
        target: GroupId,
        /// The border.
        key: Bytes,
    },
    /// A merge needs everybody.
    #[error(
        "peer {peer} of region {region} on store {store} is down, behind or only learning: ask \
         again when it is well, for a merge needs all peers of both regions"
    )]
    Unwell {
        /// The region.
        region: GroupId,
        /// Where the peer is.
        store: StoreId,
        /// Which.
        peer: PeerId,
    },
    /// More than a setting says.
    #[error(
        "regions {region} and {target} have {bytes} bytes together, more than merged_mib_max \
         allows ({max_bytes} bytes): merge smaller ones, or raise it"
    )]
    TooLarge {
        /// The region.
        region: GroupId,
        /// The region asked for.
        target: GroupId,
        /// What they have together.
        bytes: u64,
        /// What a merged region may have.
        max_bytes: u64,
    },
    /// Stores would split it again.
    #[error(
        "regions {region} and {target} have {bytes} bytes together, and a store splits regions of \
         {split_bytes} bytes: merge what has two thirds of that together, or start the stores with \
         a larger --region-split-size"
    )]
    WouldBeSplit {
        /// The region.
        region: GroupId,
        /// The region asked for.
        target: GroupId,
        /// What they have together.
        bytes: u64,
        /// From how many bytes on a store splits a region.
        split_bytes: u64,
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

/// The longest part of a key that a sentence shows, in bytes.
const SHOWN_BYTES_MAX: usize = 48;

/// A key in a sentence: printable bytes as they are, others as `\xNN`; long ones cut.
struct Key<'a>(&'a Bytes);

impl fmt::Display for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.0[..self.0.len().min(SHOWN_BYTES_MAX)];
        let more = if shown.len() < self.0.len() {
            "…"
        } else {
            ""
        };
        write!(f, "`{}{more}`", shown.escape_ascii())
    }
}

/// `stores 1, 2 and 3`.
struct Stores<'a>(&'a [StoreId]);

impl fmt::Display for Stores<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        name_all(f, "store", "stores", self.0)
    }
}

/// `regions 1 and 2`.
struct Regions<'a>(&'a [GroupId]);

impl fmt::Display for Regions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        name_all(f, "region", "regions", self.0)
    }
}

fn name_all(
    f: &mut fmt::Formatter<'_>,
    one: &str,
    many: &str,
    ids: &[impl fmt::Display],
) -> fmt::Result {
    match ids {
        [] => write!(f, "no {one}"),
        [only] => write!(f, "{one} {only}"),
        [first, rest @ .., last] => {
            write!(f, "{many} {first}")?;
            for id in rest {
                write!(f, ", {id}")?;
            }
            write!(f, " and {last}")
        }
    }
}
