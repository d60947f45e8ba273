//! Three members as processes of their own, killed with -9.

use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use tempfile::TempDir;
use tinykv_proto::pdpb::pd_client::PdClient;
use tinykv_proto::pdpb::{self, RequestHeader};
use tonic::transport::Channel;

use super::cluster::{LIMIT, directory, eventually};
use super::members::free_addresses;

const NAMES: [&str; 3] = ["a", "b", "c"];

/// A group whose members may be up or not.
pub(crate) struct Processes {
    pub(crate) addresses: Vec<String>,
    directories: Vec<TempDir>,
    members: Vec<Option<Child>>,
    paused: Vec<bool>,
    pub(crate) cluster_id: u64,
}

impl Processes {
    /// Three members that run and have a leader.
    pub(crate) async fn start() -> Processes {
        let mut group = Processes {
            addresses: free_addresses(3),
            directories: (0..3).map(|_| directory()).collect(),
            members: vec![None, None, None],
            paused: vec![false; 3],
            cluster_id: 0,
        };
        for member in 0..3 {
            group.launch(member);
        }
        group.leader().await;
        group
    }

    pub(crate) fn data(&self, member: usize) -> &Path {
        self.directories[member].path()
    }

    pub(crate) fn launch(&mut self, member: usize) {
        let mut command = self.command(member, self.data(member));
        let child = command.spawn().expect("the program is built");
        self.members[member] = Some(child);
    }

    /// A process of this member over any directory.
    pub(crate) fn command(&self, member: usize, data: &Path) -> Command {
        let entries = NAMES.iter().zip(&self.addresses);
        let list: Vec<String> = entries
            .map(|(name, address)| format!("{name}=http://{address}"))
            .collect();
        let mut command = Command::new(env!("CARGO_BIN_EXE_tinykv-placement"));
        command
            .args(["--name", NAMES[member], "--addr", &self.addresses[member]])
            .args(["--initial-cluster", &list.join(",")])
            .args(["--log-level", "warn"])
            .arg("--data-dir")
            .arg(data)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        command
    }

    /// Ends the member at once, as if its machine were gone.
    pub(crate) fn kill(&mut self, member: usize) {
        let mut child = self.members[member].take().expect("it is up");
        child.kill().expect("it was running");
        child.wait().expect("it has ended");
    }

    pub(crate) fn is_up(&self, member: usize) -> bool {
        self.members[member].is_some() && !self.paused[member]
    }

    /// Has the member stand still, or go on.
    pub(crate) async fn pause(&mut self, member: usize, paused: bool) {
        let child = self.members[member].as_ref().expect("it is up");
        let state = format!("/proc/{}/stat", child.id());
        let signal = if paused { "STOP" } else { "CONT" };
        let sent = Command::new("sh")
            .args(["-c", &format!("kill -{signal} {}", child.id())])
            .status();
        assert!(sent.expect("there is a shell").success());
        // On a busy machine its threads run on until one of them takes the signal.
        eventually("it stands still, or goes on", async || {
            let state = std::fs::read_to_string(&state).ok()?;
            (state.contains(") T ") == paused).then_some(())
        })
        .await;
        self.paused[member] = paused;
    }

    /// The leader that members which are up agree on.
    pub(crate) async fn leader(&mut self) -> usize {
        let (leader, cluster_id) = eventually("a leader", async || self.try_leader().await).await;
        self.cluster_id = cluster_id;
        leader
    }

    /// Every member that is up names a leader; which, if they agree, and the cluster's id.
    pub(crate) async fn try_leader(&self) -> Option<(usize, u64)> {
        let mut named = Vec::new();
        for member in (0..3).filter(|member| self.is_up(*member)) {
            let answer = get_members(&self.addresses[member]).await?;
            let id = answer.leader?.member_id;
            named.push((usize::try_from(id).ok()?.checked_sub(1)?, answer.header?));
        }
        let (leader, header) = named.first()?;
        let agreed = named.iter().all(|(other, _)| other == leader);
        agreed.then_some((*leader, header.cluster_id))
    }

    pub(crate) fn header(&self) -> Option<RequestHeader> {
        Some(RequestHeader {
            cluster_id: self.cluster_id,
            ..RequestHeader::default()
        })
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for child in self.members.iter_mut().flatten() {
            // It may have ended by itself.
            let _ended = child.kill();
            let _reaped = child.wait();
        }
    }
}

pub(crate) async fn client(address: &str) -> Option<PdClient<Channel>> {
    PdClient::connect(format!("http://{address}")).await.ok()
}

pub(crate) async fn get_members(address: &str) -> Option<pdpb::GetMembersResponse> {
    let request = pdpb::GetMembersRequest::default();
    let answer = client(address).await?.get_members(request).await;
    answer.ok().map(tonic::Response::into_inner)
}

/// Runs a process that ends by itself; its status and what it said.
pub(crate) async fn ended(command: Command) -> (ExitStatus, String) {
    let mut command = tokio::process::Command::from(command);
    let ended = command.kill_on_drop(true).output();
    let ended = tokio::time::timeout(LIMIT, ended).await;
    let ended = ended.expect("it ends by itself").expect("it began");
    (ended.status, String::from_utf8_lossy(&ended.stderr).into())
}

/// A whole directory, as `cp -a` does.
fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            std::fs::create_dir_all(&target).expect("made");
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("copied");
        }
    }
}

/// D9: nobody takes part again who has forgotten what it promised.
#[tokio::test]
async fn a_member_that_lost_its_data_is_refused() {
    let mut group = Processes::start().await;
    let leader = group.leader().await;
    let victim = (leader + 1) % 3;
    let old = directory();
    eventually("it has noted that it takes part", async || {
        let noted = std::fs::read_to_string(group.data(victim).join("MEMBERS")).ok()?;
        noted.contains(r#""took_part":true"#).then_some(())
    })
    .await;
    group.kill(victim);
    copy(group.data(victim), old.path());

    // Wiped.
    let empty = directory();
    let (status, said) = ended(group.command(victim, empty.path())).await;
    assert_eq!(status.code(), Some(3), "{said}");
    assert!(said.contains("may not take part again"), "{said}");

    // Its log alone is gone.
    let hollow = directory();
    copy(old.path(), hollow.path());
    std::fs::remove_dir_all(hollow.path().join("engine")).expect("it was there");
    let (status, said) = ended(group.command(victim, hollow.path())).await;
    assert_eq!(status.code(), Some(3), "{said}");
    assert!(said.contains("has lost its log"), "{said}");

    // None of this has harmed the others, and the right one comes back.
    group.launch(victim);
    group.leader().await;
}
