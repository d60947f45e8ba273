//! What can happen to a shard.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use tinykv_raft::{Entry, EntryId, GroupId, LogIndex, Message, PeerId, Term, Willingness};

use crate::command::{AdminCommand, Command, PeerChange};
use crate::effects::{EntryFetch, PersistToken, SnapshotHandle};
use crate::machine::ReadError;
use crate::merge::Fate;
use crate::merge::Heir;
use crate::outcome::WaiterId;
use crate::record::TombstoneRecord;
use crate::region::{Peer, Region, RegionEpoch, RegionState, RoutingRange, StoreId};
use crate::split::SplitIds;

/// One thing that happened. The shell collects them and passes them to
/// [`crate::Shard::run_once`], which takes all there are.
#[derive(Clone, Debug)]
pub enum Event {
    /// Time passed: one per tick interval (default 50 ms), for all groups.
    Tick,
    /// A message from another peer. A Raft snapshot message never comes this way but as
    /// [`Event::SnapshotReceived`], when its data is here.
    Message(PeerMessage),
    /// A command to be proposed.
    Propose(Proposal),
    /// A read that the lease does not cover.
    Read(ReadRequest),
    /// A command of the driver itself, asked for by placement.
    Admin(AdminRequest),
    /// The record batch of an earlier run is durable, and so are those of all runs before it.
    Persisted(PersistToken),
    /// Another group of this store says something ([`crate::Effects::local`]).
    Local(LocalMessage),
    /// Entries asked for by [`EntryFetch`].
    EntriesFetched {
        /// As asked.
        request: EntryFetch,
        /// Consecutive entries from the first asked for, at least one and as many as the limit
        /// allows; empty if the log no longer has them.
        entries: Result<Vec<Entry>, ReadError>,
    },
    /// Values asked for by [`crate::ValueFetch`], in the order of its keys.
    ValuesFetched {
        /// The group.
        group: GroupId,
        /// The entry that waits for them.
        entry: EntryId,
        /// Each key with its value.
        values: Result<Vec<(Bytes, Option<Bytes>)>, ReadError>,
    },
    /// The data of a snapshot has arrived whole and intact.
    SnapshotReceived(Box<ReceivedSnapshot>),
    /// An installation asked for by [`crate::SnapshotInstall`] ended.
    SnapshotInstalled {
        /// The group.
        group: GroupId,
        /// The installing peer.
        peer: PeerId,
        /// The last entry of the snapshot.
        snapshot: EntryId,
        /// Whether the ingest is durable.
        result: Result<(), InstallError>,
    },
    /// A snapshot asked for by [`crate::SnapshotSend`] was delivered whole, or was not.
    SnapshotSent {
        /// The group.
        group: GroupId,
        /// The receiving peer.
        to: PeerId,
        /// Whether the other side has it all.
        delivered: bool,
    },
    /// The data of a destroyed peer is dropped, durably ([`crate::Destroy`]).
    Destroyed {
        /// The group.
        group: GroupId,
        /// The peer that is gone.
        peer: PeerId,
    },
    /// Applied indexes that the LSM has made durable: the log may be cut up to there.
    Flushed(BTreeMap<GroupId, LogIndex>),
    /// Reads were served in the group's lease since this was said last: it is in use, though its
    /// shard saw nothing of it. Said when the lease is renewed; it wakes nobody.
    ReadInLease(GroupId),
    /// The engine has cut these logs by itself, because they held back the recycling of the log.
    /// Never beyond what is flushed.
    LogCut(Vec<(GroupId, EntryId)>),
    /// A peer of a new group is to be born here with its first state (bootstrap).
    Create(Birth),
    /// Placement says that this peer does not belong to its group any more.
    Destroy {
        /// The group.
        group: GroupId,
        /// The peer; a younger one of the same group is left alone.
        peer: PeerId,
    },
    /// Nobody can ask for this dead peer any more (placement says so): its tombstone may go.
    ForgetTombstone {
        /// The group.
        group: GroupId,
        /// The dead peer.
        peer: PeerId,
    },
    /// The transport lost its connection to a store; messages to it may be lost.
    StoreUnreachable(StoreId),
    /// A store is gone for good or restarted: groups led from there should elect soon.
    StoreDead(StoreId),
    /// A store that this shard needs ([`crate::Effects::neighbours`]) lives, as far as its
    /// heartbeats tell ([`crate::Neighbours`]). Until it is said, no group shared with it sleeps.
    StoreFresh(StoreId),
    /// A store that was fresh is silent, or has started again: groups shared with it wake, and those
    /// that it led elect, one after the other.
    StoreLost(StoreId),
    /// Whether this store wants to lead, from now on ([`ShardConfig::willingness`](crate::ShardConfig)).
    /// A reluctant one hands its offices to others one by one, declines new ones, and leads only
    /// what nobody else does.
    SetWillingness(Willingness),
    /// Ids of peers from this one on were given out only after this process had recovered: who has
    /// one never lived here before. Needed where [`ShardConfig::log_was_damaged`](crate::ShardConfig);
    /// only the first one counts.
    NewPeersFrom(PeerId),
    /// All leaders here are to be handed to others, as far as possible.
    EvictLeaders {
        /// When to give up, per group.
        deadline: Duration,
    },
    /// Every waiter is answered, and from now on everything is refused.
    Shutdown,
}

