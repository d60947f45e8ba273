//! Many calls on one stream to a store: TiKV's `BatchCommands`.
//!
//! A connection has one lane. It is opened beside the calls that find it closed, which go on their
//! own meanwhile; it is used once the store has answered a command that does nothing, so a store
//! that does not know such streams never gets a request this way. What has gathered while the
//! connection took no more travels together.
//!
//! A request is *taken* when it is handed to the connection. Up to then it is provably not sent:
//! it can be given up, and after the end of the stream it can be sent anew. From then on, as for a
//! call of its own, only an answer tells what became of it (K2).
//!
//! Limits: [`QUEUE_CALLS_MAX`] requests of up to [`REQUEST_BYTES_MAX`] wait to be taken; callers
//! beyond wait within their own time. Larger requests go on their own, so that small ones need not
//! wait behind them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures::Stream;
use futures::stream::unfold;
use parking_lot::Mutex;
use tinykv_proto::tikvpb::batch_commands_request::Request;
use tinykv_proto::tikvpb::batch_commands_request::request::Cmd as Asked;
use tinykv_proto::tikvpb::batch_commands_response::response::Cmd as Answer;
use tinykv_proto::tikvpb::tikv_client::TikvClient;
use tinykv_proto::tikvpb::{
    BatchCommandsEmptyRequest, BatchCommandsRequest, BatchCommandsResponse,
};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use super::connections::{Heard, last_cause};
use super::rpc::RESPONSE_BYTES_MAX;

/// Bytes of a request that goes this way, at most.
pub(super) const REQUEST_BYTES_MAX: usize = 64 << 10;

/// Requests that wait to be taken, at most.
const QUEUE_CALLS_MAX: usize = 1_024;

/// Requests that travel together, at most.
const TOGETHER_MAX: usize = 128;

/// How long opening may take.
const OPEN_TIMEOUT: Duration = Duration::from_secs(2);

/// How long to leave it after opening failed.
const OPEN_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// The lane of a connection.
#[derive(Debug, Default)]
pub(super) struct Lane {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
enum State {
    /// Nobody asked for it yet.
    #[default]
    Unused,
    /// A first answer is awaited, by this task.
    Opening(#[expect(dead_code, reason = "aborts its task when dropped")] JoinSet<()>),
    /// It is there.
    Open(Arc<Traffic>),
    /// It could not be opened.
    Failed {
        /// When to try again; never if the store does not know such streams.
        again_at: Option<Instant>,
    },
}

/// An open stream. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Traffic {
    queue: mpsc::Sender<Queued>,
    waiting: Arc<Waiting>,
    next_id: AtomicU64,
    /// Reads the answers.
    _reader: JoinSet<()>,
}

/// A request that nobody has taken yet.
#[derive(Debug)]
struct Queued {
    id: u64,
    asked: Asked,
    ticket: Arc<Ticket>,
    reply: Reply,
}

/// Where an answer goes, or why there is none.
type Reply = oneshot::Sender<Result<Answer, Arc<str>>>;

/// Decides between the stream that takes a request and the caller that gives it up: whoever is
/// first has it.
#[derive(Debug, Default)]
struct Ticket(AtomicBool);

/// Requests that were taken and wait for an answer.
#[derive(Debug)]
struct Waiting {
    /// By their ids; none once the stream has ended.
    replies: Mutex<Option<BTreeMap<u64, Reply>>>,
}

/// How a request on a stream failed.
#[derive(Debug)]
pub(super) enum Broken {
    /// It was not taken, and will not be.
    NotTaken,
    /// It was taken; then the stream ended.
    Lost(Arc<str>),
    /// It was taken; no answer came in time.
    Silent,
}

impl Lane {
    /// The stream, if it is open. If nobody has opened it, that begins now.
    pub(super) fn traffic(
        self: &Arc<Lane>,
        channel: &Channel,
        heard: &Heard,
    ) -> Option<Arc<Traffic>> {
        let mut state = self.state.lock();
        match &*state {
            State::Open(traffic) if traffic.waiting.is_open() => return Some(traffic.clone()),
            State::Opening(_) | State::Failed { again_at: None } => return None,
            State::Failed { again_at: Some(at) } if Instant::now() < *at => return None,
            State::Unused | State::Open(_) | State::Failed { .. } => {}
        }
        let (lane, channel, heard) = (Arc::downgrade(self), channel.clone(), heard.clone());
        let mut opening = JoinSet::new();
        opening.spawn(async move {
            let until = Instant::now() + OPEN_TIMEOUT;
            let opened = timeout_at(until, Traffic::open(channel, heard, until)).await;
            let state = match opened {
                Ok(Ok(traffic)) => State::Open(Arc::new(traffic)),
                Ok(Err(status)) if status.code() == Code::Unimplemented => {
                    State::Failed { again_at: None }
                }
                Ok(Err(_)) | Err(_) => State::Failed {
                    again_at: Some(Instant::now() + OPEN_AGAIN_AFTER),
                },
            };
            // This ends the task; there is nothing behind it.
            if let Some(lane) = lane.upgrade() {
                *lane.state.lock() = state;
            }
        });
        *state = State::Opening(opening);
        None
    }
}

impl Traffic {
    /// Opens a stream and waits for the answer to a command that does nothing.
    async fn open(channel: Channel, heard: Heard, until: Instant) -> Result<Traffic, Status> {
        let (queue, requests) = mpsc::channel(QUEUE_CALLS_MAX);
        let waiting = Arc::new(Waiting {
            replies: Mutex::new(Some(BTreeMap::new())),
        });
        let mut traffic = Traffic {
            queue,
            waiting: waiting.clone(),
            next_id: AtomicU64::new(0),
            _reader: JoinSet::new(),
        };
        let mut client = TikvClient::new(channel).max_decoding_message_size(RESPONSE_BYTES_MAX);
        let opened = async {
            let answers = client.batch_commands(batches(requests, waiting.clone()));
            let mut reader = JoinSet::new();
            match answers.await {
                Ok(answers) => {
                    reader.spawn(read(answers.into_inner(), waiting.clone(), heard));
                    Ok(reader)
                }
                Err(status) => {
                    waiting.end("the stream did not open");
                    Err(status)
                }
            }
        };
        let nothing = Asked::Empty(BatchCommandsEmptyRequest::default());
        let (reader, answered) = tokio::join!(opened, traffic.call(nothing, until));
        traffic._reader = reader?;
        match answered {
            Ok(_) => Ok(traffic),
            Err(_) => Err(Status::unavailable("the stream gave no answer")),
        }
    }

