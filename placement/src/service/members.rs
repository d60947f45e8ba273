//! Who belongs to the placement group.

use std::collections::BTreeMap;
use std::time::Duration;

use tinykv_proto::pdpb::ErrorType;
use tinykv_proto::placement::MemberStanding;
use tinykv_proto::placement::change_members_request::Change;
use tinykv_proto::{pdpb, placement};
use tinykv_raft::PeerId;
use tinykv_replica::PeerRole;
use tonic::Status;

use super::{Leader, Service, failure, millis, success, unavailable};
use crate::config::check_address;
use crate::leadership::Leadership;
use crate::membership::{invited, why_needed};
use crate::state::{Command, MemberRecord, State};

fn shown(id: PeerId, name: &str, url: String) -> pdpb::Member {
    pdpb::Member {
        name: name.to_owned(),
        member_id: id.0,
        peer_urls: vec![url.clone()],
        client_urls: vec![url],
        binary_version: env!("CARGO_PKG_VERSION").into(),
        ..pdpb::Member::default()
    }
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
        let members = self.members();
        let leader = id.and_then(|id| {
            let mut members = members.iter();
            members.find(|member| member.member_id == id.0).cloned()
        });
        let Some(leader) = leader else {
            return Err(Status::unavailable("the placement group has no leader now"));
        };
        Ok(pdpb::GetMembersResponse {
            header: Some(success(cluster_id)),
            members,
            leader: Some(leader.clone()),
            etcd_leader: Some(leader),
        })
    }

    /// The members as clients are told, in order of their ids: those known from the start, and those
    /// that joined.
    pub(super) fn members(&self) -> Vec<pdpb::Member> {
        let state = self.desk().group().state().read();
        let first = self.shared.first.iter();
        let first = first.filter(|it| !state.has_removed_member(it.id));
        let mut members: BTreeMap<PeerId, pdpb::Member> = first
            .map(|it| (it.id, shown(it.id, &it.name, it.url())))
            .collect();
        let came = state.members().values().filter(|it| !it.is_invited());
        members.extend(came.map(|it| (it.id, shown(it.id, &it.name, it.url.clone()))));
        members.into_values().collect()
    }

    /// Adds or removes a member, if asked to, and tells how all stand.
    pub(super) async fn steer_members(
        &self,
        message: placement::ChangeMembersRequest,
    ) -> Result<placement::ChangeMembersResponse, Status> {
        let leadership = self.lead().await?;
        let mut header = self.operator_header(message.header.as_ref())?;
        let command = match message.change {
            None => None,
            Some(Change::Add(new)) => Some(self.invitation(&leadership, new).await?),
            Some(Change::Remove(id)) => {
                let member = PeerId(id);
                if let Some(sentence) = self.why_needed(member).await {
                    return Ok(placement::ChangeMembersResponse {
                        header: Some(failure(header, ErrorType::InvalidValue, sentence)),
                        members: Vec::new(),
                    });
                }
                Some(Ok(Command::RemoveMember { member }))
            }
        };
        match command {
            None => {}
            Some(Ok(command)) => header = self.change(header, &command).await?,
            Some(Err(sentence)) => {
                header = failure(header, ErrorType::InvalidValue, sentence);
            }
        }
        Ok(placement::ChangeMembersResponse {
            header: Some(header),
            members: self.standings().await,
        })
    }

    /// The entry that lets a member join, or what is wrong with it.
    async fn invitation(
        &self,
        leadership: &Leadership,
        new: placement::NewMember,
    ) -> Result<Result<Command, String>, Status> {
        let address = new.url.strip_prefix("http://").unwrap_or(&new.url);
        if new.name.is_empty() || check_address(address, "the address").is_err() {
            return Ok(Err(format!(
                "a member is added by a name and an address HOST:PORT, not by `{}` and `{address}`",
                new.name
            )));
        }
        let ids = self.desk().take_ids(leadership, 1).await;
        let ids = ids.map_err(|error| unavailable(&error))?;
        Ok(Ok(Command::InviteMember(MemberRecord {
            id: PeerId(ids.start),
            name: new.name,
            url: format!("http://{address}"),
            incarnation: 0,
            start_number: 0,
        })))
    }

    /// Why the group could not work without a voter, if so.
    async fn why_needed(&self, member: PeerId) -> Option<String> {
        let group = self.desk().group();
        let region = group.region()?;
        let status = group.status().await?;
        why_needed(&region, member, &status.silent)
    }

    /// How the members stand.
    async fn standings(&self) -> Vec<placement::MemberStatus> {
        let group = self.desk().group();
        let silent = group.status().await.map(|status| status.silent);
        let silent: BTreeMap<PeerId, Duration> = silent.into_iter().flatten().collect();
        let leader = group.office().leader;
        let region = group.region().unwrap_or_default();
        let role = |id: PeerId| region.peer(id).map(|peer| peer.role);
        let members = self.members();
        let state = group.state().read();
        let told = members.into_iter().map(|it| {
            let id = PeerId(it.member_id);
            let standing = match role(id) {
                Some(PeerRole::Voter) => MemberStanding::Voting,
                Some(_) | None => MemberStanding::Joining,
            };
            let url = it.client_urls.into_iter().next().unwrap_or_default();
            (id, it.name, url, standing)
        });
        let invited = state.members().values().filter(|it| it.is_invited());
        let invited = invited.map(|it| {
            let standing = MemberStanding::Invited;
            (it.id, it.name.clone(), it.url.clone(), standing)
        });
        let leaving = state.removed_members().filter(|it| role(it.id).is_some());
        let leaving = leaving.map(|it| {
            let standing = MemberStanding::Leaving;
            (it.id, it.name.clone(), it.url.clone(), standing)
        });
        let mut members: Vec<_> = told.chain(invited).chain(leaving).collect();
        members.sort_by_key(|member| member.0);
        let status = |(id, name, url, standing): (PeerId, String, String, MemberStanding)| {
            placement::MemberStatus {
                member_id: id.0,
                name,
                url,
                standing: standing.into(),
                leads: leader == Some(id),
                silent_ms: silent.get(&id).copied().map_or(0, millis),
            }
        };
        members.into_iter().map(status).collect()
    }

    /// Whom a process joins that was added under this name and address.
    pub(super) fn admit(&self, request: &placement::JoinRequest) -> placement::JoinResponse {
        let state = self.desk().group().state().read();
        match invited(&state, &request.name, &request.url) {
            Err(refusal) => placement::JoinResponse {
                refusal,
                ..placement::JoinResponse::default()
            },
            Ok(member) => placement::JoinResponse {
                refusal: String::new(),
                group: self.shared.neighbours.group(),
                member_id: member.id.0,
                members: acquaintances(&state),
            },
        }
    }
}

/// All that have registered.
pub(super) fn acquaintances(state: &State) -> Vec<placement::Acquaintance> {
    let came = state.members().values().filter(|it| !it.is_invited());
    let known = came.map(|it| placement::Acquaintance {
        member_id: it.id.0,
        name: it.name.clone(),
        url: it.url.clone(),
        incarnation: it.incarnation,
    });
    known.collect()
}
