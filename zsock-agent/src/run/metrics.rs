//! Serves `/metrics` to Prometheus, in tasks beside the loop that traces: nobody who asks can hold that up.
//!
//! A request is read for so long and no longer, a reader that takes nothing is let go, and where more connect than are served at once, it is
//! the oldest that goes: whoever holds connections open keeps nobody out.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::sink::metrics::{self, Metrics};
use crate::source::own::Usage;

/// Connections served at once.
const MAX_CONNECTIONS: usize = 32;

/// A request comes within so long.
const REQUEST_PATIENCE: Duration = Duration::from_secs(5);

/// All is over after so long, whatever the reader takes: that of Prometheus waits 10 s unless told otherwise.
const PATIENCE: Duration = Duration::from_secs(10);

/// A request is no larger, headers included.
const REQUEST_MAX_BYTES: usize = 16 << 10;

/// Until the next try where a connection could not be accepted, for want of descriptors or memory.
const RETRY: Duration = Duration::from_secs(1);

const PATH: &str = "/metrics";

/// Listens, and does not answer yet.
pub(super) struct Listener {
    listener: TcpListener,
    /// Where, with the port that the kernel chose.
    pub(super) address: SocketAddr,
}

impl Listener {
    /// Listens on `address`, before zsock gives up the right to.
    ///
    /// # Errors
    /// When the address cannot be had, with what to do.
    pub(super) async fn bind(address: SocketAddr) -> Result<Self> {
        let bound = TcpListener::bind(address).await;
        let listener = bound.map_err(|error| {
            let advice = advice_on(&error);
            anyhow::Error::new(error).context(format!("listen on {address} for --metrics: {advice}"))
        })?;
        let address = listener.local_addr().context("ask on which address --metrics listens")?;
        log::info!("metrics are at http://{address}{PATH}");
        Ok(Self { listener, address })
    }

    /// Answers from here on, as long as the runtime runs.
    pub(super) fn serve(self, metrics: Metrics) {
        tokio::spawn(serve(self.listener, metrics));
    }
}

fn advice_on(error: &io::Error) -> &'static str {
    use io::ErrorKind::{AddrInUse, AddrNotAvailable, PermissionDenied};
    // Every other kind is told in the kernel's words alone.
    if error.kind() == AddrInUse {
        "another program has this port, perhaps another zsock: give another one, or 0 for any that is free"
    } else if error.kind() == AddrNotAvailable {
        "this host has no such address: give one of its own, or 0.0.0.0 for all"
    } else if error.kind() == PermissionDenied {
        "give a port from 1024 up, or grant CAP_NET_BIND_SERVICE"
    } else {
        "give another address and port"
    }
}

async fn serve(listener: TcpListener, metrics: Metrics) {
    let mut served: VecDeque<JoinHandle<()>> = VecDeque::new();
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                served.retain(|task| !task.is_finished());
                if served.len() >= MAX_CONNECTIONS
                    && let Some(oldest) = served.pop_front()
                {
                    oldest.abort();
                }
                served.push_back(tokio::spawn(answer(stream, peer, metrics.clone())));
            }
            Err(error) => {
                log::warn!("accept a connection for --metrics: {error}");
                sleep(RETRY).await;
            }
        }
    }
}

/// Answers what comes on one connection: one request.
async fn answer(stream: TcpStream, peer: SocketAddr, metrics: Metrics) {
    let service = service_fn(move |request: Request<Incoming>| {
        let response = respond(&request, &metrics);
        async { Ok::<_, Infallible>(response) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_PATIENCE)
        .max_buf_size(REQUEST_MAX_BYTES)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    match timeout(PATIENCE, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => log::debug!("serve metrics to {peer}: {error}"),
        Err(_) => log::debug!("serve metrics to {peer}: it took nothing for {PATIENCE:?}"),
    }
}

fn respond<B>(request: &Request<B>, metrics: &Metrics) -> Response<Full<Bytes>> {
    let plain = |status, text: &'static str| {
        let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        response
    };
    if request.uri().path() != PATH {
        return plain(StatusCode::NOT_FOUND, "zsock's metrics are at /metrics\n");
    }
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "metrics can be read: GET or HEAD\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let mut response = Response::new(Full::new(Bytes::from(metrics.render(Usage::read()))));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(metrics::CONTENT_TYPE));
    response
}
