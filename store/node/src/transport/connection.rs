//! The sending side of one stream: connect, say hello, send frames, and when it breaks tell the
//! shards and try again.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tinykv_proto::peer::deliver_request::Kind;
use tinykv_proto::peer::peer_client::PeerClient;
use tinykv_proto::peer::{DeliverRequest, Frame, Hello};
use tinykv_replica::StoreId;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};

use super::queue::{Load, PeerQueue};
use super::{Destination, GRPC_BYTES_MAX, Shared, Transport, WIRE_VERSION, codec, watch};

/// A connection attempt that takes longer has failed.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(1000);
/// How often an open connection is asked whether the other side still lives …
const KEEPALIVE_INTERVAL: Duration = Duration::from_millis(1000);
/// … and how long it has to answer.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_millis(1000);
/// The wait after the first failed attempt; doubled by each further one.
const BACK_OFF_MIN: Duration = Duration::from_millis(20);
/// The longest wait: what a store that comes back has to wait for at most.
const BACK_OFF_MAX: Duration = Duration::from_millis(500);
/// Frames between the queue and the socket.
const FRAMES_IN_FLIGHT: usize = 4;

/// How an attempt or a connection ended.
#[derive(Debug)]
enum Broken {
    /// Nobody knows where the store is.
    Unknown,
    /// Nobody listens there: the process is gone.
    Gone(String),
    /// Anything else: a partition, a refusal, a reset.
    Lost(String),
}

/// Keeps one store connected as long as there is something to say, until the transport stops.
pub(super) async fn run(transport: Transport, queue: Arc<PeerQueue>) {
    let shared = &transport.shared;
    let work = async {
        let mut back_off = BackOff::new();
        queue.filled().await;
        loop {
            let begun = tokio::time::Instant::now();
            let broken = match connect(shared, queue.store()).await {
                Ok((channel, destination)) => {
                    tracing::debug!(store = %queue.store(), "connected to a peer");
                    queue.set_connected(true);
                    stream(shared, &queue, channel, &destination).await
                }
                Err(broken) => broken,
            };
            queue.set_connected(false);
            queue.clear();
            let lasted = begun.elapsed() > CONNECT_TIMEOUT * 2;
            report(
                &transport,
                queue.store(),
                &broken,
                back_off.is_first() || lasted,
            );
            tokio::time::sleep(back_off.next(lasted)).await;
            if !matches!(broken, Broken::Lost(_)) {
                queue.filled().await;
            }
        }
    };
    tokio::select! {
        () = work => {}
        () = shared.stop.cancelled() => {}
    }
}

/// The wait between two attempts.
struct BackOff {
    wait: Duration,
}

impl BackOff {
    fn new() -> BackOff {
        BackOff { wait: BACK_OFF_MIN }
    }

    fn is_first(&self) -> bool {
        self.wait == BACK_OFF_MIN
    }

    /// The next wait; begins anew after a connection that lasted.
    fn next(&mut self, lasted: bool) -> Duration {
        if lasted {
            self.wait = BACK_OFF_MIN;
        }
        let wait = self.wait;
        self.wait = (wait * 2).min(BACK_OFF_MAX);
        wait
    }
}

/// Tells the shards; the log hears of the first failure of a series only.
fn report(transport: &Transport, store: StoreId, broken: &Broken, is_news: bool) {
    match broken {
        Broken::Unknown if is_news => tracing::info!(%store, "the address of a peer is not known"),
        Broken::Gone(error) if is_news => tracing::info!(%store, error, "a peer is gone"),
        Broken::Lost(error) if is_news => {
            tracing::info!(%store, error, "the connection to a peer is lost");
        }
        _ => tracing::debug!(%store, ?broken, "a peer is still out of reach"),
    }
    if matches!(broken, Broken::Gone(_)) {
        transport.shared.sink.dead(store);
    }
    transport.lose(store);
}

/// A channel to the store, for streams of messages and of snapshots alike.
pub(super) async fn open(
    shared: &Shared,
    store: StoreId,
) -> Result<(PeerClient<Channel>, Hello), String> {
    let (channel, destination) = connect(shared, store)
        .await
        .map_err(|broken| match broken {
            Broken::Unknown => "its address is not known".to_owned(),
            Broken::Gone(error) | Broken::Lost(error) => error,
        })?;
    Ok((client(channel), hello(shared, store, &destination)))
}

async fn connect(shared: &Shared, store: StoreId) -> Result<(Channel, Destination), Broken> {
    let destination = shared
        .resolver
        .resolve(store)
        .await
        .ok_or(Broken::Unknown)?;
    let bare = destination.address.trim_start_matches("http://");
    let endpoint = Endpoint::from_shared(format!("http://{bare}"))
        .map_err(|error| Broken::Lost(format!("bad address {bare}: {error}")))?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(4 << 20)
        .initial_connection_window_size(16 << 20);
    match endpoint.connect().await {
        Ok(channel) => Ok((channel, destination)),
        Err(error) if is_refused(&error) => Err(Broken::Gone(chain(&error))),
        Err(error) => Err(Broken::Lost(chain(&error))),
    }
}

/// Sends frames until the stream ends, which it does only by breaking.
async fn stream(
    shared: &Shared,
    queue: &PeerQueue,
    channel: Channel,
    destination: &Destination,
) -> Broken {
    let (frames, receiver) = mpsc::channel(FRAMES_IN_FLIGHT);
    let hello = Kind::Hello(hello(shared, queue.store(), destination));
    let mut client = client(channel);
    let feed = async {
        let mut next = vec![hello];
        loop {
            for kind in next {
                let request = DeliverRequest { kind: Some(kind) };
                if frames.send(request).await.is_err() {
                    // The call below knows why nobody reads any more.
                    return std::future::pending().await;
                }
            }
            let Load {
                heartbeats,
                messages,
            } = queue.take().await;
            let heartbeats = heartbeats.into_iter().map(watch::heartbeat_to_proto);
            next = heartbeats.map(Kind::Heartbeat).collect();
            if !messages.is_empty() {
                next.push(Kind::Frame(seal(codec::encode_messages(&messages))));
            }
        }
    };
    let call = client.deliver(ReceiverStream::new(receiver));
    tokio::select! {
        answer = call => Broken::Lost(match answer {
            Ok(_) => "the other side ended the stream".to_owned(),
            Err(status) => chain(&status),
        }),
        never = feed => never,
    }
}

fn client(channel: Channel) -> PeerClient<Channel> {
    PeerClient::new(channel)
        .max_decoding_message_size(GRPC_BYTES_MAX)
        .max_encoding_message_size(GRPC_BYTES_MAX)
}

fn hello(shared: &Shared, to: StoreId, destination: &Destination) -> Hello {
    Hello {
        version: WIRE_VERSION,
        cluster_id: shared.identity.cluster_id,
        from: shared.identity.member_id,
        from_incarnation: shared.identity.incarnation,
        from_start_number: shared.identity.start_number,
        to: to.0,
        to_incarnation: destination.incarnation.unwrap_or(0),
        from_address: shared.resolver.own_address(),
    }
}

/// Puts bytes under a checksum.
pub fn seal(payload: bytes::Bytes) -> Frame {
    Frame {
        crc32c: crc32c::crc32c(&payload),
        payload,
    }
}

/// The system said that nobody listens at the address.
fn is_refused(error: &tonic::transport::Error) -> bool {
    let mut source = error.source();
    while let Some(error) = source {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return io.kind() == io::ErrorKind::ConnectionRefused;
        }
        source = error.source();
    }
    false
}

/// tonic says "transport error"; what happened stands below it.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = error.source();
    }
    text
}
