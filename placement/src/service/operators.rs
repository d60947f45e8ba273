//! Operators by hand: begin, list, cancel; and how they are shown.

use std::time::Duration;

use tinykv_proto::pdpb;
use tinykv_proto::pdpb::ErrorType;
use tinykv_proto::placement;
use tinykv_raft::GroupId;
use tokio::time::Instant;
use tonic::Status;

use super::{PATIENCE, Service, failure, millis, unavailable};
use crate::convert::manual_from_proto;
use crate::coordinator::{CancelRefusal, Found, Which};
use crate::leadership::Leadership;
use crate::schedule::{Ended, Ending, ManualRefusal, Operator, check_free};
use crate::view::ClusterView;

impl Service {
    /// Begins an operator; answers once it is admitted or refused. Right after a fail-over the
    /// region's leader may not have been heard yet: that is waited for.
    pub(super) async fn begin_operator(
        &self,
        message: placement::AddOperatorRequest,
    ) -> Result<placement::AddOperatorResponse, Status> {
        let asked_at = Instant::now();
        let leadership = self.lead().await?;
        let header = self.operator_header(message.header.as_ref())?;
        let refuse = |header, kind, sentence: String| {
            Ok(placement::AddOperatorResponse {
                header: Some(failure(header, kind, sentence)),
                ..placement::AddOperatorResponse::default()
            })
        };
        let Some(action) = message.action else {
            let sentence = "the request names no action: split, transfer_leader, add_peer, \
                            remove_peer, move_peer or merge";
            return refuse(header, ErrorType::InvalidValue, sentence.into());
        };
        let wish = manual_from_proto(action);
        let region = match message.region_id {
            0 => {
                let state = self.desk().group().state().read();
                state.routes().at(&message.key).map(|region| region.id)
            }
            id => Some(GroupId(id)),
        };
        let Some(region) = region else {
            let sentence = "no region is known that contains the key: ask again in a moment";
            return refuse(header, ErrorType::RegionNotFound, sentence.into());
        };
        for region in [Some(region), wish.target()].into_iter().flatten() {
            await_free(&leadership, region, asked_at + PATIENCE).await;
        }
        let ids = self.desk().operator_ids(&leadership).await;
        let ids = ids.map_err(|error| unavailable(&error))?;
        let group = self.desk().group();
        let settings = *group.state().read().settings();
        let now = group.now();
        if let Err(reason) = leadership.admit_manual(region, &wish, ids, &settings, now) {
            return refuse(header, refusal_kind(&reason), reason.to_string());
        }
        let coordinator = leadership.coordinator();
        let begun = coordinator
            .find(ids.operator)
            .map(|found| show(coordinator.view(), found, now));
        Ok(placement::AddOperatorResponse {
            header: Some(header),
            operator: begun,
        })
    }

    pub(super) async fn list_operators(
        &self,
        message: placement::ListOperatorsRequest,
    ) -> Result<placement::ListOperatorsResponse, Status> {
        let leadership = self.lead().await?;
        let header = self.operator_header(message.header.as_ref())?;
        let now = self.desk().group().now();
        let coordinator = leadership.coordinator();
        let view = coordinator.view();
        let known_for_ms = millis(now.saturating_sub(view.since));
        if message.operator_id != 0 {
            let id = message.operator_id;
            return Ok(match coordinator.find(id) {
                Some(found) => placement::ListOperatorsResponse {
                    header: Some(header),
                    operators: vec![show(view, found, now)],
                    known_for_ms,
                },
                None => {
                    let sentence = CancelRefusal::UnknownOperator { id }.to_string();
                    placement::ListOperatorsResponse {
                        header: Some(failure(header, ErrorType::EntryNotFound, sentence)),
                        operators: Vec::new(),
                        known_for_ms,
                    }
                }
            });
        }
        let mut operators: Vec<placement::OperatorStatus> = Vec::new();
        if message.with_ended {
            operators.extend(coordinator.ended().map(show_ended));
        }
        operators.extend(list_running(view, now));
        Ok(placement::ListOperatorsResponse {
            header: Some(header),
            operators,
            known_for_ms,
        })
    }

    pub(super) async fn end_operator(
        &self,
        message: placement::CancelOperatorRequest,
    ) -> Result<placement::CancelOperatorResponse, Status> {
        let leadership = self.lead().await?;
        let header = self.operator_header(message.header.as_ref())?;
        let which = match message.operator_id {
            0 => Which::Region(GroupId(message.region_id)),
            id => Which::Operator(id),
        };
        Ok(match leadership.cancel(which, self.desk().group().now()) {
            Ok(ended) => placement::CancelOperatorResponse {
                header: Some(header),
                operator: Some(show_ended(&ended)),
            },
            Err(reason) => {
                let kind = ErrorType::EntryNotFound;
                placement::CancelOperatorResponse {
                    header: Some(failure(header, kind, reason.to_string())),
                    operator: None,
                }
            }
        })
    }

