//! How scripts show what happens.

use std::fmt::Write as _;

use tinykv_raft::{
    AppendOutcome, Configuration, Entry, HardState, MembershipStep, Message, MessageBody, Payload,
    PeerId, PeerState, Ready, Refusal, Role, Status, VoteKind,
};

pub fn message(message: &Message) -> String {
    let Message {
        from,
        to,
        term,
        body,
    } = message;
    let body = match body {
        MessageBody::VoteRequest(it) => {
            let force = it
                .force
                .map(|it| format!(" forced by {}/{}", it.term, it.seq));
            let force = force.unwrap_or_default();
            format!(
                "{} for {}? last {}{force}",
                kind(it.kind),
                it.campaign,
                it.last
            )
        }
        MessageBody::VoteReply(it) => {
            let answer = match it.refusal {
                None => "yes".to_owned(),
                Some(Refusal::Promised(bound)) => format!("no, promised {}ms", bound.as_millis()),
                Some(Refusal::Behind) => "no, behind".to_owned(),
                Some(Refusal::Voted) => "no, voted".to_owned(),
            };
            format!("{} for {}: {answer}", kind(it.kind), it.campaign)
        }
        MessageBody::Append(it) if it.entries.is_empty() => {
            format!(
                "Heartbeat at {} commit {} seq {}",
                it.previous, it.commit, it.pulse.seq
            )
        }
        MessageBody::Append(it) => {
            let list = entries(&it.entries);
            format!(
                "Append after {} [{list}] commit {} seq {}",
                it.previous, it.commit, it.pulse.seq
            )
        }
        MessageBody::AppendReply(it) => match it.outcome {
            AppendOutcome::Accepted { matched, durable } if matched == durable => {
                format!("Accepted {matched} seq {}", it.seq)
            }
            AppendOutcome::Accepted { matched, durable } => {
                format!("Accepted {matched} (durable {durable}) seq {}", it.seq)
            }
            AppendOutcome::Rejected { previous, hint } => {
                format!("Rejected {previous}, try {hint} seq {}", it.seq)
            }
            AppendOutcome::NeedsSnapshot => format!("NeedsSnapshot seq {}", it.seq),
            AppendOutcome::Busy => format!("Busy seq {}", it.seq),
            AppendOutcome::StaleTerm => "StaleTerm".to_owned(),
        },
        MessageBody::Snapshot(it) => {
            let members = configuration(&it.metadata.configuration);
            format!("Snapshot to {} of {members}", it.metadata.last)
        }
        MessageBody::TimeoutNow(it) => {
            format!("TimeoutNow forced by {}/{}", it.force.term, it.force.seq)
        }
    };
    format!("{from}→{to} term {term}: {body}")
}

fn kind(kind: VoteKind) -> &'static str {
    match kind {
        VoteKind::PreVote => "PreVote",
        VoteKind::Vote => "Vote",
    }
}

pub fn entry(entry: &Entry) -> String {
    match &entry.payload {
        Payload::Empty => format!("{} empty", entry.id),
        Payload::Command(data) if data.len() > 16 => format!("{} {} bytes", entry.id, data.len()),
        Payload::Command(data) => format!("{} {}", entry.id, String::from_utf8_lossy(data)),
        Payload::Membership(change) if change.steps.is_empty() => format!("{} leave", entry.id),
        Payload::Membership(change) => {
            let steps: Vec<_> = change.steps.iter().map(step).collect();
            format!("{} {}", entry.id, steps.join(" "))
        }
    }
}

pub fn entries(list: &[Entry]) -> String {
    list.iter().map(entry).collect::<Vec<_>>().join(", ")
}

fn step(step: &MembershipStep) -> String {
    match step {
        MembershipStep::AddVoter(peer) => format!("add-voter {peer}"),
        MembershipStep::AddLearner(peer) => format!("add-learner {peer}"),
        MembershipStep::Remove(peer) => format!("remove {peer}"),
    }
}

