//! One region, and the points of the key space by which a route is looked for.

use std::fmt;

use bytes::Bytes;
use tinykv_keys::Bounds;

use super::{PeerId, RegionId, StoreId};

/// Tells an older picture of a region from a newer one. Both halves only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Epoch {
    /// Raised by membership changes.
    pub conf_ver: u64,
    /// Raised by splits and merges.
    pub version: u64,
}

impl Epoch {
    /// Whether this picture is older than the other in either half.
    pub fn is_behind(self, other: Epoch) -> bool {
        self.conf_ver < other.conf_ver || self.version < other.version
    }
}

/// A replica of a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its id.
    pub id: PeerId,
    /// The store that holds it.
    pub store: StoreId,
    /// Whether it can lead: learners cannot.
    pub votes: bool,
}

/// A region and whom to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The region.
    pub region: RegionId,
    /// How new this picture is.
    pub epoch: Epoch,
    /// First key.
    pub start: Bytes,
    /// First key after the region; empty means that there is none.
    pub end: Bytes,
    /// The replicas, in the order they were told.
    pub peers: Vec<Peer>,
    /// Who leads, if that is known; always one of `peers`.
    pub leader: Option<PeerId>,
}

impl Route {
    /// The bounds.
    pub fn bounds(&self) -> Bounds<'_> {
        Bounds::new(&self.start, &self.end)
    }

    /// Whether the region contains the point.
    pub fn contains(&self, point: &Point) -> bool {
        match point {
            Point::At(key) => self.bounds().contains(key),
            Point::Below(limit) if limit.is_empty() => self.end.is_empty(),
            Point::Below(limit) => {
                self.start < *limit && (self.end.is_empty() || *limit <= self.end)
            }
        }
    }

    /// One of the replicas.
    pub fn peer(&self, id: PeerId) -> Option<Peer> {
        self.peers.iter().copied().find(|peer| peer.id == id)
    }
}

/// `region 5 (epoch 1/3)`, the epoch as conf_ver/version.
impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Epoch { conf_ver, version } = self.epoch;
        write!(f, "region {} (epoch {conf_ver}/{version})", self.region)
    }
}

/// By what a region is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Point {
    /// The region that contains this key.
    At(Bytes),
    /// The region that contains the keys just below this one; empty: the last region.
    Below(Bytes),
}
