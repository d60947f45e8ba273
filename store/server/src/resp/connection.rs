//! One connection from its first byte to its last.
//!
//! One task owns it: it reads when there is room, begins the calls that may begin, and writes what
//! is answered. A client that does not read its answers is not read from, and nothing is begun for
//! it beyond its bounds. An idle connection holds no buffer.

use std::io;
use std::sync::Arc;

use bytes::{Buf, BytesMut};
use futures::FutureExt;
use futures::stream::{FuturesUnordered, StreamExt};
use tinykv_node::process::Stop;
use tokio::io::{AsyncWriteExt, Interest, Ready};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use super::Door;
use super::command::{self, Action, Call, Session};
use super::limits::{
    CALLS_PER_CONNECTION_MAX, COMMANDS_PER_CONNECTION_MAX, CONNECTION_BYTES_MAX,
    CONNECTION_BYTES_MIN, LAST_BYTES_MAX, LAST_BYTES_TIME_MAX, ROOM_LOOK_INTERVAL, ROOM_WAIT_MAX,
};
use super::pipeline::{Number, Pipeline};
use super::reply::{Protocol, Reply};
use super::splitter::{ARGUMENT_COST_BYTES, Splitter};

/// Bytes read at a time.
const READ_BYTES: usize = 16 << 10;

/// Serves a connection until either side ends it.
pub(super) async fn serve(door: Arc<Door>, mut stream: TcpStream, stop: Stop) {
    let mut connection = Connection::new(&door);
    let mut calls = FuturesUnordered::new();
    let mut stopping = false;
    loop {
        while let Some((number, call)) = connection.begin() {
            let door = Arc::clone(&door);
            calls.push(async move { (number, door.perform(call).await) }.boxed());
        }
        connection.encode();
        if connection.is_over() {
            break;
        }
        let interest = connection.interest();
        let looks = connection.waits_for_room(interest);
        tokio::select! {
            ready = ready(&stream, interest) => {
                let transferred = ready.and_then(|ready| connection.transfer(&stream, ready));
                if transferred.is_err() {
                    return;
                }
            }
            Some((number, reply)) = calls.next() => connection.pipeline.end(number, reply),
            () = stop.requested(), if !stopping => {
                stopping = true;
                connection.reading = false;
            }
            () = sleep(ROOM_LOOK_INTERVAL), if looks => {}
        }
    }
    drop(connection);
    close(&mut stream).await;
}

/// Resolves when the connection can do what is wanted; never if that is nothing.
async fn ready(stream: &TcpStream, interest: Option<Interest>) -> io::Result<Ready> {
    match interest {
        Some(interest) => stream.ready(interest).await,
        None => std::future::pending().await,
    }
}

