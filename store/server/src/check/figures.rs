//! How checks ended, as a metric.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// How many ended how.
#[derive(Debug, Default)]
pub(super) struct Figures {
    checks: Family<Labels, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    outcome: Ended,
}

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(super) enum Ended {
    /// All replicas hold the same.
    Same,
    /// Some do not.
    Different,
    /// Those that told do; others did not tell.
    Incomplete,
    /// There was no check.
    Refused,
}

impl Figures {
    pub(super) fn register(&self, registry: &mut Registry) {
        let help = "Checks of regions led here, by how they ended";
        registry.register("tinykv_store_checks", help, self.checks.clone());
    }

    pub(super) fn count(&self, outcome: Ended) {
        self.checks.get_or_create(&Labels { outcome }).inc();
    }
}
