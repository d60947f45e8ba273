//! Merges, as what sources and targets on one store mean to each other.
//!
//! A *source* becomes a part of its neighbour, the *target*. Both live on the same stores, all their
//! peers vote. Two logs are involved, so it must be said which of them decides.
//!
//! # The target's log decides
//!
//! 1. *Freeze*, in the source's log ([`AdminCommand::PrepareMerge`](crate::AdminCommand)): it names
//!    the target at one epoch `e`. From the proposal on the source's leader serves no read and accepts
//!    nothing; once it is applied, every peer refuses all that follows it but the end of the freeze.
//! 2. *Everybody has it.* The source's leader waits until all of its peers, not just a majority, have
//!    the freeze in their durable logs. So nobody ever needs an entry of a source that is gone, and
//!    none has to travel in the target's log. The price: no merge while a peer is away; after
//!    [`ShardConfig::merge_patience_ticks`](crate::ShardConfig) the source asks its target to decline.
//! 3. *Commit*, in the target's log ([`AdminCommand::CommitMerge`](crate::AdminCommand)), valid only
//!    if the target's epoch at that place is `e`, in whole.
//! 4. *Roll back*, in the source's log ([`AdminCommand::RollbackMerge`](crate::AdminCommand)), proposed
//!    only upon a state of the target that has left `e` and does not remember the source.
//!
//! Epochs only grow, so a target leaves `e` once, by one entry of its log: by this commit, or by
//! something else (a split, a change of membership, its own freeze, a
//! [`AdminCommand::DeclineMerge`](crate::AdminCommand)), after which no commit that names `e` is valid
//! for ever. Whoever is absorbed stands in the target's state from that entry on
//! ([`Merges::absorbed`](crate::Merges)), wherever that state goes: to the next restart, into
//! snapshots, to whoever absorbs the target. So *any* applied state of the target beyond `e` tells for
//! certain which it was, without asking how it was reached ([`Fate`]). Who has been
//! absorbed is never thawed, and who is thawed can never be absorbed by that freeze. What is not
//! remembered for certain any more (of the merges only so many are) is answered by nothing, and the
//! source goes on waiting.
//!
//! # Here, on every store
//!
//! A target that reaches a valid commit stops there until the source's peer beside it has applied its
//! log up to the freeze, of which the commit proves that it is committed, and does nothing
//! any more ([`LocalBody::Yield`]). Then one batch holds the target's new state, with its applied
//! index, and what remains of the source's ([`MergePhase::Merged`](crate::MergePhase)). The source may
//! live on another shard: they speak through [`Effects::local`](crate::Effects), in order, each after
//! what it applied is written; neither blocks.
//!
//! # What a crash can leave
//!
//! Let `i` be the commit's index, `f` what is flushed of the target. The engine is a prefix of what was
//! applied, of all groups together.
//!
//! * *`f < i`.* The engine has nothing of the merge. The source is alive and frozen, or will be when it
//!   has applied its log again, which is all there: its tombstone is recorded only once
//!   `f >= i`, and a log is cut up to what is flushed only. The target comes to `i` again and waits
//!   again. No read or write slips in between: whoever leads the source has the freeze in its log
//!   before its own first entry.
//! * *`f >= i`.* The engine says that the source is merged: what is left of it is buried, its data stays.
//!
//! Until `f >= i` the target takes no snapshot and is not buried, as for splits
//! (`shard/splitting.rs`): its log is what would do the merge again.
//!
//! # Snapshots
//!
//! A target that lags gets a snapshot of what came of the merge, while its source's peer, which lags
//! as well, holds a part of the keys. The snapshot's state names it as absorbed: it stops where it
//! stands ([`LocalBody::YieldToSnapshot`]), and one batch of the log holds the target's `Installing`
//! and the source's tombstone (M6). Were the source gone first, the target might yet reach the commit
//! by its log, and look for it in vain. If the snapshot is not taken after all, the source goes on.
//!
//! # Ends
//!
//! * A source that is told to go asks its target first, which may yet need it. If the target does
//!   not live here, it goes, unless a region older than the target still holds the target's first key:
//!   the target may be that region's child, not split from it here yet, and would come to the commit
//!   by its log. If the target has declined, it goes if its log ends with that freeze: a merge that
//!   needs this peer has a later freeze in its log, as in all. Called into life later than that, it begins with a snapshot. The source is told by
//!   placement, or by the graves of its group: whoever speaks to a peer that died of a merge learns
//!   of that, and of that key ([`MergeWord::Merged`](crate::MergeWord)).
//! * A source that its own group says it was removed from, by a dismissal or by calling a younger peer
//!   to its place, goes without asking. A frozen region refuses changes of membership, and one that was
//!   merged has none after that; so every freeze of a region with this peer in it was rolled back, also
//!   the one it still sees, and a commit that names a later freeze does not name this peer.
//! * A target that finds no source to yield is damaged, and replaced; so is one whose source is damaged.
//!   The source of a damaged or removed target is left alone, and placement finds it.
//! * Leaders come and go on either side: nothing about a merge is kept but what the states say.
//!
//! # What is left out
//!
//! A frozen source none of whose stores has a peer of the target any more hears of nobody what became
//! of the merge, and waits. It would need a source without a leader for as long as it takes to move
//! the target away from all of its stores.

