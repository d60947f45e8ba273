//! Regions are spread evenly, because somebody asked for it.

use tinykv_proto::placement;
use tinykv_raft::GroupId;
use tonic::Status;

use super::operators::refusal_kind;
use super::{Service, failure, millis};

/// Regions that may be named at once.
const REGIONS_MAX: usize = 100_000;

impl Service {
    pub(super) async fn scatter_regions(
        &self,
        message: placement::ScatterRequest,
    ) -> Result<placement::ScatterResponse, Status> {
        let leadership = self.lead().await?;
        let mut header = self.operator_header(message.header.as_ref())?;
        if message.region_ids.len() > REGIONS_MAX {
            return Err(Status::invalid_argument(format!(
                "{REGIONS_MAX} regions may be named at once, not {}: name none to scatter all",
                message.region_ids.len()
            )));
        }
        let named: Vec<GroupId> = message.region_ids.into_iter().map(GroupId).collect();
        let ids = (!named.is_empty()).then_some(&named[..]);
        if message.begin
            && let Err(refused) = leadership.scatter(ids)
        {
            header = failure(header, refusal_kind(&refused), refused.to_string());
        }
        let group = self.desk().group();
        let (settings, now) = (*group.state().read().settings(), group.now());
        let coordinator = leadership.coordinator();
        let found = coordinator.scattering(ids, &settings, now);
        Ok(placement::ScatterResponse {
            header: Some(header),
            left: found.left,
            moving: found.moving,
            blocked_by: found.blocked_by,
            known_for_ms: millis(now.saturating_sub(coordinator.view().since)),
        })
    }
}
