//! The RESP door: what Redis's clients, `redis-cli` and people at a telnet speak.
//!
//! Any store serves any key: a command becomes a call of `tinykv-client`, which finds the leaders,
//! follows splits and moves, and tells the truth about what became of it. Keys and values are the
//! raw ones without keyspace, so what `redis-cli` sets, `tinykv-ctl get` and TiKV's raw clients
//! read.
//!
//! # From the bytes inwards
//!
//! * `splitter`, `inline`, `number`: bytes in, commands out; bounded, without I/O.
//! * `command`, `glob`: the words of a command become an answer or a call. Without I/O.
//! * `pipeline`: which commands of a connection run at the same time, and the order of the
//!   answers. Without I/O.
//! * `perform`, `cursors`: calls carried out through the client.
//! * `own_regions`: what that client is told by the store when placement does not answer.
//! * `reply`, `refusal`: answers and errors, in RESP2 and, after `HELLO 3`, RESP3.
//! * `limits`, `connection`, `figures` and [`Door`]: sockets.
//!
//! # What holds
//!
//! * An answer means what it means everywhere: a positive one that the write is durable on a
//!   majority; `-UNDETERMINED` that nobody knows; any other error that nothing was changed. The
//!   connection stays usable after each of them. Nothing is sent again for a client.
//! * Single commands are linearizable. `MSET`, `MGET`, `DEL` and `EXISTS` over several regions are
//!   not one step, as they are in Redis, but one for each region; the error says how far it got.
//!   Each answer of `SCAN` is a snapshot, and every key that stays is seen exactly once.
//! * Answers leave in the order of the commands, and each is as if the commands of the connection
//!   were carried out one by one. Those of a pipeline on different keys are carried out at the same
//!   time, so another connection may see the later one first.
//! * Nothing that was only announced takes memory; see `limits` for what happens when there is
//!   too much of anything.
//!
//! # Not here
//!
//! Data types other than strings, transactions (`MULTI`), scripts, publish and subscribe, several
//! databases, passwords. The door has none of Redis's cluster protocol: it needs none.

mod splitter;

mod inline;
mod number;

mod command;
mod glob;

mod pipeline;

mod cursors;
mod perform;

mod own_regions;

mod refusal;
mod reply;

mod limits;

mod connection;
mod figures;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use tinykv_client::RawClient;
use tinykv_node::failure::Failure;
use tinykv_node::process::Stop;
use tinykv_node::spawn::Tasks;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};
use tokio_stream::StreamExt;
use tonic::transport::server::TcpIncoming;

pub use own_regions::OwnRegions;

use command::{Call, Facts};
use cursors::Cursors;
use figures::Figures;
use limits::{BYTES_MAX, CALLS_MAX, CONNECTIONS_MAX};
use reply::Reply;

/// How long to wait when no connection can be taken, for want of file descriptors mostly.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How often a silent client is asked whether it still lives, by its operating system.
const KEEPALIVE: Duration = Duration::from_secs(300);

/// Who a door belongs to.
#[derive(Clone, Copy, Debug)]
pub struct Owner {
    /// The store.
    pub store: u64,
    /// Its cluster.
    pub cluster: u64,
    /// A random number, different at every start.
    pub random: u64,
}

/// A bound port that does not serve yet.
#[derive(Debug)]
pub struct Listener {
    listener: TcpListener,
    address: SocketAddr,
}

impl Listener {
    /// Binds the port, so that everything that is wrong with the address shows at the start.
    ///
    /// # Errors
    /// [`Failure::Configuration`] when the address is in use or cannot be listened on.
    pub async fn bind(address: SocketAddr) -> Result<Listener, Failure> {
        let refuse = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::AddrInUse => {
                Failure::configuration(format!("the --resp-addr {address} is already in use"))
            }
            _ => Failure::configuration(format!("cannot listen on --resp-addr {address}: {error}")),
        };
        let listener = TcpListener::bind(address).await.map_err(refuse)?;
        let address = listener.local_addr().map_err(refuse)?;
        Ok(Listener { listener, address })
    }

    /// The address that is really bound; differs from the asked one when its port was 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// What all connections share.
#[derive(Debug)]
pub struct Door {
    client: RawClient,
    owner: Owner,
    port: u16,
    started: Instant,
    cursors: Mutex<Cursors>,
    /// Calls under way.
    calls: Semaphore,
    /// Connections that are open.
    connections: Arc<Semaphore>,
    /// Connections so far.
    connected: AtomicU64,
    /// What all connections hold; see [`limits::BYTES_MAX`].
    bytes: AtomicUsize,
    figures: Figures,
}

impl Door {
    /// A door through which a client is asked.
    pub fn new(listener: &Listener, client: RawClient, owner: Owner) -> Door {
        Door {
            client,
            owner,
            port: listener.address.port(),
            started: Instant::now(),
            cursors: Mutex::new(Cursors::new(owner.random)),
            calls: Semaphore::new(CALLS_MAX),
            connections: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            connected: AtomicU64::new(0),
            bytes: AtomicUsize::new(0),
            figures: Figures::default(),
        }
    }

    /// Registers what it counts.
    pub fn register(&self, registry: &mut Registry) {
        self.figures.register(registry);
    }

    /// Takes connections until `stop` is requested; each lives in a task of its own, answers what
    /// it has begun, and ends.
    pub async fn serve(self: Arc<Door>, listener: Listener, tasks: Tasks, stop: Stop) {
        let mut incoming = TcpIncoming::from(listener.listener)
            .with_nodelay(Some(true))
            .with_keepalive(Some(KEEPALIVE));
        loop {
            let next = tokio::select! {
                next = incoming.next() => next,
                () = stop.requested() => return,
            };
            match next {
                Some(Ok(stream)) => self.take(stream, &tasks, &stop),
                Some(Err(error)) => {
                    tracing::warn!("the RESP door cannot take a connection: {error}");
                    sleep(ACCEPT_PAUSE).await;
                }
                None => return,
            }
        }
    }

    fn take(self: &Arc<Door>, stream: TcpStream, tasks: &Tasks, stop: &Stop) {
        let Ok(permit) = Arc::clone(&self.connections).try_acquire_owned() else {
            self.figures.on_refused();
            // It is closed whether it hears this or not.
            let _ = stream.try_write(b"-ERR max number of clients reached\r\n");
            return;
        };
        let (door, stop) = (Arc::clone(self), stop.clone());
        tasks.spawn("resp connection", async move {
            connection::serve(door, stream, stop).await;
            drop(permit);
        });
    }

    /// Carries out a call, once there is room for it.
    async fn perform(&self, call: Call) -> Reply {
        let permit = self.calls.acquire().await;
        let reply = perform::perform(&self.client, &self.cursors, call).await;
        drop(permit);
        reply
    }

    fn next_id(&self) -> u64 {
        1 + self.connected.fetch_add(1, Ordering::Relaxed)
    }

    /// Whether all connections together hold little enough.
    fn has_room(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) < BYTES_MAX
    }

    /// A connection that held `before` bytes holds `now`.
    fn recount(&self, before: usize, now: usize) {
        if now >= before {
            self.bytes.fetch_add(now - before, Ordering::Relaxed);
        } else {
            self.bytes.fetch_sub(before - now, Ordering::Relaxed);
        }
    }

    fn facts(&self) -> Facts {
        let mut facts = Facts {
            store: self.owner.store,
            cluster: self.owner.cluster,
            port: self.port,
            uptime_seconds: self.started.elapsed().as_secs(),
            ..Facts::default()
        };
        self.figures.tell(&mut facts);
        facts
    }
}
