//! Members come and go while the group works: whoever leads, ids go on rising, and who was removed
//! stays out.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;
use tinykv_proto::pdpb::{self, RequestHeader};
use tinykv_proto::placement::change_members_request::Change;
use tinykv_proto::placement::placement_client::PlacementClient;
use tinykv_proto::placement::{
    ChangeMembersRequest, ChangeMembersResponse, MemberStanding, NewMember,
};

use super::cluster::{directory, eventually};
use super::members::free_addresses;
use super::processes::{client, ended, get_members};

/// Processes of one group, by name.
struct Group {
    /// Name, address, directory, process.
    members: Vec<(String, String, TempDir, Option<Child>)>,
    ids: BTreeSet<u64>,
}

fn command(name: &str, address: &str, data: &Path, others: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tinykv-placement"));
    command
        .args(["--name", name, "--addr", address])
        .args(others)
        .args(["--log-level", "warn", "--data-dir"])
        .arg(data)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command
}

impl Group {
    /// One founding member that leads.
    async fn start() -> Group {
        let mut group = Group {
            members: Vec::new(),
            ids: BTreeSet::new(),
        };
        group.make("a");
        group.launch("a", &[]);
        group.until_voting(&["a"]).await;
        group
    }

    fn make(&mut self, name: &str) -> String {
        let address = free_addresses(1).remove(0);
        let member = (name.to_owned(), address.clone(), directory(), None);
        self.members.push(member);
        address
    }

    fn address(&self, name: &str) -> &str {
        let member = self.members.iter().find(|it| it.0 == name);
        &member.expect("it was made").1
    }

    fn launch(&mut self, name: &str, flags: &[&str]) {
        let member = self.members.iter_mut().find(|it| it.0 == name);
        let member = member.expect("it was made");
        let child = command(name, &member.1, member.2.path(), flags).spawn();
        member.3 = Some(child.expect("the program is built"));
    }

    fn kill(&mut self, name: &str) {
        let member = self.members.iter_mut().find(|it| it.0 == name);
        let mut child = member.and_then(|it| it.3.take()).expect("it is up");
        child.kill().expect("it was running");
        child.wait().expect("it has ended");
    }

    /// What the leader says, whoever that is.
    async fn change(&self, change: Option<Change>) -> ChangeMembersResponse {
        eventually("the leader answers", async || {
            self.try_change(change.clone()).await
        })
        .await
    }

    async fn try_change(&self, change: Option<Change>) -> Option<ChangeMembersResponse> {
        for (_, address, _, child) in &self.members {
            if child.is_none() {
                continue;
            }
            let url = format!("http://{address}");
            let Ok(mut client) = PlacementClient::connect(url).await else {
                continue;
            };
            let request = ChangeMembersRequest {
                header: None,
                change: change.clone(),
            };
            if let Ok(answer) = client.change_members(request).await {
                return Some(answer.into_inner());
            }
        }
        None
    }

    async fn add(&mut self, name: &str) -> String {
        let address = self.make(name);
        let new = NewMember {
            name: name.to_owned(),
            url: format!("http://{address}"),
        };
        let answer = self.change(Some(Change::Add(new))).await;
        assert_eq!(answer.header.and_then(|header| header.error), None);
        address
    }

    async fn refusal(&self, change: Change) -> String {
        let answer = self.change(Some(change)).await;
        let error = answer.header.and_then(|header| header.error);
        error.expect("refused").message
    }

    /// Adds a member, starts it, and waits until it votes.
    async fn join(&mut self, name: &str, contact: &str) {
        self.add(name).await;
        let contact = self.address(contact).to_owned();
        self.launch(name, &["--join", &contact]);
    }

    async fn until_voting(&self, names: &[&str]) {
        eventually("these vote and nobody else is there", async || {
            let answer = self.try_change(None).await?;
            let voting = |it: &&tinykv_proto::placement::MemberStatus| {
                it.standing() == MemberStanding::Voting
            };
            let found: Vec<&str> = answer
                .members
                .iter()
                .filter(voting)
                .map(|it| it.name.as_str())
                .collect();
            (answer.members.len() == names.len() && found == names).then_some(())
        })
        .await;
    }

    async fn id_of(&self, name: &str) -> u64 {
        let answer = self.change(None).await;
        let member = answer.members.iter().find(|it| it.name == name);
        member.expect("it is there").member_id
    }

    async fn leader(&self) -> String {
        eventually("somebody leads", async || {
            let answer = self.try_change(None).await?;
            let leader = answer.members.into_iter().find(|it| it.leads);
            leader.map(|it| it.name)
        })
        .await
    }

    /// An id that nobody has had.
    async fn take_id(&mut self) {
        let id = eventually("an id", async || {
            for (_, address, _, child) in &self.members {
                if child.is_none() {
                    continue;
                }
                let Some(known) = get_members(address).await else {
                    continue;
                };
                let header = RequestHeader {
                    cluster_id: known.header?.cluster_id,
                    ..RequestHeader::default()
                };
                let request = pdpb::AllocIdRequest {
                    header: Some(header),
                    count: 1,
                };
                let leader = known.leader?.client_urls.into_iter().next()?;
                let leader = leader.trim_start_matches("http://").to_owned();
                let answer = client(&leader).await?.alloc_id(request).await.ok()?;
                return Some(answer.into_inner().id);
            }
            None
        })
        .await;
        assert!(
            self.ids.last().is_none_or(|last| *last < id),
            "{id} after {:?}",
            self.ids
        );
        self.ids.insert(id);
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for child in self.members.iter_mut().filter_map(|it| it.3.as_mut()) {
            // It may have ended by itself.
            let _ended = child.kill();
            let _reaped = child.wait();
        }
    }
}

