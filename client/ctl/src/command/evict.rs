//! `store evict-leader | cancel-evict-leader`: a store leads nothing, or may lead again.

use serde::Serialize;
use tinykv_proto::placement::{EvictLeadersRequest, EvictLeadersResponse, Eviction};

use crate::output::{self, Output};
use crate::placement::{Asked, Link, refused};

use super::watch::{Stage, blocked, watch};
use super::{Failure, Global};

/// Flags of `store evict-leader`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct EvictLeader {
    /// The store
    #[arg(value_name = "STORE")]
    id: u64,
    /// Wait until it leads nothing and show what is left; --timeout says how long
    #[arg(long)]
    wait: bool,
}

/// Flags of `store cancel-evict-leader`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct CancelEvictLeader {
    /// The store
    #[arg(value_name = "STORE")]
    id: u64,
}

/// How far a store is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Progress {
    id: u64,
    is_evicted: bool,
    leaders: u32,
    blocked_by: Vec<String>,
}

impl EvictLeader {
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let (link, id) = (global.link(), self.id);
        let mut progress = ask(&link, id, Eviction::Begin).await?;
        if self.wait {
            let not_yet = format!("store {id} still leads regions");
            let look = async || ask(&link, id, Eviction::Look).await;
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
            Output::Table => output::line(&progress.left()),
        }
        Ok(())
    }
}

impl CancelEvictLeader {
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let progress = ask(&global.link(), self.id, Eviction::End).await?;
        match global.output() {
            Output::Json => output::json(&progress),
            Output::Table => output::line(&format!("store {} may lead again", self.id)),
        }
        Ok(())
    }
}

impl Progress {
    fn of(id: u64, answer: EvictLeadersResponse) -> Progress {
        Progress {
            id,
            is_evicted: answer.is_evicted,
            leaders: answer.leaders,
            blocked_by: answer.blocked_by,
        }
    }

    fn left(&self) -> String {
        format!(
            "store {} is to lead nothing: {} regions are led from it",
            self.id, self.leaders
        )
    }

    fn stage(&self) -> Stage {
        if !self.is_evicted {
            return Stage::CalledOff(format!("store {} may lead again", self.id));
        }
        match self.leaders {
            0 => Stage::Done,
            _ => {
                let left = std::iter::once(self.left());
                Stage::UnderWay(left.chain(blocked(&self.blocked_by)).collect())
            }
        }
    }
}

/// Each of these may be asked twice: what is so already stays so.
async fn ask(link: &Link, id: u64, eviction: Eviction) -> Result<Progress, Failure> {
    let answer = link
        .ask(Asked::Question, |mut client| async move {
            let request = EvictLeadersRequest {
                store_id: id,
                eviction: eviction.into(),
                ..EvictLeadersRequest::default()
            };
            client.evict_leaders(request).await
        })
        .await?;
    refused(answer.header.as_ref())?;
    Ok(Progress::of(id, answer))
}
