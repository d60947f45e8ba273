//! `store drain | cancel-drain`: a store leaves the cluster, or stays after all.
//!
//! A drain belongs to the cluster, not to this command: it goes on whatever becomes of whoever
//! asked for it, also when placement gets another leader.

use serde::Serialize;
use tinykv_proto::placement::{DrainRequest, DrainResponse, Leaving};

use crate::output::{self, Output};
use crate::placement::{Asked, Link, refused};

use super::watch::{Stage, blocked, watch};
use super::{Failure, Global};

/// Flags of `store drain`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Drain {
    /// The store
    #[arg(value_name = "STORE")]
    id: u64,
    /// Wait until it has left and show what is left; --timeout says how long
    #[arg(long)]
    wait: bool,
}

/// Flags of `store cancel-drain`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct CancelDrain {
    /// The store
    #[arg(value_name = "STORE")]
    id: u64,
}

/// How far a store is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Progress {
    id: u64,
    state: String,
    is_leaving: bool,
    regions: u32,
    leaders: u32,
    moving: u32,
    moved: u32,
    remaining_ms: Option<u64>,
    blocked_by: Vec<String>,
}

impl Drain {
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let (link, id) = (global.link(), self.id);
        let mut progress = ask(&link, id, Leaving::Begin).await?;
        if self.wait {
            let not_yet = format!("store {id} has not left");
            let look = async || ask(&link, id, Leaving::Look).await;
            progress = watch(
                global,
                &not_yet,
                "store list",
                progress,
                Progress::stage,
                look,
            )
            .await?;
        }
        match global.output() {
            Output::Json => output::json(&progress),
            Output::Table => output::line(&match progress.state.as_str() {
                "tombstone" => format!("store {} has left the cluster", self.id),
                _ => format!(
                    "store {} leaves: {}; see `store list`",
                    self.id,
                    progress.left()
                ),
            }),
        }
        Ok(())
    }
}

impl CancelDrain {
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let progress = ask(&global.link(), self.id, Leaving::End).await?;
        match global.output() {
            Output::Json => output::json(&progress),
            Output::Table => output::line(&format!(
                "store {} stays: {} regions are on it, {} of them led from it",
                self.id, progress.regions, progress.leaders
            )),
        }
        Ok(())
    }
}

impl Progress {
    fn of(id: u64, answer: DrainResponse) -> Progress {
        Progress {
            id,
            state: answer.state,
            is_leaving: answer.is_leaving,
            regions: answer.regions,
            leaders: answer.leaders,
            moving: answer.moving,
            moved: answer.moved,
            remaining_ms: answer.remaining_ms,
            blocked_by: answer.blocked_by,
        }
    }

    /// "12 regions are on it, 3 of them led from it, 4 being moved; about 20 s are left".
    fn left(&self) -> String {
        if self.regions == 0 {
            return "nothing is on it any more, it leaves in some seconds".to_owned();
        }
        let mut left = format!(
            "{} regions are on it, {} of them led from it, {} being moved",
            self.regions, self.leaders, self.moving
        );
        if let Some(remaining) = self.remaining_ms {
            left.push_str(&format!("; about {} s are left", remaining.div_ceil(1_000)));
        }
        left
    }

    fn stage(&self) -> Stage {
        if self.state == "tombstone" {
            return Stage::Done;
        }
        if !self.is_leaving {
            let sentence = format!("store {} stays: its drain was cancelled", self.id);
            return Stage::CalledOff(sentence);
        }
        let left = std::iter::once(self.left());
        Stage::UnderWay(left.chain(blocked(&self.blocked_by)).collect())
    }
}

/// Each of these may be asked twice: what is so already stays so.
async fn ask(link: &Link, id: u64, leaving: Leaving) -> Result<Progress, Failure> {
    let answer = link
        .ask(Asked::Question, |mut client| async move {
            let request = DrainRequest {
                store_id: id,
                leaving: leaving.into(),
                ..DrainRequest::default()
            };
            client.drain(request).await
        })
        .await?;
    refused(answer.header.as_ref())?;
    Ok(Progress::of(id, answer))
}
