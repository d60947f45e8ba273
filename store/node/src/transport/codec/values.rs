//! The building blocks of messages: numbers, ids, entries, configurations.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use tinykv_raft::{
    Configuration, Entry, EntryId, GroupId, LogIndex, MembershipChange, MembershipStep, Payload,
    PeerId, SnapshotMetadata, Term,
};
use tinykv_replica::{Peer, PeerRole, RegionEpoch, StoreId};

use super::CodecError;

/// A payload being written.
pub(super) struct Output {
    bytes: BytesMut,
}

impl Output {
    pub(super) fn new(format: u8, capacity: usize) -> Output {
        let mut bytes = BytesMut::with_capacity(capacity);
        bytes.put_u8(format);
        Output { bytes }
    }

    pub(super) fn finish(self) -> Bytes {
        self.bytes.freeze()
    }

    pub(super) fn u8(&mut self, value: u8) {
        self.bytes.put_u8(value);
    }

    pub(super) fn u64(&mut self, value: u64) {
        self.bytes.put_u64_le(value);
    }

    pub(super) fn count(&mut self, count: usize) {
        let count = u32::try_from(count).expect("queues are far below 4 Gi elements");
        self.bytes.put_u32_le(count);
    }

    pub(super) fn bytes(&mut self, value: &[u8]) {
        self.count(value.len());
        self.bytes.put_slice(value);
    }

    pub(super) fn term(&mut self, term: Term) {
        self.u64(term.0);
    }

    pub(super) fn index(&mut self, index: LogIndex) {
        self.u64(index.0);
    }