    /// The operator at work on a region, or its last one.
    pub(super) async fn operator_of(
        &self,
        message: pdpb::GetOperatorRequest,
    ) -> Result<pdpb::GetOperatorResponse, Status> {
        let leadership = self.lead().await?;
        let header = self.header(message.header.as_ref())?;
        let region = GroupId(message.region_id);
        let coordinator = leadership.coordinator();
        let running = coordinator.view().operators.get(&region);
        let ended = || {
            let mut ended = coordinator.ended().rev();
            ended.find(|ended| ended.operator.region == region)
        };
        let known = match running {
            Some(operator) => Some((operator, pdpb::OperatorStatus::Running)),
            None => ended().map(|ended| {
                let status = match ended.ending {
                    Ending::Success => pdpb::OperatorStatus::Success,
                    Ending::Timeout => pdpb::OperatorStatus::Timeout,
                    Ending::Cancelled(_) => pdpb::OperatorStatus::Cancel,
                };
                (&ended.operator, status)
            }),
        };
        Ok(match known {
            Some((operator, status)) => pdpb::GetOperatorResponse {
                header: Some(header),
                region_id: region.0,
                desc: operator.reason.to_string().into(),
                status: status.into(),
                kind: operator.action.name().into(),
            },
            None => {
                let sentence = format!("region {region} has had no operator lately");
                pdpb::GetOperatorResponse {
                    header: Some(failure(header, ErrorType::EntryNotFound, sentence)),
                    ..pdpb::GetOperatorResponse::default()
                }
            }
        })
    }
}

/// Waits until the region's leader is known and it is in no joint configuration, while that may
/// come by itself.
async fn await_free(leadership: &Leadership, region: GroupId, deadline: Instant) {
    let mut changes = leadership.watch();
    loop {
        changes.mark_unchanged();
        let checked = check_free(leadership.coordinator().view(), region).map(|_| ());
        match checked {
            Err(ManualRefusal::NoLeader { .. } | ManualRefusal::Joint { .. }) => {}
            Ok(()) | Err(_) => return,
        }
        tokio::select! {
            _ = changes.changed() => {}
            () = tokio::time::sleep_until(deadline) => return,
            () = leadership.ended.cancelled() => return,
        }
    }
}

pub(super) fn refusal_kind(reason: &ManualRefusal) -> ErrorType {
    match reason {
        ManualRefusal::UnknownRegion { .. } => ErrorType::RegionNotFound,
        ManualRefusal::Busy { .. } => ErrorType::DuplicatedEntry,
        _ => ErrorType::InvalidValue,
    }
}

/// The operators under way, by id.
pub(super) fn list_running(view: &ClusterView, now: Duration) -> Vec<placement::OperatorStatus> {
    let mut operators: Vec<&Operator> = view.operators.values().collect();
    operators.sort_by_key(|operator| operator.id);
    operators
        .into_iter()
        .map(|operator| show_running(view, operator, now))
        .collect()
}

fn show(view: &ClusterView, found: Found<'_>, now: Duration) -> placement::OperatorStatus {
    match found {
        Found::Running(operator) => show_running(view, operator, now),
        Found::Ended(ended) => show_ended(ended),
    }
}

fn show_running(
    view: &ClusterView,
    operator: &Operator,
    now: Duration,
) -> placement::OperatorStatus {
    let timeout = view
        .regions
        .get(&operator.region)
        .map_or(0, |region| millis(operator.time_max(region)));
    placement::OperatorStatus {
        age_ms: millis(now.saturating_sub(operator.began_at)),
        timeout_ms: timeout,
        state: "running".into(),
        ..describe(operator)
    }
}

fn show_ended(ended: &Ended) -> placement::OperatorStatus {
    let operator = &ended.operator;
    placement::OperatorStatus {
        age_ms: millis(ended.ended_at.saturating_sub(operator.began_at)),
        state: ended.ending.to_string(),
        outcome: ended.outcome(),
        ..describe(operator)
    }
}

fn describe(operator: &Operator) -> placement::OperatorStatus {
    placement::OperatorStatus {
        id: operator.id,
        region_id: operator.region.0,
        kind: operator.action.name().into(),
        rule: operator.reason.rule.name().into(),
        reason: operator.reason.to_string(),
        steps: operator.steps.iter().map(ToString::to_string).collect(),
        step: u32::try_from(operator.position).unwrap_or(u32::MAX),
        ..placement::OperatorStatus::default()
    }
}
