//! What went through the door.

use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::command::Facts;

/// Counts connections, commands and errors.
#[derive(Debug, Default)]
pub(super) struct Figures {
    /// Connections that are open.
    connections: Gauge,
    /// Connections since the start.
    accepted: Counter,
    /// Connections refused because there were too many.
    refused: Counter,
    commands: Family<Named, Counter>,
    /// The sum of `commands`.
    commands_total: AtomicU64,
    errors: Family<Kind, Counter>,
    /// The sum of `errors`.
    errors_total: AtomicU64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Named {
    command: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    /// The first word of the error.
    kind: &'static str,
}

impl Figures {
    pub(super) fn register(&self, registry: &mut Registry) {
        let connections = "Open connections of the RESP door";
        registry.register(
            "tinykv_resp_connections",
            connections,
            self.connections.clone(),
        );
        let accepted = "Connections the RESP door has taken";
        registry.register(
            "tinykv_resp_connections_accepted",
            accepted,
            self.accepted.clone(),
        );
        let refused = "Connections the RESP door has refused, because there were too many";
        registry.register(
            "tinykv_resp_connections_refused",
            refused,
            self.refused.clone(),
        );
        let commands = "Commands of the RESP door, by name";
        registry.register("tinykv_resp_commands", commands, self.commands.clone());
        let errors = "Errors answered by the RESP door, by their first word";
        registry.register("tinykv_resp_errors", errors, self.errors.clone());
    }

    pub(super) fn on_open(&self) {
        self.accepted.inc();
        self.connections.inc();
    }

    pub(super) fn on_close(&self) {
        self.connections.dec();
    }

    pub(super) fn on_refused(&self) {
        self.refused.inc();
    }

    pub(super) fn on_command(&self, command: &'static str) {
        self.commands.get_or_create(&Named { command }).inc();
        self.commands_total.fetch_add(1, Ordering::Relaxed);
    }

    /// An error was answered with this text.
    pub(super) fn on_error(&self, text: &str) {
        let kind = match text.split(' ').next() {
            Some("UNDETERMINED") => "undetermined",
            Some("TRYAGAIN") => "try_again",
            _ => "refused",
        };
        self.errors.get_or_create(&Kind { kind }).inc();
        self.errors_total.fetch_add(1, Ordering::Relaxed);
    }

    /// Adds to what `INFO` tells.
    pub(super) fn tell(&self, facts: &mut Facts) {
        facts.connections = u64::try_from(self.connections.get()).unwrap_or(0);
        facts.connections_total = self.accepted.get();
        facts.connections_refused = self.refused.get();
        facts.commands_total = self.commands_total.load(Ordering::Relaxed);
        facts.errors_total = self.errors_total.load(Ordering::Relaxed);
    }
}
