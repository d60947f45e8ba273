//! Figures for `/metrics`.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use tinykv_node::handle::NodeHandle;

use crate::machine::RawMachine;
use crate::service::Calls;

/// All metrics of a store.
pub(super) fn registry(node: &NodeHandle<RawMachine>, calls: &Calls) -> Registry {
    let mut registry = Registry::with_prefix("tinykv_store");
    calls.register(&mut registry);
    registry.register_collector(Box::new(NodeCollector(node.clone())));
    registry
}

/// Reads the node's own figures when somebody asks.
struct NodeCollector(NodeHandle<RawMachine>);

impl std::fmt::Debug for NodeCollector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NodeCollector")
    }
}

impl Collector for NodeCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let node = &self.0;
        let directory = node.directory();
        let figures = node.figures();
        let tree = node.lsm().statistics();
        let table_bytes: u64 = tree.levels.iter().map(|level| level.bytes).sum();
        let gauges = [
            (
                "regions",
                "Regions with a peer here",
                directory.all().len() as u64,
            ),
            (
                "leaders",
                "Regions led from here",
                directory.leaders() as u64,
            ),
            (
                "log_queue_bytes",
                "Bytes waiting for the log",
                figures.log_queue_bytes as u64,
            ),
            (
                "memtable_bytes",
                "Bytes in the current memtable",
                tree.memtable_bytes,
            ),
            ("table_bytes", "Bytes in tables on disk", table_bytes),
            ("cache_bytes", "Bytes in the block cache", tree.cache_bytes),
            (
                "disk_is_low",
                "1 if the disk is nearly full",
                u64::from(node.disk_is_low()),
            ),
        ];
        for (name, help, value) in gauges {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        let counters = [
            (
                "inbox_dropped",
                "Raft messages dropped by full inboxes",
                figures.inbox_dropped,
            ),
            (
                "transport_dropped",
                "Raft messages dropped by full queues",
                figures.transport_dropped,
            ),
            (
                "cache_hits",
                "Block lookups answered by the cache",
                tree.cache_hits,
            ),
            (
                "cache_misses",
                "Block lookups that had to read",
                tree.cache_misses,
            ),
            ("flushes", "Memtables flushed", tree.flushes),
            ("compactions", "Compactions done", tree.compactions),
        ];
        for (name, help, value) in counters {
            let counter = ConstCounter::new(value);
            counter.encode(encoder.encode_descriptor(
                name,
                help,
                None,
                counter.metric_type(),
            )?)?;
        }
        Ok(())
    }
}
