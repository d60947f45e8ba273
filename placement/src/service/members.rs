//! Who belongs to the placement group.

use tinykv_proto::pdpb;
use tonic::Status;

use super::{Leader, Service, success};
use crate::config::InitialCluster;

/// The members as clients are told, in order of their ids.
pub(super) fn members(cluster: &InitialCluster) -> Vec<pdpb::Member> {
    cluster
        .members()
        .iter()
        .map(|member| pdpb::Member {
            name: member.name.clone(),
            member_id: member.id.0,
            peer_urls: vec![member.url()],
            client_urls: vec![member.url()],
            binary_version: env!("CARGO_PKG_VERSION").into(),
            ..pdpb::Member::default()
        })
        .collect()
}

impl Service {
    /// Any member answers. The leader named is one that says now that it leads; an election is
    /// waited out, because clients cannot do without a leader in the answer.
    pub(super) async fn get_members(&self) -> Result<pdpb::GetMembersResponse, Status> {
        let id = match self.find_leader().await {
            Some(Leader::Here(_)) => Some(self.desk().member().id),
            Some(Leader::There(id)) => Some(id),
            None => None,
        };
        let cluster_id = self.cluster_id()?;
        let leader = id.and_then(|id| {
            let mut members = self.shared.members.iter();
            members.find(|member| member.member_id == id.0)
        });
        let Some(leader) = leader.cloned() else {
            return Err(Status::unavailable("the placement group has no leader now"));
        };
        Ok(pdpb::GetMembersResponse {
            header: Some(success(cluster_id)),
            members: self.shared.members.clone(),
            leader: Some(leader.clone()),
            etcd_leader: Some(leader),
        })
    }
}
