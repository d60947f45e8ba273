//! `member list`.

use clap::Subcommand;

use crate::output::{self, Output};
use crate::status::{Member, overview_with_probes};

use super::{Failure, Global};

#[derive(Debug, Subcommand)]
pub(crate) enum MemberCommand {
    /// All members, which of them leads, and which do not answer
    List,
}

impl MemberCommand {
    pub(crate) async fn run(self, global: &Global) -> Result<(), Failure> {
        match self {
            MemberCommand::List => {
                let overview = overview_with_probes(&global.link()).await?;
                print(global.output(), &overview.members);
            }
        }
        Ok(())
    }
}

pub(super) fn print(output: Output, members: &[Member]) {
    let header = ["member", "name", "address", "state", "role"];
    output::list(output, members, &header, |member| {
        let role = if member.leader { "leader" } else { "follower" };
        vec![
            member.id.to_string(),
            member.name.clone(),
            member.address.clone(),
            member.state.unwrap_or_default().to_owned(),
            role.to_owned(),
        ]
    });
}
