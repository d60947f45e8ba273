//! Splits as stores carry them out: ids before, routes after.

use tinykv_proto::pdpb;
use tinykv_replica::StoreId;
use tonic::Status;

use super::stores::check_sender;
use super::{Service, failure, refusal, unavailable};
use crate::convert::{region_from_proto, split_ids_to_proto};
use crate::schedule::SPLIT_KEYS_MAX;
use crate::state::Reply;

impl Service {
    /// Ids for the regions and peers a split will make. The region has to be as it is known or
    /// newer; whether the split is carried out is seen from the report, or never.
    pub(super) async fn split_ids(
        &self,
        message: pdpb::AskBatchSplitRequest,
    ) -> Result<pdpb::AskBatchSplitResponse, Status> {
        let leadership = self.lead().await?;
        let header = self.header(message.header.as_ref())?;
        let refuse = |header| {
            Ok(pdpb::AskBatchSplitResponse {
                header: Some(header),
                ..pdpb::AskBatchSplitResponse::default()
            })
        };
        let region = message
            .region
            .as_ref()
            .ok_or_else(|| "the request names no region".to_owned())
            .and_then(region_from_proto)
            .map_err(Status::invalid_argument)?;
        let count = message.split_count;
        if count == 0 || count as usize > SPLIT_KEYS_MAX {
            let sentence =
                format!("a split makes 1 to {SPLIT_KEYS_MAX} new regions at once, not {count}");
            return refuse(failure(header, pdpb::ErrorType::InvalidValue, sentence));
        }
        let checked = {
            let state = self.desk().group().state().read();
            check_party(&state, message.header.as_ref(), &region)
                .map(|()| state.check_split(&region))
        };
        match checked {
            Err((kind, sentence)) => return refuse(failure(header, kind, sentence)),
            Ok(Err(reason)) => return refuse(refusal(header, &reason)),
            Ok(Ok(())) => {}
        }
        let peers = region.peers.len();
        let wanted = count.saturating_mul(u32::try_from(peers + 1).unwrap_or(u32::MAX));
        let taken = self.desk().take_ids(&leadership, wanted).await;
        let ids = taken.map_err(|error| unavailable(&error))?;
        Ok(pdpb::AskBatchSplitResponse {
            header: Some(header),
            ids: split_ids_to_proto(ids, count, peers),
        })
    }

    /// A split was applied: all its parts become routes at once, or none if one is outdated.
    pub(super) async fn take_over_split(
        &self,
        message: pdpb::ReportBatchSplitRequest,
    ) -> Result<pdpb::ReportBatchSplitResponse, Status> {
        let leadership = self.lead().await?;
        let header = self.header(message.header.as_ref())?;
        let answer = |header| {
            Ok(pdpb::ReportBatchSplitResponse {
                header: Some(header),
            })
        };
        let parts = message
            .regions
            .iter()
            .map(region_from_proto)
            .collect::<Result<Vec<_>, _>>()
            .map_err(Status::invalid_argument)?;
        if parts.is_empty() || parts.len() > SPLIT_KEYS_MAX + 1 {
            let sentence = format!(
                "a split has 2 to {} parts, not {}",
                SPLIT_KEYS_MAX + 1,
                parts.len()
            );
            return answer(failure(header, pdpb::ErrorType::InvalidValue, sentence));
        }
        let checked = {
            let state = self.desk().group().state().read();
            parts
                .iter()
                .try_for_each(|part| check_party(&state, message.header.as_ref(), part))
        };
        if let Err((kind, sentence)) = checked {
            return answer(failure(header, kind, sentence));
        }
        let removed = match self.update_routes(&parts, leadership.term).await? {
            Reply::Routed { removed } => removed,
            Reply::Refused(reason) => {
                tracing::debug!("report of a split refused: {reason}");
                return answer(refusal(header, &reason));
            }
            other => return Err(Status::internal(format!("unexpected reply {other:?}"))),
        };
        let group = self.desk().group();
        let state = group.state().read();
        leadership.on_split(&parts, &removed, &state, group.now());
        answer(header)
    }
}

/// Only a store that registered and has a peer of the region speaks for it.
fn check_party(
    state: &crate::state::State,
    header: Option<&pdpb::RequestHeader>,
    region: &tinykv_replica::Region,
) -> Result<(), (pdpb::ErrorType, String)> {
    let store = StoreId(header.map_or(0, |header| header.sender_id));
    check_sender(state, header, store)?;
    match region.peer_on(store) {
        Some(_) => Ok(()),
        None => Err((
            pdpb::ErrorType::InvalidValue,
            format!("store {store} has no peer of region {}", region.id),
        )),
    }
}