use std::sync::Arc;

use tinykv_raft::{GroupId, LogIndex};

use super::Shard;
use crate::effects::DropReason;
use crate::event::{
    LocalBody, LocalMessage, MergeWord, PeerBody, PeerMessage, ReceivedSnapshot, Yielded,
};
use crate::grave::Grave;
use crate::machine::StateMachine;
use crate::merge::Fate;
use crate::record::TombstoneRecord;
use crate::region::RegionEpoch;
use crate::replica::Stopped;
use crate::run::Run;

impl<S: StateMachine> Shard<S> {
    /// Another group of this store, maybe of another shard, says something.
    pub(super) fn on_local(&mut self, message: LocalMessage, run: &mut Run<'_, S::Reply>) {
        if self.is_shut_down {
            return;
        }
        let LocalMessage { from, to, body } = message;
        match body {
            LocalBody::Die { recorded } => return self.on_die(to, recorded, run),
            body if !self.replicas.contains_key(&to) => {
                return self.answer_for(from, to, body, run);
            }
            _ => {}
        }
        let territory = Arc::clone(&self.territory);
        let Some(replica) = self.touch(to) else {
            return;
        };
        match body {
            LocalBody::Plea {
                target,
                epoch,
                plea,
            } => replica.on_plea(from, (target, epoch), plea, run),
            LocalBody::Fate {
                target,
                epoch,
                fate,
            } => {
                let may_be_needed = fate == Fate::NotHere && replica.may_be_looked_for(&territory);
                if !may_be_needed {
                    replica.on_fate(target, epoch, fate, run);
                }
            }
            LocalBody::Yield { peer, prepared } => replica.on_yield(from, peer, prepared),
            LocalBody::YieldToSnapshot => replica.on_yield_to_snapshot(from, run),
            LocalBody::Yielded(yielded) => {
                replica.on_yielded(from, yielded, run);
                if let Some((received, stopped)) = replica.take_arrival() {
                    self.take_snapshot(to, received, stopped, run);
                }
            }
            LocalBody::Resume => replica.resume(),
            LocalBody::Abandoned => replica.on_abandoned(run),
            LocalBody::Die { .. } => {}
        }
    }

