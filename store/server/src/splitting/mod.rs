//! Splits of the regions led here: asked for by placement, by a client, or by their size.
//!
//! All three go one way ([`Splitter::split`]): the keys are checked or found, placement gives the
//! ids of the new regions and peers, the leader carries the split out, placement is told of all
//! parts at once. One split of a region is under way at a time. Nothing here retries: placement
//! repeats its orders, a region that is too large is looked at again.
//!
//! * [`middle`]: a key that leaves about half of a region on either side.
//! * [`sizes`]: which regions have grown too large.

pub mod middle;
pub mod sizes;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tinykv_keys::{Asker, RoutingKey};
use tinykv_lsm::LsmError;
use tinykv_node::handle::NodeHandle;
use tinykv_proto::{metapb, pdpb};
use tinykv_raft::{GroupId, PeerId};
use tinykv_replica::{AdminAction, Answer, Doubt, Outcome, Refusal, Region, RegionEpoch, SplitIds};

use crate::machine::RawMachine;
use crate::placement::{CallError, Placement};
use crate::reporting::News;
use crate::service::region_to_proto;
use crate::space;

pub use pdpb::SplitReason;

/// Keys one split takes, as the leader allows.
pub const KEYS_MAX: usize = 64;

/// Time the leader has to carry out a split.
const SPLIT_TIME_MAX: Duration = Duration::from_secs(10);

/// Where a region is to be split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Places {
    /// Before these routing keys, in any order.
    At(Vec<Bytes>),
    /// About in the middle of its bytes.
    Middle,
}

/// Why a region was not split.
#[derive(Clone, Debug, thiserror::Error)]
pub enum NotSplit {
    /// An earlier wish is being fulfilled.
    #[error("a split of this region is under way")]
    UnderWay,
    /// No leader of the region lives here.
    #[error("the region is not led from this store")]
    NotLed,
    /// The region has changed since the wish was made.
    #[error("the region has changed since")]
    EpochNotMatch(Arc<Region>),
    /// Nothing to split at.
    #[error("no split key is named; name at least one")]
    NoKey,
    /// See [`KEYS_MAX`].
    #[error("{0} split keys are named, {KEYS_MAX} are allowed at once")]
    TooManyKeys(usize),
    /// A key of another region.
    #[error("the split key `{key}` lies outside the region {bounds}; name a key inside")]
    KeyOutside {
        /// The routing key.
        key: RoutingKey,
        /// The region's bounds.
        bounds: String,
    },
    /// A key at which the region begins or ends already.
    #[error("the split key `{key}` is a border of the region {bounds}; name a key between them")]
    KeyAtBorder {
        /// The routing key.
        key: RoutingKey,
        /// The region's bounds.
        bounds: String,
    },
    /// No key leaves something on either side.
    #[error("the region holds too little to be split in the middle; name a key")]
    NoMiddle,
    /// The engine could not read.
    #[error("the middle of the region cannot be read: {0}")]
    Engine(LsmError),
    /// Placement gave no ids.
    #[error("{0}")]
    Placement(CallError),
    /// Placement gave ids that fit nothing.
    #[error("the placement driver gave ids for {given} new regions instead of {asked}")]
    Ids {
        /// How many were asked for.
        asked: usize,
        /// How many came.
        given: usize,
    },
    /// The leader refused.
    #[error("the region's leader refused: {0:?}")]
    Refused(Refusal),
    /// Nobody knows; heartbeats will show it.
    #[error("the split may or may not have happened: {0:?}")]
    Undetermined(Doubt),
    /// The process goes down.
    #[error("the store is being shut down")]
    GoingDown,
}

impl NotSplit {
    /// Whether it is worth an operator's attention: what was asked for will never work.
    fn is_hopeless(&self) -> bool {
        matches!(
            self,
            NotSplit::NoKey
                | NotSplit::TooManyKeys(_)
                | NotSplit::KeyOutside { .. }
                | NotSplit::KeyAtBorder { .. }
                | NotSplit::NoMiddle
                | NotSplit::Engine(_)
                | NotSplit::Ids { .. }
                | NotSplit::Refused(Refusal::Split(_))
        )
    }
}

