//! The commands of the scripts.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fmt::Write as _;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use goldenscript::{ArgumentConsumer, Command, Context, Runner};
use tinykv_raft::{
    Birth, Config, Configuration, JointExit, LogIndex, MembershipChange, MembershipStep, PeerId,
    ReadId, Role, SnapshotFailed, Willingness,
};

use crate::display;
use crate::node::{Node, Packet};

const TICK: Duration = Duration::from_millis(50);

/// What a script drives.
#[derive(Default)]
pub struct Cluster {
    now: Duration,
    nodes: BTreeMap<PeerId, Node>,
    /// On its way, in the order it was sent.
    network: Vec<Packet>,
    isolated: BTreeSet<PeerId>,
    output: String,
}

type Failure = Box<dyn Error>;

impl Runner for Cluster {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &Context) -> Result<String, Failure> {
        self.output.clear();
        let mut args = command.consume_args();
        let args = &mut args;
        match command.name.as_str() {
            "cluster" => self.create(args)?,
            "tick" => self.tick(args)?,
            "wait" => self.now += Duration::from_millis(key(args, "ms")?.unwrap_or(0)),
            "isolate" => {
                let id = peer(args)?;
                self.isolated.insert(id);
            }
            "heal" => self.isolated.clear(),
            "settle" => self.settle(args)?,
            "run" => {
                let count: u32 = key(args, "n")?.unwrap_or(1);
                let ids = self.running(args)?;
                for _ in 0..count {
                    self.tick_once(&ids)?;
                    self.run_until_quiet(&ids)?;
                }
                self.output.clear();
            }
            "lead" => self.lead(args)?,
            "ready" | "persist" | "sync" | "notice" | "apply" | "provide" => {
                let count = key(args, "n")?.unwrap_or(usize::MAX);
                for id in self.running(args)? {
                    self.drive(&command.name, id, count);
                }
            }
            "deliver" | "drop" | "duplicate" => {
                let from = key(args, "from")?.map(PeerId);
                let to = key(args, "to")?.map(PeerId);
                let mut count = key(args, "n")?.unwrap_or(usize::MAX);
                let all = std::mem::take(&mut self.network);
                let (chosen, rest) = all.into_iter().partition(|packet: &Packet| {
                    let is_chosen = count > 0
                        && from.is_none_or(|from| from == packet.message.from)
                        && to.is_none_or(|to| to == packet.message.to);
                    count -= usize::from(is_chosen);
                    is_chosen
                });
                self.network = rest;
                match command.name.as_str() {
                    "deliver" => self.deliver(chosen),
                    "duplicate" => {
                        self.network.extend(chosen.iter().cloned());
                        self.network.extend(chosen);
                    }
                    _ => {}
                }
            }
            "status" | "log" | "members" | "lease" | "promised" | "reads" | "network"
            | "dismissal" => {
                self.show(&command.name, args)?;
            }
            name => self.call(name, args)?,
        }
        args.reject_next()?;
        Ok(std::mem::take(&mut self.output))
    }
}

impl Cluster {
    fn line(&mut self, line: &str) {
        self.output.push_str(line);
        self.output.push('\n');
    }

    fn node(&mut self, id: PeerId) -> Result<&mut Node, Failure> {
        self.nodes
            .get_mut(&id)
            .ok_or_else(|| format!("no node {id}").into())
    }