    /// Says for a group that does not live here what there is to say.
    fn answer_for(
        &mut self,
        asker: GroupId,
        absent: GroupId,
        body: LocalBody,
        run: &mut Run<'_, S::Reply>,
    ) {
        let answer = match body {
            LocalBody::Plea { target, epoch, .. } => LocalBody::Fate {
                target,
                epoch,
                fate: Fate::NotHere,
            },
            LocalBody::Yield { .. } | LocalBody::YieldToSnapshot => {
                LocalBody::Yielded(Yielded::Never("it does not live here"))
            }
            LocalBody::Yielded(_) => LocalBody::Abandoned,
            LocalBody::Fate { .. }
            | LocalBody::Resume
            | LocalBody::Abandoned
            | LocalBody::Die { .. } => return,
        };
        let grave = self.graves.get(&absent);
        let heir = grave.and_then(|grave| grave.record.merged_into.as_ref());
        let heir = heir.map(|heir| heir.group);
        let message = match (heir, body) {
            // Whoever absorbed it knows, or knows who does.
            (Some(heir), body @ LocalBody::Plea { .. }) => LocalMessage {
                from: asker,
                to: heir,
                body,
            },
            _ => LocalMessage {
                from: absent,
                to: asker,
                body: answer,
            },
        };
        run.effects.local.push(message);
    }

    /// Whoever of a group that was merged speaks to a dead peer here learns that.
    pub(super) fn tell_of_merge(&self, message: &PeerMessage, run: &mut Run<'_, S::Reply>) {
        let grave = self.graves.get(&message.group);
        let is_it = |record: &&TombstoneRecord| record.peer.id == message.to.id;
        let record = grave.map(|grave| &grave.record).filter(is_it);
        let told = record.and_then(|it| Some((it.peer, it.merged_into.clone()?)));
        let Some((peer, into)) = told else {
            return;
        };
        run.effects.messages.push(PeerMessage {
            group: message.group,
            from: peer,
            to: message.from,
            epoch: RegionEpoch::default(),
            keep_after: LogIndex(0),
            range: None,
            body: PeerBody::Merge(MergeWord::Merged { into }),
        });
    }

    /// The target has all that was this group's, durably.
    fn on_die(
        &mut self,
        group: GroupId,
        recorded: Option<Box<TombstoneRecord>>,
        run: &mut Run<'_, S::Reply>,
    ) {
        if !self.replicas.get(&group).is_some_and(|it| it.may_die()) {
            return;
        }
        self.touched.insert(group);
        self.territory.release(group);
        let Some(record) = recorded else {
            return self.bury(group, run);
        };
        if let Some(replica) = self.replicas.remove(&group) {
            replica.end_unrecorded(run);
            let mut grave = Grave::dug(*record);
            grave.on_recorded::<S>(group, run);
            self.graves.insert(group, grave);
        }
    }

    pub(super) fn on_snapshot_received(
        &mut self,
        received: ReceivedSnapshot,
        run: &mut Run<'_, S::Reply>,
    ) {
        let group = received.message.group;
        let territory = Arc::clone(&self.territory);
        let admitted = match self.addressee(&received.message, true, run) {
            Ok(replica) => {
                let absorbed = received.state.merges.absorbed.iter();
                let sources = territory.holders(absorbed.map(|it| it.group));
                if sources.is_empty() {
                    return self.take_snapshot(group, received, Vec::new(), run);
                }
                let admitted = replica.admit_snapshot(run);
                if admitted.is_ok() {
                    return replica.await_sources(received, sources, run);
                }
                admitted
            }
            Err(reason) => Err(reason),
        };
        if let Err(reason) = admitted {
            run.effects.snapshot_discards.push(received.handle);
            run.drop_message(group, received.message.from.id, reason);
        }
    }

    /// Nobody is in its way who does not die of it.
    fn take_snapshot(
        &mut self,
        group: GroupId,
        received: ReceivedSnapshot,
        sources: Stopped,
        run: &mut Run<'_, S::Reply>,
    ) {
        let territory = Arc::clone(&self.territory);
        let Some(replica) = self.touch(group) else {
            return;
        };
        match replica.claim_for(&received.state.region, &sources, &territory) {
            Ok(()) => {
                replica.on_snapshot_received(received, sources, run);
                replica.settle_claim(&territory);
            }
            Err(other) => {
                replica.let_go_on(sources, run);
                run.effects.snapshot_discards.push(received.handle);
                let from = received.message.from.id;
                run.drop_message(group, from, DropReason::Overlap(other));
            }
        }
    }
}
