//! What a browser and a health check see: to be read only.
//!
//! What takes long is made outside the async threads, one at a time, and kept for a while: many browsers cost what one does,
//! and even a large fleet's page takes no more than its share of a core.

mod shown;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{from_fn_with_state, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use railgauge_access::audit::Audit;
use railgauge_access::authorize as access;
use railgauge_access::door::Use;
use railgauge_core::quantile::Quantile;
use railgauge_core::time::Wall;
use railgauge_report::doc::Sweep;
use railgauge_report::html::{SweepLine, quantile_from, sweep_page, sweeps_page};
use tokio::sync::watch;

use crate::clock;
use crate::documents;
use crate::fleet::Fleet;
use crate::ingest::Ingest;
use crate::judging::Judging;
use crate::metrics::Metrics;
use crate::sweeps::Sweeps;
pub use shown::Shown;

/// The thread that writes the store shows life every second; after so long it hangs.
const HUNG: Duration = Duration::from_secs(30);

/// Nothing is fetched from elsewhere, run or framed, whatever a document holds.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

/// What the pages are made of.
#[derive(Clone, Debug)]
pub struct Pages {
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Whether windows are stored.
    pub ingest: Ingest,
    /// Becomes true when the coordinator stops.
    pub stopping: watch::Receiver<bool>,
    /// Who is there.
    pub fleet: Arc<Fleet>,
    /// What was measured, and what it says.
    pub judging: Judging,
    /// What was measured on demand.
    pub sweeps: Sweeps,
    /// What was made a moment ago.
    pub shown: Shown,
}

impl Pages {
    /// Why it is not well, where it is not.
    pub fn illness(&self) -> Option<&'static str> {
        if *self.stopping.borrow() {
            return Some("stopping");
        }
        let hangs = self.ingest.silent_for(clock::now().monotonic) > HUNG;
        hangs.then_some("the store does not answer")
    }
}

/// How they are served: some hundred browsers, with a file handle each; a page that refreshes itself connects again.
pub const USE: Use = Use { alpn: b"http/1.1", most: 256, longest: Some(Duration::from_secs(120)) };

/// All pages, as far as they are shown.
pub fn router(pages: Pages, shown: access::Shown, audit: Audit) -> Router {
    Router::new()
        .route("/", get(home))
        .route("/paths.json", get(paths))
        .route("/findings.json", get(findings))
        .route("/nodes.json", get(nodes))
        .route("/sweeps", get(sweeps))
        .route("/sweeps/{id}", get(sweep))
        .route("/healthz", get(healthz))
        .route("/metrics", get(metrics))
        .fallback(async || text(StatusCode::NOT_FOUND, "there is no such page: / has them all\n"))
        .method_not_allowed_fallback(async || {
            text(StatusCode::METHOD_NOT_ALLOWED, "pages can only be read: GET or HEAD\n")
        })
        .layer(from_fn_with_state((shown, audit), access::pages))
        .layer(map_response(with_headers))
        .with_state(pages)
}

async fn with_headers(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

type Body = axum::body::Bytes;

fn text(status: StatusCode, body: impl Into<String>) -> Response {
    (status, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], body.into()).into_response()
}

fn html(body: Body) -> Response {
    ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], body).into_response()
}

fn json(body: Body) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// The quantile of a query `q=p99`; p99 without one.
fn asked(query: Option<&str>) -> Option<Quantile> {
    let q = query.unwrap_or_default().split('&').find_map(|pair| pair.strip_prefix("q="));
    q.map_or(Some(Quantile::P99), quantile_from)
}

async fn home(State(pages): State<Pages>, RawQuery(query): RawQuery) -> Response {
    let Some(quantile) = asked(query.as_deref()) else {
        return text(StatusCode::BAD_REQUEST, "q is p50, p99 or p99.9\n");
    };
    made(pages.shown.page(&pages, quantile).await, html)
}

async fn paths(State(pages): State<Pages>) -> Response {
    made(pages.shown.paths(&pages).await, json)
}

fn made(body: Option<Body>, respond: fn(Body) -> Response) -> Response {
    let failed = || text(StatusCode::SERVICE_UNAVAILABLE, "this cannot be made: see the log\n");
    body.map_or_else(failed, respond)
}

async fn findings(State(pages): State<Pages>) -> Response {
    json(documents::findings(&pages.judging).into())
}

async fn nodes(State(pages): State<Pages>) -> Response {
    let current = pages.judging.current();
    let nodes: Vec<_> = pages
        .fleet
        .nodes()
        .iter()
        .map(|node| {
            let verdict = current.nodes.get(&node.hello.node).copied().unwrap_or_default();
            documents::node_doc(node, verdict)
        })
        .collect();
    json(serde_json::to_vec(&nodes).unwrap_or_default().into())
}

async fn sweeps(State(pages): State<Pages>) -> Response {
    let line = |entry: &railgauge_proto::v1::SweepEntry| SweepLine {
        id: entry.id.clone(),
        started_at: documents::rfc3339(Wall::from_unix_nanos(entry.started_at_unix_ns)),
        verdict: (!entry.running).then(|| entry.verdict.clone()),
    };
    let lines: Vec<SweepLine> = pages.sweeps.list().iter().rev().map(line).collect();
    html(sweeps_page(&lines).into())
}

/// `ID` is the report, `ID.json` the document.
async fn sweep(State(pages): State<Pages>, Path(name): Path<String>) -> Response {
    let (id, is_json) = name.strip_suffix(".json").map_or((name.as_str(), false), |id| (id, true));
    let found = match pages.sweeps.get(id).await {
        Ok(found) => found,
        Err(status) => {
            let code = match status.code() {
                tonic::Code::NotFound => StatusCode::NOT_FOUND,
                _ => StatusCode::INTERNAL_SERVER_ERROR,
            };
            return text(code, format!("{}\n", status.message()));
        }
    };
    if found.running {
        let (done, all) = (found.done, found.measurements);
        let body = format!("it runs: {done} of {all} measurements are done\n");
        return text(StatusCode::ACCEPTED, body);
    }
    if is_json {
        return json(found.json.into());
    }
    let page = tokio::task::spawn_blocking(move || {
        let sweep: Sweep = serde_json::from_slice(&found.json).ok()?;
        Some(Body::from(sweep_page(&sweep)))
    });
    made(page.await.ok().flatten(), html)
}

/// Made outside the async threads: it looks at the store's directory. A connection lasts only so long (see `USE`). A scraper that kept
/// it would one day be cut off in the middle of a page, so it is told to open another each time.
async fn metrics(State(pages): State<Pages>, headers: HeaderMap) -> Response {
    let made = tokio::task::spawn_blocking(move || {
        let accept = headers.get_all(header::ACCEPT).iter();
        pages.metrics.registry.answer(accept.filter_map(|value| value.to_str().ok()))
    });
    match made.await {
        Ok((kind, body)) => {
            ([(header::CONTENT_TYPE, kind), (header::CONNECTION, "close")], body).into_response()
        }
        Err(_) => text(StatusCode::SERVICE_UNAVAILABLE, "this cannot be made: see the log\n"),
    }
}

async fn healthz(State(pages): State<Pages>) -> Response {
    match pages.illness() {
        None => text(StatusCode::OK, "ok\n"),
        Some(why) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}
