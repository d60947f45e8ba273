//! Clusters of real processes: started, killed, started again, and never left behind.
//!
//! Every role is the same binary under the hidden subcommand that the playground uses, too. Ports
//! are free ones below the range from which the kernel picks ports for outgoing connections, so
//! that a killed process finds its own port free again. Data lies in a temporary directory. A
//! [`Site`] puts a process elsewhere: into another network namespace, onto another disk, under
//! another clock.

mod binary;
pub mod draw;
mod ending;
pub mod exact;
pub mod health;
pub mod load;
pub mod operator;
pub mod packages;
mod ports;
pub mod records;
pub mod resp;
pub mod scenario;
mod site;
pub mod tally;
mod usage;

use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

pub use binary::role_binary;
pub use ports::free_ports;
pub use site::Site;
pub use usage::Usage;

/// Which process of a cluster, counted from 0 within its role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Node {
    /// A placement member.
    Placement(usize),
    /// A store.
    Store(usize),
}

/// A cluster of processes. Dropping it kills what still runs and removes the data.
#[derive(Debug)]
pub struct Cluster {
    binary: PathBuf,
    dir: tempfile::TempDir,
    placements: Vec<Process>,
    stores: Vec<Process>,
    /// Where each store speaks Redis's protocol.
    resp: Vec<String>,
}

#[derive(Debug)]
struct Process {
    name: String,
    address: String,
    arguments: Vec<String>,
    data_dir: PathBuf,
    site: Site,
    child: Option<Child>,
}

/// A process that is planned: where it listens and runs.
#[derive(Clone, Debug, Default)]
pub struct Planned {
    /// Where it serves, `IP:PORT`.
    pub address: String,
    /// Where a store speaks Redis's protocol; none: nowhere.
    pub resp: Option<String>,
    /// Where it runs.
    pub site: Site,
}

impl Cluster {
    /// Plans a cluster; [`Cluster::start`] starts its processes. `binary` plays every role.
    ///
    /// # Errors
    /// No temporary directory or no free ports.
    pub fn new(binary: &Path, placements: usize, stores: usize) -> io::Result<Cluster> {
        let mut ports = free_ports(placements + 2 * stores)?.into_iter();
        let mut address = || {
            let port = ports.next().expect("as many as were asked for");
            format!("127.0.0.1:{port}")
        };
        let mut planned = |resp: bool| Planned {
            address: address(),
            resp: resp.then(&mut address),
            site: Site::default(),
        };
        let placements: Vec<Planned> = (0..placements).map(|_| planned(false)).collect();
        let stores = (0..stores).map(|_| planned(true)).collect();
        Cluster::at(binary, &std::env::temp_dir(), placements, stores)
    }

    /// The same of processes in places of their own; logs, and data that is to lie nowhere else,
    /// in a new directory below `base`.
    ///
    /// # Errors
    /// No new directory.
    pub fn at(
        binary: &Path,
        base: &Path,
        placements: Vec<Planned>,
        stores: Vec<Planned>,
    ) -> io::Result<Cluster> {
        let dir = tempfile::Builder::new()
            .prefix("tinykv-cluster-")
            .tempdir_in(base)?;
        let members: Vec<&str> = placements.iter().map(|p| p.address.as_str()).collect();
        let named = members.iter().enumerate();
        let initial_cluster: Vec<String> = named
            .map(|(number, address)| format!("placement-{}=http://{address}", number + 1))
            .collect();
        let (initial_cluster, members) = (initial_cluster.join(","), members.join(","));
        let process = |role: &str, number: usize, planned: Planned, more: [&str; 2]| {
            let name = format!("{role}-{}", number + 1);
            let beside = || dir.path().join(&name);
            let data_dir = planned.site.data_dir.clone().unwrap_or_else(beside);
            let role_name = format!("role-{role}");
            let fixed = [
                &role_name,
                "--addr",
                &planned.address,
                "--data-dir",
                &data_dir.to_string_lossy(),
            ];
            let mut arguments: Vec<String> =
                fixed.into_iter().chain(more).map(str::to_owned).collect();
            if role == "placement" {
                arguments.extend(["--name".to_owned(), name.clone()]);
            }
            if let Some(resp) = planned.resp {
                arguments.extend(["--resp-addr".to_owned(), resp]);
            }
            Process {
                name,
                address: planned.address,
                arguments,
                data_dir,
                site: planned.site,
                child: None,
            }
        };
        let resp = stores
            .iter()
            .filter_map(|store| store.resp.clone())
            .collect();
        let placements = placements
            .into_iter()
            .enumerate()
            .map(|(n, p)| process("placement", n, p, ["--initial-cluster", &initial_cluster]))
            .collect();
        let stores = stores
            .into_iter()
            .enumerate()
            .map(|(n, p)| process("store", n, p, ["--placement", &members]))
            .collect();
        Ok(Cluster {
            binary: binary.to_owned(),
            dir,
            placements,
            stores,
            resp,
        })
    }

    /// Addresses of the placement members.
    pub fn placements(&self) -> Vec<String> {
        self.placements
            .iter()
            .map(|process| process.address.clone())
            .collect()
    }

    /// Addresses of the stores.
    pub fn stores(&self) -> Vec<String> {
        self.stores
            .iter()
            .map(|process| process.address.clone())
            .collect()
    }