    fn create(&mut self, args: &mut ArgumentConsumer<'_>) -> Result<(), Failure> {
        let nodes: u64 = key(args, "nodes")?.unwrap_or(3);
        let learners: u64 = key(args, "learners")?.unwrap_or(0);
        let spares: u64 = key(args, "spares")?.unwrap_or(0);
        let is_restarted = args.take_key("restarted").is_some();
        let voters = nodes - learners - spares;
        let configuration = Configuration {
            voters: (1..=voters).map(PeerId).collect(),
            learners: (voters + 1..=voters + learners).map(PeerId).collect(),
            ..Configuration::default()
        };
        let mut template = Config::new(PeerId(1), 0);
        for (setting, value) in [
            ("append_bytes", &mut template.append_bytes_max),
            ("in_flight_bytes", &mut template.in_flight_bytes_max),
            ("in_flight_messages", &mut template.in_flight_messages_max),
            ("uncommitted_bytes", &mut template.uncommitted_bytes_max),
            ("memory_bytes", &mut template.memory_bytes_max),
        ] {
            *value = key(args, setting)?.unwrap_or(*value);
        }
        if let Some("driver") = args.take_key("joint_exit") {
            template.joint_exit = JointExit::ByDriver;
        }
        for id in 1..=nodes {
            let config = Config {
                id: PeerId(id),
                seed: id,
                ..template.clone()
            };
            let is_spare = id > voters + learners;
            let configuration = if is_spare {
                Configuration::default()
            } else {
                configuration.clone()
            };
            let mut node = Node::new(config, configuration);
            node.disk.birth = is_restarted.then_some(Birth::Restarted);
            node.start(self.now, usize::MAX);
            self.nodes.insert(PeerId(id), node);
        }
        Ok(())
    }

    /// The nodes named, or all that run.
    fn running(&self, args: &mut ArgumentConsumer<'_>) -> Result<Vec<PeerId>, Failure> {
        let mut named = Vec::new();
        while let Some(id) = args.next_pos() {
            named.push(PeerId(id.parse()?));
        }
        if !named.is_empty() {
            return Ok(named);
        }
        let running = self.nodes.iter().filter(|(_, node)| node.raft.is_some());
        Ok(running.map(|(id, _)| *id).collect())
    }

    fn tick(&mut self, args: &mut ArgumentConsumer<'_>) -> Result<(), Failure> {
        let count: u32 = key(args, "n")?.unwrap_or(1);
        let ids = self.running(args)?;
        for _ in 0..count {
            self.tick_once(&ids)?;
        }
        Ok(())
    }

    fn tick_once(&mut self, ids: &[PeerId]) -> Result<(), Failure> {
        self.now += TICK;
        let now = self.now;
        for id in ids {
            self.node(*id)?.raft().tick(now);
        }
        Ok(())
    }

    /// One step of the driver; whether anything happened.
    fn drive(&mut self, what: &str, id: PeerId, count: usize) -> bool {
        let now = self.now;
        let node = self.nodes.get_mut(&id).expect("named by the script");
        let mut lines = Vec::new();
        let mut sent = Vec::new();
        for _ in 0..count {
            let before = lines.len();
            match what {
                "ready" => {
                    let Some(ready) = node.ready(now) else { break };
                    lines.extend(display::ready(id, &ready));
                    sent.extend(ready.send.into_iter().map(Packet::from));
                }
                "persist" => {
                    let Some(write) = node.persist() else { break };
                    lines.push(format!("{id} persisted #{}", write.number.0));
                    sent.extend(write.messages.into_iter().map(Packet::from));
                }
                "sync" => {
                    let Some(write) = node.sync() else { break };
                    lines.push(format!("{id} synced #{}", write.number.0));
                    sent.extend(write.messages.into_iter().map(Packet::from));
                }
                "notice" => {
                    let Some(write) = node.notice() else { break };
                    lines.push(format!("{id} noticed #{}", write.number.0));
                }
                "apply" => {
                    let Some(entry) = node.apply() else { break };
                    lines.push(format!("{id} applied {}", display::entry(&entry)));
                }
                "provide" => {
                    if node.fetches.is_empty() {
                        break;
                    }
                    let fetch = node.fetches.remove(0);
                    let count = node.provide(fetch);
                    lines.push(format!("{id} got {count} entries from {} on", fetch.from));
                }
                _ => break,
            }
            assert!(lines.len() > before);
        }
        for line in &lines {
            self.line(line);
        }
        self.send(sent);
        !lines.is_empty()
    }

    fn send(&mut self, packets: Vec<Packet>) {
        self.network.extend(packets);
    }

