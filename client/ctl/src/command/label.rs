//! `store label`: where a store stands.

use serde::Serialize;
use tinykv_proto::metapb::StoreLabel;
use tinykv_proto::placement::LabelStoreRequest;

use crate::output::{self, Output};
use crate::placement::{Asked, refused};

use super::{Failure, Global};

/// Flags of `store label`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Levels are those of the setting location_labels, by custom zone,rack,host. Replicas of a region are \
kept as far apart as labels tell; the setting isolation_level says what must never be shared. A \
store that names labels at its start (--labels) replaces those by the same name.")]
pub(crate) struct Label {
    /// The store
    #[arg(value_name = "STORE")]
    id: u64,
    /// Labels to be set, for example zone=a,host=h1; `rack=` takes one away [default: only show]
    #[arg(value_name = "LEVEL=VALUE,…", value_delimiter = ',', value_parser = parse)]
    labels: Vec<(String, String)>,
}

/// Where a store stands.
#[derive(Clone, Debug, Serialize)]
struct Labelled {
    id: u64,
    labels: Vec<String>,
}

fn parse(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((level, value)) if !level.is_empty() => Ok((level.to_owned(), value.to_owned())),
        _ => Err(format!("expected LEVEL=VALUE, not `{text}`")),
    }
}

impl Label {
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let labels = self.labels.into_iter();
        let request = LabelStoreRequest {
            header: None,
            store_id: self.id,
            labels: labels
                .map(|(key, value)| StoreLabel { key, value })
                .collect(),
        };
        // What is so already stays so: it may be asked twice.
        let answer = global
            .link()
            .ask(Asked::Question, |mut client| {
                let request = request.clone();
                async move { client.label_store(request).await }
            })
            .await?;
        refused(answer.header.as_ref())?;
        let labelled = Labelled {
            id: self.id,
            labels: answer
                .labels
                .iter()
                .map(|label| format!("{}={}", label.key, label.value))
                .collect(),
        };
        match global.output() {
            Output::Json => output::json(&labelled),
            Output::Table if labelled.labels.is_empty() => {
                output::line(&format!("store {} has no labels", self.id));
            }
            Output::Table => {
                let labels = labelled.labels.join(",");
                output::line(&format!("store {} is labelled {labels}", self.id));
            }
        }
        Ok(())
    }
}
