//! What a scraper and a health check see: to be read only. Pages are made of counters; no thread that measures takes part.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use std::{fs, io};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{from_fn_with_state, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use railgauge_access::audit::Audit;
use railgauge_access::authorize::{self as access, Shown};
use railgauge_access::connection::Peer;
use railgauge_access::door::{Door, Guard, Use};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::metrics::Metrics;
use super::{DaemonError, Watched};

/// What the pages are made of.
#[derive(Clone)]
pub struct Pages {
    /// The name of this node.
    pub node: Arc<str>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Who must not hang.
    pub watched: Arc<Watched>,
}

/// Listens, and says where.
pub async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), DaemonError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::AddrInUse => DaemonError::PortInUse { address },
        _ => DaemonError::Listen { address, source },
    };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

/// Writes where it listens, in the form that the coordinator's file has too.
pub fn publish(path: &std::path::Path, http: SocketAddr) -> Result<(), DaemonError> {
    let partly = path.with_extension("partly");
    let written = fs::write(&partly, format!("http={http}\n"));
    written
        .and_then(|()| fs::rename(&partly, path))
        .map_err(|source| DaemonError::Addresses { path: path.to_owned(), source })
}

/// Who may see what, and by which means.
pub struct Gate {
    /// How connections are guarded.
    pub guard: Guard,
    /// What is shown to whom.
    pub shown: Shown,
    /// Where it is written who saw or tried what.
    pub audit: Audit,
}

/// Some scrapers and health checks, each of which connects anew.
const USE: Use = Use { alpn: b"http/1.1", most: 64, longest: Some(Duration::from_secs(120)) };

/// Serves until aborted.
pub fn serve(listener: TcpListener, pages: Pages, gate: Gate) -> io::Result<JoinHandle<()>> {
    let door = Door::open(listener, gate.guard, USE, gate.audit.clone())?;
    let router = router(pages).layer(from_fn_with_state((gate.shown, gate.audit), access::pages));
    let service = router.into_make_service_with_connect_info::<Peer>();
    Ok(tokio::spawn(async move {
        if let Err(error) = axum::serve(door, service).await {
            tracing::error!("HTTP ended: {error}");
        }
    }))
}

fn router(pages: Pages) -> Router {
    Router::new()
        .route("/", get(home))
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .fallback(async || text(StatusCode::NOT_FOUND, "there is no such page: / names them\n"))
        .method_not_allowed_fallback(async || {
            text(StatusCode::METHOD_NOT_ALLOWED, "pages can only be read: GET or HEAD\n")
        })
        .layer(map_response(with_headers))
        .with_state(pages)
}

async fn with_headers(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

fn text(status: StatusCode, body: impl Into<String>) -> Response {
    (status, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], body.into()).into_response()
}

async fn home(State(pages): State<Pages>) -> Response {
    let Pages { node, .. } = &pages;
    let version = crate::VERSION;
    let body = format!(
        "railgauge-agent {version} on {node}\n\n/metrics  for Prometheus\n/healthz  ok, or who hangs\n"
    );
    text(StatusCode::OK, body)
}

/// A connection lasts only so long (see `USE`). A scraper that kept it would one day be cut off in the middle of a page, so it is told to
/// open another each time.
async fn metrics(State(pages): State<Pages>, headers: HeaderMap) -> Response {
    let accept = headers.get_all(header::ACCEPT).iter();
    let (kind, body) =
        pages.metrics.registry.answer(accept.filter_map(|value| value.to_str().ok()));
    ([(header::CONTENT_TYPE, kind), (header::CONNECTION, "close")], body).into_response()
}

async fn healthz(State(pages): State<Pages>) -> Response {
    match pages.watched.hangs() {
        None => text(StatusCode::OK, "ok\n"),
        Some(who) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{who} hangs\n")),
    }
}
