//! Figures of a node for `/metrics`.
//!
//! What happens often is counted where it happens ([`NodeMetrics`]); what stands somewhere anyway
//! is read when somebody asks ([`register`]).

mod engine;

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeMetric,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use tinykv_replica::StateMachine;

use crate::handle::{NodeFigures, NodeHandle};
use crate::slowness::Latencies;

/// Counted by the threads of a node. Clones are the same figures.
#[derive(Clone, Debug)]
pub struct NodeMetrics {
    /// Seconds of each write and sync of the log.
    pub(crate) log_sync_seconds: Histogram,
    /// Bytes of the records of each.
    pub(crate) log_batch_bytes: Histogram,
    /// Seconds of each run of a shard, its effects included.
    pub(crate) shard_run_seconds: Histogram,
    /// What those who wait for commands and syncs see.
    pub(crate) latencies: Arc<Latencies>,
    /// Replicas that are damaged and have yet to be replaced (D6).
    pub(crate) damaged_regions: Gauge,
    /// Messages that a shard did not process, by reason.
    unprocessed: Labelled,
    /// Streams, frames and messages that the transport did not take, by reason.
    refused: Labelled,
    /// Heartbeats between processes, by direction.
    heartbeats: Labelled,
}

/// Counters by one label.
type Labelled = Family<[(&'static str, &'static str); 1], Counter>;

impl Default for NodeMetrics {
    fn default() -> NodeMetrics {
        NodeMetrics {
            log_sync_seconds: Histogram::new(exponential_buckets(0.000_05, 2.0, 18)),
            log_batch_bytes: Histogram::new(exponential_buckets(64.0, 4.0, 12)),
            shard_run_seconds: Histogram::new(exponential_buckets(0.000_01, 2.0, 18)),
            latencies: Arc::default(),
            damaged_regions: Gauge::default(),
            unprocessed: Family::default(),
            refused: Family::default(),
            heartbeats: Family::default(),
        }
    }
}

impl NodeMetrics {
    /// Counts messages that a shard did not process.
    pub(crate) fn unprocessed(&self, reason: &'static str) -> Counter {
        self.unprocessed.get_or_create_owned(&[("reason", reason)])
    }

    /// Counts heartbeats between processes that were `sent` or `received`.
    pub(crate) fn heartbeats(&self, direction: &'static str) -> Counter {
        self.heartbeats
            .get_or_create_owned(&[("direction", direction)])
    }

    /// Counts what the transport did not take.
    pub(crate) fn refused(&self, reason: &'static str) -> Counter {
        self.refused.get_or_create_owned(&[("reason", reason)])
    }
}

/// Registers everything a node knows about itself.
pub fn register<S: StateMachine>(registry: &mut Registry, node: &NodeHandle<S>) {
    let metrics = node.metrics();
    registry.register(
        "tinykv_log_sync_seconds",
        "Time of a write and sync of the log",
        metrics.log_sync_seconds.clone(),
    );
    registry.register(
        "tinykv_log_batch_bytes",
        "Bytes of records in a write of the log",
        metrics.log_batch_bytes.clone(),
    );
    registry.register(
        "tinykv_shard_run_seconds",
        "Time of a run of a shard",
        metrics.shard_run_seconds.clone(),
    );
    registry.register(
        "tinykv_damaged_regions",
        "Replicas that are damaged, take no part, and have yet to be replaced",
        metrics.damaged_regions.clone(),
    );
    registry.register(
        "tinykv_raft_messages_unprocessed",
        "Raft messages that a shard did not process, by reason",
        metrics.unprocessed.clone(),
    );
    registry.register(
        "tinykv_peer_refused",
        "Streams, frames and messages of other processes that were not taken, by reason",
        metrics.refused.clone(),
    );
    registry.register(
        "tinykv_peer_heartbeats",
        "Heartbeats between processes that share sleeping regions, by direction",
        metrics.heartbeats.clone(),
    );
    registry.register_collector(Box::new(NodeCollector { node: node.clone() }));
}

/// Reads what stands elsewhere.
struct NodeCollector<S: StateMachine> {
    node: NodeHandle<S>,
}

impl<S: StateMachine> fmt::Debug for NodeCollector<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NodeCollector")
    }
}

impl<S: StateMachine> Collector for NodeCollector<S> {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let figures = self.node.figures();
        let directory = self.node.directory();
        let gauges = [
            (
                "regions",
                "Replicas that live here",
                directory.all().len() as u64,
            ),
            ("leaders", "Replicas that lead", directory.leaders() as u64),
            (
                "hibernating_regions",
                "Replicas that sleep: no ticks, no messages",
                figures.asleep as u64,
            ),
            (
                "log_queue_bytes",
                "Bytes that wait for the log",
                figures.log_queue_bytes as u64,
            ),
            (
                "disk_is_low",
                "1 if the disk is nearly full",
                u64::from(self.node.disk_is_low()),
            ),
        ];
        for (name, help, value) in gauges {
            gauge(&mut encoder, name, help, value)?;
        }
        encode_counters(&mut encoder, &figures)?;
        engine::encode(&mut encoder, self.node.lsm())
    }
}

fn encode_counters(
    encoder: &mut DescriptorEncoder<'_>,
    figures: &NodeFigures,
) -> Result<(), fmt::Error> {
    let counters = [
        (
            "inbox_dropped",
            "Raft messages dropped at a full inbox",
            figures.inbox_dropped,
        ),
        (
            "transport_sent",
            "Raft messages sent to other processes, dropped and lost ones included",
            figures.transport_sent,
        ),
        (
            "transport_dropped",
            "Raft messages dropped at a full queue to a store",
            figures.transport_dropped,
        ),
    ];
    for (name, help, value) in counters {
        counter(encoder, name, help, value)?;
    }
    Ok(())
}

fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: impl EncodeGaugeValue,
) -> Result<(), fmt::Error> {
    let name = format!("tinykv_{name}");
    let family = encoder.encode_descriptor(&name, help, None, MetricType::Gauge)?;
    ConstGauge::new(value).encode(family)
}

fn counter(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: impl EncodeCounterValue,
) -> Result<(), fmt::Error> {
    let name = format!("tinykv_{name}");
    let family = encoder.encode_descriptor(&name, help, None, MetricType::Counter)?;
    ConstCounter::new(value).encode(family)
}
