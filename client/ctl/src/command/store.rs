//! `store list | drain | cancel-drain | evict-leader | cancel-evict-leader | label |
//! remove-tombstone`.

use clap::Subcommand;
use serde::Serialize;
use tinykv_proto::placement::RemoveTombstonesRequest;

use crate::output::{self, Output};
use crate::placement::{Asked, refused};
use crate::status::{Store, overview};

use super::{Failure, Global, drain, evict, label};

#[derive(Debug, Subcommand)]
pub(crate) enum StoreCommand {
    /// All stores with their state, regions, leaders and space
    List,
    /// Move everything away from a store, for good; then it leaves the cluster
    Drain(drain::Drain),
    /// Let a store stay that is being drained
    CancelDrain(drain::CancelDrain),
    /// Let a store lead nothing, until that is cancelled; its peers stay
    EvictLeader(evict::EvictLeader),
    /// Let a store lead again
    CancelEvictLeader(evict::CancelEvictLeader),
    /// Show where a store stands, or say so: replicas of a region are kept apart by that
    Label(label::Label),
    /// Forget a store that has left, or all that have; they never return all the same
    RemoveTombstone {
        /// The store [default: all tombstones]
        #[arg(value_name = "STORE", value_parser = clap::value_parser!(u64).range(1..))]
        id: Option<u64>,
    },
}

/// Stores that were forgotten.
#[derive(Clone, Debug, Serialize)]
struct Removed {
    removed: Vec<u64>,
}

impl StoreCommand {
    pub(crate) async fn run(self, global: &Global) -> Result<(), Failure> {
        match self {
            StoreCommand::List => print(global.output(), &overview(&global.link()).await?.stores),
            StoreCommand::Drain(drain) => drain.run(global).await?,
            StoreCommand::CancelDrain(cancel) => cancel.run(global).await?,
            StoreCommand::EvictLeader(evict) => evict.run(global).await?,
            StoreCommand::CancelEvictLeader(cancel) => cancel.run(global).await?,
            StoreCommand::Label(label) => label.run(global).await?,
            StoreCommand::RemoveTombstone { id } => remove_tombstones(global, id).await?,
        }
        Ok(())
    }
}

async fn remove_tombstones(global: &Global, id: Option<u64>) -> Result<(), Failure> {
    // What is forgotten stays so: it may be asked twice.
    let answer = global
        .link()
        .ask(Asked::Question, |mut client| async move {
            let request = RemoveTombstonesRequest {
                store_id: id.unwrap_or_default(),
                ..RemoveTombstonesRequest::default()
            };
            client.remove_tombstones(request).await
        })
        .await?;
    refused(answer.header.as_ref())?;
    let removed = answer.store_ids;
    match global.output() {
        Output::Json => output::json(&Removed { removed }),
        Output::Table if removed.is_empty() => output::line("no store has left the cluster"),
        Output::Table => {
            for store in removed {
                output::line(&format!("store {store} is forgotten"));
            }
        }
    }
    Ok(())
}

pub(super) fn print(output: Output, stores: &[Store]) {
    let header = [
        "store", "address", "state", "heard of", "slow", "adds", "regions", "leaders", "used",
        "free", "labels",
    ];
    output::list(output, stores, &header, |store| {
        vec![
            store.id.to_string(),
            store.address.clone(),
            store.state.clone(),
            store.silent_ms.map_or("never".to_owned(), |ms| {
                format!("{:.1} s ago", ms as f64 / 1e3)
            }),
            match store.slow_score {
                0 => "-".to_owned(),
                score => score.to_string(),
            },
            store.additions_max.to_string(),
            store.regions.to_string(),
            match store.is_evicted {
                true => format!("{} (evicted)", store.leaders),
                false => store.leaders.to_string(),
            },
            output::size(store.used_bytes),
            output::size(store.available_bytes),
            store.labels.join(","),
        ]
    });
}