/// Splits the regions led here.
pub struct Splitter {
    node: NodeHandle<RawMachine>,
    placement: Arc<Placement>,
    news: Arc<News>,
    under_way: Mutex<BTreeSet<GroupId>>,
    /// The last hopeless wish of each region, so that a repeated order is logged once.
    complained: Mutex<BTreeMap<GroupId, String>>,
}

/// Held while a split of a region is under way.
struct UnderWay<'a> {
    splitter: &'a Splitter,
    group: GroupId,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.splitter.under_way.lock().remove(&self.group);
    }
}

impl Splitter {
    /// Nothing is under way.
    pub fn new(
        node: NodeHandle<RawMachine>,
        placement: Arc<Placement>,
        news: Arc<News>,
    ) -> Splitter {
        Splitter {
            node,
            placement,
            news,
            under_way: Mutex::default(),
            complained: Mutex::default(),
        }
    }

    /// Splits a region; all its parts from left to right. `epoch` is the epoch, as a whole, for
    /// which the wish was made.
    pub async fn split(
        &self,
        group: GroupId,
        epoch: Option<RegionEpoch>,
        places: Places,
        reason: SplitReason,
    ) -> Result<Vec<Arc<Region>>, NotSplit> {
        let _under_way = self.begin(group)?;
        let region = self.led_region(group)?;
        if epoch.is_some_and(|epoch| epoch != region.epoch) {
            return Err(NotSplit::EpochNotMatch(region));
        }
        let keys = match places {
            Places::At(keys) => checked(&region, keys)?,
            Places::Middle => vec![self.middle(&region).await?],
        };
        let ids = self.ids(&region, keys.len(), reason).await?;
        let action = AdminAction::Split {
            epoch: region.epoch,
            keys,
            ids,
        };
        let deadline = self.node.now() + SPLIT_TIME_MAX;
        let parts = match self.node.admin(group, action, deadline).await {
            Outcome::Ok(Answer::Split(parts)) => parts,
            Outcome::Ok(_) => unreachable!("a split is answered by its parts"),
            Outcome::DefinitelyNot(refusal) => return Err(NotSplit::Refused(refusal)),
            Outcome::Undetermined(doubt) => {
                self.news.note(group);
                return Err(NotSplit::Undetermined(doubt));
            }
        };
        tracing::info!(%group, parts = parts.len(), ?reason, "split");
        self.complained.lock().remove(&group);
        self.report(&parts).await;
        Ok(parts)
    }

    /// Logs why a region was not split: a hopeless wish once, however often it is repeated.
    pub fn complain(&self, group: GroupId, problem: &NotSplit) {
        let sentence = problem.to_string();
        if !problem.is_hopeless() {
            tracing::debug!(%group, "not split: {sentence}");
            return;
        }
        let before = self.complained.lock().insert(group, sentence.clone());
        if before.as_ref() != Some(&sentence) {
            tracing::warn!(%group, "not split: {sentence}");
        }
    }

    fn begin(&self, group: GroupId) -> Result<UnderWay<'_>, NotSplit> {
        match self.under_way.lock().insert(group) {
            true => Ok(UnderWay {
                splitter: self,
                group,
            }),
            false => Err(NotSplit::UnderWay),
        }
    }

    fn led_region(&self, group: GroupId) -> Result<Arc<Region>, NotSplit> {
        let entry = self.node.directory().group(group).ok_or(NotSplit::NotLed)?;
        let view = entry.view();
        match &view.state {
            Some(state) if view.leads => Ok(Arc::new(state.region.clone())),
            _ => Err(NotSplit::NotLed),
        }
    }

    async fn middle(&self, region: &Arc<Region>) -> Result<Bytes, NotSplit> {
        let (lsm, region) = (self.node.lsm().clone(), Arc::clone(region));
        let found = self.node.pool().run(move || middle::key(&lsm, &region));
        match found.await {
            Ok(Ok(Some(key))) => Ok(Bytes::from(key.into_bytes())),
            Ok(Ok(None)) => Err(NotSplit::NoMiddle),
            Ok(Err(error)) => Err(NotSplit::Engine(error)),
            Err(_closed) => Err(NotSplit::GoingDown),
        }
    }

    async fn ids(
        &self,
        region: &Region,
        count: usize,
        reason: SplitReason,
    ) -> Result<Vec<SplitIds>, NotSplit> {
        let shown = shown(region);
        let asked = u32::try_from(count).expect("keys are limited");
        let given = self.placement.ask_batch_split(shown, asked, reason).await;
        let given = given.map_err(NotSplit::Placement)?;
        if given.len() != count {
            return Err(NotSplit::Ids {
                asked: count,
                given: given.len(),
            });
        }
        let ids = given.into_iter().map(|ids| SplitIds {
            region: GroupId(ids.new_region_id),
            peers: ids.new_peer_ids.into_iter().map(PeerId).collect(),
        });
        Ok(ids.collect())
    }

    /// Tells placement of all parts. If it does not hear this, heartbeats tell it.
    async fn report(&self, parts: &[Arc<Region>]) {
        let regions = parts.iter().map(|part| shown(part)).collect();
        if let Err(error) = self.placement.report_batch_split(regions).await {
            tracing::debug!("placement was not told of a split: {error}");
        }
        for part in parts {
            self.news.note(part.id);
        }
    }
}

