//! A driver as small as it can be: one peer, its disk, and its state machine, where every step
//! that takes time in a real process is a call of its own.

use std::collections::VecDeque;
use std::time::Duration;

use tinykv_raft::{
    Birth, Config, Configuration, Entry, EntryId, Fetch, HardState, Initial, LogIndex, Message,
    Payload, PeerId, Raft, ReadReady, Ready, ReadyNumber, SnapshotMetadata, SnapshotRequest, Term,
    TermStart,
};

/// One peer with everything around it.
pub struct Node {
    pub id: PeerId,
    pub config: Config,
    /// `None` while the process is down.
    pub raft: Option<Raft>,
    pub disk: Disk,
    /// Writes handed to the disk and not durable yet, oldest first.
    pub writes: VecDeque<Write>,
    /// Durable writes, their messages on their way, that the peer has not been told of.
    pub unnoticed: VecDeque<Write>,
    /// The state machine in memory.
    pub machine: Machine,
    /// Committed entries handed out and not applied yet.
    pub to_apply: VecDeque<Entry>,
    /// Entries asked for.
    pub fetches: Vec<Fetch>,
    /// Snapshots asked for.
    pub snapshots: Vec<SnapshotRequest>,
    /// Confirmed reads that wait for apply.
    pub reads: Vec<ReadReady>,
    /// The data of a snapshot that has arrived.
    received: Option<Machine>,
}

/// What survives a crash.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    pub hard_state: HardState,
    pub truncated: EntryId,
    /// The log after `truncated`.
    pub entries: Vec<Entry>,
    /// The state machine as last flushed.
    pub machine: Machine,
    pub birth: Option<Birth>,
}

/// A state machine that remembers where it is, and a digest of how it came there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    pub applied: EntryId,
    pub configuration: Configuration,
    pub digest: u64,
}

/// One Ready on its way to the disk.
#[derive(Clone, Debug)]
pub struct Write {
    pub number: ReadyNumber,
    pub hard_state: Option<HardState>,
    pub entries: Vec<Entry>,
    pub install: Option<(SnapshotMetadata, Machine)>,
    pub messages: Vec<Message>,
}

/// A message on the network, with a snapshot's data beside it.
#[derive(Clone, Debug)]
pub struct Packet {
    pub message: Message,
    pub data: Option<Machine>,
}

impl From<Message> for Packet {
    fn from(message: Message) -> Packet {
        Packet {
            message,
            data: None,
        }
    }
}

impl Node {
    pub fn new(config: Config, configuration: Configuration) -> Node {
        let machine = Machine {
            configuration,
            ..Machine::default()
        };
        Node {
            id: config.id,
            config,
            raft: None,
            disk: Disk {
                machine,
                ..Disk::default()
            },
            writes: VecDeque::new(),
            unnoticed: VecDeque::new(),
            machine: Machine::default(),
            to_apply: VecDeque::new(),
            fetches: Vec::new(),
            snapshots: Vec::new(),
            reads: Vec::new(),
            received: None,
        }
    }

    /// Starts from the disk; `tail` entries of it are handed over, the rest must be fetched.
    pub fn start(&mut self, now: Duration, tail: usize) {
        assert!(self.raft.is_none(), "{} runs already", self.id);
        let Disk {
            hard_state,
            truncated,
            ref entries,
            ref machine,
            birth,
        } = self.disk;
        let initial = Initial {
            hard_state,
            configuration: machine.configuration.clone(),
            applied: machine.applied.index,
            truncated,
            terms: runs(entries),
            last: entries.last().map_or(truncated, |entry| entry.id),
            tail: entries[entries.len().saturating_sub(tail)..].to_vec(),
            started_at: now,
            birth: birth.unwrap_or(Birth::New),
        };
        self.disk.birth = Some(Birth::Restarted);
        self.machine = self.disk.machine.clone();
        self.raft = Some(Raft::new(self.config.clone(), initial));
    }

    /// Everything that is not durable is gone; of the writes under way the first `kept` made it.
    pub fn crash(&mut self, kept: usize) {
        for _ in 0..kept.min(self.writes.len()) {
            let write = self.writes.pop_front().expect("counted");
            self.disk.take(&write);
        }
        self.raft = None;
        self.writes.clear();
        self.unnoticed.clear();
        self.to_apply.clear();
        self.fetches.clear();
        self.snapshots.clear();
        self.reads.clear();
        self.received = None;
    }

    pub fn raft(&mut self) -> &mut Raft {
        self.raft.as_mut().expect("the node runs")
    }

    /// Steps a message; the data of a snapshot is kept aside until it is wanted.
    pub fn deliver(&mut self, packet: Packet, now: Duration) -> Result<(), tinykv_raft::StepError> {
        if let Some(data) = packet.data {
            self.received = Some(data);
        }
        self.raft().step(packet.message, now)
    }

