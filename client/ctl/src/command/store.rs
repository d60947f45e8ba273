//! `store list`.

use clap::Subcommand;

use crate::output::{self, Output};
use crate::status::{Store, overview};

use super::{Failure, Global};

#[derive(Debug, Subcommand)]
pub(crate) enum StoreCommand {
    /// All stores with their state, regions, leaders and space
    List,
}

impl StoreCommand {
    pub(crate) async fn run(self, global: &Global) -> Result<(), Failure> {
        match self {
            StoreCommand::List => print(global.output(), &overview(&global.link()).await?.stores),
        }
        Ok(())
    }
}

pub(super) fn print(output: Output, stores: &[Store]) {
    let header = [
        "store", "address", "state", "heard of", "regions", "leaders", "used", "free",
    ];
    output::list(output, stores, &header, |store| {
        vec![
            store.id.to_string(),
            store.address.clone(),
            store.state.clone(),
            store.silent_ms.map_or("never".to_owned(), |ms| {
                format!("{:.1} s ago", ms as f64 / 1e3)
            }),
            store.regions.to_string(),
            store.leaders.to_string(),
            output::size(store.used_bytes),
            output::size(store.available_bytes),
        ]
    });
}