fn shown(region: &Region) -> metapb::Region {
    region_to_proto(region, Asker::Stored).expect("as it is stored no region is empty")
}

/// The keys in order, each strictly inside the region.
fn checked(region: &Region, keys: Vec<Bytes>) -> Result<Vec<Bytes>, NotSplit> {
    let keys: Vec<Bytes> = BTreeSet::from_iter(keys).into_iter().collect();
    match keys.len() {
        0 => return Err(NotSplit::NoKey),
        1..=KEYS_MAX => {}
        count => return Err(NotSplit::TooManyKeys(count)),
    }
    let bounds = space::bounds(region);
    for key in &keys {
        let key = RoutingKey::from_stored(key.as_ref());
        if bounds.can_split_at(&key) {
            continue;
        }
        let at_border = key.as_bytes() == bounds.start || key.as_bytes() == bounds.end;
        let bounds = bounds.to_string();
        return Err(match at_border {
            true => NotSplit::KeyAtBorder { key, bounds },
            false => NotSplit::KeyOutside { key, bounds },
        });
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(start: &'static [u8], end: &'static [u8]) -> Region {
        Region {
            id: GroupId(7),
            start: Bytes::from_static(start),
            end: Bytes::from_static(end),
            ..Region::default()
        }
    }

    fn sentence(start: &'static [u8], end: &'static [u8], keys: &[&'static [u8]]) -> String {
        let keys = keys.iter().map(|key| Bytes::from_static(key)).collect();
        match checked(&region(start, end), keys) {
            Ok(keys) => format!("{keys:?}"),
            Err(refused) => {
                assert!(refused.is_hopeless(), "{refused}");
                refused.to_string()
            }
        }
    }

    #[test]
    fn keys_are_sorted_and_lie_strictly_inside() {
        assert_eq!(
            sentence(b"b", b"d", &[b"c", b"bb", b"c"]),
            r#"[b"bb", b"c"]"#
        );
        assert_eq!(sentence(b"", b"", &[b"c"]), r#"[b"c"]"#);
        assert_eq!(
            sentence(b"b", b"d", &[]),
            "no split key is named; name at least one"
        );
        assert_eq!(
            sentence(b"b", b"d", &[b"c", b"b"]),
            "the split key `b` is a border of the region [b, d); name a key between them"
        );
        assert_eq!(
            sentence(b"b", b"d", &[b"d"]),
            "the split key `d` is a border of the region [b, d); name a key between them"
        );
        assert_eq!(
            sentence(b"b", b"", &[b"a\xFF"]),
            r"the split key `a\xff` lies outside the region [b, ∞); name a key inside"
        );
        assert_eq!(
            sentence(b"", b"d", &[b""]),
            "the split key `` is a border of the region [, d); name a key between them"
        );
        let many: Vec<Bytes> = (0..65_u8)
            .map(|byte| Bytes::from(vec![b'c', byte]))
            .collect();
        assert_eq!(
            checked(&region(b"b", b"d"), many)
                .expect_err("too many")
                .to_string(),
            "65 split keys are named, 64 are allowed at once"
        );
    }
}
