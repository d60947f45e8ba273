//! How often each call was made, and how it ended.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// Counts calls by kind and outcome.
#[derive(Clone, Debug, Default)]
pub(super) struct Figures {
    calls: Family<Labels, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    call: Kind,
    outcome: Ended,
}

/// What was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(super) enum Kind {
    /// Any call that only reads.
    Read,
    /// Any call that writes.
    Write,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(super) enum Ended {
    /// Carried out.
    Ok,
    /// Definitely not carried out.
    DefinitelyNot,
    /// Nobody knows.
    Undetermined,
}

impl Figures {
    pub(super) fn register(&self, registry: &mut Registry) {
        let help = "Calls of clients, by what they do and how they ended";
        registry.register("tinykv_store_calls", help, self.calls.clone());
    }

    pub(super) fn count(&self, call: Kind, outcome: Ended) {
        self.calls.get_or_create(&Labels { call, outcome }).inc();
    }
}
