//! What placement must never do, whoever leads it.

use std::collections::BTreeMap;
use std::ops::Range;

use tinykv_placement::schedule::{Change, Order};
use tinykv_placement::state::State;
use tinykv_placement::timestamps::Timestamp;
use tinykv_raft::{GroupId, Term};
use tinykv_replica::{PeerRole, Region, RegionEpoch, StoreId};

/// All that was ever handed out and shown.
#[derive(Debug, Default)]
pub(super) struct Placement {
    /// Above all ids handed out.
    next_id: u64,
    drawn: Option<(Term, Timestamp)>,
    /// When timestamps were received, and the largest by then.
    received: Vec<(u64, u64)>,
    leaderships: u64,
    /// The epoch a region was last shown at.
    shown: BTreeMap<GroupId, RegionEpoch>,
    /// The epochs of the routes of each member, in this life of it.
    routes: BTreeMap<StoreId, BTreeMap<GroupId, RegionEpoch>>,
}

impl Placement {
    /// M9: ids rise in the order in which they are handed out, so none is handed out twice, and a
    /// younger peer has a higher id than an elder one (which M7 rests on).
    pub(super) fn on_ids(&mut self, ids: Range<u64>) -> Result<(), String> {
        if ids.start < self.next_id {
            return Err(format!(
                "M9: ids {ids:?} are handed out after others below {}",
                self.next_id
            ));
        }
        self.next_id = ids.end;
        Ok(())
    }

    /// M9: timestamps rise over all leaderships. Says whether the leadership is another one than
    /// that of the last timestamps.
    pub(super) fn on_drawn(
        &mut self,
        term: Term,
        last: Timestamp,
        count: u32,
    ) -> Result<bool, String> {
        let first = last.version() - u64::from(count - 1);
        let before = self.drawn.replace((term, last));
        match before {
            Some((of, served)) if served.version() >= first => Err(format!(
                "M9: term {term} serves timestamps from {first} to {last:?} after term {of} \
                 served {served:?}"
            )),
            Some((of, _)) => Ok(of != term),
            None => Ok(false),
        }
    }

    /// M9: whoever asks after somebody else was answered gets larger timestamps. Times are those
    /// of the history.
    pub(super) fn on_received(
        &mut self,
        asked: u64,
        now: u64,
        last: Timestamp,
        count: u32,
    ) -> Result<(), String> {
        let first = last.version() - u64::from(count - 1);
        let before = self.received.partition_point(|(at, _)| *at <= asked);
        let known = self.received[..before].last().map_or(0, |(_, last)| *last);
        if before > 0 && known >= first {
            return Err(format!(
                "M9: asked at {asked}, {first} to {last:?} was answered, and {known} before that"
            ));
        }
        let largest = self.received.last().map_or(0, |(_, largest)| *largest);
        self.received.push((now, largest.max(last.version())));
        Ok(())
    }

    /// Says whether there was a leadership before.
    pub(super) fn on_leadership(&mut self) -> bool {
        self.leaderships += 1;
        self.leaderships > 1
    }

    /// M8: what is shown of a region never gets older.
    pub(super) fn on_shown(&mut self, region: &Region) -> Result<(), String> {
        let shown = self.shown.entry(region.id).or_insert(region.epoch);
        if region.epoch.is_behind(*shown) {
            return Err(format!(
                "M8: region {} was shown at epoch {shown} and now at {}",
                region.id, region.epoch
            ));
        }
        *shown = region.epoch;
        Ok(())
    }

    /// A member begins anew: what it had applied and not flushed it will apply again.
    pub(super) fn on_restart(&mut self, member: StoreId) {
        self.routes.remove(&member);
    }

    /// M1: no two routes of a member overlap. M8: none of them gets older.
    pub(super) fn on_routes(&mut self, state: &State, member: StoreId) -> Result<(), String> {
        let routes: Vec<&Region> = state.routes().from(b"").collect();
        if let Some(pair) = routes.windows(2).find(|pair| pair[0].overlaps(pair[1])) {
            return Err(format!(
                "M1: member {member} has overlapping routes {pair:?}"
            ));
        }
        let known = self.routes.entry(member).or_default();
        for region in routes {
            let before = known.insert(region.id, region.epoch);
            if before.is_some_and(|before| region.epoch.is_behind(before)) {
                return Err(format!(
                    "M8: member {member} goes back from epoch {before:?} to {region:?}"
                ));
            }
        }
        Ok(())
    }

    /// M10: nobody is ordered away whom the region needs.
    pub(super) fn on_order(&self, state: &State, order: &Order) -> Result<(), String> {
        let (removed, promoted) = match &order.change {
            Change::Remove(peer) => (std::slice::from_ref(peer), 0),
            Change::Joint { promote, remove } => (remove.as_slice(), promote.len()),
            _ => return Ok(()),
        };
        let Some(region) = state.routes().region(order.region) else {
            return Ok(());
        };
        let goes = |id| removed.iter().any(|peer| peer.id == id);
        let staying = region.peers.iter();
        let staying = staying.filter(|other| !goes(other.id) && other.role == PeerRole::Voter);
        let voters = staying.count() + promoted;
        // A leader takes part in its own removal only if another voter comes for it.
        match voters == 0 || (goes(order.leader.id) && promoted == 0) {
            true => Err(format!(
                "M10: {order:?} would remove the leader or the last voter of {region:?}"
            )),
            false => Ok(()),
        }
    }
}
