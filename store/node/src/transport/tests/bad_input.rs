//! What somebody sends who is no store of ours, or one that has lost its mind.

use bytes::Bytes;
use tinykv_proto::peer::deliver_request::Kind;
use tinykv_proto::peer::peer_client::PeerClient;
use tinykv_proto::peer::{
    DeliverRequest, Frame, Hello, SnapshotRequest, snapshot_request::Kind as SnapshotKind,
};
use tinykv_raft::{
    Append, Entry, EntryId, Message, MessageBody, Payload, Pulse, Snapshot, SnapshotMetadata, Term,
};
use tonic::transport::Channel;

use super::*;
use connection::seal;

/// The store that is spoken to; the speaker says that it is store 2.
struct Listener {
    end: End,
    client: PeerClient<Channel>,
}

impl Listener {
    async fn start() -> Listener {
        let addresses = Addresses::default();
        let end = End::start(1, 7, 1, &addresses).await;
        let address = addresses.0.lock()[&StoreId(1)];
        let channel = Channel::from_shared(format!("http://{address}")).expect("an address");
        let client = PeerClient::new(channel.connect().await.expect("it listens"))
            .max_encoding_message_size(usize::MAX);
        Listener { end, client }
    }

    /// Sends these and ends the stream; how it was taken.
    async fn deliver(&self, elements: Vec<Kind>) -> Result<(), Code> {
        let requests = elements.into_iter();
        let requests = requests.map(|kind| DeliverRequest { kind: Some(kind) });
        let stream = tokio_stream::iter(requests.collect::<Vec<_>>());
        let answer = self.client.clone().deliver(stream).await;
        answer.map(|_| ()).map_err(|status| status.code())
    }

    async fn send_snapshot(&self, elements: Vec<SnapshotKind>) -> Result<(), Code> {
        let requests = elements.into_iter();
        let requests = requests.map(|kind| SnapshotRequest { kind: Some(kind) });
        let stream = tokio_stream::iter(requests.collect::<Vec<_>>());
        let answer = self.client.clone().send_snapshot(stream).await;
        answer.map(|_| ()).map_err(|status| status.code())
    }

    fn refused(&self, reason: &'static str) -> u64 {
        self.end.transport.shared.metrics.refused(reason).get()
    }

    /// What is refused for a reason is counted once, and the next one is heard as if nothing was.
    async fn refuses(&self, reason: &'static str, elements: Vec<Kind>, code: Code) {
        let before = self.refused(reason);
        assert_eq!(self.deliver(elements).await, Err(code), "{reason}");
        assert_eq!(self.refused(reason), before + 1, "{reason}");
        self.hears_the_next().await;
    }

    async fn hears_the_next(&self) {
        let heard = self.end.heard.now().groups.len();
        let good = vec![said(hello()), framed(&[message(2, 1, 9)])];
        assert_eq!(self.deliver(good).await, Ok(()));
        assert_eq!(self.end.heard.now().groups.len(), heard + 1);
    }
}

fn hello() -> Hello {
    Hello {
        version: WIRE_VERSION,
        cluster_id: 7,
        from: 2,
        from_incarnation: 2,
        from_start_number: 5,
        to: 1,
        to_incarnation: 1,
        from_address: String::new(),
    }
}

fn said(hello: Hello) -> Kind {
    Kind::Hello(hello)
}

fn framed(messages: &[PeerMessage]) -> Kind {
    Kind::Frame(seal(codec::encode_messages(messages)))
}

fn raft(body: MessageBody) -> PeerMessage {
    PeerMessage {
        body: PeerBody::Raft(Message {
            from: PeerId(2),
            to: PeerId(1),
            term: Term(3),
            body,
        }),
        ..message(2, 1, 5)
    }
}

#[tokio::test]
async fn hellos_of_others_are_refused_by_reason() {
    let one = Listener::start().await;
    one.hears_the_next().await;
    let (to, from) = (3, 1);
    let cases = [
        (
            "version",
            Hello {
                version: 9,
                ..hello()
            },
        ),
        (
            "other_cluster",
            Hello {
                cluster_id: 8,
                ..hello()
            },
        ),
        ("other_store", Hello { to, ..hello() }),
        (
            "other_store",
            Hello {
                to_incarnation: 9,
                ..hello()
            },
        ),
        ("impostor", Hello { from, ..hello() }),
        (
            "outdated",
            Hello {
                from_incarnation: 9,
                ..hello()
            },
        ),
        (
            "outdated",
            Hello {
                from_start_number: 4,
                ..hello()
            },
        ),
    ];
    for (reason, hello) in cases {
        let elements = vec![said(hello), framed(&[message(2, 1, 5)])];
        one.refuses(reason, elements, Code::FailedPrecondition)
            .await;
    }
    let without = vec![framed(&[message(2, 1, 5)])];
    one.refuses("out_of_order", without, Code::InvalidArgument)
        .await;
    let twice = vec![said(hello()), said(hello())];
    one.refuses("out_of_order", twice, Code::InvalidArgument)
        .await;
    assert!(one.end.heard.now().groups.iter().all(|group| *group == 9));
    one.end.end().await;
}