    fn deliver(&mut self, packets: Vec<Packet>) {
        for packet in packets {
            let text = display::message(&packet.message);
            let (from, to) = (packet.message.from, packet.message.to);
            let is_cut = self.isolated.contains(&from) || self.isolated.contains(&to);
            let now = self.now;
            let line = match self.nodes.get_mut(&to) {
                Some(node) if node.raft.is_some() && !is_cut => match node.deliver(packet, now) {
                    Ok(()) => format!("delivered {text}"),
                    Err(error) => format!("refused {text}: {error}"),
                },
                _ => format!("lost {text}"),
            };
            self.line(&line);
        }
    }

    fn settle(&mut self, args: &mut ArgumentConsumer<'_>) -> Result<(), Failure> {
        let is_quiet = key(args, "quiet")?.unwrap_or(false);
        let ids = self.running(args)?;
        self.run_until_quiet(&ids)?;
        if is_quiet {
            self.output.clear();
        }
        Ok(())
    }

    fn run_until_quiet(&mut self, ids: &[PeerId]) -> Result<(), Failure> {
        for _ in 0..10_000 {
            let mut is_busy = false;
            for id in ids {
                for what in ["ready", "persist", "provide", "apply"] {
                    is_busy |= self.drive(what, *id, usize::MAX);
                }
            }
            let all = std::mem::take(&mut self.network);
            let (chosen, rest) = all
                .into_iter()
                .partition(|it: &Packet| ids.contains(&it.message.to));
            self.network = rest;
            is_busy |= !Vec::is_empty(&chosen);
            self.deliver(chosen);
            if !is_busy {
                return Ok(());
            }
        }
        Err("it never settles".into())
    }

    fn lead(&mut self, args: &mut ArgumentConsumer<'_>) -> Result<(), Failure> {
        let id = peer(args)?;
        let now = self.now;
        self.node(id)?.raft().campaign(now);
        let ids: Vec<PeerId> = self
            .nodes
            .iter()
            .filter(|(_, node)| node.raft.is_some())
            .map(|(id, _)| *id)
            .collect();
        self.run_until_quiet(&ids)?;
        self.output.clear();
        match self.node(id)?.raft().role() {
            Role::Leader => Ok(()),
            role => Err(format!("{id} is {}", display::role(role)).into()),
        }
    }

    fn call(&mut self, name: &str, args: &mut ArgumentConsumer<'_>) -> Result<(), Failure> {
        let now = self.now;
        let id = peer(args)?;
        let node = self
            .nodes
            .get_mut(&id)
            .ok_or_else(|| format!("no node {id}"))?;
        match name {
            "campaign" => node.raft().campaign(now),
            "propose" => {
                let text = args.next_pos().ok_or("a command is missing")?.to_owned();
                let bytes = key(args, "bytes")?.unwrap_or(text.len());
                let command = Bytes::from(text.repeat(bytes.div_ceil(text.len())));
                let entry = node.raft().propose(command.slice(..bytes))?;
                self.line(&format!("{id} proposed {entry}"));
            }
            "change" => {
                let mut steps = Vec::new();
                while let Some(what) = args.next_pos() {
                    let what = what.to_owned();
                    let target = peer(args)?;
                    steps.push(match what.as_str() {
                        "add-voter" => MembershipStep::AddVoter(target),
                        "add-learner" => MembershipStep::AddLearner(target),
                        "remove" => MembershipStep::Remove(target),
                        _ => return Err(format!("unknown step {what}").into()),
                    });
                }
                let change = MembershipChange {
                    steps,
                    context: Bytes::new(),
                };
                let entry = node.raft().propose_membership(change)?;
                self.line(&format!("{id} proposed {entry}"));
            }
            "read" => node.raft().read_index(ReadId(number(args)?), now)?,
            "transfer" => node.raft().transfer_leader(peer(args)?, now)?,
            "hibernate" => {
                let sleeps = node.raft().hibernate();
                self.line(&format!(
                    "{id} {}",
                    if sleeps { "sleeps" } else { "stays awake" }
                ));
            }
            "wake" => node.raft().wake(now),
            "forget-leader" => node.raft().forget_leader(),
            "reluctant" => node.raft().set_willingness(Willingness::Reluctant),
            "willing" => node.raft().set_willingness(Willingness::Willing),
            "unreachable" => node.raft().on_unreachable(peer(args)?),
            "flush" => node.flush(),
            "compact" => {
                node.flush();
                node.compact(LogIndex(number(args)?));
            }
            "cut" => {
                node.flush();
                node.cut_disk(LogIndex(number(args)?));
            }
            "crash" => node.crash(key(args, "kept")?.unwrap_or(0)),
            "restart" => {
                let tail = key(args, "tail")?.unwrap_or(usize::MAX);
                node.start(now, tail);
            }
            "snapshot" => {
                let to = peer(args)?;
                let position = node.snapshots.iter().position(|request| request.to == to);
                let request = node.snapshots.remove(position.ok_or("none was asked for")?);
                let packet = node.snapshot(request);
                self.line(&format!("{id} sends {}", display::message(&packet.message)));
                self.send(vec![packet]);
            }
            "snapshot-status" => {
                let to = peer(args)?;
                let is_ok = args.next_pos().is_some_and(|it| it == "ok");
                let last = node.machine.applied;
                let result = if is_ok { Ok(last) } else { Err(SnapshotFailed) };
                node.raft().on_snapshot_status(to, result);
            }
            _ => return Err(format!("unknown command {name}").into()),
        }
        Ok(())
    }

