//! The other members of the group, as this one reaches them for questions outside Raft.

use std::collections::BTreeMap;
use std::time::Duration;

use tinykv_node::failure::Failure;
use tinykv_proto::placement::members_client::MembersClient;
use tinykv_proto::placement::{GreetRequest, GreetResponse, RegisterRequest};
use tinykv_raft::PeerId;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use crate::config::InitialCluster;
use crate::state::MemberRecord;

/// A member that is alive answers within this: it is asked about nothing but what it has in
/// memory.
const GREETING_TIME_MAX: Duration = Duration::from_millis(300);
/// A registration is an entry of the group.
const REGISTRATION_TIME_MAX: Duration = Duration::from_secs(4);

/// Connections to the other members, made when they are first needed.
pub(crate) struct Neighbours {
    group: u64,
    own: PeerId,
    channels: BTreeMap<PeerId, Channel>,
}

impl Neighbours {
    /// All the other members of the group.
    ///
    /// # Errors
    /// [`Failure::Configuration`] for an address that is none.
    pub(crate) fn new(cluster: &InitialCluster) -> Result<Neighbours, Failure> {
        let own = cluster.own().id;
        let mut channels = BTreeMap::new();
        for member in cluster.members().iter().filter(|member| member.id != own) {
            let endpoint = Endpoint::from_shared(member.url()).map_err(|_| {
                let address = &member.address;
                Failure::configuration(format!(
                    "invalid --initial-cluster: `{address}` is no address"
                ))
            })?;
            let endpoint = endpoint.connect_timeout(GREETING_TIME_MAX);
            channels.insert(member.id, endpoint.connect_lazy());
        }
        Ok(Neighbours {
            group: cluster.fingerprint(),
            own,
            channels,
        })
    }

    /// The number that members with the same `--initial-cluster` share.
    pub(crate) fn group(&self) -> u64 {
        self.group
    }

    /// Their ids.
    pub(crate) fn ids(&self) -> impl Iterator<Item = PeerId> {
        self.channels.keys().copied()
    }

    fn client(&self, member: PeerId) -> Result<MembersClient<Channel>, Status> {
        let channel = self.channels.get(&member);
        let channel = channel.ok_or_else(|| Status::not_found("there is no such member"))?;
        Ok(MembersClient::new(channel.clone()))
    }

    /// Who is there. Fails soon if nobody is.
    pub(crate) async fn greet(&self, member: PeerId) -> Result<GreetResponse, Status> {
        let request = GreetRequest {
            group: self.group,
            from: self.own.0,
            to: member.0,
        };
        let mut client = self.client(member)?;
        let answer = tokio::time::timeout(GREETING_TIME_MAX, client.greet(request));
        match answer.await {
            Ok(answer) => Ok(answer?.into_inner()),
            Err(_) => Err(Status::deadline_exceeded("no answer in time")),
        }
    }

    /// Tells the leader who this member is; returns why it may not take part, if it may not.
    pub(crate) async fn register(
        &self,
        leader: PeerId,
        record: &MemberRecord,
    ) -> Result<Option<String>, Status> {
        let request = RegisterRequest {
            group: self.group,
            member_id: record.id.0,
            name: record.name.clone(),
            url: record.url.clone(),
            incarnation: record.incarnation,
            start_number: record.start_number,
        };
        let mut client = self.client(leader)?;
        let answer = tokio::time::timeout(REGISTRATION_TIME_MAX, client.register(request));
        match answer.await {
            Ok(answer) => Ok(Some(answer?.into_inner().refusal).filter(|why| !why.is_empty())),
            Err(_) => Err(Status::deadline_exceeded("no answer in time")),
        }
    }
}