/// From one founding member to three others, each on the way able to fail one; the founder leaves
/// while it leads.
#[tokio::test]
async fn all_members_are_replaced_one_by_one() {
    let mut group = Group::start().await;
    group.take_id().await;
    group.join("b", "a").await;
    group.until_voting(&["a", "b"]).await;
    // Asked of a member that may not lead.
    group.join("c", "b").await;
    group.until_voting(&["a", "b", "c"]).await;
    group.take_id().await;
    group.join("d", "c").await;
    group.until_voting(&["a", "b", "c", "d"]).await;

    // The founder goes, and its process ends by itself.
    let founder = group.id_of("a").await;
    group.change(Some(Change::Remove(founder))).await;
    group.until_voting(&["b", "c", "d"]).await;
    let mut child = group.members[0].3.take().expect("it was up");
    let status = eventually("it ends", async || {
        child.try_wait().expect("it can be asked")
    })
    .await;
    assert_eq!(status.code(), Some(3));
    group.take_id().await;
    let (name, address, data, _) = &group.members[0];
    let (status, said) = ended(command(name, address, data.path(), &[])).await;
    assert_eq!(status.code(), Some(3), "{said}");
    assert!(said.contains("removed from the placement group"), "{said}");

    // Nobody of those that founded the group is left; who leads may die, and all may.
    let leader = group.leader().await;
    group.kill(&leader);
    group.take_id().await;
    let contact = group.address("b").to_owned();
    group.launch(&leader, &["--join", &contact]);
    group.until_voting(&["b", "c", "d"]).await;
    for name in ["b", "c", "d"] {
        group.kill(name);
    }
    for name in ["b", "c", "d"] {
        group.launch(name, &["--join", &contact]);
    }
    group.until_voting(&["b", "c", "d"]).await;
    group.take_id().await;
}

/// While a member is away one comes whom it never met, and all that it met go. The two alone are a
/// majority, so they find each other.
#[tokio::test]
async fn a_member_that_slept_through_it_all_is_told_by_whoever_it_never_met() {
    let mut group = Group::start().await;
    group.join("b", "a").await;
    group.until_voting(&["a", "b"]).await;
    group.join("c", "a").await;
    group.until_voting(&["a", "b", "c"]).await;
    group.take_id().await;
    group.kill("c");
    group.join("d", "a").await;
    group.until_voting(&["a", "b", "c", "d"]).await;
    let founder = group.id_of("a").await;
    group.change(Some(Change::Remove(founder))).await;
    group.until_voting(&["b", "c", "d"]).await;
    group.take_id().await;
    group.kill("b");
    let contact = group.address("a").to_owned();
    group.launch("c", &["--join", &contact]);
    group.take_id().await;
    group.until_voting(&["b", "c", "d"]).await;
}

#[tokio::test]
async fn what_cannot_be_is_refused_in_a_sentence() {
    let mut group = Group::start().await;
    let own = group.id_of("a").await;
    let said = group.refusal(Change::Remove(own)).await;
    assert!(said.contains("the last member"), "{said}");
    let said = group.refusal(Change::Remove(77)).await;
    assert!(said.contains("no member 77"), "{said}");
    let new = |name: &str, url: &str| {
        Change::Add(NewMember {
            name: name.into(),
            url: url.into(),
        })
    };
    let said = group.refusal(new("a", "http://127.0.0.1:1")).await;
    assert!(said.contains("choose another name"), "{said}");
    let said = group.refusal(new("b", "nowhere")).await;
    assert!(said.contains("HOST:PORT"), "{said}");

    // Nobody invited it.
    let stranger = directory();
    let address = free_addresses(1).remove(0);
    let contact = group.address("a").to_owned();
    let join = ["--join", &contact];
    let (status, said) = ended(command("z", &address, stranger.path(), &join)).await;
    assert_eq!(status.code(), Some(2), "{said}");
    assert!(said.contains("member add z"), "{said}");

    // A second directory under the name of one that is there (D9).
    group.join("b", "a").await;
    group.until_voting(&["a", "b"]).await;
    let second = directory();
    let taken = group.address("b").to_owned();
    group.kill("b");
    let (status, said) = ended(command("b", &taken, second.path(), &join)).await;
    assert_eq!(status.code(), Some(2), "{said}");
    assert!(said.contains("has joined already"), "{said}");
    group.launch("b", &join);
    group.until_voting(&["a", "b"]).await;

    // With one of three away none of the others can be spared.
    group.join("c", "a").await;
    group.until_voting(&["a", "b", "c"]).await;
    let (leader, away) = (group.leader().await, group.id_of("c").await);
    let away = if leader == "c" { own } else { away };
    group.kill(if leader == "c" { "a" } else { "c" });
    let spared = group.id_of("b").await;
    eventually("it is noticed", async || {
        let answer = group.try_change(None).await?;
        let is_silent = |it: &tinykv_proto::placement::MemberStatus| it.silent_ms > 3_000;
        answer
            .members
            .iter()
            .any(|it| it.member_id == away && is_silent(it))
            .then_some(())
    })
    .await;
    let said = group.refusal(Change::Remove(spared)).await;
    assert!(said.contains("do not answer"), "{said}");
    // The one that is away can.
    group.change(Some(Change::Remove(away))).await;
    let staying = if leader == "c" {
        ["b", "c"]
    } else {
        ["a", "b"]
    };
    group.until_voting(&staying).await;
}
