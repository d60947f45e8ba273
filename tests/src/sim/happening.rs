//! What can happen in a simulated cluster, and what all in it share: time, network, luck, and
//! what is written down.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use tinykv_env::Prng;
use tinykv_node::transport::{heartbeat_from_proto, heartbeat_to_proto};
use tinykv_raft::{GroupId, PeerId, Term};
use tinykv_replica::{Event, Heartbeat, PeerMessage, SnapshotSend, StoreId};

use super::client::{Fates, Packet};
use super::faults::Fault;
use super::host::Work;
use super::invariants::Invariants;
use super::letter::{Letter, travelled};
use super::network::Network;
use super::placement::{Question, Reply};
use super::report::Report;
use super::schedule::Schedule;
use super::trace::Trace;

/// From a broken connection to the other side's notice.
pub(super) const NOTICE_DELAY: Duration = Duration::from_millis(5);

/// Something that happens.
#[derive(Debug)]
pub(super) enum Happening {
    /// Work of one process in one of its lives.
    Work { at: StoreId, life: u64, work: Work },
    /// A message between peers arrives.
    Deliver { letter: Letter },
    /// The data of a snapshot arrives, with its message.
    Snapshot {
        from: StoreId,
        life: u64,
        send: Box<SnapshotSend>,
        data: Vec<(Bytes, Bytes)>,
    },
    /// A heartbeat between stores arrives.
    Hear {
        to: StoreId,
        from: StoreId,
        heartbeat: Heartbeat,
    },
    /// A client's request arrives at a store.
    Call { to: StoreId, packet: Packet },
    /// A store's answer arrives at a client.
    Answer { packet: Packet },
    /// A client's connection to a store broke, before a request was sent or after.
    Broken {
        client: usize,
        attempt: u64,
        sent: bool,
    },
    /// A client looks up who holds a key.
    Locate {
        client: usize,
        attempt: u64,
        key: String,
    },
    /// A question arrives at a member of the placement group.
    Ask(Asked),
    /// What placement says arrives at whoever asked.
    Told(Told),
    /// A client wants timestamps.
    Draw { client: usize },
    /// Whoever founds the cluster takes the next step.
    Found,
    /// The time has come that a client wanted to be reminded of.
    Remind { client: usize, attempt: u64 },
    /// A client thinks of something.
    Begin { client: usize },
    /// A process that is to join placement asks whom it joins.
    Knock { newcomer: usize },
    /// Bad luck.
    Fault(Fault),
    /// A process that was down comes back.
    Restart { at: StoreId, life: u64 },
    /// There is space again on a disk that was full.
    FreeDisk { at: StoreId },
    /// A process that did not want to lead wants to again.
    Willing { at: StoreId },
    /// A connection broke.
    Unreachable { at: StoreId, store: StoreId },
    /// The world looks whether the healed cluster is whole.
    Look,
}

/// A question to placement, or news for it.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) to: StoreId,
    pub(super) from: Asker,
    /// Which of the asker's calls it is.
    pub(super) call: u64,
    pub(super) question: Question,
}

/// An answer or an order of placement.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) to: Asker,
    pub(super) by: StoreId,
    /// The call that it answers; of no meaning for orders.
    pub(super) call: u64,
    pub(super) reply: Reply,
}

/// Who asks placement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Asker {
    /// A store, in one of its lives.
    Store {
        /// Which.
        id: StoreId,
        /// Its life.
        life: u64,
    },
    /// A client.
    Client(usize),
    /// A member of the placement group, in one of its lives.
    Member {
        /// Which.
        id: StoreId,
        /// Its life.
        life: u64,
    },
    /// A process that is to become one.
    Newcomer(usize),
    /// Somebody at a terminal, who founds the cluster and orders operators.
    Operator,
}

impl Asker {
    fn address(self) -> u64 {
        match self {
            Asker::Store { id, .. } | Asker::Member { id, .. } => id.0,
            Asker::Newcomer(newcomer) => NEWCOMERS_FROM + newcomer as u64,
            Asker::Client(client) => client_address(client),
            Asker::Operator => OPERATOR_ADDRESS,
        }
    }
}

const OPERATOR_ADDRESS: u64 = 999;
/// Where processes are that have no id yet.
const NEWCOMERS_FROM: u64 = 2_000_000;

/// Clients live beyond the stores in the network.
pub(super) fn client_address(client: usize) -> u64 {
    1_000_000 + client as u64
}

/// What everybody in the world shares.
pub(super) struct Context {
    pub(super) schedule: Schedule<Happening>,
    pub(super) network: Network,
    pub(super) random: Prng,
    pub(super) report: Report,
    pub(super) invariants: Invariants,
    /// What became of the writes of clients.
    pub(super) fates: Fates,
    pub(super) trace: Trace,
    /// Which store last came to lead a group.
    led: BTreeMap<GroupId, StoreId>,
    /// Which life each process is in.
    pub(super) lives: BTreeMap<StoreId, u64>,
}

impl Context {
    pub(super) fn new(network: Network, random: Prng, keep_trace: bool) -> Context {
        Context {
            schedule: Schedule::new(),
            network,
            random,
            report: Report {
                seeds: 1,
                ..Report::default()
            },
            invariants: Invariants::default(),
            fates: Fates::default(),
            trace: Trace::new(keep_trace),
            led: BTreeMap::new(),
            lives: BTreeMap::new(),
        }
    }

