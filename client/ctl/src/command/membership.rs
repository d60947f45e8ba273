//! `member add | remove`: the placement driver grows and shrinks while it works.

use serde::Serialize;
use tinykv_proto::placement::change_members_request::Change;
use tinykv_proto::placement::{ChangeMembersRequest, MemberStanding, MemberStatus, NewMember};

use crate::output::{self, Output};
use crate::placement::{Asked, Link, refused};

use super::watch::{Stage, watch};
use super::{Failure, Global};

/// Flags of `member add`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
The member is added by name and address first; then its process is started, with an empty data \
directory and --join. It votes once it has the whole log. Three members survive the loss of one, five \
of two; an even number survives no more than the odd one below it.")]
pub(crate) struct Add {
    /// Its name
    #[arg(value_name = "NAME")]
    name: String,
    /// Where clients, stores and the other members will reach it
    #[arg(value_name = "HOST:PORT")]
    address: String,
    /// Wait until it votes; --timeout says how long
    #[arg(long)]
    wait: bool,
}

/// Flags of `member remove`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Remove {
    /// Its name or its id
    #[arg(value_name = "MEMBER")]
    member: String,
    /// Wait until it does not count any more; --timeout says how long
    #[arg(long)]
    wait: bool,
}

/// What a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Standing {
    /// It was added, and its process has not come.
    Invited,
    /// It gets the log.
    Joining,
    /// It votes.
    Voting,
    /// It was removed, and counts until the others have agreed.
    Leaving,
}

/// A member and what it is to the group.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Seat {
    pub(super) id: u64,
    pub(super) name: String,
    pub(super) address: String,
    pub(super) standing: Standing,
    pub(super) leader: bool,
}

impl Add {
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let link = global.link();
        let new = NewMember {
            name: self.name.clone(),
            url: format!("http://{}", self.address),
        };
        // To add once more what was added and has not come changes nothing.
        let seats = change(&link, Asked::Question, Some(Change::Add(new))).await?;
        let others = seats.iter().filter(|it| it.standing == Standing::Voting);
        let contacts: Vec<&str> = others.map(|it| it.address.as_str()).collect();
        // What is to be typed next is told even to whoever waits.
        eprintln!(
            "start it with: tinykv-placement --name {} --addr {} --data-dir DIR --join {}",
            self.name,
            self.address,
            contacts.join(",")
        );
        let seats = match self.wait {
            false => seats,
            true => {
                let not_yet = format!("{} does not vote", self.name);
                let stage = |seats: &Vec<Seat>| self.stage(seats);
                let look = async || change(&link, Asked::Question, None).await;
                watch(global, &not_yet, "member list", seats, stage, look).await?
            }
        };
        show(
            global.output(),
            seats.iter().find(|it| it.name == self.name),
        );
        Ok(())
    }

    fn stage(&self, seats: &[Seat]) -> Stage {
        let name = &self.name;
        match seats
            .iter()
            .find(|it| it.name == *name)
            .map(|it| it.standing)
        {
            Some(Standing::Voting) => Stage::Done,
            Some(Standing::Invited) => {
                Stage::UnderWay(vec![format!("the process of {name} has not come yet")])
            }
            Some(Standing::Joining) => Stage::UnderWay(vec![format!("{name} gets the log")]),
            Some(Standing::Leaving) | None => Stage::CalledOff(format!("{name} was removed")),
        }
    }
}

impl Remove {
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let link = global.link();
        let seats = change(&link, Asked::Question, None).await?;
        let is_meant = |it: &&Seat| it.name == self.member || it.id.to_string() == self.member;
        let Some(seat) = seats.iter().find(is_meant) else {
            return Err(Failure::Refused(format!(
                "there is no member {} of the placement driver: `member list` shows those there are",
                self.member
            )));
        };
        // To remove who is removed already changes nothing.
        let mut seats = change(&link, Asked::Question, Some(Change::Remove(seat.id))).await?;
        let name = seat_name(seat);
        if self.wait {
            let not_yet = format!("{name} still counts");
            let id = seat.id;
            let stage = |seats: &Vec<Seat>| match seats.iter().any(|it| it.id == id) {
                true => Stage::UnderWay(vec![format!("{name} is leaving")]),
                false => Stage::Done,
            };
            let look = async || change(&link, Asked::Question, None).await;
            seats = watch(global, &not_yet, "member list", seats, stage, look).await?;
        }
        match global.output() {
            Output::Json => output::json(&seats),
            Output::Table => output::line(&format!(
                "{name} is removed; its process ends by itself, its data directory may be deleted"
            )),
        }
        Ok(())
    }
}

fn seat_name(seat: &Seat) -> String {
    match seat.name.is_empty() {
        true => format!("member {}", seat.id),
        false => seat.name.clone(),
    }
}

fn show(output: Output, seat: Option<&Seat>) {
    let Some(seat) = seat else { return };
    match output {
        Output::Json => output::json(seat),
        Output::Table => output::line(&match seat.standing {
            Standing::Voting => format!("{} votes as member {}", seat.name, seat.id),
            _ => format!("{} is added as member {}", seat.name, seat.id),
        }),
    }
}

/// All members, after a change if one is asked for.
pub(super) async fn change(
    link: &Link,
    asked: Asked,
    change: Option<Change>,
) -> Result<Vec<Seat>, Failure> {
    let answer = link
        .ask(asked, |mut client| {
            let request = ChangeMembersRequest {
                header: None,
                change: change.clone(),
            };
            async move { client.change_members(request).await }
        })
        .await?;
    refused(answer.header.as_ref())?;
    Ok(answer.members.into_iter().map(seat).collect())
}

fn seat(member: MemberStatus) -> Seat {
    Seat {
        id: member.member_id,
        standing: match member.standing() {
            MemberStanding::Invited => Standing::Invited,
            MemberStanding::Joining => Standing::Joining,
            MemberStanding::Voting => Standing::Voting,
            MemberStanding::Leaving => Standing::Leaving,
        },
        leader: member.leads,
        address: member.url.trim_start_matches("http://").to_owned(),
        name: member.name,
    }
}
