//! Figures of the engine.

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use tinykv_lsm::{LevelStatistics, Lsm, Statistics};

use super::{counter, gauge};

/// Everything the engine knows about itself.
pub(super) fn encode(encoder: &mut DescriptorEncoder<'_>, lsm: &Lsm) -> Result<(), fmt::Error> {
    let statistics = lsm.statistics();
    let pressure = lsm.pressure().fraction;
    let gauges = [
        (
            "engine_memtable_bytes",
            "Bytes in the memtable",
            statistics.memtable_bytes,
        ),
        (
            "engine_immutable_memtables",
            "Memtables that wait for their flush",
            statistics.immutable_memtables as u64,
        ),
        (
            "engine_debt_bytes",
            "Bytes that wait for compaction",
            statistics.debt_bytes,
        ),
        (
            "engine_cache_bytes",
            "Bytes in the block cache",
            statistics.cache_bytes,
        ),
        (
            "engine_pressure_permille",
            "How hard admission brakes, in thousandths",
            (pressure * 1000.0) as u64,
        ),
    ];
    for (name, help, value) in gauges {
        gauge(encoder, name, help, value)?;
    }
    encode_counters(encoder, &statistics)?;
    encode_fractions(encoder, &statistics)?;
    encode_levels(encoder, &statistics.levels)
}

fn encode_counters(
    encoder: &mut DescriptorEncoder<'_>,
    statistics: &Statistics,
) -> Result<(), fmt::Error> {
    let counters = [
        (
            "engine_cache_hits",
            "Blocks found in the cache",
            statistics.cache_hits,
        ),
        (
            "engine_cache_misses",
            "Blocks read from disk",
            statistics.cache_misses,
        ),
        (
            "engine_filter_checks",
            "Tables for which a filter was asked",
            statistics.filter_checks,
        ),
        (
            "engine_filter_skips",
            "Tables a filter ruled out",
            statistics.filter_skips,
        ),
        (
            "engine_filter_misses",
            "Tables a filter let through that did not have the key",
            statistics.filter_misses,
        ),
        ("engine_flushes", "Flushes", statistics.flushes),
        ("engine_compactions", "Compactions", statistics.compactions),
        (
            "engine_compaction_parts",
            "Parts that compactions were done in",
            statistics.compaction_parts,
        ),
        (
            "engine_bytes_in",
            "Bytes of batches written",
            statistics.bytes_in,
        ),
        (
            "engine_flush_bytes",
            "Bytes written by flushes",
            statistics.flush_bytes,
        ),
        (
            "engine_compaction_read_bytes",
            "Bytes read by compactions",
            statistics.compaction_read_bytes,
        ),
        (
            "engine_compaction_write_bytes",
            "Bytes written by compactions",
            statistics.compaction_write_bytes,
        ),
    ];
    for (name, help, value) in counters {
        counter(encoder, name, help, value)?;
    }
    Ok(())
}

fn encode_fractions(
    encoder: &mut DescriptorEncoder<'_>,
    statistics: &Statistics,
) -> Result<(), fmt::Error> {
    counter(
        encoder,
        "engine_stalled_seconds",
        "Time for which compaction was so far behind that writes were stopped",
        statistics.stalled.as_secs_f64(),
    )?;
    gauge(
        encoder,
        "engine_write_amplification",
        "Bytes of tables written for each byte of keys and values since the start",
        statistics.write_amplification(),
    )?;
    gauge(
        encoder,
        "engine_space_amplification",
        "Bytes of all tables for each byte of the last level",
        statistics.space_amplification(),
    )
}

fn encode_levels(
    encoder: &mut DescriptorEncoder<'_>,
    levels: &[LevelStatistics],
) -> Result<(), fmt::Error> {
    for (name, help, figure) in [
        ("tinykv_engine_level_files", "Tables of a level", true),
        ("tinykv_engine_level_bytes", "Bytes of a level", false),
    ] {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (level, statistics) in levels.iter().enumerate() {
            let value = match figure {
                true => statistics.files as u64,
                false => statistics.bytes,
            };
            let labels = [("level", level.to_string())];
            ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
        }
    }
    Ok(())
}
