//! The link to the leader of the placement driver, for everything that is no data.
//!
//! Who leads is asked of the members before every question, by the client library. A question is
//! asked again while the members elect a leader, until the time is over; when nobody listens at
//! all, that is told at once. An order (beginning or cancelling an operator) is asked again only if
//! it was provably not taken: no connection was made, or the member said that it does not lead.

use std::time::Duration;

use tinykv_client::{Error, Options, RawClient, Reason};
use tinykv_proto::pdpb;
use tinykv_proto::pdpb::pd_client::PdClient;
use tinykv_proto::placement::placement_client::PlacementClient;
use tokio::time::{Instant, sleep, timeout_at};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, ConnectError, Response, Status};

use crate::command::Failure;

/// Most bytes of one answer: an overview of many regions is large.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// How long one attempt to ask for something may take before it is made anew.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a member may take to say that it is there.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(100);

/// The link.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    client: RawClient,
    timeout: Duration,
}

/// Whether a question may be asked twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// It changes nothing.
    Question,
    /// It does.
    Order,
}

/// How an attempt failed.
enum Attempt {
    /// Another one may do better; what happened.
    Again(String),
    /// The end.
    Failed(Failure),
}

impl Link {
    /// A link over some of the members; each question may take so long.
    pub(crate) fn new(members: &[String], timeout: Duration) -> Link {
        Link {
            client: RawClient::new(members, Options { deadline: timeout }),
            timeout,
        }
    }

    /// The client it asks by.
    pub(crate) fn client(&self) -> &RawClient {
        &self.client
    }

    /// Asks the leader.
    ///
    /// # Errors
    /// What the leader says as it says it, or that nobody leads or answers.
    pub(crate) async fn ask<T, F>(
        &self,
        asked: Asked,
        call: impl Fn(PlacementClient<Channel>) -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let deadline = Instant::now() + self.timeout;
        loop {
            let happened = match self.attempt(asked, deadline, &call).await {
                Ok(answer) => return Ok(answer),
                Err(Attempt::Failed(failure)) => return Err(failure),
                Err(Attempt::Again(happened)) => happened,
            };
            if Instant::now() + PAUSE >= deadline {
                return Err(Failure::Unreachable(format!(
                    "the placement driver did not answer within {:?}: {happened}",
                    self.timeout
                )));
            }
            sleep(PAUSE).await;
        }
    }

    async fn attempt<T, F>(
        &self,
        asked: Asked,
        deadline: Instant,
        call: impl Fn(PlacementClient<Channel>) -> F,
    ) -> Result<T, Attempt>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let again = |happened: String| Err(Attempt::Again(happened));
        let leader = match timeout_at(deadline, self.client.placement_leader()).await {
            Ok(Ok(leader)) => leader,
            Ok(Err(error)) => return Err(not_found(error)),
            Err(_) => return again("no member said who leads".to_owned()),
        };
        let until = match asked {
            Asked::Question => deadline.min(Instant::now() + ATTEMPT_TIMEOUT),
            Asked::Order => deadline,
        };
        let channel = match timeout_at(until, connect(&leader)).await {
            Ok(Ok(channel)) => channel,
            Ok(Err(cause)) => return again(format!("{leader}: {cause}")),
            Err(_) => return again(format!("{leader}: no connection in time")),
        };
        let client = PlacementClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
        match timeout_at(until, call(client)).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(told(asked, &leader, &status)),
            Err(_) => Err(lost(asked, format!("{leader}: no answer in time"))),
        }
    }
}

/// Nobody said who leads: waited for, unless nobody listens.
fn not_found(error: Error) -> Attempt {
    match error {
        Error::DefinitelyNot {
            reason: Reason::PlacementNoLeader { message },
            ..
        } => Attempt::Again(message),
        Error::DefinitelyNot {
            reason: Reason::PlacementUnreachable { cause },
            ..
        } => Attempt::Failed(Failure::Unreachable(format!(
            "no placement member answered ({cause}); give its address with -u"
        ))),
        other => Attempt::Failed(other.into()),
    }
}

/// A call failed with a status.
fn told(asked: Asked, leader: &str, status: &Status) -> Attempt {
    let happened = format!("{leader}: {}", what(status));
    let source = std::error::Error::source(status);
    match status.code() {
        _ if has_cause::<ConnectError>(status) => Attempt::Again(happened),
        // It leads no more.
        Code::Unavailable if source.is_none() => Attempt::Again(happened),
        Code::Unimplemented => Attempt::Failed(Failure::Refused(
            "the placement driver is too old for this command".to_owned(),
        )),
        Code::InvalidArgument | Code::FailedPrecondition | Code::ResourceExhausted => {
            Attempt::Failed(Failure::Refused(status.message().to_owned()))
        }
        _ => lost(asked, happened),
    }
}

/// No answer came: what was only asked is asked again.
fn lost(asked: Asked, happened: String) -> Attempt {
    match asked {
        Asked::Question => Attempt::Again(happened),
        Asked::Order => Attempt::Failed(Failure::Unreachable(format!(
            "no answer came, so it is not known whether this was begun; see `operator list` \
             ({happened})"
        ))),
    }
}

/// Whether a member is there: nothing, or why not.
pub(crate) async fn probe(address: &str) -> Result<(), String> {
    let asked = async {
        let channel = connect(bare(address)).await?;
        let request = pdpb::GetMembersRequest::default();
        match PdClient::new(channel).get_members(request).await {
            // Also a member that has no leader is there.
            Err(status) if std::error::Error::source(&status).is_some() => Err(what(&status)),
            _ => Ok(()),
        }
    };
    tokio::time::timeout(PROBE_TIMEOUT, asked)
        .await
        .unwrap_or_else(|_| Err("no answer".to_owned()))
}

/// An address without scheme and slash.
pub(crate) fn bare(address: &str) -> &str {
    let address = address.strip_prefix("http://").unwrap_or(address);
    address.trim_end_matches('/')
}

/// The error in the header of an answer, as the placement driver says it.
pub(crate) fn refused(header: Option<&pdpb::ResponseHeader>) -> Result<(), Failure> {
    match header.and_then(|header| header.error.as_ref()) {
        Some(error) => Err(Failure::Refused(error.message.clone())),
        None => Ok(()),
    }
}

async fn connect(address: &str) -> Result<Channel, String> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|_| "not an address; give host:port".to_owned())?
        .connect_timeout(ATTEMPT_TIMEOUT);
    endpoint.connect().await.map_err(|error| innermost(&error))
}

/// What a status says, or what lies below it.
fn what(status: &Status) -> String {
    match std::error::Error::source(status) {
        Some(source) => innermost(source),
        None => status.message().to_owned(),
    }
}

/// What really went wrong, below the layers that say "transport error".
fn innermost(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// Whether an error of this kind is in the chain.
fn has_cause<E: std::error::Error + 'static>(status: &Status) -> bool {
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        if error.is::<E>() {
            return true;
        }
        cause = error.source();
    }
    false
}
