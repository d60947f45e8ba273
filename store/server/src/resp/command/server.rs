//! Commands about the store and about commands.

use super::table::{self, Spec, TABLE};
use super::{Action, Arguments, Call, Reply, Session};
use crate::VERSION;
use crate::resp::glob;
use crate::resp::limits::CONNECTIONS_MAX;
use crate::resp::splitter::ARGUMENT_BYTES_MAX;

type Plan = Result<Action, Reply>;

/// The name of the software in `HELLO`.
pub(super) const SERVER: &str = "tinykv";

/// The version of Redis whose answers are followed. Libraries choose what they send by it.
pub(super) const REDIS_VERSION: &str = "7.0.0";

pub(super) fn dbsize(_: &Arguments<'_>, _: &mut Session) -> Plan {
    Ok(Action::Call(Call::Count))
}

pub(super) fn info(arguments: &Arguments<'_>, _: &mut Session) -> Plan {
    let sections = arguments.words.iter();
    let sections = sections.map(|it| it.to_ascii_lowercase().escape_ascii().to_string());
    Ok(Action::Info(sections.collect()))
}

/// What `INFO` tells.
#[derive(Clone, Debug, Default)]
pub(in crate::resp) struct Facts {
    /// Id of the store.
    pub(in crate::resp) store: u64,
    /// Id of the cluster.
    pub(in crate::resp) cluster: u64,
    /// Port of this door.
    pub(in crate::resp) port: u16,
    /// Seconds since the start.
    pub(in crate::resp) uptime_seconds: u64,
    /// Connections that are open.
    pub(in crate::resp) connections: u64,
    /// Connections since the start, refused ones not counted.
    pub(in crate::resp) connections_total: u64,
    /// Connections refused because there were too many.
    pub(in crate::resp) connections_refused: u64,
    /// Commands since the start.
    pub(in crate::resp) commands_total: u64,
    /// Commands that ended in an error.
    pub(in crate::resp) errors_total: u64,
}

impl Facts {
    /// The sections asked for, or all.
    pub(in crate::resp) fn text(&self, sections: &[String]) -> String {
        let all = sections.is_empty()
            || sections
                .iter()
                .any(|it| matches!(it.as_str(), "all" | "everything" | "default"));
        let text = self.sections().into_iter().filter_map(|(name, lines)| {
            let wanted = all || sections.iter().any(|it| it.eq_ignore_ascii_case(name));
            let lines = lines
                .into_iter()
                .map(|(name, value)| format!("{name}:{value}\r\n"));
            wanted.then(|| format!("# {name}\r\n{}", lines.collect::<String>()))
        });
        text.collect::<Vec<_>>().join("\r\n")
    }

    fn sections(&self) -> [(&'static str, Vec<(&'static str, String)>); 3] {
        [
            (
                "Server",
                vec![
                    ("redis_version", REDIS_VERSION.to_owned()),
                    ("redis_mode", "standalone".to_owned()),
                    ("tinykv_version", VERSION.to_owned()),
                    ("tinykv_cluster", self.cluster.to_string()),
                    ("tinykv_store", self.store.to_string()),
                    ("process_id", std::process::id().to_string()),
                    ("tcp_port", self.port.to_string()),
                    ("uptime_in_seconds", self.uptime_seconds.to_string()),
                ],
            ),
            (
                "Clients",
                vec![
                    ("connected_clients", self.connections.to_string()),
                    ("maxclients", CONNECTIONS_MAX.to_string()),
                ],
            ),
            (
                "Stats",
                vec![
                    (
                        "total_connections_received",
                        self.connections_total.to_string(),
                    ),
                    ("rejected_connections", self.connections_refused.to_string()),
                    ("total_commands_processed", self.commands_total.to_string()),
                    ("total_error_replies", self.errors_total.to_string()),
                ],
            ),
        ]
    }
}

pub(super) fn command(arguments: &Arguments<'_>, _: &mut Session) -> Plan {
    let Some((_, names)) = arguments.words.split_first() else {
        return answer(Reply::Array(TABLE.iter().map(about).collect()));
    };
    let named = names.iter().map(|name| table::find(name));
    match arguments.subcommand().as_str() {
        "count" if names.is_empty() => answer(Reply::count(TABLE.len() as u64)),
        "list" if names.is_empty() => answer(Reply::names(TABLE.iter().map(|spec| spec.name))),
        "info" if names.is_empty() => answer(Reply::Array(TABLE.iter().map(about).collect())),
        "info" => {
            let found = named.map(|spec| spec.map_or(Reply::Null, about));
            answer(Reply::Array(found.collect()))
        }
        "docs" if names.is_empty() => answer(docs(TABLE.iter())),
        "docs" => {
            let mut found: Vec<&Spec> = named.flatten().collect();
            found.sort_by_key(|spec| spec.name);
            found.dedup_by_key(|spec| spec.name);
            answer(docs(found.into_iter()))
        }
        _ => Err(arguments.unknown_subcommand()),
    }
}

/// A command as `COMMAND` lists it.
fn about(spec: &Spec) -> Reply {
    let flags = spec.flags.iter().map(|flag| Reply::Simple(flag));
    let (first, last, step) = spec.keys;
    let nothing = || Reply::Array(Vec::new());
    Reply::Array(vec![
        Reply::text(spec.name),
        Reply::Integer(spec.arity),
        Reply::Array(flags.collect()),
        Reply::Integer(first),
        Reply::Integer(last),
        Reply::Integer(step),
        nothing(),
        nothing(),
        nothing(),
        nothing(),
    ])
}

/// Commands as `COMMAND DOCS` describes them.
fn docs(specs: impl Iterator<Item = &'static Spec>) -> Reply {
    let docs = specs.map(|spec| {
        let doc = Reply::Map(vec![
            ("summary", Reply::text(spec.summary)),
            ("since", Reply::text("0.1.0")),
            ("group", Reply::text(spec.group)),
        ]);
        (spec.name, doc)
    });
    Reply::Map(docs.collect())
}

pub(super) fn config(arguments: &Arguments<'_>, _: &mut Session) -> Plan {
    match (arguments.subcommand().as_str(), &arguments.words[1..]) {
        ("get", []) => Err(Reply::error(
            "wrong number of arguments for 'config|get' command",
        )),
        ("get", patterns) => {
            let settings = settings().into_iter().filter(|(name, _)| {
                patterns
                    .iter()
                    .any(|pattern| glob::matches(&pattern.to_ascii_lowercase(), name.as_bytes()))
            });
            let settings = settings.map(|(name, value)| (name, Reply::text(value)));
            answer(Reply::Map(settings.collect()))
        }
        ("set" | "rewrite" | "resetstat", _) => Err(Reply::error(
            "settings cannot be changed here; they are flags of the process: tinykv-store --help",
        )),
        _ => Err(arguments.unknown_subcommand()),
    }
}

/// What of Redis's settings has a meaning here.
fn settings() -> [(&'static str, String); 7] {
    [
        // Every write is durable on a majority before its answer.
        ("appendonly", "yes".to_owned()),
        ("appendfsync", "always".to_owned()),
        ("save", String::new()),
        ("databases", "1".to_owned()),
        ("maxclients", CONNECTIONS_MAX.to_string()),
        ("maxmemory", "0".to_owned()),
        ("proto-max-bulk-len", ARGUMENT_BYTES_MAX.to_string()),
    ]
}

fn answer(reply: Reply) -> Plan {
    Ok(Action::Answer(reply))
}
