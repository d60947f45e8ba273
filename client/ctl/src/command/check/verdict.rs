//! What was found about a region, and how it is shown.

use serde::Serialize;
use tinykv_proto::check::{self as pb, CheckRegionResponse};

use crate::output::{self, Output};

/// What was found about a region.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Verdict {
    id: u64,
    result: Found,
    /// Where in the region's log its replicas were compared; 0: nowhere.
    index: u64,
    /// By peer.
    replicas: Vec<Replica>,
    /// Why it was not checked at all; else empty.
    problem: String,
}

/// In one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Found {
    /// All replicas told, and hold the same.
    Equal,
    /// Some do not.
    Different,
    /// Not all told; those that did hold the same.
    Unchecked,
}

/// A replica.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Replica {
    id: u64,
    store_id: u64,
    /// Unlike the majority; where there is none, unlike some.
    is_different: bool,
    holds: Option<Holds>,
    /// Why it told nothing; else empty.
    problem: String,
}

/// What a replica holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Holds {
    pairs: u64,
    bytes: u64,
    crc32c: String,
}

impl Verdict {
    pub(super) fn unchecked(id: u64, problem: String) -> Verdict {
        Verdict {
            id,
            result: Found::Unchecked,
            index: 0,
            replicas: Vec::new(),
            problem,
        }
    }

    pub(super) fn of(id: u64, answer: CheckRegionResponse) -> Verdict {
        let index = answer.index;
        let replicas: Vec<Replica> = answer.replicas.into_iter().map(Replica::from).collect();
        let result = if replicas.iter().any(|replica| replica.is_different) {
            Found::Different
        } else if replicas.iter().all(|replica| replica.holds.is_some()) {
            Found::Equal
        } else {
            Found::Unchecked
        };
        Verdict {
            id,
            result,
            index,
            replicas,
            problem: String::new(),
        }
    }

    pub(super) fn is_equal(&self) -> bool {
        self.result == Found::Equal
    }

    /// All that a reader needs to go on, in one line.
    fn detail(&self) -> String {
        if self.replicas.is_empty() {
            return self.problem.clone();
        }
        let of = |it: &Replica| match (&it.holds, self.result) {
            (None, _) => Some(format!(
                "store {} told nothing: {}",
                it.store_id, it.problem
            )),
            (Some(_), Found::Unchecked) => None,
            (Some(_), Found::Equal) => Some(format!("store {}", it.store_id)),
            (Some(holds), Found::Different) => {
                let Holds {
                    pairs,
                    bytes,
                    crc32c,
                } = holds;
                let verb = if it.is_different {
                    "DIFFERS: it holds"
                } else {
                    "holds"
                };
                let peer = format!("store {} (peer {})", it.store_id, it.id);
                Some(format!(
                    "{peer} {verb} {pairs} pairs, {bytes} bytes, sum {crc32c}"
                ))
            }
        };
        let all: Vec<String> = self.replicas.iter().filter_map(of).collect();
        match self.result {
            Found::Equal => all.join(", "),
            Found::Different | Found::Unchecked => all.join("; "),
        }
    }
}

impl From<pb::Replica> for Replica {
    fn from(replica: pb::Replica) -> Replica {
        Replica {
            id: replica.peer_id,
            store_id: replica.store_id,
            is_different: replica.is_odd,
            holds: replica.sum.map(|sum| Holds {
                pairs: sum.pairs,
                bytes: sum.bytes,
                crc32c: format!("{:08x}", sum.crc32c),
            }),
            problem: replica.error,
        }
    }
}

pub(super) fn print(output: Output, found: &[Verdict]) {
    let header = ["region", "result", "index", "replicas"];
    output::list(output, found, &header, |verdict| {
        let word = match verdict.result {
            Found::Equal => "equal",
            Found::Different => "DIFFERENT",
            Found::Unchecked => "not checked",
        };
        let index = match verdict.index {
            0 => "-".to_owned(),
            index => index.to_string(),
        };
        vec![
            verdict.id.to_string(),
            word.to_owned(),
            index,
            verdict.detail(),
        ]
    });
    if output == Output::Table {
        let count = |result| {
            found
                .iter()
                .filter(|verdict| verdict.result == result)
                .count()
        };
        output::line(&format!(
            "{} regions: {} equal, {} different, {} not checked",
            found.len(),
            count(Found::Equal),
            count(Found::Different),
            count(Found::Unchecked)
        ));
    }
}