    /// Where the stores speak Redis's protocol, in the same order.
    pub fn resp(&self) -> &[String] {
        &self.resp
    }

    /// The binary that plays every role.
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// Adds arguments to every store, for its next start.
    pub fn with_store_arguments(mut self, arguments: &[&str]) -> Cluster {
        for store in &mut self.stores {
            let more = arguments.iter().map(|argument| (*argument).to_owned());
            store.arguments.extend(more);
        }
        self
    }

    /// All processes, placements first.
    pub fn nodes(&self) -> Vec<Node> {
        let placements = (0..self.placements.len()).map(Node::Placement);
        placements
            .chain((0..self.stores.len()).map(Node::Store))
            .collect()
    }

    /// Starts every process that does not run.
    ///
    /// # Errors
    /// The operating system could not start one.
    pub fn start_all(&mut self) -> io::Result<()> {
        self.nodes()
            .into_iter()
            .try_for_each(|node| self.start(node))
    }

    /// Starts a process; one that runs is left alone. It may not answer yet.
    ///
    /// # Errors
    /// The operating system could not start it.
    pub fn start(&mut self, node: Node) -> io::Result<()> {
        let (binary, log) = (self.binary.clone(), self.log(node));
        let process = self.process(node);
        if process.child.is_some() {
            return Ok(());
        }
        let log = OpenOptions::new().create(true).append(true).open(log)?;
        let mut command = Command::new(binary);
        command
            .args(&process.arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        process.site.prepare(&mut command)?;
        process.child = Some(command.spawn()?);
        Ok(())
    }

    /// `kill -9`, and waits until the process is gone. One that does not run is left alone.
    ///
    /// # Errors
    /// The operating system could not.
    pub fn kill(&mut self, node: Node) -> io::Result<()> {
        if let Some(mut child) = self.process(node).child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// `kill -9` to every process before waiting for any of them.
    ///
    /// # Errors
    /// The operating system could not.
    pub fn kill_all(&mut self) -> io::Result<()> {
        let mut children: Vec<Child> = self
            .placements
            .iter_mut()
            .chain(&mut self.stores)
            .filter_map(|process| process.child.take())
            .collect();
        children.iter_mut().try_for_each(Child::kill)?;
        children
            .iter_mut()
            .try_for_each(|child| child.wait().map(|_| ()))
    }

    /// Where a process runs; what is changed counts from its next start on. Its data directory stays
    /// where it is.
    pub fn site(&mut self, node: Node) -> &mut Site {
        &mut self.process(node).site
    }

    /// The id of a running process.
    pub fn process_id(&self, node: Node) -> Option<u32> {
        self.planned(node).child.as_ref().map(Child::id)
    }

    /// Where the data of a process lies.
    pub fn data_dir(&self, node: Node) -> &Path {
        &self.planned(node).data_dir
    }

    /// Where the logs are.
    pub fn log_dir(&self) -> &Path {
        self.dir.path()
    }

    /// Sends a signal to a running process.
    ///
    /// # Errors
    /// The process does not run, or the operating system refused.
    pub fn signal(&mut self, node: Node, signal: i32) -> io::Result<()> {
        let child = self.process(node).child.as_ref();
        let id = child
            .ok_or_else(|| io::Error::other("the process does not run"))?
            .id();
        // SAFETY: the child was not waited for, so its id cannot name another process.
        match unsafe { libc::kill(id as libc::pid_t, signal) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Whether a process has ended by itself, and how. It counts as not running afterwards.
    ///
    /// # Errors
    /// The operating system could not say.
    pub fn ended(&mut self, node: Node) -> io::Result<Option<ExitStatus>> {
        let process = self.process(node);
        let Some(child) = &mut process.child else {
            return Ok(None);
        };
        let status = child.try_wait()?;
        if status.is_some() {
            process.child = None;
        }
        Ok(status)
    }

    /// Waits until a process has ended by itself, and says how. It counts as not running
    /// afterwards.
    ///
    /// # Errors
    /// It does not run, or the operating system could not tell.
    pub async fn end_of(&mut self, node: Node) -> io::Result<ExitStatus> {
        let running = self.process(node).child.as_mut();
        let child = running.ok_or_else(|| io::Error::other("the process does not run"))?;
        let status = ending::end_of(child).await?;
        self.process(node).child = None;
        Ok(status)
    }

    /// The end of a process's log, for messages.
    pub fn log_tail(&self, node: Node, lines: usize) -> String {
        let text = std::fs::read_to_string(self.log(node)).unwrap_or_default();
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// The ends of all logs, for messages.
    pub fn logs(&self) -> String {
        self.nodes()
            .into_iter()
            .map(|node| format!("--- {node:?}\n{}\n", self.log_tail(node, 60)))
            .collect()
    }

    fn log(&self, node: Node) -> PathBuf {
        let name = &self.planned(node).name;
        self.dir.path().join(format!("{name}.log"))
    }

    fn planned(&self, node: Node) -> &Process {
        match node {
            Node::Placement(number) => &self.placements[number],
            Node::Store(number) => &self.stores[number],
        }
    }

    fn process(&mut self, node: Node) -> &mut Process {
        match node {
            Node::Placement(number) => &mut self.placements[number],
            Node::Store(number) => &mut self.stores[number],
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // There is nobody left to tell, and the kernel kills what this could not.
        let _ = self.kill_all();
    }
}
