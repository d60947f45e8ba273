//! `SplitRegion`: a client names first keys of new regions.

use bytes::Bytes;
use tinykv_keys::RoutingKey;
use tinykv_proto::kvrpcpb as pb;
use tinykv_replica::{Refusal, Region};

use super::{Calls, convert};
use crate::checks::{RegionError, Target};
use crate::limits::Refused;
use crate::outcome;
use crate::space::Space;
use crate::splitting::{NotSplit, Places, SplitReason};

impl Calls {
    /// Splits a region before the keys of a request; the answer holds all its parts.
    pub(super) async fn answer_split_region(
        &self,
        request: &pb::SplitRegionRequest,
    ) -> pb::SplitRegionResponse {
        let context = request.context.as_ref();
        let target = convert::target(context);
        let asker = convert::space(context).unwrap_or(Space::Plain).asker();
        let told = |error| pb::SplitRegionResponse {
            region_error: Some(error),
            ..pb::SplitRegionResponse::default()
        };
        if let Err(error) = self.check_here(&target) {
            return told(convert::error_to_proto(&error, asker));
        }
        let keys = match routing_keys(request) {
            Ok(keys) => keys,
            Err(refused) => return told(convert::refusal_to_proto(refused.to_string())),
        };
        let (splitter, group) = (&self.shared.splitter, target.region);
        let places = Places::At(keys);
        let split = splitter.split(group, None, places, SplitReason::Admin);
        let parts = match split.await {
            Ok(parts) => parts,
            Err(problem) => {
                return told(match self.region_error(&problem, &target) {
                    Some(error) => convert::error_to_proto(&error, asker),
                    None => convert::refusal_to_proto(problem.to_string()),
                });
            }
        };
        let seen = |region: &Region| convert::region_to_proto(region, asker);
        pb::SplitRegionResponse {
            region_error: None,
            left: parts.first().and_then(|part| seen(part)),
            right: parts.last().and_then(|part| seen(part)),
            regions: parts.iter().filter_map(|part| seen(part)).collect(),
        }
    }

    /// What clients know how to act on.
    fn region_error(&self, problem: &NotSplit, target: &Target) -> Option<RegionError> {
        match problem {
            NotSplit::NotLed => self.check_here(target).err(),
            NotSplit::EpochNotMatch(region) => Some(self.epoch_not_match(target, region)),
            // It has a sentence of its own.
            NotSplit::Refused(Refusal::Split(_)) => None,
            NotSplit::Refused(refusal) => Some(self.refused(refusal.clone(), target)),
            NotSplit::Undetermined(doubt) => Some(outcome::undetermined(*doubt)),
            _ => None,
        }
    }
}

/// First keys of new regions, as a user knows them, as boundaries.
fn routing_keys(request: &pb::SplitRegionRequest) -> Result<Vec<Bytes>, Refused> {
    let space = convert::space(request.context.as_ref())?;
    let older = Some(&request.split_key).filter(|key| !key.is_empty());
    let keys = request.split_keys.iter().chain(older).map(|key| {
        let boundary = match (space, request.is_raw_kv) {
            (Space::Plain, true) => {
                space.check_key(key)?;
                RoutingKey::cut_before_raw(key)
            }
            (Space::Keyspace, _) => {
                space.check_bound(key)?;
                RoutingKey::of_encoded(key)
            }
            (Space::Plain, false) => RoutingKey::of_encoded(key),
        };
        Ok(Bytes::from(boundary.into_bytes()))
    });
    keys.collect()
}
