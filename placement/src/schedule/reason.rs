//! Why a decision was taken, in a form that people and programs can read.

use std::fmt;

use tinykv_raft::GroupId;
use tinykv_replica::StoreId;

/// The rule that fired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// The region has fewer voters than wanted.
    MissingReplica,
    /// A learner is there and a voter is missing.
    UnfinishedReplica,
    /// A voter is on a store that is down.
    DownReplica,
    /// A peer is damaged: its store says so.
    DamagedReplica,
    /// A voter is on a store that is leaving.
    OfflineReplica,
    /// The region has more voters than wanted.
    ExtraReplica,
    /// A learner is there that nobody wants.
    ExtraLearner,
    /// The region is led from a store that is to lead nothing.
    EvictLeaders,
    /// Replicas are closer to each other than they need to be.
    BadIsolation,
    /// Somebody asked for regions to be spread.
    Scatter,
    /// One store leads more regions than another.
    BalanceLeaders,
    /// One store holds more regions than another.
    BalanceRegions,
    /// A hot region is on a store that has more load than another.
    HotRegion,
    /// Two neighbours are small.
    MergeSmall,
    /// Somebody asked for it.
    Manual,
}

impl Rule {
    /// Its name in logs and status.
    pub fn name(self) -> &'static str {
        match self {
            Rule::MissingReplica => "missing-replica",
            Rule::UnfinishedReplica => "unfinished-replica",
            Rule::DownReplica => "down-replica",
            Rule::DamagedReplica => "damaged-replica",
            Rule::OfflineReplica => "offline-replica",
            Rule::ExtraReplica => "extra-replica",
            Rule::ExtraLearner => "extra-learner",
            Rule::EvictLeaders => "evict-leaders",
            Rule::BadIsolation => "bad-isolation",
            Rule::Scatter => "scatter",
            Rule::BalanceLeaders => "balance-leaders",
            Rule::BalanceRegions => "balance-regions",
            Rule::HotRegion => "hot-region",
            Rule::MergeSmall => "merge-small",
            Rule::Manual => "manual",
        }
    }

    /// Whether it fires because a region lacks something or has too much.
    pub fn is_repair(self) -> bool {
        match self {
            Rule::MissingReplica
            | Rule::UnfinishedReplica
            | Rule::DownReplica
            | Rule::DamagedReplica
            | Rule::OfflineReplica
            | Rule::ExtraReplica
            | Rule::ExtraLearner => true,
            Rule::EvictLeaders
            | Rule::BadIsolation
            | Rule::Scatter
            | Rule::BalanceLeaders
            | Rule::BalanceRegions
            | Rule::HotRegion
            | Rule::MergeSmall
            | Rule::Manual => false,
        }
    }
}

/// A rule with its inputs, the choice and those not chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// What fired.
    pub rule: Rule,
    /// The numbers it fired on.
    pub facts: Vec<Fact>,
    /// The store chosen and its score; lower is better.
    pub chosen: Option<(StoreId, i64)>,
    /// The stores that were not, and why.
    pub losers: Vec<Loser>,
    /// Of a merge: the regions beside this one.
    pub neighbours: Vec<Neighbour>,
}

/// A region that another one might have been merged into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Which.
    pub region: GroupId,
    /// Whether it takes the other one in.
    pub is_chosen: bool,
    /// What it scored, or why it could not be.
    pub why: Why,
}

/// A named number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fact {
    /// What it counts.
    pub name: &'static str,
    /// Its value.
    pub value: u64,
}

impl Fact {
    /// Names and values.
    pub(super) fn list<const N: usize>(facts: [(&'static str, u64); N]) -> Vec<Fact> {
        facts.map(|(name, value)| Fact { name, value }).to_vec()
    }
}

/// A store that was considered and not chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loser {
    /// Which.
    pub store: StoreId,
    /// Why not.
    pub why: Why,
}

/// Why a store was not chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It was possible; another one scored better (lower).
    Score(i64),
    /// It has a peer of the region already.
    HasPeer,
    /// It is not up.
    NotUp,
    /// It says that it is busy or going down.
    Busy,
    /// Enough peers are being added to it at once.
    EnoughAdditions,
    /// Enough are, as slow as it is or was a moment ago; with its score.
    Slow(u64),
    /// It was not heard long enough without a gap.
    NotSteady,
    /// Its peer of the region is not caught up, or does not vote.
    NotCurrent,
    /// It is to lead nothing.
    Evicted,
    /// A replica there would be too close to others.
    Isolation,
    /// Without this peer too few healthy voters would be left.
    Needed,
    /// The border to it stays: the edge of a keyspace, or a gap.
    Border,
    /// The region is not small.
    NotSmall,
    /// Both together are not small.
    TooLarge,
    /// Stores would split both together again, for their size or their load.
    WouldBeSplit,
    /// The region was cut lately.
    CutLately,
    /// The region is hot.
    Hot,
    /// It has not exactly what it wants, all of it healthy and left to the rules.
    NotSettled,
    /// Enough merges are under way on one of the stores.
    EnoughMerges,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::Score(score) => write!(f, "score {score}"),
            Why::HasPeer => f.write_str("has a peer already"),
            Why::NotUp => f.write_str("not up"),
            Why::Busy => f.write_str("busy"),
            Why::EnoughAdditions => f.write_str("enough peers are being added to it"),
            Why::Slow(score) => {
                write!(
                    f,
                    "enough peers are being added to it while it is slow: {score} of 100"
                )
            }
            Why::NotSteady => f.write_str("not heard long enough"),
            Why::NotCurrent => f.write_str("its peer is no voter that is caught up"),
            Why::Evicted => f.write_str("is to lead nothing"),
            Why::Isolation => f.write_str("too close to other replicas"),
            Why::Needed => f.write_str("its peer is needed"),
            Why::Border => f.write_str("the border stays"),
            Why::NotSmall => f.write_str("not small"),
            Why::TooLarge => f.write_str("too large together"),
            Why::WouldBeSplit => f.write_str("would be split again"),
            Why::CutLately => f.write_str("cut lately"),
            Why::Hot => f.write_str("hot"),
            Why::NotSettled => f.write_str("not settled"),
            Why::EnoughMerges => f.write_str("enough merges on its stores"),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.rule)?;
        for (position, fact) in self.facts.iter().enumerate() {
            let separator = if position == 0 { ": " } else { ", " };
            write!(f, "{separator}{} {}", fact.name, fact.value)?;
        }
        if let Some((store, score)) = self.chosen {
            write!(f, "; store {store} chosen (score {score})")?;
        }
        for (position, loser) in self.losers.iter().enumerate() {
            let separator = if position == 0 { "; not " } else { ", not " };
            write!(f, "{separator}store {} ({})", loser.store, loser.why)?;
        }
        for Neighbour {
            region,
            is_chosen,
            why,
        } in &self.neighbours
        {
            let verdict = if *is_chosen { "into" } else { "not" };
            write!(f, "; {verdict} region {region} ({why})")?;
        }
        Ok(())
    }
}
