//! A TCP relay before a server, to break connections with.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How the relay treats its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Carries bytes.
    Open,
    /// Accepts connections and carries nothing, in either direction.
    Silent,
}

/// The relay. Dropping it closes everything.
pub(crate) struct Wire {
    address: SocketAddr,
    /// Bound, never listening: while the wire is closed nobody else gets the port.
    _keeper: TcpSocket,
    server: SocketAddr,
    mode: watch::Sender<Mode>,
    /// The acceptor; none while the wire is closed.
    acceptor: JoinSet<()>,
    relays: Arc<Mutex<JoinSet<()>>>,
}

impl Wire {
    /// A relay before a server, on a port of its own.
    pub(crate) async fn open(server: &TcpListener) -> Wire {
        let server = server.local_addr().expect("it is bound");
        let keeper = bound("127.0.0.1:0".parse().expect("an address"));
        let address = keeper.local_addr().expect("it is bound");
        let mut wire = Wire {
            address,
            _keeper: keeper,
            server,
            mode: watch::Sender::new(Mode::Open),
            acceptor: JoinSet::new(),
            relays: Arc::default(),
        };
        wire.reopen();
        wire
    }

    /// Where clients connect.
    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    /// Breaks every connection; new ones are fine.
    pub(crate) fn cut(&self) {
        *self.relays.lock().expect("no panic") = JoinSet::new();
    }

    /// Breaks every connection and refuses new ones, as if the process were killed.
    pub(crate) async fn close(&mut self) {
        self.acceptor.shutdown().await;
        self.cut();
    }

    /// Takes connections again after [`Wire::close`], on the same port.
    pub(crate) fn reopen(&mut self) {
        let listener = bound(self.address).listen(128);
        self.accept(listener.expect("nobody else has the port"));
    }

    /// Carries nothing any more, old connections and new, as if packets were dropped.
    pub(crate) fn silence(&self) {
        self.mode.send_replace(Mode::Silent);
    }

    fn accept(&mut self, listener: TcpListener) {
        let (server, relays, mode) = (self.server, self.relays.clone(), self.mode.subscribe());
        self.acceptor.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let relay = relay(client, server, mode.clone());
                relays.lock().expect("no panic").spawn(relay);
            }
        });
    }
}

/// Carries the bytes of one connection as long as the wire is open.
async fn relay(mut client: TcpStream, server: SocketAddr, mut mode: watch::Receiver<Mode>) {
    let silent = {
        let mut mode = mode.clone();
        async move { mode.wait_for(|mode| *mode == Mode::Silent).await.is_ok() }
    };
    let carried = async {
        let mut server = TcpStream::connect(server).await?;
        copy_bidirectional(&mut client, &mut server).await
    };
    tokio::select! {
        biased;
        true = silent => {}
        _ = carried => return,
    }
    // Keeps both sockets open and untouched until the wire is dropped.
    let _never = mode.wait_for(|_| false).await;
}

/// A socket on an address that several sockets of this kind may have, and no others.
fn bound(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_reuseport(true).expect("it is allowed");
    socket.bind(address).expect("a free port");
    socket
}
