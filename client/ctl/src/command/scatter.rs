//! `region scatter`: regions are spread evenly over the stores, their peers and their leaders.

use std::time::Duration;

use serde::Serialize;
use tinykv_proto::placement::ScatterRequest;
use tokio::time::Instant;

use crate::output::{self, Output};
use crate::placement::{Asked, refused};

use super::watch::{Stage, blocked, watch};
use super::{Failure, Global};

/// Flags of `region scatter`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Scatter {
    #[command(flatten)]
    which: Which,
    /// Wait until they are spread and show what is left; --timeout says how long
    #[arg(long)]
    wait: bool,
}

/// Which regions.
#[derive(Clone, Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Which {
    /// The regions, by their ids
    #[arg(value_name = "REGION", value_parser = clap::value_parser!(u64).range(1..))]
    ids: Vec<u64>,
    /// All regions
    #[arg(long)]
    all: bool,
}

/// How far they are.
#[derive(Clone, Debug, Serialize)]
struct Progress {
    left: u32,
    moving: u32,
    blocked_by: Vec<String>,
    /// Another leader of placement answers than the one that was told.
    #[serde(skip)]
    is_forgotten: bool,
}

impl Scatter {
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let began = Instant::now();
        let ids = &self.which.ids;
        let mut progress = ask(global, ids, true, Duration::ZERO).await?;
        if self.wait {
            let look = async || ask(global, ids, false, began.elapsed()).await;
            let not_yet = "the regions are not spread";
            progress = watch(
                global,
                not_yet,
                "store list",
                progress,
                Progress::stage,
                look,
            )
            .await?;
        }
        match global.output() {
            Output::Json => output::json(&progress),
            Output::Table if progress.left == 0 => output::line("the regions are spread"),
            Output::Table => output::line(&progress.line()),
        }
        Ok(())
    }
}

impl Progress {
    fn line(&self) -> String {
        format!(
            "{} regions are to be spread, {} being moved",
            self.left, self.moving
        )
    }

    fn stage(&self) -> Stage {
        if self.is_forgotten {
            let sentence = "placement has another leader by now, which knows nothing of it: what \
                            was moved stays; ask again for the rest";
            return Stage::CalledOff(sentence.to_owned());
        }
        match self.left {
            0 => Stage::Done,
            _ => {
                let line = std::iter::once(self.line());
                Stage::UnderWay(line.chain(blocked(&self.blocked_by)).collect())
            }
        }
    }
}

/// It may be asked twice: what is to be spread already stays so.
async fn ask(
    global: &Global,
    ids: &[u64],
    begin: bool,
    since: Duration,
) -> Result<Progress, Failure> {
    let request = ScatterRequest {
        header: None,
        region_ids: ids.to_vec(),
        begin,
    };
    let answer = global
        .link()
        .ask(Asked::Question, |mut client| {
            let request = request.clone();
            async move { client.scatter(request).await }
        })
        .await?;
    refused(answer.header.as_ref())?;
    Ok(Progress {
        left: answer.left,
        moving: answer.moving,
        blocked_by: answer.blocked_by,
        is_forgotten: Duration::from_millis(answer.known_for_ms) < since,
    })
}
