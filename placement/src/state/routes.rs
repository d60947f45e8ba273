//! Which region holds which key, without overlaps (M1).
//!
//! The newest description of a range wins, by its epoch and never by its time of arrival (M8): a
//! description is outdated if either half of the known epoch of its region is above its own, or
//! if its version is not above that of another region it overlaps. Legitimate successors always
//! raise the version (WIRE A4), so an equal one with another id is somebody else's cluster or the
//! loser of a bootstrap, and is refused, too.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use tinykv_mutants::{Mutant, planted};
use tinykv_raft::GroupId;
use tinykv_replica::Region;

use super::command::Refusal;

/// The regions as last reported, by id and by key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routes {
    /// All regions.
    by_id: BTreeMap<GroupId, Region>,
    /// Start keys of all regions; the ranges between start and end do not overlap.
    by_start: BTreeMap<Bytes, GroupId>,
}

/// What [`Routes::insert`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replaced {
    /// Regions that are gone because the new one covers part of them.
    pub removed: Vec<GroupId>,
    /// Whether the new region differs from what was known.
    pub changed: bool,
}

impl Routes {
    /// How many regions are known.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// A region by its id.
    pub fn region(&self, id: GroupId) -> Option<&Region> {
        self.by_id.get(&id)
    }

    /// All regions by id.
    pub fn regions(&self) -> impl Iterator<Item = &Region> {
        self.by_id.values()
    }

    /// The region whose stored bounds contain the key.
    pub fn at(&self, key: &[u8]) -> Option<&Region> {
        let (_, id) = self
            .by_start
            .range::<[u8], _>((Bound::Unbounded, Bound::Included(key)))
            .next_back()?;
        let region = self.by_id.get(id)?;
        region.contains(key).then_some(region)
    }

    /// The last region that starts below the key.
    pub fn before(&self, key: &[u8]) -> Option<&Region> {
        let (_, id) = self
            .by_start
            .range::<[u8], _>((Bound::Unbounded, Bound::Excluded(key)))
            .next_back()?;
        self.by_id.get(id)
    }

    /// Regions in key order, from the one that contains `key` (or the first after it).
    pub fn from(&self, key: &[u8]) -> impl Iterator<Item = &Region> {
        let first = self.at(key).map_or_else(
            || Bytes::copy_from_slice(key),
            |region| region.start.clone(),
        );
        self.by_start
            .range(first..)
            .filter_map(|(_, id)| self.by_id.get(id))
    }

    /// Says whether `region` may replace what is known, and why not.
    pub fn check(&self, region: &Region) -> Result<(), Refusal> {
        check_shape(region)?;
        if let Some(known) = self.by_id.get(&region.id) {
            let (new, old) = (region.epoch, known.epoch);
            if new.is_behind(old) && !planted(Mutant::StaleHeartbeatTaken) {
                return Err(stale(
                    region,
                    format!("epoch {old} is known, this is {new}"),
                ));
            }
            if new == old && region != known {
                return Err(stale(
                    region,
                    format!("epoch {old} is known with another range or other peers"),
                ));
            }
        }
        for other in self.overlapping(region) {
            if other.id != region.id && other.epoch.version >= region.epoch.version {
                return Err(stale(
                    region,
                    format!(
                        "region {} holds part of its range at epoch {}, this is {}",
                        other.id, other.epoch, region.epoch
                    ),
                ));
            }
        }
        Ok(())
    }

    /// Puts a region that passed [`Routes::check`] in the place of what it overlaps.
    pub fn insert(&mut self, region: Region) -> Replaced {
        let mut replaced = Replaced::default();
        if self.by_id.get(&region.id) == Some(&region) {
            return replaced;
        }
        replaced.changed = true;
        let gone: Vec<GroupId> = self.overlapping(&region).map(|other| other.id).collect();
        for id in gone {
            self.remove(id);
            if id != region.id {
                replaced.removed.push(id);
            }
        }
        self.remove(region.id);
        self.by_start.insert(region.start.clone(), region.id);
        self.by_id.insert(region.id, region);
        replaced
    }

    fn remove(&mut self, id: GroupId) {
        if let Some(old) = self.by_id.remove(&id) {
            self.by_start.remove(&old.start);
        }
    }

    fn overlapping(&self, region: &Region) -> impl Iterator<Item = &Region> {
        let end = region.end.clone();
        self.from(&region.start)
            .take_while(move |other| end.is_empty() || other.start < end)
    }
}

/// What every description of a region must have, wherever it comes from.
pub(crate) fn check_shape(region: &Region) -> Result<(), Refusal> {
    let bad = |what: String| Refusal::BadRegion {
        region: region.id,
        what,
    };
    if region.id.0 == 0 {
        return Err(bad("its id is 0".into()));
    }
    if !region.end.is_empty() && region.start >= region.end {
        return Err(bad("its range is empty".into()));
    }
    if region.epoch.version == 0 || region.epoch.conf_ver == 0 {
        return Err(bad("its epoch is not set".into()));
    }
    if region.peers.is_empty() {
        return Err(bad("it has no peers".into()));
    }
    for (position, peer) in region.peers.iter().enumerate() {
        if peer.id.0 == 0 || peer.store.0 == 0 {
            return Err(bad("a peer lacks its id or its store".into()));
        }
        let earlier = &region.peers[..position];
        if earlier
            .iter()
            .any(|other| other.id == peer.id || other.store == peer.store)
        {
            return Err(bad(format!(
                "peer {} on store {} is there twice",
                peer.id, peer.store
            )));
        }
    }
    Ok(())
}

fn stale(region: &Region, what: String) -> Refusal {
    Refusal::StaleRegion {
        region: region.id,
        what,
    }
}