/// A message between two peers, with what the receiver needs to find or create its peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerMessage {
    /// The group.
    pub group: GroupId,
    /// Who sends.
    pub from: Peer,
    /// Who is to receive. Its store is where the transport delivers.
    pub to: Peer,
    /// The sender's epoch of the region; zero if it does not know the region yet.
    pub epoch: RegionEpoch,
    /// The sender, if it leads, keeps its log from the entry after this one; receivers keep theirs
    /// as long. 0 from others.
    pub keep_after: LogIndex,
    /// The sender's range of the region, in messages that may call a peer into life or reach one
    /// that has no region yet. A store has no peer born whose range another one here still holds.
    pub range: Option<RoutingRange>,
    /// What is said.
    pub body: PeerBody,
}

/// What a [`PeerMessage`] says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerBody {
    /// A message of the Raft core.
    Raft(Message),
    /// "You are dismissed": the sender, a leader, has applied a membership, at the epoch of the
    /// envelope, that does not contain the receiver, and nobody can need its vote any more. The
    /// receiver destroys itself if that epoch's `conf_ver` is newer than its own, or the same and it
    /// knows of its removal.
    Gone,
    /// "Am I still a member?", asked by those that hear of no leader and cannot campaign. A leader
    /// answers [`PeerBody::Gone`], or nothing.
    Probe,
    /// A follower to its leader: "this peer, which was removed, asks me instead of you". Answered to
    /// that peer as if it had asked the leader, never passed on again.
    AskedBy(Peer),
    /// About the sleep of the group.
    Rest(Rest),
    /// About a merge.
    Merge(MergeWord),
}

/// What peers tell each other about a merge. May be lost; it is said again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MergeWord {
    /// To the target's leader: what a source on the follower's store asks for.
    Plea {
        /// The epoch of the target that the freeze names.
        epoch: RegionEpoch,
        /// The source.
        source: GroupId,
        /// What is asked for.
        plea: Plea,
    },
    /// To the source's leader: the target, as applied on the follower's store, can never commit the merge.
    Declined {
        /// Which freeze.
        prepared: EntryId,
    },
    /// The answer to whatever a peer of a source says to one that is buried: "We have become a part of
    /// this region."
    Merged {
        /// The target.
        into: Heir,
    },
}

/// What a frozen source asks of its target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plea {
    /// To be told what has become of it.
    Tell,
    /// To commit the merge: all peers of the source have all of its log.
    Commit(Box<RegionState>),
    /// To see to it that the merge can never be committed.
    Decline,
}