    /// Sends one request and waits for its answer until then. Dropping the future gives it up.
    pub(super) async fn call(&self, asked: Asked, until: Instant) -> Result<Answer, Broken> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (reply, answer) = oneshot::channel();
        let called = Called {
            id,
            ticket: Arc::default(),
            waiting: &self.waiting,
        };
        let queued = Queued {
            id,
            asked,
            ticket: called.ticket.clone(),
            reply,
        };
        let Ok(Ok(())) = timeout_at(until, self.queue.send(queued)).await else {
            return Err(Broken::NotTaken);
        };
        let answered = timeout_at(until, answer).await;
        match answered {
            Ok(Ok(Ok(answer))) => Ok(answer),
            Ok(Ok(Err(cause))) => Err(Broken::Lost(cause)),
            _ if called.ticket.have() => Err(Broken::NotTaken),
            Ok(Err(_)) => Err(Broken::Lost("the stream ended".into())),
            Err(_) => Err(Broken::Silent),
        }
    }
}

/// A call that is under way; dropping it gives it up.
struct Called<'a> {
    id: u64,
    ticket: Arc<Ticket>,
    waiting: &'a Waiting,
}

impl Drop for Called<'_> {
    fn drop(&mut self) {
        if !self.ticket.have() {
            self.waiting.forget(self.id);
        }
    }
}

impl Ticket {
    /// Whether nobody had it before.
    fn have(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }
}

impl Waiting {
    fn is_open(&self) -> bool {
        self.replies.lock().is_some()
    }

    /// Takes requests that nobody has given up. After the end of the stream there is none.
    fn take(&self, queued: Vec<Queued>) -> BatchCommandsRequest {
        let mut message = BatchCommandsRequest::default();
        let mut replies = self.replies.lock();
        let Some(replies) = replies.as_mut() else {
            return message;
        };
        for one in queued {
            if one.ticket.have() {
                replies.insert(one.id, one.reply);
                message.request_ids.push(one.id);
                message.requests.push(Request {
                    cmd: Some(one.asked),
                });
            }
        }
        message
    }

    /// Hands out answers. One that nobody waits for any more is dropped.
    fn answer(&self, message: BatchCommandsResponse) {
        let mut replies = self.replies.lock();
        let Some(replies) = replies.as_mut() else {
            return;
        };
        for (id, response) in message.request_ids.into_iter().zip(message.responses) {
            if let Some(reply) = replies.remove(&id) {
                let answer = response.cmd.ok_or_else(|| Arc::from("an empty answer"));
                // The caller may have gone at this very moment.
                let _ = reply.send(answer);
            }
        }
    }

    fn forget(&self, id: u64) {
        if let Some(replies) = self.replies.lock().as_mut() {
            replies.remove(&id);
        }
    }

    /// The stream has ended: nothing is taken any more, and nothing will be answered.
    fn end(&self, cause: &str) {
        let cause: Arc<str> = Arc::from(cause);
        for reply in self.replies.lock().take().into_iter().flatten() {
            // The caller may have gone at this very moment.
            let _ = reply.1.send(Err(cause.clone()));
        }
    }
}

/// What the connection sends: all that has gathered, each time it takes more.
fn batches(
    requests: mpsc::Receiver<Queued>,
    waiting: Arc<Waiting>,
) -> impl Stream<Item = BatchCommandsRequest> + Send + 'static {
    unfold((requests, waiting), |(mut requests, waiting)| async move {
        loop {
            let mut queued = Vec::new();
            if requests.recv_many(&mut queued, TOGETHER_MAX).await == 0 {
                return None;
            }
            let message = waiting.take(queued);
            if !message.requests.is_empty() {
                return Some((message, (requests, waiting)));
            }
        }
    })
}

/// Hands out answers until the stream ends.
async fn read(mut answers: Streaming<BatchCommandsResponse>, waiting: Arc<Waiting>, heard: Heard) {
    let cause = loop {
        match answers.message().await {
            Ok(Some(message)) => {
                heard.now();
                waiting.answer(message);
            }
            Ok(None) => break "the store ended the stream".to_owned(),
            Err(status) => match std::error::Error::source(&status) {
                Some(source) => break last_cause(source),
                None => break format!("{:?}: {}", status.code(), status.message()),
            },
        }
    };
    waiting.end(&cause);
}
