//! The bytes of messages between peers.
//!
//! A frame's payload is one format byte, a count and so many messages; numbers are little-endian
//! and of fixed width, byte strings and lists carry their length in four bytes. The decoder
//! believes nothing: lengths are checked against what is left before anything is allocated, and
//! what it returns owns its bytes, so that no log entry pins a receive buffer.

mod values;

use bytes::Bytes;
use thiserror::Error;
use tinykv_raft::{
    Append, AppendOutcome, AppendReply, Force, Message, MessageBody, Pulse, Refusal, Seq, Snapshot,
    TimeoutNow, VoteKind, VoteReply, VoteRequest,
};
use tinykv_replica::{
    Heir, MergeWord, PeerBody, PeerMessage, Plea, RegionState, Rest, RoutingRange,
};

use values::{Input, Output};

/// The format this program writes; the only one it reads.
const FORMAT: u8 = 1;

/// Bytes that are no message. They say nothing about the disk; the stream they came on is closed.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("malformed peer message at byte {at}: {problem}")]
pub struct CodecError {
    /// Bytes from the start of the payload.
    pub at: usize,
    /// What is wrong there.
    pub problem: &'static str,
}

/// Bytes a message counts for in queues: its payloads and a fixed overhead.
pub(crate) fn size(message: &PeerMessage) -> usize {
    const OVERHEAD: usize = 160;
    let payload = match &message.body {
        PeerBody::Raft(Message {
            body: MessageBody::Append(append),
            ..
        }) => append.entries.iter().map(|entry| entry.size()).sum(),
        PeerBody::Raft(_)
        | PeerBody::Gone
        | PeerBody::Probe
        | PeerBody::AskedBy(_)
        | PeerBody::Rest(_)
        | PeerBody::Merge(_) => 0,
    };
    OVERHEAD + payload
}

/// Encodes a batch of messages as one payload.
pub fn encode_messages(messages: &[PeerMessage]) -> Bytes {
    let mut out = Output::new(FORMAT, 64 + messages.iter().map(size).sum::<usize>());
    out.count(messages.len());
    for message in messages {
        put_message(&mut out, message);
    }
    out.finish()
}

/// The opposite of [`encode_messages`].
///
/// # Errors
/// The bytes are no messages.
pub fn decode_messages(payload: &[u8]) -> Result<Vec<PeerMessage>, CodecError> {
    let mut input = Input::new(payload, FORMAT)?;
    let messages = input.list(get_message)?;
    input.end()?;
    Ok(messages)
}

/// What goes before the data of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotHeader {
    /// The message that goes with the data.
    pub message: PeerMessage,
    /// The region at the snapshot's last entry, encoded by its owner.
    pub state: RegionState,
}

/// Encodes a snapshot's header.
pub fn encode_snapshot_header(header: &SnapshotHeader) -> Bytes {
    let mut out = Output::new(FORMAT, 1024);
    put_message(&mut out, &header.message);
    out.bytes(&header.state.encode());
    out.finish()
}

/// The opposite of [`encode_snapshot_header`].
///
/// # Errors
/// The bytes are no header.
pub fn decode_snapshot_header(payload: &[u8]) -> Result<SnapshotHeader, CodecError> {
    let mut input = Input::new(payload, FORMAT)?;
    let message = get_message(&mut input)?;
    let state = get_state(&mut input)?;
    input.end()?;
    Ok(SnapshotHeader { message, state })
}

fn put_message(out: &mut Output, message: &PeerMessage) {
    out.u64(message.group.0);
    out.peer(message.from);
    out.peer(message.to);
    out.epoch(message.epoch);
    out.index(message.keep_after);
    out.u8(u8::from(message.range.is_some()));
    if let Some(range) = &message.range {
        out.bytes(&range.start);
        out.bytes(&range.end);
    }
    match &message.body {
        PeerBody::Gone => out.u8(0),
        PeerBody::Probe => out.u8(7),
        PeerBody::AskedBy(peer) => {
            out.u8(13);
            out.peer(*peer);
        }
        PeerBody::Rest(rest) => put_rest(out, *rest),
        PeerBody::Merge(word) => put_merge_word(out, word),
        PeerBody::Raft(raft) => {
            assert_eq!(
                (raft.from, raft.to),
                (message.from.id, message.to.id),
                "envelope and message of group {} name different peers",
                message.group
            );
            put_raft(out, raft);
        }
    }
}

