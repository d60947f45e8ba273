//! The post of a script: which messages are held back, copied or lost.

use tinykv_raft::{GroupId, MessageBody};
use tinykv_replica::{MergeWord, PeerBody, PeerMessage};

use super::Packet;

const KINDS: [&str; 13] = [
    "append",
    "append-reply",
    "vote",
    "vote-reply",
    "timeout-now",
    "snapshot",
    "gone",
    "probe",
    "asked-by",
    "rest",
    "plea",
    "declined",
    "merged",
];

/// What becomes of a message that fits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It waits in the pen.
    Hold,
    /// It is delivered, and a copy waits in the pen.
    Copy,
    /// It is lost, and the sender of a snapshot is told so.
    Lose,
}

/// Which messages are meant; `None` fits all.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    kind: Option<String>,
    from: Option<u64>,
    to: Option<u64>,
    group: Option<GroupId>,
}

/// The rules in force, and what waits, in the order in which it came.
#[derive(Default)]
pub(super) struct Post {
    rules: Vec<(Verdict, Pattern)>,
    pen: Vec<Packet>,
}

impl Pattern {
    /// `append 1 -> 3 of 2`, each but the arrow may be `*`.
    pub(super) fn parse(words: &[&str]) -> Option<Pattern> {
        let [kind, from, "->", to, "of", group] = words else {
            return None;
        };
        let number = |word: &str| match word {
            "*" => Some(None),
            _ => word.parse().ok().map(Some),
        };
        let is_known = *kind == "*" || KINDS.contains(kind);
        is_known.then_some(Pattern {
            kind: (*kind != "*").then(|| (*kind).to_owned()),
            from: number(from)?,
            to: number(to)?,
            group: number(group)?.map(GroupId),
        })
    }

    fn fits(&self, packet: &Packet) -> bool {
        let Some(kind) = packet.kind() else {
            return false;
        };
        let (from, to) = packet.way();
        self.kind.as_deref().is_none_or(|it| it == kind)
            && self.from.is_none_or(|it| it == from)
            && self.to.is_none_or(|it| it == to)
            && self.group.is_none_or(|it| it == packet.group())
    }
}

impl Post {
    pub(super) fn rule(&mut self, verdict: Verdict, pattern: Pattern) {
        self.rules.push((verdict, pattern));
    }

    /// Rules of exactly this pattern do not hold any more.
    pub(super) fn lift(&mut self, pattern: &Pattern) {
        self.rules.retain(|(_, it)| it != pattern);
    }

    pub(super) fn lift_all(&mut self) {
        self.rules.clear();
    }

    pub(super) fn loses(&self, packet: &Packet) -> bool {
        let mut losing = self.rules.iter().filter(|rule| rule.0 == Verdict::Lose);
        losing.any(|rule| rule.1.fits(packet))
    }

    /// What is delivered now.
    pub(super) fn pass(&mut self, packet: Packet) -> Option<Packet> {
        let rule = self.rules.iter().find(|rule| rule.1.fits(&packet));
        match rule.map(|rule| rule.0) {
            Some(Verdict::Hold) => {
                self.pen.push(packet);
                None
            }
            Some(Verdict::Copy) => {
                self.pen.push(packet.clone());
                Some(packet)
            }
            Some(Verdict::Lose) | None => Some(packet),
        }
    }

    pub(super) fn waiting(&self, pattern: &Pattern) -> usize {
        self.pen.iter().filter(|it| pattern.fits(it)).count()
    }

    /// What waits and fits; it waits no longer.
    pub(super) fn take(&mut self, pattern: &Pattern) -> Vec<Packet> {
        let all = std::mem::take(&mut self.pen);
        let (taken, stays) = all.into_iter().partition(|it| pattern.fits(it));
        self.pen = stays;
        taken
    }

    pub(super) fn take_all(&mut self) -> Vec<Packet> {
        std::mem::take(&mut self.pen)
    }

    pub(super) fn put_back(&mut self, packets: Vec<Packet>) {
        self.pen.splice(0..0, packets);
    }
}

impl Packet {
    /// From which store to which.
    pub(super) fn way(&self) -> (u64, u64) {
        match self {
            Packet::Message(message) | Packet::Snapshot(message, ..) => {
                (message.from.store.0, message.to.store.0)
            }
            Packet::Heartbeat(from, to, _) => (from.0, to.0),
        }
    }

    pub(super) fn group(&self) -> GroupId {
        match self {
            Packet::Message(message) | Packet::Snapshot(message, ..) => message.group,
            Packet::Heartbeat(..) => GroupId(0),
        }
    }

    /// The word of the scripts for it; none for heartbeats.
    fn kind(&self) -> Option<&'static str> {
        match self {
            Packet::Message(message) => Some(kind(message)),
            Packet::Snapshot(..) => Some("snapshot"),
            Packet::Heartbeat(..) => None,
        }
    }
}

fn kind(message: &PeerMessage) -> &'static str {
    match &message.body {
        PeerBody::Raft(message) => match message.body {
            MessageBody::VoteRequest(_) => "vote",
            MessageBody::VoteReply(_) => "vote-reply",
            MessageBody::Append(_) => "append",
            MessageBody::AppendReply(_) => "append-reply",
            MessageBody::Snapshot(_) => "snapshot",
            MessageBody::TimeoutNow(_) => "timeout-now",
        },
        PeerBody::Gone => "gone",
        PeerBody::Probe => "probe",
        PeerBody::AskedBy(_) => "asked-by",
        PeerBody::Rest(_) => "rest",
        PeerBody::Merge(MergeWord::Plea { .. }) => "plea",
        PeerBody::Merge(MergeWord::Declined { .. }) => "declined",
        PeerBody::Merge(MergeWord::Merged { .. }) => "merged",
    }
}
