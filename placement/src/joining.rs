//! How a process that was added to a group finds it: it asks the members it was told of, until one
//! says whom it joins. That is kept in its data directory, so it asks once in its life.

use std::collections::BTreeMap;
use std::time::Duration;

use tinykv_node::failure::Failure;
use tinykv_node::identity::DataDir;
use tinykv_proto::placement::members_client::MembersClient;
use tinykv_proto::placement::{JoinRequest, JoinResponse};
use tinykv_raft::PeerId;
use tonic::transport::Endpoint;
use tonic::{Code, Status};

use crate::acquaintance::{Acquaintance, Joined};
use crate::config::{FirstMember, InitialCluster};

/// Between two rounds of questions.
const PAUSE: Duration = Duration::from_millis(500);
/// Rounds after which the log says what it waits for.
const ROUNDS_UNTIL_TOLD: u32 = 10;
/// A member that is there answers by then; it may have to wait for a leader.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(3);

/// The group that the member in this directory belongs to, or now joins: told by one of `contacts`.
///
/// # Errors
/// [`Failure::Configuration`] when the group does not know of this member, [`Failure::Storage`] when
/// the directory is that of a member that did not join.
pub(crate) async fn find_group(
    dir: &DataDir,
    acquaintance: &Acquaintance,
    own: (&str, &str),
    contacts: &[String],
) -> Result<InitialCluster, Failure> {
    match (dir.identity(), acquaintance.joined()) {
        (Some(_), Some(joined)) => Ok(cluster_of(joined)),
        (Some(_), None) => Err(Failure::storage(format!(
            "the data directory {} is that of a founding member: start it with --initial-cluster, not \
             with --join",
            dir.path().display()
        ))),
        (None, _) => {
            let (joined, incarnations) = ask_until_told(own, contacts).await?;
            let remembered = acquaintance.remember_joining(&joined, incarnations);
            remembered.map_err(|error| {
                Failure::storage(format!("cannot write whom this member joins: {error}"))
            })?;
            Ok(cluster_of(joined))
        }
    }
}

fn cluster_of(joined: Joined) -> InitialCluster {
    let Joined {
        group,
        own,
        members,
    } = joined;
    InitialCluster::joined(group, own, members)
}

/// The group, and the incarnations of its members.
type Answer = (Joined, BTreeMap<PeerId, u64>);

async fn ask_until_told(own: (&str, &str), contacts: &[String]) -> Result<Answer, Failure> {
    for round in 1_u32.. {
        let mut happened = String::new();
        for contact in contacts {
            match ask(contact, own).await {
                Ok(answer) if answer.refusal.is_empty() => return read(answer, own),
                Ok(answer) => return Err(Failure::configuration(answer.refusal)),
                Err(status) if status.code() == Code::Unimplemented => {
                    return Err(Failure::configuration(format!(
                        "{contact} of --join is no member of a placement driver, or of an older release"
                    )));
                }
                Err(status) => happened = format!("{contact}: {}", status.message()),
            }
        }
        if round % ROUNDS_UNTIL_TOLD == 1 {
            tracing::warn!("no member named by --join says whom this one joins yet ({happened})");
        }
        tokio::time::sleep(PAUSE).await;
    }
    unreachable!("it asks for ever")
}

async fn ask(contact: &str, own: (&str, &str)) -> Result<JoinResponse, Status> {
    let url = format!("http://{contact}");
    let endpoint =
        Endpoint::from_shared(url).map_err(|error| Status::unknown(error.to_string()))?;
    let request = JoinRequest {
        name: own.0.to_owned(),
        url: format!("http://{}", own.1),
    };
    let answer = async {
        let channel = endpoint.connect().await;
        let channel = channel.map_err(|error| Status::unavailable(error.to_string()))?;
        MembersClient::new(channel).join(request).await
    };
    match tokio::time::timeout(ANSWER_TIME_MAX, answer).await {
        Ok(answer) => Ok(answer?.into_inner()),
        Err(_) => Err(Status::deadline_exceeded("no answer in time")),
    }
}

fn read(answer: JoinResponse, own: (&str, &str)) -> Result<Answer, Failure> {
    let own = FirstMember {
        id: PeerId(answer.member_id),
        name: own.0.to_owned(),
        address: own.1.to_owned(),
    };
    let (mut members, mut incarnations) = (Vec::new(), BTreeMap::new());
    for member in answer.members {
        let id = PeerId(member.member_id);
        incarnations.insert(id, member.incarnation);
        let address = member.url.trim_start_matches("http://").to_owned();
        members.push(FirstMember {
            id,
            name: member.name,
            address,
        });
    }
    let is_sound = answer.group != 0 && own.id.0 != 0 && !members.is_empty();
    match is_sound {
        true => {
            let group = answer.group;
            let joined = Joined {
                group,
                own,
                members,
            };
            Ok((joined, incarnations))
        }
        false => Err(Failure::configuration(
            "the member asked by --join does not say whom this one joins",
        )),
    }
}