pub fn configuration(configuration: &Configuration) -> String {
    let list = |peers: &std::collections::BTreeSet<PeerId>| {
        peers
            .iter()
            .map(PeerId::to_string)
            .collect::<Vec<_>>()
            .join(" ")
    };
    let mut text = format!("voters {}", list(&configuration.voters));
    if !configuration.voters_outgoing.is_empty() {
        let _ = write!(text, " outgoing {}", list(&configuration.voters_outgoing));
    }
    if !configuration.learners_next.is_empty() {
        let _ = write!(text, " demoting {}", list(&configuration.learners_next));
    }
    if !configuration.learners.is_empty() {
        let _ = write!(text, " learners {}", list(&configuration.learners));
    }
    text
}

pub fn role(role: Role) -> &'static str {
    match role {
        Role::Follower => "follower",
        Role::PreCandidate => "pre-candidate",
        Role::Candidate => "candidate",
        Role::Leader => "leader",
    }
}

fn hard_state(state: HardState) -> String {
    let vote = optional(state.vote);
    format!("term {} vote {vote} commit {}", state.term, state.commit)
}

fn optional(peer: Option<PeerId>) -> String {
    peer.map_or("none".to_owned(), |peer| peer.to_string())
}

/// What a Ready asks for, a line each.
pub fn ready(id: PeerId, ready: &Ready) -> Vec<String> {
    let number = ready.number.0;
    let mut lines = Vec::new();
    if let Some(it) = ready.leadership {
        let leader = optional(it.leader);
        lines.push(format!(
            "{id} is {} of term {}, leader {leader}",
            role(it.role),
            it.term
        ));
    }
    let mut writes = Vec::new();
    writes.extend(ready.hard_state.map(hard_state));
    if !ready.entries.is_empty() {
        writes.push(format!("[{}]", entries(&ready.entries)));
    }
    writes.extend(ready.install.as_ref().map(|it| {
        format!(
            "install snapshot to {} of {}",
            it.last,
            configuration(&it.configuration)
        )
    }));
    if !writes.is_empty() {
        lines.push(format!("{id} writes #{number}: {}", writes.join(", ")));
    }
    assert_eq!(ready.must_sync, !writes.is_empty());
    lines.extend(
        ready
            .send
            .iter()
            .map(|it| format!("{id} sends {}", message(it))),
    );
    let after = |it: &Message| format!("{id} sends after #{number} {}", message(it));
    lines.extend(ready.send_after_persist.iter().map(after));
    if !ready.committed.is_empty() {
        lines.push(format!("{id} commits [{}]", entries(&ready.committed)));
    }
    for fetch in &ready.fetch {
        let (from, upto) = (fetch.from, fetch.upto);
        lines.push(format!(
            "{id} fetches {from}..={upto} for {:?}",
            fetch.purpose
        ));
    }
    for it in &ready.snapshots {
        lines.push(format!(
            "{id} wants a snapshot from {} on for {}",
            it.at_least, it.to
        ));
    }
    for read in &ready.reads {
        lines.push(format!(
            "{id} may serve read {} at {}",
            read.id.0, read.index
        ));
    }
    for read in &ready.failed_reads {
        lines.push(format!("{id} fails read {}", read.0));
    }
    lines
}

/// A node's state, its first line for itself and one for each peer.
pub fn status(status: &Status) -> Vec<String> {
    let mut lines = vec![format!(
        "{} {} term {} leader {} vote {} commit {} applied {} durable {} last {}",
        status.id,
        role(status.role),
        status.hard_state.term,
        optional(status.leader),
        optional(status.hard_state.vote),
        status.hard_state.commit,
        status.applied,
        status.durable,
        status.last
    )];
    for (peer, it) in &status.peers {
        let state = match it.state {
            PeerState::Probe => "probe",
            PeerState::Replicate => "replicate",
            PeerState::Snapshot => "snapshot",
        };
        let mut line = format!("  {peer} {state} matched {} next {}", it.matched, it.next);
        if it.in_flight_messages > 0 {
            let (messages, bytes) = (it.in_flight_messages, it.in_flight_bytes);
            let _ = write!(line, " in flight {messages} ({bytes} bytes)");
        }
        if !it.active {
            line.push_str(" silent");
        }
        lines.push(line);
    }
    lines
}
