//! `member list`, and those that change it.

use clap::Subcommand;
use serde::Serialize;

use crate::output::{self, Output};
use crate::status::{Member, overview_with_probes};

use crate::placement::Asked;

use super::membership::{Add, Remove, Seat, Standing, change};
use super::{Failure, Global};

#[derive(Debug, Subcommand)]
pub(crate) enum MemberCommand {
    /// All members, which of them leads, which do not answer, and which come or go
    List,
    /// Let another member join, while the others work
    Add(Add),
    /// Take a member away for good
    Remove(Remove),
}

impl MemberCommand {
    pub(crate) async fn run(self, global: &Global) -> Result<(), Failure> {
        match self {
            MemberCommand::List => {
                let overview = overview_with_probes(&global.link()).await?;
                let seats = change(&global.link(), Asked::Question, None).await?;
                print_seats(global.output(), &overview.members, seats);
            }
            MemberCommand::Add(add) => add.run(global).await?,
            MemberCommand::Remove(remove) => remove.run(global).await?,
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

/// A member of the list.
#[derive(Serialize)]
struct Listed {
    #[serde(flatten)]
    seat: Seat,
    /// `up` or `down`; none of those that are not there yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'static str>,
}

fn print_seats(output: Output, probed: &[Member], seats: Vec<Seat>) {
    let listed: Vec<Listed> = seats
        .into_iter()
        .map(|seat| {
            let probed = probed.iter().find(|it| it.id == seat.id);
            let state = probed.and_then(|it| it.state);
            Listed { seat, state }
        })
        .collect();
    let header = ["member", "name", "address", "state", "role"];
    output::list(output, &listed, &header, |Listed { seat, state }| {
        let role = match seat.standing {
            Standing::Invited => "invited",
            Standing::Joining => "joining",
            Standing::Leaving => "leaving",
            Standing::Voting if seat.leader => "leader",
            Standing::Voting => "follower",
        };
        vec![
            seat.id.to_string(),
            seat.name.clone(),
            seat.address.clone(),
            state.unwrap_or_default().to_owned(),
            role.to_owned(),
        ]
    });
}
