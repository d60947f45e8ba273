//! What an HTTP/1.1 client sees, over a real socket.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::service::Routes;

use super::*;
use crate::pages::{self, Health};

const LIMIT: Duration = Duration::from_secs(10);

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

async fn ask(address: SocketAddr, path: &str, content_type: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("connect");
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: x\r\ncontent-type: {content_type}\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.expect("send");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await.expect("receive");
    reply
}

#[tokio::test]
async fn pages_answer_over_http1_and_unknown_paths_are_404() {
    let mut registry = Registry::default();
    let turns: Counter = Counter::default();
    turns.inc();
    registry.register("turns", "Turns taken", turns);
    let health = || Health {
        healthy: false,
        message: "no quorum".to_owned(),
    };
    let pages = pages::router(health, Arc::new(registry));
    let listener = Listener::bind(loopback()).await.expect("bind");
    let address = listener.address();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let stopped = async move {
        stopped.await.expect("the test asks");
    };
    let server = serve(listener, Routes::default(), pages, stopped);
    let asking = async {
        let health = ask(address, "/health", "text/plain").await;
        assert!(health.starts_with("HTTP/1.1 503"), "{health}");
        assert!(health.contains("\"message\":\"no quorum\""), "{health}");
        let metrics = ask(address, "/metrics", "text/plain").await;
        assert!(
            metrics.contains("application/openmetrics-text"),
            "{metrics}"
        );
        assert!(metrics.contains("turns_total 1"), "{metrics}");
        let unknown = ask(address, "/nowhere", "text/plain").await;
        assert!(unknown.starts_with("HTTP/1.1 404"), "{unknown}");
        let grpc = ask(address, "/no.Service/Call", "application/grpc").await;
        assert!(grpc.starts_with("HTTP/1.1 200"), "{grpc}");
        assert!(grpc.contains("grpc-status: 12"), "{grpc}");
        stop.send(()).expect("the server listens");
    };
    let both = async { tokio::join!(server, asking) };
    let (served, ()) = tokio::time::timeout(LIMIT, both).await.expect("in time");
    assert_eq!(served, Ok(()));
}

#[tokio::test]
async fn an_address_in_use_is_a_configuration_failure_that_names_it() {
    let first = Listener::bind(loopback()).await.expect("bind");
    let failure = Listener::bind(first.address()).await.expect_err("taken");
    assert_eq!(failure.exit_code(), 2);
    let sentence = format!("the address {} is already in use", first.address());
    assert_eq!(failure.to_string(), sentence);
}
