//! The other members of the group, as this one reaches them for questions outside Raft.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tinykv_node::failure::Failure;
use tinykv_proto::placement::members_client::MembersClient;
use tinykv_proto::placement::{
    GreetRequest, GreetResponse, JoinRequest, JoinResponse, RegisterRequest, RegisterResponse,
};
use tinykv_raft::PeerId;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use crate::acquaintance::Acquaintance;
use crate::config::InitialCluster;
use crate::machine::SharedState;
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
    /// Those known from the start, by URL.
    first: BTreeMap<PeerId, String>,
    /// Knows those that came later,
    state: SharedState,
    /// and so does this, before the state is here.
    acquaintance: Arc<Acquaintance>,
    channels: Mutex<BTreeMap<PeerId, (String, Channel)>>,
}

impl Neighbours {
    /// The other members of the group: those known from the start, and whoever `state` and
    /// `acquaintance` name.
    ///
    /// # Errors
    /// [`Failure::Configuration`] for an address that is none.
    pub(crate) fn new(
        cluster: &InitialCluster,
        state: SharedState,
        acquaintance: Arc<Acquaintance>,
    ) -> Result<Neighbours, Failure> {
        let own = cluster.own().id;
        let mut first = BTreeMap::new();
        for member in cluster.members().iter().filter(|member| member.id != own) {
            if Endpoint::from_shared(member.url()).is_err() {
                let address = &member.address;
                return Err(Failure::configuration(format!(
                    "invalid --initial-cluster: `{address}` is no address"
                )));
            }
            first.insert(member.id, member.url());
        }
        Ok(Neighbours {
            group: cluster.fingerprint(),
            own,
            first,
            state,
            acquaintance,
            channels: Mutex::default(),
        })
    }

    /// The number that the members share.
    pub(crate) fn group(&self) -> u64 {
        self.group
    }

    /// The ids of those known from the start.
    pub(crate) fn ids(&self) -> impl Iterator<Item = PeerId> {
        self.first.keys().copied()
    }

    /// The ids of all that are known, from wherever.
    pub(crate) fn all_ids(&self) -> BTreeSet<PeerId> {
        let mut ids: BTreeSet<PeerId> = self.ids().collect();
        let state = self.state.read();
        ids.extend(
            state
                .members()
                .values()
                .filter(|it| !it.is_invited())
                .map(|it| it.id),
        );
        ids.extend(self.acquaintance.named());
        ids.remove(&self.own);
        ids
    }

    /// Whether it is known where a member is.
    pub(crate) fn knows(&self, member: PeerId) -> bool {
        self.url(member).is_some()
    }

    fn url(&self, member: PeerId) -> Option<String> {
        let known = self.state.read().members().get(&member).cloned();
        let known = known.map(|record| record.url);
        let known = known.or_else(|| self.first.get(&member).cloned());
        known.or_else(|| Some(self.acquaintance.told(member)?.url))
    }

    fn client(&self, member: PeerId) -> Result<MembersClient<Channel>, Status> {
        let unknown = || Status::not_found("there is no such member");
        let url = self.url(member).ok_or_else(unknown)?;
        let mut channels = self.channels.lock();
        let channel = match channels.get(&member) {
            Some((known, channel)) if *known == url => channel.clone(),
            _ => {
                let endpoint = Endpoint::from_shared(url.clone()).map_err(|_| unknown())?;
                let channel = endpoint.connect_timeout(GREETING_TIME_MAX).connect_lazy();
                channels.insert(member, (url, channel.clone()));
                channel
            }
        };
        Ok(MembersClient::new(channel))
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

    /// Asks another member on behalf of one that is to join.
    pub(crate) async fn join(
        &self,
        leader: PeerId,
        request: JoinRequest,
    ) -> Result<JoinResponse, Status> {
        let mut client = self.client(leader)?;
        match tokio::time::timeout(REGISTRATION_TIME_MAX, client.join(request)).await {
            Ok(answer) => Ok(answer?.into_inner()),
            Err(_) => Err(Status::deadline_exceeded("no answer in time")),
        }
    }

    /// Tells another member, which tells the leader, who a member is.
    pub(crate) async fn register(
        &self,
        leader: PeerId,
        record: &MemberRecord,
    ) -> Result<RegisterResponse, Status> {
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
            Ok(answer) => Ok(answer?.into_inner()),
            Err(_) => Err(Status::deadline_exceeded("no answer in time")),
        }
    }
}