/// Says that nothing more comes and takes the last of what the client sends: a connection that is
/// closed with bytes unread is reset, and the client might never see its last answers.
async fn close(stream: &mut TcpStream) {
    // The client may be gone already.
    let _ = stream.shutdown().await;
    let drain = async {
        let mut taken = 0;
        while taken < LAST_BYTES_MAX && stream.readable().await.is_ok() {
            match stream.try_read(&mut [0; READ_BYTES]) {
                Ok(0) => return,
                Ok(count) => taken += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    };
    // Whoever still sends is cut off.
    let _ = timeout(LAST_BYTES_TIME_MAX, drain).await;
}

struct Connection<'a> {
    door: &'a Door,
    session: Session,
    splitter: Splitter,
    pipeline: Pipeline,
    /// Answers on their way.
    out: BytesMut,
    /// How the next answer is encoded.
    protocol: Protocol,
    /// Whether more commands may come.
    reading: bool,
    /// What is counted for it at the door.
    counted: usize,
    /// Since when it waits for other connections to hold less.
    waits_since: Option<Instant>,
}

impl<'a> Connection<'a> {
    fn new(door: &'a Door) -> Connection<'a> {
        door.figures.on_open();
        Connection {
            door,
            session: Session {
                id: door.next_id(),
                ..Session::default()
            },
            splitter: Splitter::default(),
            pipeline: Pipeline::default(),
            out: BytesMut::new(),
            protocol: Protocol::default(),
            reading: true,
            counted: 0,
            waits_since: None,
        }
    }

    /// A call that may begin now and within bounds. The one whose answer must leave next may
    /// always begin once nothing else is under way.
    fn begin(&mut self) -> Option<(Number, Call)> {
        let running = self.pipeline.running();
        let holds = self.pipeline.bytes() + self.out.len();
        if running == 0 && self.out.is_empty() {
            return self.pipeline.begin_first();
        }
        let within =
            running < CALLS_PER_CONNECTION_MAX && holds < CONNECTION_BYTES_MAX && self.has_room();
        if within { self.pipeline.begin() } else { None }
    }

    /// Encodes the answers that may leave.
    fn encode(&mut self) {
        while self.out.len() < CONNECTION_BYTES_MAX {
            let Some(answer) = self.pipeline.next_answer() else {
                break;
            };
            if let Reply::Error(text) = &answer.reply {
                self.door.figures.on_error(text);
            }
            self.protocol = answer.speak.unwrap_or(self.protocol);
            answer.reply.encode(self.protocol, &mut self.out);
        }
        self.count();
    }

    /// Whether nothing is left to do.
    fn is_over(&self) -> bool {
        !self.reading && self.pipeline.len() == 0 && self.out.is_empty()
    }

    /// What the socket is wanted for.
    fn interest(&self) -> Option<Interest> {
        let writes = (!self.out.is_empty()).then_some(Interest::WRITABLE);
        let reads = (self.takes_more() && self.has_room()).then_some(Interest::READABLE);
        match (reads, writes) {
            (Some(reads), Some(writes)) => Some(reads | writes),
            (reads, writes) => reads.or(writes),
        }
    }

    /// Whether the connection itself has room for another command.
    fn takes_more(&self) -> bool {
        self.reading
            && self.pipeline.len() < COMMANDS_PER_CONNECTION_MAX
            && self.pipeline.bytes() + self.out.len() < CONNECTION_BYTES_MAX
    }

    /// Whether all connections together have room, or this one holds so little that it does not
    /// matter.
    fn has_room(&self) -> bool {
        self.counted < CONNECTION_BYTES_MIN || self.door.has_room()
    }

    /// Whether it only waits for others to hold less. One that has waited too long is told so.
    fn waits_for_room(&mut self, interest: Option<Interest>) -> bool {
        let waits = interest.is_none() && self.pipeline.running() == 0 && self.reading;
        if !waits {
            self.waits_since = None;
            return false;
        }
        let since = *self.waits_since.get_or_insert_with(Instant::now);
        if since.elapsed() > ROOM_WAIT_MAX {
            self.give_up(Reply::Error(
                "TRYAGAIN the commands of all connections together take too much memory".to_owned(),
            ));
        }
        true
    }

    /// Reads and writes as far as the socket allows without waiting.
    fn transfer(&mut self, stream: &TcpStream, ready: Ready) -> io::Result<()> {
        if ready.is_writable() {
            while !self.out.is_empty() {
                match stream.try_write(&self.out) {
                    Ok(written) => self.out.advance(written),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error),
                }
            }
            if self.out.is_empty() {
                self.out = BytesMut::new();
            }
        }
        if ready.is_readable() {
            let mut buffer = [0; READ_BYTES];
            match stream.try_read(&mut buffer) {
                Ok(0) => self.reading = false,
                Ok(count) => self.take(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Takes what has arrived.
    fn take(&mut self, mut input: &[u8]) {
        while self.reading {
            match self.splitter.next(&mut input) {
                Ok(Some(words)) => self.on_command(words),
                Ok(None) => break,
                Err(error) => self.give_up(Reply::error(error.to_string())),
            }
        }
    }

    fn on_command(&mut self, words: Vec<bytes::Bytes>) {
        let (name, action) = command::plan(&words, &mut self.session);
        self.door.figures.on_command(name);
        match action {
            Action::Answer(reply) => self.pipeline.push_answer(reply, None),
            Action::Speak(protocol, reply) => self.pipeline.push_answer(reply, Some(protocol)),
            Action::Info(sections) => {
                let text = self.door.facts().text(&sections);
                self.pipeline.push_answer(Reply::Text(text), None);
            }
            Action::Quit(reply) => self.give_up(reply),
            Action::Drop => self.reading = false,
            Action::Call(call) => {
                let size = words.iter().map(|word| word.len() + ARGUMENT_COST_BYTES);
                self.pipeline.push_call(call, size.sum());
            }
        }
    }

    /// Answers a last time.
    fn give_up(&mut self, reply: Reply) {
        self.reading = false;
        self.pipeline.push_answer(reply, None);
    }

    /// Tells the door what this connection holds.
    fn count(&mut self) {
        let holds = self.splitter.held() + self.pipeline.bytes() + self.out.capacity();
        self.door.recount(self.counted, holds);
        self.counted = holds;
    }
}

impl Drop for Connection<'_> {
    fn drop(&mut self) {
        self.door.recount(self.counted, 0);
        self.door.figures.on_close();
    }
}
