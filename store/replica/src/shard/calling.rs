//! Who is called into life by a message, and who may not be.
//!
//! A peer begins to live here when a leader that has it among its peers sends it entries, when
//! somebody born with it in a split asks for its vote, or when a snapshot comes for it. It must not be
//! dead, its keys must be nobody else's here, and it must be new.
//!
//! # Who was lost
//!
//! Damage of the log may take every record of a peer, so that this store does not know that it ever
//! lived, voted and acknowledged; called once more it would do so again, empty (D6). That it
//! was a voter is no mark of it: a leader that has yet to apply its promotion takes it for a learner.
//! Its id is one. Ids are never given out twice and rise, so one that is drawn after the damage was found
//! is above all that lived here before ([`Event::NewPeersFrom`](crate::Event)). Of a store whose log
//! was ever damaged ([`ShardConfig::log_was_damaged`](crate::ShardConfig)) holds, since each start:
//!
//! * Whoever has an id from the drawn one on is new.
//! * Whoever has a lower one and is not known here may have lived here. It is born damaged, which its
//!   birth record says, and so is reported and replaced like any damaged peer. Some are hit
//!   that had not come yet; that costs a snapshot.
//! * Until an id is drawn, voters count as those that lived, and learners wait.
//!
//! Children that a parent here brings up are not concerned: all that the damage left is damaged and
//! applies nothing, and the parents that come later are new when their children get their ids.

use super::Shard;
use crate::effects::DropReason;
use crate::event::PeerMessage;
use crate::grave::Stage;
use crate::machine::StateMachine;
use crate::record::BirthRecord;
use crate::region::Peer;
use crate::replica::Replica;
use crate::run::Run;

impl<S: StateMachine> Shard<S> {
    /// Brings up the peer that a message is for, if it may begin to live.
    pub(super) fn awaken(
        &mut self,
        message: &PeerMessage,
        creates: bool,
        run: &mut Run<'_, S::Reply>,
    ) -> Result<(), DropReason> {
        if !creates || message.epoch.conf_ver == 0 {
            return Err(DropReason::UnknownGroup);
        }
        if self
            .graves
            .get(&message.group)
            .is_some_and(|grave| grave.stage != Stage::Closed)
        {
            return Err(DropReason::YoungerPeer);
        }
        // Whoever may be born here says which keys are its own. They must not be another's: of a
        // region that has yet to be split, or of one whose data is not gone.
        let Some(range) = &message.range else {
            return Err(DropReason::UnknownGroup);
        };
        let may_have_lived = self.may_have_lived(message.to)?;
        let claim = self.territory.claim_first(message.group, range);
        claim.map_err(DropReason::Overlap)?;
        let birth = BirthRecord {
            peer: message.to,
            epoch: message.epoch,
            start: range.start.clone(),
            state: None,
            parent: None,
            may_have_lived,
        };
        let machine = (self.factory)(message.group);
        let replica = Replica::awaken(message.group, &birth, machine, run);
        self.replicas.insert(message.group, replica);
        Ok(())
    }

    fn may_have_lived(&self, peer: Peer) -> Result<bool, DropReason> {
        match self.new_peers_from {
            _ if !self.config.log_was_damaged => Ok(false),
            Some(first) => Ok(peer.id < first),
            None if peer.role.votes() => Ok(true),
            None => Err(DropReason::NotKnownNew),
        }
    }
}