    /// Takes one Ready, and queues what it asks for.
    pub fn ready(&mut self, now: Duration) -> Option<Ready> {
        let ready = self.raft().ready(now)?;
        self.to_apply.extend(ready.committed.iter().cloned());
        self.fetches.extend(&ready.fetch);
        self.snapshots.extend(&ready.snapshots);
        self.reads.extend(&ready.reads);
        let install = ready.install.clone().map(|metadata| {
            let data = self
                .received
                .take()
                .expect("the data came with the message");
            assert_eq!(data.applied, metadata.last);
            (metadata, data)
        });
        if ready.must_sync || !ready.send_after_persist.is_empty() {
            self.writes.push_back(Write {
                number: ready.number,
                hard_state: ready.hard_state,
                entries: ready.entries.clone(),
                install,
                messages: ready.send_after_persist.clone(),
            });
        }
        Some(ready)
    }

    /// The oldest write becomes durable, and the peer is told; returns it.
    pub fn persist(&mut self) -> Option<Write> {
        let write = self.sync()?;
        while self.notice().is_some() {}
        Some(write)
    }

    /// The oldest write becomes durable, and its messages may leave; the peer hears of it by
    /// [`Node::notice`], after others may have answered.
    pub fn sync(&mut self) -> Option<Write> {
        let write = self.writes.pop_front()?;
        self.disk.take(&write);
        self.unnoticed.push_back(write.clone());
        Some(write)
    }

    /// The peer hears of the oldest durable write that it does not know of; returns it.
    pub fn notice(&mut self) -> Option<Write> {
        let write = self.unnoticed.pop_front()?;
        self.raft().on_persisted(write.number);
        if let Some((metadata, data)) = &write.install {
            self.machine = data.clone();
            self.to_apply.clear();
            self.raft().on_snapshot_installed(metadata);
        }
        Some(write)
    }

    /// Applies the oldest entry handed out; returns it.
    pub fn apply(&mut self) -> Option<Entry> {
        let entry = self.to_apply.pop_front()?;
        self.machine.apply(&entry);
        let raft = self.raft.as_mut().expect("the node runs");
        if let Payload::Membership(change) = &entry.payload {
            self.machine.configuration = raft.apply_membership(change);
        }
        raft.on_applied(entry.id.index);
        Some(entry)
    }

    /// What is applied survives a crash from now on.
    pub fn flush(&mut self) {
        self.disk.machine = self.machine.clone();
    }

    /// Cuts the log up to `upto`, at most what is flushed.
    pub fn compact(&mut self, upto: LogIndex) {
        self.cut_disk(upto);
        let upto = self.disk.truncated.index;
        self.raft().compact(upto);
    }

    /// The log on disk is cut, at most to what is flushed; the peer hears of it later.
    pub fn cut_disk(&mut self, upto: LogIndex) {
        let upto = upto.min(self.disk.machine.applied.index);
        if let Some(term) = self.raft().term_at(upto) {
            self.disk.truncate(EntryId { term, index: upto });
        }
    }

    /// Answers a fetch from the durable log.
    pub fn provide(&mut self, fetch: Fetch) -> usize {
        let mut bytes = 0;
        let mut entries = Vec::new();
        for entry in &self.disk.entries {
            if entry.id.index < fetch.from || entry.id.index > fetch.upto {
                continue;
            }
            bytes += entry.size();
            if bytes > fetch.bytes_max && !entries.is_empty() {
                break;
            }
            entries.push(entry.clone());
        }
        if entries
            .first()
            .is_some_and(|entry| entry.id.index != fetch.from)
        {
            entries.clear();
        }
        let count = entries.len();
        self.raft().provide(fetch, entries);
        count
    }

    /// The snapshot that answers a request.
    pub fn snapshot(&mut self, request: SnapshotRequest) -> Packet {
        let data = self.machine.clone();
        assert!(
            data.applied.index >= request.at_least.index,
            "a snapshot that is too old"
        );
        let metadata = SnapshotMetadata {
            last: data.applied,
            configuration: data.configuration.clone(),
        };
        let message = Message::snapshot(self.id, request.to, request.term, metadata);
        Packet {
            message,
            data: Some(data),
        }
    }
}

impl Disk {
    fn take(&mut self, write: &Write) {
        if let Some(hard_state) = write.hard_state {
            self.hard_state = hard_state;
        }
        if let Some((_, data)) = &write.install {
            self.machine = data.clone();
            self.truncated = data.applied;
            self.entries.clear();
        }
        if let Some(first) = write.entries.first() {
            self.entries.retain(|entry| entry.id.index < first.id.index);
            self.entries.extend(write.entries.iter().cloned());
        }
    }

    fn truncate(&mut self, upto: EntryId) {
        if upto.index > self.truncated.index {
            self.truncated = upto;
            self.entries.retain(|entry| entry.id.index > upto.index);
        }
    }
}

impl Machine {
    fn apply(&mut self, entry: &Entry) {
        assert_eq!(
            self.applied.index.next(),
            entry.id.index,
            "applied out of order"
        );
        self.applied = entry.id;
        let bytes = format!("{entry:?}").into_bytes();
        let fnv = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        self.digest = bytes.iter().fold(self.digest ^ 0xcbf2_9ce4_8422_2325, fnv);
    }
}

fn runs(entries: &[Entry]) -> Vec<TermStart> {
    let mut term = Term(0);
    let mut runs = Vec::new();
    for entry in entries {
        if runs.is_empty() || entry.id.term > term {
            term = entry.id.term;
            runs.push(TermStart {
                term,
                first: entry.id.index,
            });
        }
    }
    runs
}
