//! What a leader is asked for by its clients: proposals, reads, a transfer.

use std::time::Duration;

use bytes::Bytes;

use crate::error::{ProposeError, ReadError, TransferError};
use crate::leadership::{READS_MAX, Transfer};
use crate::raft::{Office, Raft};
use crate::ready::ReadId;
use crate::types::{Entry, EntryId, Payload, PeerId};

impl Raft {
    /// Appends a command to the log, if this is the leader. The returned id is the command's for
    /// ever: it is done when an entry of that id is applied, and was not done when another
    /// entry is applied at that index.
    pub fn propose(&mut self, command: Bytes) -> Result<EntryId, ProposeError> {
        let leader = self.leader;
        let Office::Leader(lead) = &self.office else {
            return Err(ProposeError::NotLeader { leader });
        };
        if lead.transfer.is_some() {
            return Err(ProposeError::Transferring);
        }
        let payload = Payload::Command(command);
        let size = Entry {
            id: EntryId::default(),
            payload: payload.clone(),
        }
        .size();
        let full = lead.uncommitted_bytes + size > self.config.uncommitted_bytes_max;
        if full && lead.uncommitted_bytes > 0 {
            return Err(ProposeError::Busy);
        }
        Ok(self.append_own(payload))
    }

    /// Asks for the index from which a read that arrived now is current (§6.4). The answer is
    /// in [`Ready::reads`](crate::Ready) or [`Ready::failed_reads`](crate::Ready).
    pub fn read_index(&mut self, id: ReadId, now: Duration) -> Result<(), ReadError> {
        self.observe(now);
        self.wake_leader();
        let leader = self.leader;
        let Office::Leader(lead) = &mut self.office else {
            return Err(ReadError::NotLeader { leader });
        };
        if lead.transfer.is_some() {
            return Err(ReadError::Transferring);
        }
        if lead.pending_reads() >= READS_MAX {
            return Err(ReadError::Busy);
        }
        lead.push_read(id, self.log.commit());
        Ok(())
    }

    /// Hands leadership to another voter: stops proposing and reading, voids the lease, lets the
    /// target catch up, then tells it to campaign. Given up after `election_ticks_min` ticks.
    pub fn transfer_leader(&mut self, target: PeerId, now: Duration) -> Result<(), TransferError> {
        self.observe(now);
        self.wake_leader();
        let leader = self.leader;
        let Office::Leader(lead) = &mut self.office else {
            return Err(TransferError::NotLeader { leader });
        };
        if let Some(transfer) = &lead.transfer {
            return Err(TransferError::Transferring(transfer.target));
        }
        if target == self.config.id || !self.configuration.voters.contains(&target) {
            return Err(TransferError::NotAVoter(target));
        }
        lead.transfer = Some(Transfer::new(target));
        Ok(())
    }
}