/// What one group of a store says to another, on whichever shards both live. Never lost while the
/// process lives, and heard in the order in which it was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalMessage {
    /// Who says it.
    pub from: GroupId,
    /// Whom it is for.
    pub to: GroupId,
    /// What is said.
    pub body: LocalBody,
}

/// What a [`LocalMessage`] says. All of it is about merges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LocalBody {
    /// A frozen source to its target, or to whom that has become a part of.
    Plea {
        /// The target that the freeze names.
        target: GroupId,
        /// At this epoch.
        epoch: RegionEpoch,
        /// What is asked for.
        plea: Plea,
    },
    /// The answer.
    Fate {
        /// The target that was asked about.
        target: GroupId,
        /// At this epoch.
        epoch: RegionEpoch,
        /// What is known.
        fate: Fate,
    },
    /// A target to its source: "The merge is committed. Apply up to the freeze and stop."
    Yield {
        /// The source's peer here.
        peer: PeerId,
        /// The freeze.
        prepared: EntryId,
    },
    /// A target that lags to its source: "The merge is committed, and I am getting a snapshot of what
    /// came of it. Stop where you are."
    YieldToSnapshot,
    /// The source's answer to either.
    Yielded(Yielded),
    /// The target did not take the snapshot after all: "Go on."
    Resume,
    /// The target does not live here any more, and has not absorbed the source here: "Nobody needs
    /// you."
    Abandoned,
    /// "What was yours is mine, durably. Be buried." `recorded` says whether the tombstone is in the
    /// log already, beside the record of the target's installation.
    Die {
        /// The tombstone, if it is recorded.
        recorded: Option<Box<TombstoneRecord>>,
    },
}

/// Whether a source has stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Yielded {
    /// It has applied its log up to the freeze.
    Applied,
    /// It stands where it stood; this is to be recorded of it with the installation.
    Stopped(Box<TombstoneRecord>),
    /// Not now.
    Busy,
    /// It does not live here, is damaged, or is not what it should be.
    Never(&'static str),
}

/// What the peers of a group say to each other about its sleep. A leader asks all others; when all
/// agree, it tells them and sleeps. Any of these may be lost: who sleeps alone is woken by the others,
/// and who wakes alone wakes the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// The leader: "I lead this term, everything up to this entry, the last, is applied, and I have
    /// nothing to do. And you?"
    Ask {
        /// The leader's term.
        term: Term,
        /// The last entry.
        last: LogIndex,
    },
    /// The answer, if it is yes.
    Agree {
        /// As asked.
        term: Term,
        /// As asked.
        last: LogIndex,
    },
    /// The leader: "All have agreed. Sleep."
    Sleep {
        /// As asked.
        term: Term,
        /// As asked.
        last: LogIndex,
    },
    /// To the leader: "Somebody wants something of the group. Call us."
    Wake,
    /// The answer to it of those that do not lead, or of a leader that cannot go on: "Do not wait for
    /// me."
    Disown,
}

/// A command to be proposed. Its epoch travels in the command.
#[derive(Clone, Debug)]
pub struct Proposal {
    /// The group.
    pub group: GroupId,
    /// The peer the request was addressed to, if the asker said.
    pub peer: Option<PeerId>,
    /// The term in which the command is valid, if the asker said.
    pub term: Option<Term>,
    /// What to propose.
    pub command: Command,
    /// Not proposed at or after this time (K4); answered then at the latest.
    pub deadline: Duration,
    /// Who gets the outcome.
    pub waiter: WaiterId,
}

/// A read that waits for a confirmed commit index.
#[derive(Clone, Debug)]
pub struct ReadRequest {
    /// The group.
    pub group: GroupId,
    /// The peer the request was addressed to, if the asker said.
    pub peer: Option<PeerId>,
    /// The epoch the asker believes in; only the version (the range) is compared.
    pub epoch: Option<RegionEpoch>,
    /// Answered at this time at the latest.
    pub deadline: Duration,
    /// Who gets the outcome.
    pub waiter: WaiterId,
}

