//! What happens at the limits.

use bytes::Bytes;
use tinykv_raft::{
    Append, Entry, EntryId, GroupId, LogIndex, Message, MessageBody, Payload, PeerId, Term,
};
use tinykv_replica::{Outcome, Peer, PeerBody, PersistToken, Refusal, RegionEpoch, StoreId};

use super::*;
use crate::inert::Inert;
use crate::waiters::refuse;

fn append(bytes: usize) -> PeerMessage {
    let (from, to) = (PeerId(1), PeerId(2));
    let entry = Entry {
        id: EntryId::default(),
        payload: Payload::Command(Bytes::from(vec![0; bytes])),
    };
    PeerMessage {
        group: GroupId(1),
        from: Peer::voter(from, StoreId(1)),
        to: Peer::voter(to, StoreId(2)),
        epoch: RegionEpoch::FIRST,
        keep_after: LogIndex(0),
        range: None,
        body: PeerBody::Raft(Message {
            from,
            to,
            term: Term(1),
            body: MessageBody::Append(Append {
                previous: EntryId::default(),
                entries: vec![entry],
                commit: LogIndex(0),
                pulse: tinykv_raft::Pulse::default(),
            }),
        }),
    }
}

fn request(inbox: &Inbox<Inert>, waiter: u64) -> Result<(), Refused> {
    let (reply, _) = oneshot::channel();
    inbox.push_request(Event::Tick, WaiterId(waiter), reply)
}

#[test]
fn messages_over_the_limit_are_dropped_and_notices_are_not() {
    let inbox = Inbox::<Inert>::new();
    inbox.push_messages((0..10).map(|_| append(MESSAGE_BYTES_MAX / 8)));
    assert_eq!(inbox.dropped(), 3);
    inbox.push_notice(Event::Persisted(PersistToken(1)));
    assert_eq!(inbox.take(Duration::ZERO).len(), 8);
    inbox.push_messages([append(1)]);
    assert_eq!(inbox.dropped(), 3);
    assert_eq!(inbox.take(Duration::ZERO).len(), 1);
}

#[test]
fn requests_over_the_limit_are_refused() {
    let inbox = Inbox::<Inert>::new();
    for waiter in 0..REQUESTS_MAX as u64 {
        assert_eq!(request(&inbox, waiter), Ok(()));
    }
    assert_eq!(request(&inbox, u64::MAX), Err(Refused::Full));
    assert_eq!(inbox.take(Duration::ZERO).len(), REQUESTS_MAX);
    assert_eq!(request(&inbox, u64::MAX), Ok(()));
}

#[test]
fn a_closed_inbox_gives_back_what_waits_and_takes_nothing() {
    let inbox = Inbox::<Inert>::new();
    let (reply, mut outcome) = oneshot::channel();
    let pushed = inbox.push_request(Event::Tick, WaiterId(1), reply);
    assert_eq!(pushed, Ok(()));
    for item in inbox.close() {
        if let Item::Request(_, _, reply) = item {
            refuse(reply, Refusal::ShuttingDown);
        }
    }
    let refused = Outcome::DefinitelyNot(Refusal::ShuttingDown);
    assert_eq!(outcome.try_recv(), Ok(refused));
    assert_eq!(request(&inbox, 2), Err(Refused::Closed));
    inbox.push_notice(Event::Tick);
    assert!(inbox.take(Duration::ZERO).is_empty());
    assert!(inbox.query(|_| ()).try_recv().is_err());
}