fn get_message(input: &mut Input<'_>) -> Result<PeerMessage, CodecError> {
    let group = input.group()?;
    let from = input.peer()?;
    let to = input.peer()?;
    let epoch = input.epoch()?;
    let keep_after = input.index()?;
    let range = match get_flag(input)? {
        true => Some(RoutingRange {
            start: input.bytes()?,
            end: input.bytes()?,
        }),
        false => None,
    };
    let body = match input.u8()? {
        0 => PeerBody::Gone,
        7 => PeerBody::Probe,
        8 => PeerBody::Rest(Rest::Wake),
        9 => PeerBody::Rest(Rest::Disown),
        kind @ 10..=12 => PeerBody::Rest(get_rest(input, kind)?),
        13 => PeerBody::AskedBy(input.peer()?),
        14 => PeerBody::Merge(MergeWord::Declined {
            prepared: input.entry_id()?,
        }),
        kind @ 15..=17 => PeerBody::Merge(get_plea(input, kind)?),
        18 => PeerBody::Merge(MergeWord::Merged {
            into: get_heir(input)?,
        }),
        kind => {
            let term = input.term()?;
            let body = get_body(input, kind)?;
            PeerBody::Raft(Message {
                from: from.id,
                to: to.id,
                term,
                body,
            })
        }
    };
    Ok(PeerMessage {
        group,
        from,
        to,
        epoch,
        keep_after,
        range,
        body,
    })
}

fn put_rest(out: &mut Output, rest: Rest) {
    let (kind, at) = match rest {
        Rest::Wake => (8, None),
        Rest::Disown => (9, None),
        Rest::Ask { term, last } => (10, Some((term, last))),
        Rest::Agree { term, last } => (11, Some((term, last))),
        Rest::Sleep { term, last } => (12, Some((term, last))),
    };
    out.u8(kind);
    if let Some((term, last)) = at {
        out.term(term);
        out.index(last);
    }
}

fn get_rest(input: &mut Input<'_>, kind: u8) -> Result<Rest, CodecError> {
    let (term, last) = (input.term()?, input.index()?);
    Ok(match kind {
        10 => Rest::Ask { term, last },
        11 => Rest::Agree { term, last },
        _ => Rest::Sleep { term, last },
    })
}

fn put_merge_word(out: &mut Output, word: &MergeWord) {
    match word {
        MergeWord::Declined { prepared } => {
            out.u8(14);
            out.entry_id(*prepared);
        }
        MergeWord::Merged { into } => {
            out.u8(18);
            out.u64(into.group.0);
            out.u8(u8::from(into.start.is_some()));
            if let Some(start) = &into.start {
                out.bytes(start);
            }
        }
        MergeWord::Plea {
            epoch,
            source,
            plea,
        } => {
            out.u8(match plea {
                Plea::Tell => 15,
                Plea::Decline => 16,
                Plea::Commit(_) => 17,
            });
            out.epoch(*epoch);
            out.u64(source.0);
            if let Plea::Commit(state) = plea {
                out.bytes(&state.encode());
            }
        }
    }
}

fn get_heir(input: &mut Input<'_>) -> Result<Heir, CodecError> {
    let group = input.group()?;
    let start = match get_flag(input)? {
        true => Some(input.bytes()?),
        false => None,
    };
    Ok(Heir { group, start })
}

fn get_plea(input: &mut Input<'_>, kind: u8) -> Result<MergeWord, CodecError> {
    let epoch = input.epoch()?;
    let source = input.group()?;
    let plea = match kind {
        15 => Plea::Tell,
        16 => Plea::Decline,
        _ => Plea::Commit(Box::new(get_state(input)?)),
    };
    Ok(MergeWord::Plea {
        epoch,
        source,
        plea,
    })
}

fn get_state(input: &mut Input<'_>) -> Result<RegionState, CodecError> {
    let state = input.bytes()?;
    RegionState::decode(&state).map_err(|_| input.error("the region state is malformed"))
}

fn put_raft(out: &mut Output, message: &Message) {
    let kind = match &message.body {
        MessageBody::VoteRequest(_) => 1,
        MessageBody::VoteReply(_) => 2,
        MessageBody::Append(_) => 3,
        MessageBody::AppendReply(_) => 4,
        MessageBody::Snapshot(_) => 5,
        MessageBody::TimeoutNow(_) => 6,
    };
    out.u8(kind);
    out.term(message.term);
    match &message.body {
        MessageBody::VoteRequest(request) => put_vote_request(out, request),
        MessageBody::VoteReply(reply) => put_vote_reply(out, reply),
        MessageBody::Append(append) => put_append(out, append),
        MessageBody::AppendReply(reply) => put_append_reply(out, reply),
        MessageBody::Snapshot(snapshot) => out.metadata(&snapshot.metadata),
        MessageBody::TimeoutNow(timeout) => put_force(out, timeout.force),
    }
}

fn get_body(input: &mut Input<'_>, kind: u8) -> Result<MessageBody, CodecError> {
    Ok(match kind {
        1 => MessageBody::VoteRequest(get_vote_request(input)?),
        2 => MessageBody::VoteReply(get_vote_reply(input)?),
        3 => MessageBody::Append(get_append(input)?),
        4 => MessageBody::AppendReply(get_append_reply(input)?),
        5 => MessageBody::Snapshot(Snapshot {
            metadata: input.metadata()?,
        }),
        6 => MessageBody::TimeoutNow(TimeoutNow {
            force: get_force(input)?,
        }),
        _ => return Err(input.error("unknown kind of message")),
    })
}

