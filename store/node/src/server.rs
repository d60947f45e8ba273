//! One port for gRPC and HTTP/1.1.
//!
//! gRPC services and plain pages are routes of one axum router under tonic's server. What no
//! route knows is answered in the asker's language: gRPC clients hear `UNIMPLEMENTED`, everybody
//! else 404. The HTTP/2 settings tolerate what released TiKV clients do: frequent pings, large
//! windows, many reset streams.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::net::TcpListener;
use tonic::service::Routes;
use tonic::transport::Server;

use crate::failure::Failure;

/// Largest message a service should be told to decode: the largest value and its surroundings.
pub const DECODE_BYTES_MAX: usize = 16 << 20;

/// Streams one connection may have open; further ones wait at the client.
const STREAMS_PER_CONNECTION_MAX: u32 = 4096;
/// Flow-control window of one stream in bytes.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
/// Flow-control window of one connection in bytes.
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// Resets a client may send before its streams were accepted; beyond it the connection closes.
/// Clients reset a stream for each call that timed out, many at once during an election.
const PENDING_RESETS_MAX: usize = 8192;
/// How often a silent connection is asked whether it still lives.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// How long it has to answer.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// A bound port that does not serve yet.
#[derive(Debug)]
pub struct Listener {
    listener: TcpListener,
    address: SocketAddr,
}

impl Listener {
    /// Binds the port, so that everything that is wrong with the address shows at the start.
    ///
    /// # Errors
    /// [`Failure::Configuration`] when the address is in use or cannot be listened on.
    pub async fn bind(address: SocketAddr) -> Result<Listener, Failure> {
        let refuse = |error: io::Error| match error.kind() {
            io::ErrorKind::AddrInUse => {
                Failure::configuration(format!("the address {address} is already in use"))
            }
            _ => Failure::configuration(format!("cannot listen on {address}: {error}")),
        };
        let listener = TcpListener::bind(address).await.map_err(refuse)?;
        let address = listener.local_addr().map_err(refuse)?;
        Ok(Listener { listener, address })
    }

    /// The address that is really bound; differs from the asked one when its port was 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Serves until `stop` resolves, then lets open requests finish. Streams that never end must be
/// ended by their services, or by dropping this future.
///
/// # Errors
/// [`Failure::Other`] when the server cannot go on.
pub async fn serve(
    listener: Listener,
    services: Routes,
    pages: axum::Router,
    stop: impl Future<Output = ()> + Send,
) -> Result<(), Failure> {
    let router = services
        .into_axum_router()
        .reset_fallback()
        .merge(pages)
        .fallback(unknown_path);
    let incoming =
        tonic::transport::server::TcpIncoming::from(listener.listener).with_nodelay(Some(true));
    Server::builder()
        .accept_http1(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        .http2_max_pending_accept_reset_streams(Some(PENDING_RESETS_MAX))
        .http2_max_local_error_reset_streams(Some(PENDING_RESETS_MAX))
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .add_routes(Routes::from(router))
        .serve_with_incoming_shutdown(incoming, stop)
        .await
        .map_err(|error| {
            Failure::other(format!(
                "the server on {} failed: {error}",
                listener.address
            ))
        })
}

async fn unknown_path(request: Request) -> Response {
    let grpc = request
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    if !grpc {
        return (StatusCode::NOT_FOUND, "not found\n").into_response();
    }
    let mut response = Response::new(axum::body::Body::empty());
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/grpc"),
    );
    // 12 is UNIMPLEMENTED; a reply without a body carries its status in the headers.
    headers.insert("grpc-status", HeaderValue::from_static("12"));
    response
}

#[cfg(test)]
mod tests;
