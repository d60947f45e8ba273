//! Connections to placement members and stores: one HTTP/2 connection an address, kept.
//!
//! A connection is made when it is first needed, by whoever needs it first; others wait for the
//! same attempt. It is kept alive by pings, so a dead peer is noticed also while nothing is asked.
//! One that failed, or was silent for a whole attempt, is dropped and made anew: after a partition
//! an old connection may wait long for its next retransmission.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use parking_lot::Mutex;
use tonic::transport::{Channel, Endpoint};

use super::clock::Clock;
use super::lane::{Lane, Traffic};

/// How long making a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// How often the other side is pinged.
const PING_INTERVAL: Duration = Duration::from_secs(4);

/// How long it may take to answer a ping.
const PING_TIMEOUT: Duration = Duration::from_secs(2);

/// Bytes the other side may send ahead on one stream, and on the connection.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;

/// Addresses kept at most; beyond that the first in order goes.
const CONNECTIONS_MAX: usize = 1_024;

/// All connections of a client.
#[derive(Debug)]
pub(crate) struct Connections {
    clock: Clock,
    links: Mutex<Links>,
}

#[derive(Debug, Default)]
struct Links {
    by_address: BTreeMap<Arc<str>, Link>,
    /// Numbers links, so that a late complaint about an old one does not drop the new one.
    next_number: u64,
}

/// A connection that was made or is being made.
#[derive(Clone, Debug)]
struct Link {
    number: u64,
    channel: Shared<BoxFuture<'static, Result<Channel, Arc<str>>>>,
    heard: Heard,
    /// For many calls on one stream; only stores have one.
    lane: Arc<Lane>,
}

/// When something was last received on a connection.
#[derive(Clone, Debug)]
pub(super) struct Heard {
    clock: Clock,
    /// In microseconds of the clock.
    at: Arc<AtomicU64>,
}

/// A connection in use.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    pub(crate) channel: Channel,
    address: Arc<str>,
    number: u64,
    heard: Heard,
    lane: Arc<Lane>,
}

impl Connections {
    pub(crate) fn new(clock: Clock) -> Connections {
        Connections {
            clock,
            links: Mutex::new(Links::default()),
        }
    }

    /// The connection to an address, made now if there is none. Fails with a sentence.
    pub(crate) async fn get(&self, address: &str) -> Result<Connection, Arc<str>> {
        let (address, link) = self.links.lock().link(address, self.clock);
        match link.channel.clone().await {
            Ok(channel) => Ok(Connection {
                channel,
                address,
                number: link.number,
                heard: link.heard,
                lane: link.lane,
            }),
            Err(cause) => {
                self.links.lock().remove(&address, link.number);
                Err(cause)
            }
        }
    }

    /// The other side of a connection answered.
    pub(crate) fn on_answer(&self, connection: &Connection) {
        connection.heard.now();
    }

    /// A connection failed.
    pub(crate) fn on_failure(&self, connection: &Connection) {
        self.links
            .lock()
            .remove(&connection.address, connection.number);
    }

    /// Somebody waited in vain since this time.
    pub(crate) fn on_silence(&self, connection: &Connection, since: Duration) {
        if connection.heard.last() < since {
            self.on_failure(connection);
        }
    }
}

impl Connection {
    /// The stream for many calls, if it is open; if not, it is being opened.
    pub(super) fn traffic(&self) -> Option<Arc<Traffic>> {
        self.lane.traffic(&self.channel, &self.heard)
    }
}

impl Heard {
    /// Something was received.
    pub(super) fn now(&self) {
        let now = self.clock.now().as_micros() as u64;
        self.at.fetch_max(now, Ordering::Relaxed);
    }

    fn last(&self) -> Duration {
        Duration::from_micros(self.at.load(Ordering::Relaxed))
    }
}

impl Links {
    /// The link of an address, begun now if there is none.
    fn link(&mut self, address: &str, clock: Clock) -> (Arc<str>, Link) {
        if let Some((address, link)) = self.by_address.get_key_value(address) {
            return (address.clone(), link.clone());
        }
        if self.by_address.len() == CONNECTIONS_MAX {
            self.by_address.pop_first();
        }
        self.next_number += 1;
        let address: Arc<str> = Arc::from(address);
        let link = Link {
            number: self.next_number,
            channel: connect(address.clone()).boxed().shared(),
            heard: Heard {
                clock,
                at: Arc::default(),
            },
            lane: Arc::default(),
        };
        self.by_address.insert(address.clone(), link.clone());
        (address, link)
    }

    /// Drops the link of an address if it is still the one of this number.
    fn remove(&mut self, address: &str, number: u64) {
        if self
            .by_address
            .get(address)
            .is_some_and(|link| link.number == number)
        {
            self.by_address.remove(address);
        }
    }
}

/// Makes a connection.
async fn connect(address: Arc<str>) -> Result<Channel, Arc<str>> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|_| Arc::from(format!("{address} is no host:port")))?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
    endpoint
        .connect()
        .await
        .map_err(|error| Arc::from(last_cause(&error)))
}

/// What an error says at the bottom of its chain; the layers above only say "transport error".
pub(crate) fn last_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}
