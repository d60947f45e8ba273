//! One request to a store and its answer, or how it failed.

use std::error::Error;
use std::time::Duration;

use tinykv_proto::kvrpcpb;
use tinykv_proto::tikvpb::batch_commands_response::response::Cmd as Answer;
use tokio::time::timeout_at;
use tonic::{Code, ConnectError, Request, Status};

use super::clock::Clock;
use super::connections::{Connection, Connections, last_cause};
use super::lane::{Broken, REQUEST_BYTES_MAX};
use super::rpc::Rpc;
use crate::retry::{Failure, Target};
use crate::wire::verdict;

/// Sends a request where the target says. The deadline travels with it (K5).
pub(super) async fn exchange<R: Rpc>(
    connections: &Connections,
    clock: Clock,
    target: &Target,
    context: kvrpcpb::Context,
    mut request: R,
) -> Result<R::Response, Failure> {
    let began = clock.now();
    let deadline = began + target.timeout;
    let connected = timeout_at(clock.instant(deadline), connections.get(&target.address)).await;
    let connection = match connected {
        Ok(Ok(connection)) => connection,
        Ok(Err(cause)) => {
            return Err(Failure::NotSent {
                cause: cause.to_string(),
            });
        }
        Err(_) => {
            return Err(Failure::NotSent {
                cause: "no connection in time".to_owned(),
            });
        }
    };
    request.set_context(context);
    if let Some(traffic) = connection.traffic()
        && request.encoded_len() <= REQUEST_BYTES_MAX
    {
        match request.into_command() {
            Ok(asked) => {
                let called = traffic.call(asked, clock.instant(deadline)).await;
                return on_stream::<R>(connections, &connection, called, began, target.timeout);
            }
            Err(unsuited) => request = unsuited,
        }
    }
    let mut request = Request::new(request);
    request.set_timeout(deadline.saturating_sub(clock.now()));
    let sent = R::unary(connection.channel.clone(), request);
    match timeout_at(clock.instant(deadline), sent).await {
        Ok(Ok(response)) => {
            connections.on_answer(&connection);
            verdict::<R>(response.into_inner())
        }
        Ok(Err(status)) => Err(failed(
            connections,
            &connection,
            &status,
            began,
            target.timeout,
        )),
        Err(_) => {
            connections.on_silence(&connection, began);
            Err(Failure::TimedOut {
                after: target.timeout,
            })
        }
    }
}

/// What became of a request on a stream.
fn on_stream<R: Rpc>(
    connections: &Connections,
    connection: &Connection,
    called: Result<Answer, Broken>,
    began: Duration,
    timeout: Duration,
) -> Result<R::Response, Failure> {
    match called.map(R::from_command) {
        Ok(Some(response)) => verdict::<R>(response),
        Ok(None) => Err(Failure::Lost {
            cause: "the answer is to another kind of request".to_owned(),
        }),
        // Not sent, so the same store may be asked once more, another way.
        Err(Broken::NotTaken) => Err(Failure::Busy {
            reason: "the stream took no more requests".to_owned(),
            wait: Duration::ZERO,
        }),
        Err(Broken::Lost(cause)) => {
            connections.on_failure(connection);
            Err(Failure::Lost {
                cause: cause.to_string(),
            })
        }
        Err(Broken::Silent) => {
            connections.on_silence(connection, began);
            Err(Failure::TimedOut { after: timeout })
        }
    }
}

/// What a failed call amounts to, and what that says about its connection.
fn failed(
    connections: &Connections,
    connection: &Connection,
    status: &Status,
    began: Duration,
    timeout: Duration,
) -> Failure {
    if status.source().is_none() {
        // The other side said so itself.
        connections.on_answer(connection);
    } else if status.code() == Code::DeadlineExceeded {
        connections.on_silence(connection, began);
    } else {
        connections.on_failure(connection);
    }
    classify(status, timeout)
}

/// What a status proves about a request.
fn classify(status: &Status, timeout: Duration) -> Failure {
    if has_cause::<ConnectError>(status) {
        return Failure::NotSent {
            cause: last_cause(status),
        };
    }
    if has_cause::<tonic::TimeoutExpired>(status) {
        return Failure::TimedOut { after: timeout };
    }
    match status.code() {
        Code::InvalidArgument
        | Code::Unimplemented
        | Code::FailedPrecondition
        | Code::PermissionDenied
        | Code::Unauthenticated => Failure::Refused {
            message: status.message().to_owned(),
        },
        Code::DeadlineExceeded => Failure::TimedOut { after: timeout },
        Code::OutOfRange => Failure::Undetermined {
            message: status.message().to_owned(),
        },
        _ => {
            let cause = match status.source() {
                Some(source) => last_cause(source),
                None => format!("{:?}: {}", status.code(), status.message()),
            };
            Failure::Lost { cause }
        }
    }
}

/// Whether an error of this kind is in the chain.
fn has_cause<E: Error + 'static>(status: &Status) -> bool {
    let mut cause: Option<&(dyn Error + 'static)> = status.source();
    while let Some(error) = cause {
        if error.is::<E>() {
            return true;
        }
        cause = error.source();
    }
    false
}
