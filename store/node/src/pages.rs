//! `/health` and `/metrics`.

use std::sync::Arc;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use serde::Serialize;

/// Whether a process can do its work right now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Health {
    /// Answered as 200 when true, as 503 otherwise.
    pub healthy: bool,
    /// One sentence for people: what is missing, or that all is well.
    pub message: String,
}

/// The pages every process has. `health` is asked at each request and must not block.
pub fn router(
    health: impl Fn() -> Health + Send + Sync + 'static,
    metrics: Arc<Registry>,
) -> Router {
    let health = Arc::new(health);
    let health = move || {
        let answer = health();
        async move {
            let code = match answer.healthy {
                true => StatusCode::OK,
                false => StatusCode::SERVICE_UNAVAILABLE,
            };
            (code, axum::Json(answer))
        }
    };
    let metrics = move || {
        let metrics = Arc::clone(&metrics);
        async move { render(&metrics) }
    };
    Router::new()
        .route("/health", get(health))
        .route("/metrics", get(metrics))
}

fn render(metrics: &Registry) -> impl IntoResponse + use<> {
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let mut text = String::new();
    match encode(&mut text, metrics) {
        Ok(()) => (StatusCode::OK, [(header::CONTENT_TYPE, OPEN_METRICS)], text),
        Err(error) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            [(header::CONTENT_TYPE, "text/plain")],
            error.to_string(),
        ),
    }
}