fn get_flag(input: &mut Input<'_>) -> Result<bool, CodecError> {
    match input.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(input.error("neither true nor false")),
    }
}

fn put_vote_request(out: &mut Output, request: &VoteRequest) {
    out.u8(vote_kind_byte(request.kind));
    out.term(request.campaign);
    out.entry_id(request.last);
    out.u8(u8::from(request.force.is_some()));
    if let Some(force) = request.force {
        put_force(out, force);
    }
    out.u8(u8::from(request.first));
}

fn get_vote_request(input: &mut Input<'_>) -> Result<VoteRequest, CodecError> {
    let kind = get_vote_kind(input)?;
    let campaign = input.term()?;
    let last = input.entry_id()?;
    let force = match get_flag(input)? {
        false => None,
        true => Some(get_force(input)?),
    };
    let first = get_flag(input)?;
    Ok(VoteRequest {
        kind,
        campaign,
        last,
        force,
        first,
    })
}

fn put_vote_reply(out: &mut Output, reply: &VoteReply) {
    out.u8(vote_kind_byte(reply.kind));
    out.term(reply.campaign);
    out.entry_id(reply.commit);
    match reply.refusal {
        None => out.u8(0),
        Some(Refusal::Promised(rest)) => {
            out.u8(1);
            out.duration(rest);
        }
        Some(Refusal::Behind) => out.u8(2),
        Some(Refusal::Voted) => out.u8(3),
    }
}

fn get_vote_reply(input: &mut Input<'_>) -> Result<VoteReply, CodecError> {
    let kind = get_vote_kind(input)?;
    let campaign = input.term()?;
    let commit = input.entry_id()?;
    let refusal = match input.u8()? {
        0 => None,
        1 => Some(Refusal::Promised(input.duration()?)),
        2 => Some(Refusal::Behind),
        3 => Some(Refusal::Voted),
        _ => return Err(input.error("unknown refusal of a vote")),
    };
    Ok(VoteReply {
        kind,
        campaign,
        commit,
        refusal,
    })
}

fn put_append(out: &mut Output, append: &Append) {
    out.entry_id(append.previous);
    out.index(append.commit);
    out.u64(append.pulse.seq.0);
    out.duration(append.pulse.promise);
    out.count(append.entries.len());
    for entry in &append.entries {
        out.entry(entry);
    }
}

fn get_append(input: &mut Input<'_>) -> Result<Append, CodecError> {
    let previous = input.entry_id()?;
    let commit = input.index()?;
    let pulse = Pulse {
        seq: Seq(input.u64()?),
        promise: input.duration()?,
    };
    let entries = input.list(Input::entry)?;
    Ok(Append {
        previous,
        entries,
        commit,
        pulse,
    })
}

fn put_append_reply(out: &mut Output, reply: &AppendReply) {
    out.u64(reply.seq.0);
    match reply.outcome {
        AppendOutcome::Accepted { matched, durable } => {
            out.u8(0);
            out.index(matched);
            out.index(durable);
        }
        AppendOutcome::Rejected { previous, hint } => {
            out.u8(1);
            out.index(previous);
            out.entry_id(hint);
        }
        AppendOutcome::StaleTerm => out.u8(2),
        AppendOutcome::NeedsSnapshot => out.u8(3),
        AppendOutcome::Busy => out.u8(4),
    }
}

fn get_append_reply(input: &mut Input<'_>) -> Result<AppendReply, CodecError> {
    let seq = Seq(input.u64()?);
    let outcome = match input.u8()? {
        0 => AppendOutcome::Accepted {
            matched: input.index()?,
            durable: input.index()?,
        },
        1 => AppendOutcome::Rejected {
            previous: input.index()?,
            hint: input.entry_id()?,
        },
        2 => AppendOutcome::StaleTerm,
        3 => AppendOutcome::NeedsSnapshot,
        4 => AppendOutcome::Busy,
        _ => return Err(input.error("unknown outcome of an append")),
    };
    Ok(AppendReply { seq, outcome })
}

fn put_force(out: &mut Output, force: Force) {
    out.term(force.term);
    out.u64(force.seq.0);
}

fn get_force(input: &mut Input<'_>) -> Result<Force, CodecError> {
    Ok(Force {
        term: input.term()?,
        seq: Seq(input.u64()?),
    })
}

fn vote_kind_byte(kind: VoteKind) -> u8 {
    match kind {
        VoteKind::PreVote => 0,
        VoteKind::Vote => 1,
    }
}

fn get_vote_kind(input: &mut Input<'_>) -> Result<VoteKind, CodecError> {
    match input.u8()? {
        0 => Ok(VoteKind::PreVote),
        1 => Ok(VoteKind::Vote),
        _ => Err(input.error("unknown kind of vote")),
    }
}

#[cfg(test)]
mod tests;
