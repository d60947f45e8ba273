//! The heartbeat of the store.

use std::time::Duration;

use tinykv_node::slowness::Slowness;
use tinykv_proto::pdpb::{self, ErrorType};

use super::Reporting;
use super::flows::{Interval, Telling};
use crate::load_split::watch::Thresholds;
use crate::placement::CallError;
use crate::value::PlacementTime;

/// Time between two heartbeats unless placement asks for another.
const INTERVAL: Duration = Duration::from_secs(1);
/// The shortest and longest interval placement may ask for.
const INTERVAL_MIN: Duration = Duration::from_millis(100);
const INTERVAL_MAX: Duration = Duration::from_secs(30);

/// Sends heartbeats until it is told to stop; the last one says so.
///
/// Beside its stats a heartbeat says from where on this store splits regions, so that placement
/// merges none that would be split again.
pub async fn run(reporting: Reporting, split_size: u64, by_load: Thresholds) {
    let started = reporting.env.wall_clock();
    let mut interval = INTERVAL;
    let mut telling = Telling::default();
    let mut slowness = Slowness::default();
    loop {
        let (flow, now) = (reporting.flows.total(), reporting.node.now());
        let told = telling.tell(flow, now);
        let mut stats = stats(&reporting, started, told);
        stats.slow_score = slowness.look(reporting.node.latencies(), now);
        let heartbeat = pdpb::StoreHeartbeatRequest {
            header: None,
            stats: Some(stats),
            region_split_size: split_size,
            region_split_qps: by_load.requests_per_s,
            region_split_flow: by_load.bytes_per_s,
        };
        let answer = reporting.placement.store_heartbeat(heartbeat).await;
        if answer.is_ok() && (told.is_some() || telling.is_new()) {
            telling.note(flow, now);
        }
        reporting.told.set_placement_hears(answer.is_ok());
        match answer {
            Ok(answer) => interval = hear(&reporting, &answer),
            Err(error) if is_final(&error) => {
                reporting.fatal.report(error.into_failure());
                return;
            }
            Err(error) => tracing::debug!("the store's heartbeat failed: {error}"),
        }
        if reporting.stop.is_requested() {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            () = reporting.stop.requested() => {}
        }
    }
}

/// Whether this process must not go on under its identity: it runs on a copy of a directory that
/// was started elsewhere since, it was removed from the cluster, or placement is another
/// cluster's (D9).
fn is_final(error: &CallError) -> bool {
    match error {
        CallError::OtherCluster { .. } => true,
        CallError::Refused { kind, .. } => {
            matches!(kind, ErrorType::Unknown | ErrorType::StoreTombstone)
        }
        CallError::Unreachable { .. } => false,
    }
}

/// Takes note of what placement told; the time to the next heartbeat.
fn hear(reporting: &Reporting, answer: &pdpb::StoreHeartbeatResponse) -> Duration {
    let time = PlacementTime(answer.time_ms);
    reporting.clock.observe(time, reporting.node.now());
    let before = reporting.told.wanted_replicas();
    reporting.told.set_wanted_replicas(answer.wanted_replicas);
    if reporting.told.wanted_replicas() != before {
        // Regions that wait for their replica count may have reached it.
        for entry in reporting.node.directory().all() {
            reporting.news.note(entry.group());
        }
    }
    match answer.interval_ms {
        0 => INTERVAL,
        ms => Duration::from_millis(u64::from(ms)).clamp(INTERVAL_MIN, INTERVAL_MAX),
    }
}

fn stats(reporting: &Reporting, started: Duration, told: Option<Interval>) -> pdpb::StoreStats {
    let node = &reporting.node;
    let statistics = node.lsm().statistics();
    let used: u64 = statistics.levels.iter().map(|level| level.bytes).sum();
    let available = reporting
        .env
        .available_space(&reporting.data_dir)
        .unwrap_or_else(|error| {
            tracing::debug!("cannot tell the free space: {error}");
            0
        });
    let flow = told.map(|told| told.flow).unwrap_or_default();
    let count = u32::try_from(node.directory().all().len()).unwrap_or(u32::MAX);
    pdpb::StoreStats {
        store_id: node.identity().member_id,
        capacity: used + available,
        available,
        used_size: used,
        region_count: count,
        start_time: u32::try_from(started.as_secs()).unwrap_or(u32::MAX),
        is_busy: node.disk_is_low(),
        bytes_written: flow.bytes_written,
        keys_written: flow.keys_written,
        bytes_read: flow.bytes_read,
        keys_read: flow.keys_read,
        interval: told.map(|told| told.to_proto(reporting.env.wall_clock())),
        damaged_regions_id: reporting.news.damaged(),
        is_stopping: reporting.stop.is_requested(),
        ..pdpb::StoreStats::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_must_not_go_on_stops() {
        let refused = |kind| CallError::Refused {
            kind,
            message: String::new(),
        };
        assert!(is_final(&refused(ErrorType::Unknown)));
        assert!(is_final(&refused(ErrorType::StoreTombstone)));
        // Placement that lost its memory, or does not know us yet, is no reason to stop serving.
        assert!(!is_final(&refused(ErrorType::EntryNotFound)));
        assert!(!is_final(&refused(ErrorType::NotBootstrapped)));
        assert!(!is_final(&CallError::Unreachable {
            addresses: String::new(),
            reason: String::new(),
        }));
    }
}