    fn show(&mut self, what: &str, args: &mut ArgumentConsumer<'_>) -> Result<(), Failure> {
        if what == "network" {
            let lines: Vec<_> = self
                .network
                .iter()
                .map(|it| display::message(&it.message))
                .collect();
            lines.iter().for_each(|line| self.line(line));
            return Ok(());
        }
        for id in self.running(args)? {
            let now = self.now;
            let node = self.node(id)?;
            let mut text = String::new();
            match what {
                "status" => text = display::status(&node.raft().status()).join("\n"),
                "log" => {
                    let list = display::entries(&node.disk.entries);
                    write!(text, "{id} disk after {}: [{list}]", node.disk.truncated)?;
                }
                "members" => {
                    let members = display::configuration(node.raft().configuration());
                    write!(text, "{id} {members}")?;
                }
                "dismissal" => {
                    let may = node.raft().may_dismiss();
                    write!(text, "{id} may{} dismiss", if may { "" } else { " not" })?;
                }
                "reads" => {
                    let applied = node.machine.applied.index;
                    let servable = node.reads.iter().filter(|read| read.index <= applied);
                    let list: Vec<_> = servable.map(|read| read.id.0.to_string()).collect();
                    write!(text, "{id} can serve reads [{}]", list.join(" "))?;
                }
                "promised" => {
                    let until = node.raft().status().promised_until;
                    let left = until.saturating_sub(now).as_millis();
                    write!(text, "{id} is bound for {left}ms")?;
                }
                _ => match node.raft().lease() {
                    Some(lease) if lease.valid_until > now => {
                        let left = (lease.valid_until - now).as_millis();
                        write!(text, "{id} lease of term {} for {left}ms more", lease.term)?;
                    }
                    Some(_) => write!(text, "{id} lease is over")?,
                    None => write!(text, "{id} no lease")?,
                },
            }
            self.line(&text);
        }
        Ok(())
    }
}

fn key<T: FromStr>(args: &mut ArgumentConsumer<'_>, name: &str) -> Result<Option<T>, Failure>
where
    T::Err: Error + 'static,
{
    Ok(args.take_key(name).map(str::parse).transpose()?)
}

fn number(args: &mut ArgumentConsumer<'_>) -> Result<u64, Failure> {
    Ok(args.next_pos().ok_or("a number is missing")?.parse()?)
}

fn peer(args: &mut ArgumentConsumer<'_>) -> Result<PeerId, Failure> {
    Ok(PeerId(number(args)?))
}
