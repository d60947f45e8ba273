//! HTTP on the same port: `/health`, `/metrics`, `/pd/api/v1/regions`.

use std::sync::Arc;

use axum::extract::State as Extract;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use serde::Serialize;
use tinykv_node::metrics;
use tinykv_node::pages::{self, Health};
use tinykv_replica::Region;

use crate::desk::Desk;
use crate::service::{count_complete, count_stores};
use crate::view::StoreState;

/// All pages of a placement process.
pub(crate) fn router(desk: &Arc<Desk>) -> Router {
    let mut registry = Registry::default();
    metrics::register(&mut registry, desk.group().node());
    registry.register_collector(Box::new(Figures {
        desk: Arc::clone(desk),
    }));
    let asked = Arc::clone(desk);
    pages::router(move || health(&asked), Arc::new(registry)).merge(
        Router::new()
            .route("/pd/api/v1/regions", get(regions))
            .with_state(Arc::clone(desk)),
    )
}

fn health(desk: &Desk) -> Health {
    let office = desk.group().office();
    let (healthy, message) = match (desk.leadership(), office.leader) {
        (Some(_), _) => (true, "this member leads the placement group".to_owned()),
        (None, Some(leader)) if !office.leads => {
            (true, format!("member {leader} leads the placement group"))
        }
        (None, _) => (false, "the placement group has no leader now".to_owned()),
    };
    Health { healthy, message }
}

/// What tools ask for: at least the integer `count`.
#[derive(Serialize)]
struct Regions {
    count: usize,
    regions: Vec<RegionPage>,
}

#[derive(Serialize)]
struct RegionPage {
    id: u64,
    /// Hexadecimal, as keys are bytes.
    start_key: String,
    end_key: String,
    epoch: EpochPage,
    peers: Vec<PeerPage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    leader: Option<PeerPage>,
    approximate_size_bytes: u64,
    approximate_keys: u64,
}

#[derive(Serialize)]
struct EpochPage {
    conf_ver: u64,
    version: u64,
}

#[derive(Serialize)]
struct PeerPage {
    id: u64,
    store_id: u64,
}

async fn regions(Extract(desk): Extract<Arc<Desk>>) -> Response {
    let Some(leadership) = desk.leadership() else {
        let sentence = "this member does not lead the placement group\n";
        return (StatusCode::SERVICE_UNAVAILABLE, sentence).into_response();
    };
    let state = desk.group().state().read();
    let coordinator = leadership.coordinator();
    let view = coordinator.view();
    let regions = state.routes().from(&[]).map(|region| {
        let known = view.regions.get(&region.id);
        RegionPage {
            leader: known.and_then(|known| known.leader).map(|peer| PeerPage {
                id: peer.id.0,
                store_id: peer.store.0,
            }),
            approximate_size_bytes: known.map_or(0, |known| known.stats.size_bytes),
            approximate_keys: known.map_or(0, |known| known.stats.keys),
            ..page(region)
        }
    });
    Json(Regions {
        count: state.routes().len(),
        regions: regions.collect(),
    })
    .into_response()
}

fn page(region: &Region) -> RegionPage {
    RegionPage {
        id: region.id.0,
        start_key: hex(&region.start),
        end_key: hex(&region.end),
        epoch: EpochPage {
            conf_ver: region.epoch.conf_ver,
            version: region.epoch.version,
        },
        peers: region
            .peers
            .iter()
            .map(|peer| PeerPage {
                id: peer.id.0,
                store_id: peer.store.0,
            })
            .collect(),
        leader: None,
        approximate_size_bytes: 0,
        approximate_keys: 0,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

/// Figures taken when they are asked for.
struct Figures {
    desk: Arc<Desk>,
}

impl std::fmt::Debug for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Figures").finish_non_exhaustive()
    }
}

impl Collector for Figures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let mut gauge = |name: &str, help: &str, value: u64| {
            let gauge = ConstGauge::new(value);
            let metric = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
            gauge.encode(metric)
        };
        let group = self.desk.group();
        let office = group.office();
        let leadership = self.desk.leadership();
        gauge(
            "tinykv_placement_term",
            "Latest Raft term of the placement group.",
            office.term.0,
        )?;
        gauge(
            "tinykv_placement_leads",
            "1 while this member leads the placement group.",
            u64::from(leadership.is_some()),
        )?;
        let Some(leadership) = leadership else {
            return Ok(());
        };
        let now = group.now();
        let state = group.state().read();
        let coordinator = leadership.coordinator();
        let view = coordinator.view();
        let settings = state.settings();
        let up = count_stores(view, settings, now, StoreState::Up);
        let down = count_stores(view, settings, now, StoreState::Down);
        for (name, help, value) in [
            (
                "tinykv_placement_regions",
                "Regions of the cluster.",
                view.regions.len(),
            ),
            (
                "tinykv_placement_regions_complete",
                "Regions with all their wanted replicas, caught up.",
                count_complete(view),
            ),
            (
                "tinykv_placement_stores",
                "Stores that joined.",
                view.stores.len(),
            ),
            ("tinykv_placement_stores_up", "Stores heard lately.", up),
            (
                "tinykv_placement_stores_down",
                "Stores silent for long.",
                down,
            ),
            (
                "tinykv_placement_operators",
                "Operators under way.",
                view.operators.len(),
            ),
        ] {
            gauge(name, help, value as u64)?;
        }
        Ok(())
    }
}
