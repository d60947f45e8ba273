//! `operator list | cancel`.

use clap::Subcommand;
use tinykv_proto::placement::{CancelOperatorRequest, ListOperatorsRequest};

use crate::output::{self, Output};
use crate::placement::{Asked, Link, refused};
use crate::status::Operator;

use super::{Failure, Global};

#[derive(Debug, Subcommand)]
pub(crate) enum OperatorCommand {
    /// What is being done
    List {
        /// Also what has ended lately
        #[arg(long)]
        ended: bool,
    },
    /// End one; what it has done so far stays
    Cancel {
        /// The operator
        #[arg(value_name = "OPERATOR", required_unless_present = "region")]
        id: Option<u64>,
        /// The one at work on this region
        #[arg(long, value_name = "ID", conflicts_with = "id")]
        region: Option<u64>,
    },
}

impl OperatorCommand {
    pub(crate) async fn run(self, global: &Global) -> Result<(), Failure> {
        let link = global.link();
        match self {
            OperatorCommand::List { ended } => {
                let request = ListOperatorsRequest {
                    with_ended: ended,
                    ..ListOperatorsRequest::default()
                };
                print(global.output(), &list(&link, request).await?);
            }
            OperatorCommand::Cancel { id, region } => {
                let request = CancelOperatorRequest {
                    operator_id: id.unwrap_or_default(),
                    region_id: region.unwrap_or_default(),
                    ..CancelOperatorRequest::default()
                };
                let cancelled = cancel(&link, request).await?;
                match global.output() {
                    Output::Json => output::json(&cancelled),
                    Output::Table => output::line(&format!(
                        "operator {} ({} of region {}) is cancelled",
                        cancelled.id, cancelled.kind, cancelled.region_id
                    )),
                }
            }
        }
        Ok(())
    }
}

/// Operators as placement lists them.
pub(super) async fn list(
    link: &Link,
    request: ListOperatorsRequest,
) -> Result<Vec<Operator>, Failure> {
    let answer = link
        .ask(Asked::Question, |mut client| {
            let request = request.clone();
            async move { client.list_operators(request).await }
        })
        .await?;
    refused(answer.header.as_ref())?;
    Ok(answer.operators.iter().map(Operator::of).collect())
}

async fn cancel(link: &Link, request: CancelOperatorRequest) -> Result<Operator, Failure> {
    let answer = link
        .ask(Asked::Order, |mut client| {
            let request = request.clone();
            async move { client.cancel_operator(request).await }
        })
        .await?;
    refused(answer.header.as_ref())?;
    Ok(Operator::of(&answer.operator.unwrap_or_default()))
}

pub(super) fn print(output: Output, operators: &[Operator]) {
    let header = [
        "operator", "region", "kind", "state", "step", "age", "because",
    ];
    output::list(output, operators, &header, |operator| {
        let because = match operator.outcome.as_str() {
            "" => operator.reason.clone(),
            outcome => format!("{}; {outcome}", operator.reason),
        };
        vec![
            operator.id.to_string(),
            operator.region_id.to_string(),
            operator.kind.clone(),
            operator.state.clone(),
            step(operator),
            format!("{:.1} s", operator.age_ms as f64 / 1e3),
            because,
        ]
    });
}

/// "2 of 3: promote the learner on store 4"; nothing of an operator that has ended.
fn step(operator: &Operator) -> String {
    if operator.state != "running" {
        return String::new();
    }
    let number = (operator.step_index as usize + 1).min(operator.steps.len());
    format!("{number} of {}: {}", operator.steps.len(), operator.step)
}
