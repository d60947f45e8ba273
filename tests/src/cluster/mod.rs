//! Clusters of real processes on loopback: started, killed, started again, and never left behind.
//!
//! Every role is the same binary under the hidden subcommand that the playground uses, too. Ports
//! are free ones below the range from which the kernel picks ports for outgoing connections, so
//! that a killed process finds its own port free again. Data lies in a temporary directory.

pub mod draw;
pub mod exact;
pub mod health;
pub mod load;
pub mod operator;
pub mod packages;
mod ports;
pub mod resp;
pub mod scenario;

use std::fs::OpenOptions;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

pub use ports::free_ports;

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
    child: Option<Child>,
}

impl Cluster {
    /// Plans a cluster; [`Cluster::start`] starts its processes. `binary` plays every role.
    ///
    /// # Errors
    /// No temporary directory or no free ports.
    pub fn new(binary: &Path, placements: usize, stores: usize) -> io::Result<Cluster> {
        let dir = tempfile::Builder::new()
            .prefix("tinykv-cluster-")
            .tempdir()?;
        let mut addresses: Vec<String> = free_ports(placements + 2 * stores)?
            .into_iter()
            .map(|port| format!("127.0.0.1:{port}"))
            .collect();
        let resp = addresses.split_off(placements + stores);
        let members = &addresses[..placements];
        let initial_cluster: Vec<String> = members
            .iter()
            .enumerate()
            .map(|(number, address)| format!("placement-{}=http://{address}", number + 1))
            .collect();
        let process = |role: &str, number: usize, address: &String, more: [&str; 2]| {
            let name = format!("{role}-{}", number + 1);
            let data_dir = dir.path().join(&name).to_string_lossy().into_owned();
            let role = format!("role-{role}");
            let mut arguments: Vec<String> = [
                &role,
                "--addr",
                address,
                "--data-dir",
                &data_dir,
                more[0],
                more[1],
            ]
            .map(str::to_owned)
            .to_vec();
            if role == "role-placement" {
                arguments.extend(["--name".to_owned(), name.clone()]);
            }
            Process {
                name,
                address: address.clone(),
                arguments,
                child: None,
            }
        };
        let initial_cluster = initial_cluster.join(",");
        let all_members = members.join(",");
        let placements = members
            .iter()
            .enumerate()
            .map(|(n, a)| process("placement", n, a, ["--initial-cluster", &initial_cluster]))
            .collect::<Vec<_>>();
        let stores = addresses[placements.len()..]
            .iter()
            .enumerate()
            .map(|(n, a)| {
                let mut store = process("store", n, a, ["--placement", &all_members]);
                let door = ["--resp-addr".to_owned(), resp[n].clone()];
                store.arguments.extend(door);
                store
            })
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
        // SAFETY: prctl is async-signal-safe and touches nothing of the parent. Should the test
        // process die, its children do too.
        unsafe {
            command.pre_exec(|| {
                match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong) {
                    0 => Ok(()),
                    _ => Err(io::Error::last_os_error()),
                }
            });
        }
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
        let process = match node {
            Node::Placement(number) => &self.placements[number],
            Node::Store(number) => &self.stores[number],
        };
        self.dir.path().join(format!("{}.log", process.name))
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