#[tokio::test]
async fn frames_that_mean_nothing_end_their_stream_only() {
    let one = Listener::start().await;
    let entry = Entry {
        id: EntryId {
            term: Term(3),
            index: LogIndex(4),
        },
        payload: Payload::Command(Bytes::from_static(b"a command")),
    };
    let append = raft(MessageBody::Append(Append {
        previous: EntryId::default(),
        entries: vec![entry],
        commit: LogIndex(1),
        pulse: Pulse::default(),
    }));
    let intact = codec::encode_messages(&[append]);
    // The length of the command, the last number before its bytes, counts more than there is.
    let mut absurd = intact.to_vec();
    let length_at = absurd.len() - b"a command".len() - 4;
    absurd[length_at..length_at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    let cut = intact.slice(..intact.len() - 1);
    let longer = [&intact[..], b"x"].concat();
    let unknown_format = [&[99], &intact[1..]].concat();
    let many = [&intact[..1], &u32::MAX.to_le_bytes()].concat();
    let malformed = [
        Bytes::from(absurd),
        cut,
        Bytes::from(longer),
        Bytes::from(unknown_format),
        Bytes::from(many),
        Bytes::new(),
    ];
    for payload in malformed {
        let elements = vec![said(hello()), Kind::Frame(seal(payload))];
        one.refuses("malformed", elements, Code::InvalidArgument)
            .await;
    }
    let broken = Frame {
        crc32c: 1,
        payload: intact,
    };
    let elements = vec![said(hello()), Kind::Frame(broken)];
    one.refuses("checksum", elements, Code::DataLoss).await;
    let huge = seal(Bytes::from(vec![0; GRPC_BYTES_MAX + 1]));
    let elements = vec![said(hello()), Kind::Frame(huge)];
    one.refuses("too_large", elements, Code::OutOfRange).await;
    one.end.end().await;
}

#[tokio::test]
async fn messages_out_of_place_are_dropped_and_the_stream_goes_on() {
    let one = Listener::start().await;
    let snapshot = raft(MessageBody::Snapshot(Snapshot {
        metadata: SnapshotMetadata::default(),
    }));
    let cases = [
        ("foreign_peer", message(3, 1, 5)),
        ("misaddressed", message(2, 3, 5)),
        ("snapshot_without_data", snapshot.clone()),
    ];
    for (count, (reason, bad)) in cases.into_iter().enumerate() {
        let good = message(2, 1, 6);
        let elements = vec![said(hello()), framed(&[bad, good.clone()]), framed(&[good])];
        assert_eq!(one.deliver(elements).await, Ok(()), "{reason}");
        assert_eq!(one.refused(reason), 1, "{reason}");
        assert_eq!(one.end.heard.now().groups, vec![6; 2 * (count + 1)]);
    }
    one.end.end().await;
}

#[tokio::test]
async fn snapshots_begin_with_what_they_are_of() {
    let one = Listener::start().await;
    let hello = || SnapshotKind::Hello(hello());
    let nonsense = || seal(Bytes::from_static(b"nonsense"));
    let cases = [
        ("out_of_order", vec![SnapshotKind::Chunk(nonsense())]),
        (
            "out_of_order",
            vec![hello(), SnapshotKind::Chunk(nonsense())],
        ),
        ("malformed", vec![hello(), SnapshotKind::Header(nonsense())]),
    ];
    for (reason, elements) in cases {
        let before = one.refused(reason);
        let answer = one.send_snapshot(elements).await;
        assert_eq!(answer, Err(Code::InvalidArgument), "{reason}");
        assert_eq!(one.refused(reason), before + 1, "{reason}");
    }
    let broken = Frame {
        crc32c: 1,
        ..nonsense()
    };
    let answer = one.send_snapshot(vec![hello(), SnapshotKind::Header(broken)]);
    assert_eq!(answer.await, Err(Code::DataLoss));
    assert_eq!(one.refused("checksum"), 1);
    one.end.end().await;
}
