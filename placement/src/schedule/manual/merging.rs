//! Wishes to merge.

use tinykv_keys::is_bootstrap_edge;
use tinykv_raft::GroupId;
use tinykv_replica::PeerRole;

use super::{Case, ManualRefusal, check_free};
use crate::schedule::Action;
use crate::schedule::merging::{border, moves, splits, stays_whole, together};
use crate::schedule::safety::{first_damaged, is_healthy};
use crate::view::RegionView;

impl Case<'_> {
    /// All peers of both regions have to be well, for all of the source has to reach all of them.
    pub(super) fn merge(&self, target: GroupId) -> Result<Action, ManualRefusal> {
        let source = self.region;
        let region = source.region.id;
        if region == target {
            return Err(ManualRefusal::WithItself { region });
        }
        let neighbour = check_free(self.view, target)?;
        let Some(key) = border(&source.region, &neighbour.region) else {
            return Err(ManualRefusal::NotNeighbours {
                region,
                target,
                neighbours: self.neighbours(),
            });
        };
        if is_bootstrap_edge(key) {
            let key = key.clone();
            return Err(ManualRefusal::BorderStays {
                region,
                target,
                key,
            });
        }
        for known in [source, neighbour] {
            self.check_well(known)?;
        }
        let (bytes, _) = together(source, neighbour);
        let max_bytes = self.settings.merged_size_max();
        if bytes > max_bytes {
            return Err(ManualRefusal::TooLarge {
                region,
                target,
                bytes,
                max_bytes,
            });
        }
        let split_bytes = splits(self.view).size_bytes;
        if !stays_whole(bytes, split_bytes) {
            return Err(ManualRefusal::WouldBeSplit {
                region,
                target,
                bytes,
                split_bytes,
            });
        }
        let moves = moves(self.view, self.settings, &source.region, &neighbour.region);
        for (_, to) in moves {
            self.check_up(to)?;
        }
        Ok(Action::Merge { target })
    }

    /// The regions beside this one.
    fn neighbours(&self) -> Vec<GroupId> {
        let regions = self.view.regions.values().map(|known| &known.region);
        let beside = regions.filter(|other| border(&self.region.region, other).is_some());
        beside.map(|region| region.id).collect()
    }

    fn check_well(&self, known: &RegionView) -> Result<(), ManualRefusal> {
        let region = known.region.id;
        let (voters, wanted) = (known.voters().count(), self.view.replicas_wanted);
        if voters != wanted as usize {
            return Err(ManualRefusal::Incomplete {
                region,
                voters,
                wanted,
            });
        }
        if let Some(damaged) = first_damaged(self.view, known) {
            return Err(ManualRefusal::Damaged {
                region,
                store: damaged.store,
                peer: damaged.id,
            });
        }
        let mut peers = known.region.peers.iter();
        let unwell = peers.find(|peer| {
            peer.role != PeerRole::Voter
                || !is_healthy(self.view, known, **peer, self.settings, self.now)
        });
        match unwell {
            None => Ok(()),
            Some(peer) => Err(ManualRefusal::Unwell {
                region,
                store: peer.store,
                peer: peer.id,
            }),
        }
    }
}