/// An administrative request to a leader.
#[derive(Clone, Debug)]
pub struct AdminRequest {
    /// The group.
    pub group: GroupId,
    /// What to do.
    pub action: AdminAction,
    /// Given up at this time at the latest.
    pub deadline: Duration,
    /// Who gets the outcome, if anybody wants it.
    pub waiter: Option<WaiterId>,
}

/// What an [`AdminRequest`] asks for.
#[derive(Clone, Debug)]
pub enum AdminAction {
    /// Hand leadership to a voter (`None`: the best one). The leader stops proposing, voids its
    /// lease, applies and answers what is in flight, and only then lets go.
    TransferLeader {
        /// The new leader.
        to: Option<PeerId>,
    },
    /// Change the membership, by one step or by several at once. Several steps that change who votes
    /// lead into a joint membership, in which majorities of the voters before *and* after decide;
    /// the outcome, [`crate::Answer::Changed`], then shows the joint region. The leader leaves it by
    /// itself as soon as it is in force; each of both raises `conf_ver`. Refused with
    /// [`crate::Refusal::Membership`], or with [`crate::Refusal::Busy`] while another change is under
    /// way or a learner to be promoted is behind.
    ChangePeers {
        /// The epoch the asker believes in, compared in whole.
        epoch: RegionEpoch,
        /// The steps; no peer is named twice.
        changes: Vec<PeerChange>,
    },
    /// Cut the region into parts ([`AdminCommand::Split`]). The outcome is
    /// [`crate::Answer::Split`]; or, before anything was proposed, [`crate::Refusal::Split`] for
    /// keys or ids that make no sense, [`crate::Refusal::EpochNotMatch`] for an outdated epoch
    /// (also at apply), [`crate::Refusal::Busy`] while a membership change, a transfer or another
    /// split is under way.
    Split {
        /// The epoch the asker believes in, compared in whole.
        epoch: RegionEpoch,
        /// Where to cut: ascending routing keys strictly inside the region.
        keys: Vec<Bytes>,
        /// Who the children are, parallel to `keys`.
        ids: Vec<SplitIds>,
    },
    /// Make the region a part of its neighbour: it is frozen ([`AdminCommand::PrepareMerge`]), and
    /// from then on works on being absorbed by itself, or thaws. The outcome, of the freeze, is
    /// [`crate::Answer::Changed`]; or [`crate::Refusal::Merge`] if the regions do not fit,
    /// [`crate::Refusal::EpochNotMatch`] for an outdated epoch (also at apply), [`crate::Refusal::Busy`]
    /// while something else is under way or a peer is behind.
    Merge {
        /// The epoch the asker believes in, compared in whole.
        epoch: RegionEpoch,
        /// The neighbour, as it is; of another epoch by the time it is asked, it declines.
        target: Region,
    },
    /// Propose a command of the driver.
    Command {
        /// The epoch the asker believes in; the version is compared.
        epoch: RegionEpoch,
        /// The command.
        command: AdminCommand,
    },
}

/// A snapshot whose data lies on this machine.
#[derive(Clone, Debug)]
pub struct ReceivedSnapshot {
    /// The Raft message it came with.
    pub message: PeerMessage,
    /// The region at the snapshot's last entry.
    pub state: RegionState,
    /// Where the shell keeps the files.
    pub handle: SnapshotHandle,
}

/// Why an installation did not happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InstallError {
    /// Part of the range is still owned by another peer of this store: asked for again a tick
    /// later.
    Overlap(GroupId),
    /// The files turned out to be bad. The replica's old state is gone by then: it is damaged.
    Damaged(ReadError),
}

/// The beginning of a peer's life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Birth {
    /// The peer.
    pub peer: Peer,
    /// The region's first state. All founding members must be given the same.
    pub state: RegionState,
}
