//! The replication driver: what turns Raft's `Ready` into persist, send, apply and reply.
//!
//! It is written once and used twice: a store runs thousands of groups through it, placement runs
//! one. It does no I/O, reads no clock and draws no randomness: [`Shard::run_once`] takes what
//! happened ([`Event`]) and the time, and returns what is to be done ([`Effects`]). The shell does
//! that in the order of the fields, and reports back with further events. What is replicated is a
//! [`StateMachine`].
//!
//! # The way of a write
//!
//! [`Event::Propose`] is checked (leader, epoch, range, deadline, limits) and proposed; the entry
//! leaves in [`Effects::messages`] to the followers and in [`Effects::wal`] to the own log. Whoever
//! has it durable says so in [`Effects::messages_after_persist`]. Once a majority has it *and* it is
//! durable here, it is applied: the state machine decides through [`ApplyContext`], its writes, the
//! region's state and the applied index go into one batch ([`Effects::apply`]), and the waiter gets
//! its [`Outcome`]. A decision that needs a value from disk parks its group alone
//! ([`Effects::value_fetches`]), and resumes with exactly what was asked for.
//!
//! # Invariants
//!
//! * A promise (vote, acknowledgement, birth, death) leaves only after its record is durable (D1).
//! * Only entries durable in the own log are applied; the applied index and the region's state are
//!   in the batch of the data. A founder's first state is written once its birth is durable.
//! * Epoch and range are checked at propose and again at apply, by values that are replicated.
//! * Every waiter is answered exactly once: applied; refused; superseded by another entry *committed*
//!   at its place; or undetermined at its deadline, by a snapshot that jumped over it, at the end of
//!   the replica, at damage or shutdown. Losing office alone settles nothing: the waiter stays until
//!   its place in the log is decided.
//! * The lease is published only when an entry of the own term is applied, and is void before
//!   anything leaves that could end it ([`Effects::lease_voids`] comes first).
//! * A tombstone is durable before the data goes, the data is gone durably before a younger peer of
//!   the group may be born, and the dead peer (or an elder) never comes back (M7).
//! * A snapshot replaces data only after its `Installing` record is durable; until then and until it
//!   is installed nothing is applied.
//! * The log is cut only up to what the engine has flushed, and not before those who live have it,
//!   unless that costs too much ([`ShardConfig::log_bytes_max`]).
//!
//! * No two groups hold the same keys on one store, over all its shards ([`Territory`]): nobody is
//!   called into life or gets a snapshot for keys that another region here has yet to give up.
//! * A region is out of the directory from the moment a snapshot is about to replace its data.
//!
//! # Splits
//!
//! [`AdminCommand::Split`] is applied by the driver, not by the state machine, because it concerns
//! births and ranges. What parents and children mean to each other, and what every crash can
//! leave of a split, stands in `shard/splitting.rs`. In short:
//!
//! * The births of the children are durable before the split is applied; one batch then holds the
//!   parent's new state and the children's first ones.
//! * A child found by a restart whose parent has lost the split does nothing until the parent here
//!   has applied it again, by its own log. A parent is not buried before its last split is flushed.
//! * From proposing a split until applying it the lease is not renewed, and a newborn neither votes
//!   nor campaigns for one promise, so that no child has a leader while the parent's leader of old
//!   may still serve its keys. The child beside a parent's leader that has applied the split need
//!   not wait: there is no lease on its keys any more.
//! * A child whose peers elsewhere were never born, because their parents jumped over the split by a
//!   snapshot, calls them into life when it asks for their votes.
//! * Whoever asks with an outdated epoch is told the region and those split from it.
//!
//! # Changes of membership
//!
//! [`AdminAction::ChangePeers`] takes one step or several. Several that change who votes go through a
//! joint membership, whose roles ([`PeerRole`]) the region shows until the leader, or the next one, has
//! left it; a leader that is no voter afterwards hands over. A joint region is not split.
//!
//! # Removed peers
//!
//! A removed peer goes on voting, without a region of its own to serve, until a leader dismisses it
//! ([`PeerBody::Gone`]): its vote may be needed by those who do not know yet that the removal is
//! committed. A damaged peer votes no more, and asks now and then whether it was removed
//! ([`PeerBody::Probe`]). Who asks a follower, or wants its vote, is made known to the leader
//! ([`PeerBody::AskedBy`]): the removed need not know who leads.
//!
//! # Damage
//!
//! A peer whose log or state a restart finds damaged answers nobody, votes no more and is reported in
//! [`Effects::damaged`]; placement replaces it by one with another id (D6). A group that lost the very
//! record of its birth is known by its region, or buried without a name (`shard/nameless.rs`); and a
//! peer that the damage may have taken whole is not called back (`shard/calling.rs`).
//!
//! # Sleep
//!
//! A group in which nothing happens sleeps: no ticks, no messages, and its lease lapses
//! ([`ShardConfig::hibernate_after_ticks`]). Its leader asks all peers, and only when all are caught up
//! and have agreed it tells them and sleeps itself ([`Rest`]). The shard ticks only who is awake. Sleep
//! changes cost, never safety: what binds a peer binds it asleep, too.
//!
//! * Any request, entry or heartbeat wakes. A sleeping voter that is asked for its vote refuses once,
//!   wakes, and wakes the leader ([`Rest::Wake`]), which calls at once; if it does not, the voter is
//!   free. Likewise a sleeping follower that a client asks. Who is asked for a vote by the very leader it
//!   sleeps under, or is disowned by it ([`Rest::Disown`]), waits for nobody.
//! * Nobody sleeps unless the stores that matter to it are fresh: for a leader those of all peers, for
//!   the others the leader's. When one is lost, those wake that slept because it was fresh, and those
//!   that it led campaign, staggered ([`ShardConfig::campaign_stagger`]).
//! * A leader with a removed peer to dismiss, a snapshot to send, a child to wait for, or a membership
//!   or split under way does not sleep. A sleeping one still dismisses, and still cuts its log.
//! * Who sleeps through its own removal, because every word of it was lost, is told before the others
//!   sleep again.
//!
//! The shell has one [`Neighbours`] a process, whose documentation says how it is driven.
//!
//! # Merges
//!
//! [`AdminAction::Merge`] freezes a region and makes it a part of its neighbour, or thaws it; which of
//! both is decided by one entry of the neighbour's log. The order of things, why never both come to
//! pass, and what every crash can leave of it stands in `shard/merging.rs`. In short:
//!
//! * From proposing the freeze until its end is applied the source serves no read and accepts nothing.
//! * The target commits only when all peers of the source have all of its log, and absorbs it on each
//!   store only when the source's peer there has applied all of it.
//! * A merge is committed only at the one epoch of the target that the freeze names, and rolled back
//!   only once the target has left that epoch without it.
//! * One batch holds the target's new range and the source's end. The source's log stays until that is
//!   flushed; then its peer is buried, and its data stays.
//!
//! # Checks
//!
//! [`AdminCommand::Check`] changes nothing. Every replica that applies it asks the shell for a sum over
//! its state and data as of that entry ([`Effects::checks`]), so that somebody can compare them (F3).
//! The shell takes its snapshot when it has written the run's batch; therefore a group applies nothing
//! after a check in the same run, and goes on in its next, which a tick brings about if nothing else
//! does. A replay after a restart sums up again: nobody waits for that, and it does no harm.