    pub(super) fn now(&self) -> Duration {
        self.schedule.now()
    }

    pub(super) fn trace(&mut self, what: fmt::Arguments<'_>) {
        self.trace.line(self.schedule.now(), what);
    }

    /// A line for whoever reads the trace.
    pub(super) fn detail(&mut self, what: fmt::Arguments<'_>) {
        self.trace.detail(self.schedule.now(), what);
    }

    /// Work for a process, if it still lives then.
    pub(super) fn after(&mut self, delay: Duration, at: StoreId, life: u64, work: Work) {
        let happening = Happening::Work { at, life, work };
        self.schedule.after(delay, happening);
    }

    /// A peer says that it leads.
    pub(super) fn on_leader(
        &mut self,
        store: StoreId,
        group: GroupId,
        term: Term,
        peer: PeerId,
    ) -> Result<(), String> {
        if !self.led.contains_key(&group)
            && let Some(parent) = self.invariants.parent(group)
            && self.led.get(&parent) == Some(&store)
        {
            self.report.probe("child_elected_beside_parent_leader");
        }
        self.led.insert(group, store);
        self.invariants.on_leader(group, term, peer)
    }

    /// A process sends a message to another peer; only its bytes travel.
    pub(super) fn send_message(&mut self, message: &PeerMessage) -> Result<(), String> {
        let now = self.schedule.now();
        self.invariants.on_send(now, message)?;
        let (from, to) = (message.from.store, message.to.store);
        let delays = self.network.send(from.0, to.0, &mut self.random);
        if delays.is_empty() {
            return Ok(());
        }
        let life = self.lives.get(&from).copied().unwrap_or(0);
        let sealed = Letter::seal(message, life);
        for delay in delays {
            let mut letter = sealed.clone();
            if self.network.garbles(&mut self.random) {
                letter.garble(&mut self.random);
                self.report.fault("garble");
            }
            self.schedule.after(delay, Happening::Deliver { letter });
        }
        Ok(())
    }

    /// A store tells another one that it lives.
    pub(super) fn send_heartbeat(&mut self, from: StoreId, to: StoreId, heartbeat: Heartbeat) {
        for delay in self.network.send(from.0, to.0, &mut self.random) {
            let heartbeat = heartbeat_from_proto(travelled(&heartbeat_to_proto(heartbeat)));
            let hear = Happening::Hear {
                to,
                from,
                heartbeat,
            };
            self.schedule.after(delay, hear);
        }
    }

    pub(super) fn send_snapshot(
        &mut self,
        from: StoreId,
        life: u64,
        send: SnapshotSend,
        data: Vec<(Bytes, Bytes)>,
    ) {
        let (group, to) = (send.message.group, send.message.to);
        let delays = self.network.send(from.0, to.store.0, &mut self.random);
        match delays.first() {
            Some(delay) => {
                let send = Box::new(send);
                let happening = Happening::Snapshot {
                    from,
                    life,
                    send,
                    data,
                };
                self.schedule.after(*delay * 5, happening);
            }
            None => self.snapshot_sent(from, life, group, to.id, false),
        }
    }

    /// The sender of a snapshot learns what became of it.
    pub(super) fn snapshot_sent(
        &mut self,
        from: StoreId,
        life: u64,
        group: GroupId,
        to: PeerId,
        delivered: bool,
    ) {
        let event = Event::SnapshotSent {
            group,
            to,
            delivered,
        };
        self.after(NOTICE_DELAY, from, life, Work::Post(Box::new(event)));
    }

    /// A store answers a client; the answer may get lost on its way.
    pub(super) fn answer(&mut self, from: StoreId, packet: Packet) {
        let address = client_address(packet.mark.client);
        let delays = self.network.send(from.0, address, &mut self.random);
        if let Some(delay) = delays.first() {
            self.schedule.after(*delay, Happening::Answer { packet });
        }
    }

    /// A store as it is now.
    pub(super) fn store_life(&self, id: StoreId) -> Asker {
        let life = self.lives.get(&id).copied().unwrap_or(0);
        Asker::Store { id, life }
    }

    /// Somebody asks a member of the placement group; the question may get lost on its way.
    pub(super) fn ask(&mut self, from: Asker, to: StoreId, call: u64, question: Question) {
        let delays = self.network.send(from.address(), to.0, &mut self.random);
        if let Some(delay) = delays.first() {
            let asked = Asked {
                to,
                from,
                call,
                question: question.over_the_wire(),
            };
            self.schedule.after(*delay, Happening::Ask(asked));
        }
    }

    /// A member of the placement group answers, or orders something.
    pub(super) fn tell(&mut self, by: StoreId, to: Asker, call: u64, reply: Reply) {
        let delays = self.network.send(by.0, to.address(), &mut self.random);
        if let Some(delay) = delays.first() {
            let told = Told {
                to,
                by,
                call,
                reply: reply.over_the_wire(),
            };
            self.schedule.after(*delay, Happening::Told(told));
        }
    }
}
