//! `status`: the cluster on one screen.

use crate::output::{self, Output};
use crate::status::{Overview, overview_with_probes};

use super::{Failure, Global};

pub(super) async fn run(global: &Global) -> Result<(), Failure> {
    let overview = overview_with_probes(&global.link()).await?;
    match global.output() {
        Output::Json => output::json(&overview),
        Output::Table => print(&overview),
    }
    if overview.is_healthy() {
        Ok(())
    } else {
        Err(Failure::Quiet)
    }
}

fn print(overview: &Overview) {
    let health = if overview.healthy {
        "healthy"
    } else {
        "NOT HEALTHY"
    };
    output::line(&format!("cluster {} is {health}", overview.cluster_id));
    for problem in &overview.problems {
        output::line(&format!("  ! {problem}"));
    }
    let replicas = match overview.replica_count == overview.replicas_wanted {
        true => format!("{}", overview.replicas_wanted),
        false => format!(
            "{} (of {}: as many as stores have joined)",
            overview.replicas_wanted, overview.replica_count
        ),
    };
    output::line(&format!(
        "regions: {}, of which {} have a leader and all replicas; replicas: {replicas}",
        overview.regions, overview.regions_complete
    ));
    output::line("");
    super::member::print(Output::Table, &overview.members);
    output::line("");
    super::store::print(Output::Table, &overview.stores);
    if !overview.operators.is_empty() {
        output::line("");
        super::operator::print(Output::Table, &overview.operators);
    }
}