    /// In nanoseconds; what does not fit 64 bits (584 years) is cut to that.
    pub(super) fn duration(&mut self, duration: Duration) {
        self.u64(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
    }

    pub(super) fn entry_id(&mut self, id: EntryId) {
        self.term(id.term);
        self.index(id.index);
    }

    pub(super) fn epoch(&mut self, epoch: RegionEpoch) {
        self.u64(epoch.conf_ver);
        self.u64(epoch.version);
    }

    pub(super) fn peer(&mut self, peer: Peer) {
        self.u64(peer.id.0);
        self.u64(peer.store.0);
        self.u8(match peer.role {
            PeerRole::Voter => 0,
            PeerRole::Learner => 1,
            PeerRole::IncomingVoter => 2,
            PeerRole::DemotingVoter => 3,
            PeerRole::LeavingVoter => 4,
        });
    }

    pub(super) fn entry(&mut self, entry: &Entry) {
        self.entry_id(entry.id);
        match &entry.payload {
            Payload::Empty => self.u8(0),
            Payload::Command(command) => {
                self.u8(1);
                self.bytes(command);
            }
            Payload::Membership(change) => {
                self.u8(2);
                self.count(change.steps.len());
                for step in &change.steps {
                    let (kind, peer) = match step {
                        MembershipStep::AddVoter(peer) => (0, peer),
                        MembershipStep::AddLearner(peer) => (1, peer),
                        MembershipStep::Remove(peer) => (2, peer),
                    };
                    self.u8(kind);
                    self.u64(peer.0);
                }
                self.bytes(&change.context);
            }
        }
    }

    pub(super) fn metadata(&mut self, metadata: &SnapshotMetadata) {
        self.entry_id(metadata.last);
        let configuration = &metadata.configuration;
        for peers in [
            &configuration.voters,
            &configuration.voters_outgoing,
            &configuration.learners,
            &configuration.learners_next,
        ] {
            self.count(peers.len());
            for peer in peers {
                self.u64(peer.0);
            }
        }
    }
}

/// A payload being read.
pub(super) struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Input<'a> {
    pub(super) fn new(bytes: &'a [u8], format: u8) -> Result<Input<'a>, CodecError> {
        let mut input = Input { bytes, at: 0 };
        if input.u8()? != format {
            return Err(input.error("unknown format"));
        }
        Ok(input)
    }

    pub(super) fn error(&self, problem: &'static str) -> CodecError {
        CodecError {
            at: self.at,
            problem,
        }
    }

    pub(super) fn end(&self) -> Result<(), CodecError> {
        match self.at == self.bytes.len() {
            true => Ok(()),
            false => Err(self.error("bytes left over")),
        }
    }

    pub(super) fn u8(&mut self) -> Result<u8, CodecError> {
        Ok(self.take(1)?[0])
    }

    pub(super) fn u64(&mut self) -> Result<u64, CodecError> {
        let bytes = self.take(8)?.first_chunk().copied();
        Ok(u64::from_le_bytes(bytes.expect("eight bytes were taken")))
    }

    /// A list of whatever `element` reads. Nothing is allocated ahead: each element consumes
    /// input, so a wrong count ends with the input.
    pub(super) fn list<T>(
        &mut self,
        element: impl Fn(&mut Self) -> Result<T, CodecError>,
    ) -> Result<Vec<T>, CodecError> {
        let count = self.count()?;
        let mut list = Vec::new();
        for _ in 0..count {
            list.push(element(self)?);
        }
        Ok(list)
    }

    pub(super) fn bytes(&mut self) -> Result<Bytes, CodecError> {
        let len = self.count()?;
        Ok(Bytes::copy_from_slice(self.take(len as usize)?))
    }

    pub(super) fn group(&mut self) -> Result<GroupId, CodecError> {
        self.u64().map(GroupId)
    }

    pub(super) fn term(&mut self) -> Result<Term, CodecError> {
        self.u64().map(Term)
    }

    pub(super) fn index(&mut self) -> Result<LogIndex, CodecError> {
        self.u64().map(LogIndex)
    }

    pub(super) fn duration(&mut self) -> Result<Duration, CodecError> {
        self.u64().map(Duration::from_nanos)
    }

    pub(super) fn entry_id(&mut self) -> Result<EntryId, CodecError> {
        Ok(EntryId {
            term: self.term()?,
            index: self.index()?,
        })
    }

    pub(super) fn epoch(&mut self) -> Result<RegionEpoch, CodecError> {
        Ok(RegionEpoch {
            conf_ver: self.u64()?,
            version: self.u64()?,
        })
    }

    pub(super) fn peer(&mut self) -> Result<Peer, CodecError> {
        let id = PeerId(self.u64()?);
        let store = StoreId(self.u64()?);
        let role = match self.u8()? {
            0 => PeerRole::Voter,
            1 => PeerRole::Learner,
            2 => PeerRole::IncomingVoter,
            3 => PeerRole::DemotingVoter,
            4 => PeerRole::LeavingVoter,
            _ => return Err(self.error("unknown role of a peer")),
        };
        Ok(Peer { id, store, role })
    }

    pub(super) fn entry(&mut self) -> Result<Entry, CodecError> {
        let id = self.entry_id()?;
        let payload = match self.u8()? {
            0 => Payload::Empty,
            1 => Payload::Command(self.bytes()?),
            2 => Payload::Membership(MembershipChange {
                steps: self.list(Input::membership_step)?,
                context: self.bytes()?,
            }),
            _ => return Err(self.error("unknown kind of entry")),
        };
        Ok(Entry { id, payload })
    }

    pub(super) fn metadata(&mut self) -> Result<SnapshotMetadata, CodecError> {
        Ok(SnapshotMetadata {
            last: self.entry_id()?,
            configuration: Configuration {
                voters: self.peers()?,
                voters_outgoing: self.peers()?,
                learners: self.peers()?,
                learners_next: self.peers()?,
            },
        })
    }

    fn membership_step(&mut self) -> Result<MembershipStep, CodecError> {
        let kind = self.u8()?;
        let peer = PeerId(self.u64()?);
        match kind {
            0 => Ok(MembershipStep::AddVoter(peer)),
            1 => Ok(MembershipStep::AddLearner(peer)),
            2 => Ok(MembershipStep::Remove(peer)),
            _ => Err(self.error("unknown step of a membership change")),
        }
    }

    fn peers(&mut self) -> Result<BTreeSet<PeerId>, CodecError> {
        let peers = self.list(|input| input.u64().map(PeerId))?;
        Ok(peers.into_iter().collect())
    }

    fn count(&mut self) -> Result<u32, CodecError> {
        let bytes = self.take(4)?.first_chunk().copied();
        Ok(u32::from_le_bytes(bytes.expect("four bytes were taken")))
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], CodecError> {
        let taken = self
            .at
            .checked_add(len)
            .and_then(|end| self.bytes.get(self.at..end))
            .ok_or_else(|| self.error("ends too early"))?;
        self.at += len;
        Ok(taken)
    }
}
