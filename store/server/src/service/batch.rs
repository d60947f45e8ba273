//! `BatchCommands`: many calls on one stream.
//!
//! Every request id is answered, in any order and grouping; calls that are not served are answered
//! with a region error of the same number. Each call runs on its own, and answers that are ready at
//! the same time travel together. Nothing is read from the stream while the calls that are under
//! way would exceed [`BYTES_MAX`] or [`CALLS_MAX`], nor while its client does not take answers; so
//! a stream holds at most that and one message. When the client goes away, reads are dropped;
//! writes end in tasks of their own.

mod command;

use std::collections::VecDeque;
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, Stream, StreamExt};
use prost::Message;
use tinykv_proto::tikvpb::batch_commands_request::request::Cmd as Asked;
use tinykv_proto::tikvpb::batch_commands_response::Response;
use tinykv_proto::tikvpb::batch_commands_response::response::Cmd as Answer;
use tinykv_proto::tikvpb::{BatchCommandsRequest, BatchCommandsResponse};
use tonic::{Status, Streaming};

use super::Calls;

/// Bytes of calls under way on one stream, above which no further one begins.
const BYTES_MAX: usize = 16 << 20;
/// Calls under way on one stream.
const CALLS_MAX: usize = 2048;
/// What a call costs beside its bytes.
const CALL_OVERHEAD: usize = 512;
/// What the answer of a call for many pairs is taken to cost.
const LONG_ANSWER: usize = 512 << 10;
/// Answers that travel together, at most: so many, and about so many bytes.
const GROUP_CALLS_MAX: usize = 256;
const GROUP_BYTES_MAX: usize = 1 << 20;

/// One stream of calls.
pub(super) struct Batch {
    calls: Arc<Calls>,
    requests: Streaming<BatchCommandsRequest>,
    /// Whether more requests may come.
    open: bool,
    /// Read from the stream, not begun.
    waiting: VecDeque<(u64, Option<Asked>)>,
    running: FuturesUnordered<BoxFuture<'static, Done>>,
    /// Cost of what is running.
    cost: usize,
}

/// A call that was carried out.
struct Done {
    id: u64,
    cost: usize,
    answer: Option<Answer>,
}

impl Batch {
    pub(super) fn new(calls: Calls, requests: Streaming<BatchCommandsRequest>) -> Batch {
        Batch {
            calls: Arc::new(calls),
            requests,
            open: true,
            waiting: VecDeque::new(),
            running: FuturesUnordered::new(),
            cost: 0,
        }
    }

    /// The answers, until the client has ended the stream and every call is answered.
    pub(super) fn answers(self) -> impl Stream<Item = Result<BatchCommandsResponse, Status>> {
        futures::stream::unfold(self, async |mut batch| {
            batch.next().await.map(|answers| (answers, batch))
        })
    }

    async fn next(&mut self) -> Option<Result<BatchCommandsResponse, Status>> {
        let stop = self.calls.shared.stop.clone();
        loop {
            self.begin();
            if !self.open && self.running.is_empty() {
                return None;
            }
            tokio::select! {
                biased;
                Some(done) = self.running.next() => return Some(Ok(self.group(done))),
                message = self.requests.message(), if self.open && self.waiting.is_empty() => {
                    if let Err(status) = self.receive(message) {
                        self.open = false;
                        return Some(Err(status));
                    }
                }
                () = stop.requested(), if self.open => self.open = false,
            }
        }
    }

    fn receive(
        &mut self,
        message: Result<Option<BatchCommandsRequest>, Status>,
    ) -> Result<(), Status> {
        let Some(message) = message? else {
            self.open = false;
            return Ok(());
        };
        let (requests, ids) = (message.requests, message.request_ids);
        if requests.len() != ids.len() {
            return Err(Status::invalid_argument(format!(
                "{} requests with {} request ids; each request needs one id",
                requests.len(),
                ids.len()
            )));
        }
        let commands = requests.into_iter().map(|request| request.cmd);
        self.waiting.extend(ids.into_iter().zip(commands));
        Ok(())
    }

    /// Begins what waits, as far as the limits allow; one call always.
    fn begin(&mut self) {
        while self.running.is_empty() || (self.running.len() < CALLS_MAX && self.cost < BYTES_MAX) {
            let Some((id, asked)) = self.waiting.pop_front() else {
                return;
            };
            let cost = cost(asked.as_ref());
            self.cost += cost;
            let calls = Arc::clone(&self.calls);
            let call = async move {
                let answer = match asked {
                    Some(asked) => calls.carry_out(asked).await,
                    None => None,
                };
                Done { id, cost, answer }
            };
            self.running.push(call.boxed());
        }
    }

    /// Adds what else is done by now.
    fn group(&mut self, first: Done) -> BatchCommandsResponse {
        let mut group = BatchCommandsResponse::default();
        let mut bytes = 0;
        let mut next = Some(first);
        while let Some(done) = next {
            self.cost -= done.cost;
            let response = Response { cmd: done.answer };
            bytes += response.encoded_len();
            group.responses.push(response);
            group.request_ids.push(done.id);
            if group.responses.len() >= GROUP_CALLS_MAX || bytes >= GROUP_BYTES_MAX {
                break;
            }
            next = self.running.next().now_or_never().flatten();
        }
        group
    }
}

fn cost(asked: Option<&Asked>) -> usize {
    let answer = match asked {
        Some(Asked::RawScan(_) | Asked::RawBatchScan(_) | Asked::RawBatchGet(_)) => LONG_ANSWER,
        _ => 0,
    };
    let bytes = asked.map_or(0, |asked| asked.encoded_len());
    bytes + answer + CALL_OVERHEAD
}