mod codec;

mod command;
mod merge;
mod outcome;
mod region;
mod split;

mod config;
mod effects;
mod event;
mod machine;
mod neighbours;
mod record;

mod apply;
mod grave;
mod replica;
mod run;
mod shard;
mod territory;

pub use codec::FormatError;
pub use command::{AdminCommand, Command, PeerChange};
pub use config::ShardConfig;
pub use effects::{
    Check, Destroy, DropReason, Dropped, Effects, EntryFetch, LeaseCell, Observed, PersistToken,
    RegionChange, SnapshotHandle, SnapshotInstall, SnapshotSend, ValueFetch,
};
pub use event::{
    AdminAction, AdminRequest, Birth, Event, InstallError, LocalBody, LocalMessage, MergeWord,
    PeerBody, PeerMessage, Plea, Proposal, ReadRequest, ReceivedSnapshot, Rest, Yielded,
};
pub use machine::{
    ApplyContext, KeyRange, Lookup, NeedsKeys, Observation, ObservationKind, ReadError, Reader,
    StateMachine,
};
pub use merge::{Absorbed, Fate, Freeze, Heir, MergePhase, Merges};
pub use neighbours::{Heartbeat, NeighbourConfig, NeighbourNews, Neighbours};
pub use outcome::{
    Answer, BusyReason, Doubt, MembershipRefusal, MergeRefusal, Outcome, ReadGrant, Refusal,
    SplitRefusal, WaiterId,
};
pub use record::{BirthRecord, InstallRecord, SplitPoint, TombstoneRecord};
pub use region::{
    FIRST_ENTRY, Peer, PeerRole, Region, RegionEpoch, RegionState, RoutingRange, StoreId,
};
pub use replica::{GroupStatus, Replica};
pub use shard::{Factory, RecoverError, RecoveredReplica, RecoveredTombstone, Shard};
pub use split::SplitIds;
pub use territory::Territory;
