//! What travels between peers: the bytes that the production transport makes of a message, under
//! its seal, behind its hello. Nothing of a message reaches the other side but through them.
//!
//! A letter may be garbled on its way. Whatever is, is refused by the production checks: a hello
//! of another cluster or of an outdated start by the roster, a turned bit by the seal, bytes that
//! end too early by the decoder.

use prost::Message;
use tinykv_env::Prng;
use tinykv_node::identity::{Identity, Role};
use tinykv_node::transport::{
    Admitted, Destination, Refused, Roster, SnapshotHeader, WIRE_VERSION, check, decode_messages,
    decode_snapshot_header, encode_messages, encode_snapshot_header, introduction, may_come, seal,
};
use tinykv_proto::peer::{Frame, Hello};
use tinykv_replica::{PeerMessage, StoreId};

use super::placement::GROUP;

/// The cluster that is simulated, and another one.
const CLUSTER: u64 = 7;
const FOREIGN_CLUSTER: u64 = 8;

/// A message on its way.
#[derive(Clone, Debug)]
pub(super) struct Letter {
    pub(super) to: StoreId,
    /// What both ends are.
    role: Role,
    hello: Hello,
    frame: Frame,
}

/// What a letter turns out to be.
#[derive(Debug)]
pub(super) enum Opened {
    /// Messages of a store; whether it was started anew since it last spoke.
    Messages {
        messages: Vec<PeerMessage>,
        restarted: bool,
        /// Where it is, if it had to say so.
        introduced: Option<Destination>,
    },
    /// Nothing that may be believed; the name of a probe.
    Refused(&'static str),
}

impl Letter {
    /// A message of a process in one of its lives.
    pub(super) fn seal(message: &PeerMessage, life: u64) -> Letter {
        let payload = encode_messages(std::slice::from_ref(message));
        Letter {
            to: message.to.store,
            role: role(message),
            hello: hello(message, life),
            frame: seal(payload),
        }
    }

    /// Something happens to it on its way.
    pub(super) fn garble(&mut self, random: &mut Prng) {
        let mut payload = self.frame.payload.to_vec();
        let place = random.below(payload.len() as u64) as usize;
        match random.below(4) {
            0 => {
                payload[place] ^= 1 << random.below(8);
                self.frame.payload = payload.into();
            }
            // The seal holds, but the sender had sealed nonsense.
            1 => self.frame = seal(self.frame.payload.slice(..place)),
            2 => self.hello.cluster_id = FOREIGN_CLUSTER,
            _ => self.hello.from_incarnation ^= 1,
        }
    }

    /// Who it says it comes from.
    pub(super) fn from(&self) -> StoreId {
        StoreId(self.hello.from)
    }

    /// The receiver's checks, in the order of the production service; `registered` is the sender as the
    /// receiver knows it.
    pub(super) fn open(
        &self,
        roster: &Roster,
        life: u64,
        registered: Option<&Destination>,
    ) -> Opened {
        let here = identity(self.to, self.role, life);
        let (guest, restarted) = match roster.admit(&here, &self.hello, registered) {
            Ok(Admitted::Known(guest)) => (guest, false),
            Ok(Admitted::Restarted(guest)) => (guest, true),
            Err(refused) => return Opened::Refused(probe(&refused)),
        };
        if let Err(refused) = check(&guest, &self.frame) {
            return Opened::Refused(probe(&refused));
        }
        match decode_messages(&self.frame.payload) {
            Err(error) => Opened::Refused(probe(&error.into())),
            Ok(mut messages) => {
                messages.retain(|message| may_come(self.to, &guest, message).is_ok());
                Opened::Messages {
                    messages,
                    restarted,
                    introduced: introduction(&self.hello, registered),
                }
            }
        }
    }
}

/// The message and the state that go before a snapshot's data, as the other side reads them.
pub(super) fn through_the_wire(header: &SnapshotHeader) -> SnapshotHeader {
    let bytes = encode_snapshot_header(header);
    decode_snapshot_header(&bytes).expect("what was just encoded can be decoded")
}

fn probe(refused: &Refused) -> &'static str {
    match refused {
        Refused::OtherCluster { .. } => "foreign_refused",
        Refused::Outdated { .. } | Refused::Superseded { .. } => "outdated_start_refused",
        Refused::Checksum { .. } => "broken_seal_refused",
        Refused::Malformed(_) => "truncated_refused",
        _ => "refused_for_another_reason",
    }
}

fn hello(message: &PeerMessage, life: u64) -> Hello {
    let from = identity(message.from.store, role(message), life);
    Hello {
        version: WIRE_VERSION,
        cluster_id: from.cluster_id,
        from: from.member_id,
        from_incarnation: from.incarnation,
        from_start_number: from.start_number,
        to: message.to.store.0,
        to_incarnation: incarnation(message.to.store),
        from_address: match role(message) {
            Role::Placement => format!("member-{}", message.from.store),
            Role::Store => String::new(),
        },
    }
}

fn role(message: &PeerMessage) -> Role {
    match message.group == GROUP {
        true => Role::Placement,
        false => Role::Store,
    }
}

fn identity(store: StoreId, role: Role, life: u64) -> Identity {
    Identity {
        role,
        cluster_id: CLUSTER,
        member_id: store.0,
        incarnation: incarnation(store),
        start_number: life,
    }
}

/// The number of a process's data directory.
pub(super) fn incarnation(store: StoreId) -> u64 {
    store.0 << 8
}

/// A process as everybody knows it for good.
pub(super) fn destination(store: StoreId) -> Destination {
    Destination {
        address: String::new(),
        incarnation: Some(incarnation(store)),
        start_number: None,
    }
}

/// A message as it arrives where nothing is wrong with the connection: encoded and decoded.
pub(super) fn travelled<M: Message + Default>(message: &M) -> M {
    let bytes = message.encode_to_vec();
    M::decode(bytes.as_slice()).expect("what was encoded can be decoded")
}
