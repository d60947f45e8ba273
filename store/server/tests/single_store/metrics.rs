//! The page of metrics of a store that has written, flushed and read.

use std::collections::BTreeMap;

use bytes::Bytes;
use tinykv_proto::kvrpcpb as pb;

use super::{Setting, in_time};

/// Figures by name, labels included.
fn figures(page: &str) -> BTreeMap<String, f64> {
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    let figure = |line: &str| {
        let (name, value) = line.trim().rsplit_once(' ')?;
        Some((name.to_owned(), value.parse().ok()?))
    };
    lines.filter_map(figure).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_engine_tells_how_it_does() {
    in_time(async {
        let dir = tempfile::tempdir().expect("temp dir");
        let setting = Setting::new().await;
        let regions = tinykv_keys::bootstrap_regions().len();
        let whole = ["--region-split-size=0", "--region-split-flow=0"];
        let running = setting.start_with(dir.path(), regions, &whole).await;
        // More than stays in memory, so that a part of it is flushed and its size is told.
        for number in 0..10 {
            let request = pb::RawPutRequest {
                context: running.context(b"k"),
                key: Bytes::from(format!("k{number}")),
                value: Bytes::from(super::splits::noise(number, 8 << 20)),
                ..pb::RawPutRequest::default()
            };
            let answer = running.client.clone().raw_put(request).await;
            let answer = answer.expect("answered").into_inner();
            assert_eq!(answer, pb::RawPutResponse::default());
        }
        let sized = |led: &tinykv_proto::pdpb::RegionHeartbeatRequest| {
            led.approximate_size > 0 && led.approximate_keys > 0
        };
        setting
            .placement
            .wait(|known| known.led.values().any(sized))
            .await;
        for round in 0..2 {
            assert!(
                running
                    .get("k0")
                    .await
                    .is_none_or(|value| !value.is_empty())
            );
            for number in 0..20 {
                let missing = running.get(&format!("k0{number}")).await;
                assert_eq!(missing, None, "round {round}");
            }
        }
        let figures = figures(&running.page("/metrics").await);
        let figure = |name: &str| {
            let name = format!("tinykv_engine_{name}");
            *figures.get(&name).unwrap_or_else(|| {
                let all: Vec<_> = figures.keys().collect();
                panic!("{name} is not among {all:?}")
            })
        };
        let level = |what: &str, level: u32| figure(&format!("level_{what}{{level=\"{level}\"}}"));
        let files: f64 = (0..7).map(|number| level("files", number)).sum();
        let bytes: f64 = (0..7).map(|number| level("bytes", number)).sum();
        assert!(
            files >= 1.0 && bytes >= f64::from(8 << 20),
            "{files} {bytes}"
        );
        assert!(figure("debt_bytes") >= 0.0);
        assert!(figure("flushes_total") >= 1.0);
        assert!(figure("flush_bytes_total") >= f64::from(8 << 20));
        assert!(figure("bytes_in_total") >= f64::from(80 << 20));
        assert!(figure("cache_misses_total") >= 1.0, "the first read");
        assert!(figure("cache_hits_total") >= 1.0, "the second");
        let (checks, skips) = (figure("filter_checks_total"), figure("filter_skips_total"));
        assert!(
            checks >= 1.0 && (1.0..=checks).contains(&skips),
            "{checks} {skips}"
        );
        assert!((0.0..=checks).contains(&figure("filter_misses_total")));
        assert!((0.0..60.0).contains(&figure("stalled_seconds_total")));
        assert!((0.1..10.0).contains(&figure("write_amplification")));
        assert!((0.9..10.0).contains(&figure("space_amplification")));
        running.end().await;
        setting.end().await;
    })
    .await;
}
