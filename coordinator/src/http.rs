//! What a browser and a health check see.

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use std::time::Duration;
use tokio::sync::watch;

use crate::VERSION;
use crate::clock;
use crate::ingest::Ingest;

/// The thread that writes the store shows life every second; after so long it hangs.
const HUNG: Duration = Duration::from_secs(30);

/// What the pages are made of.
#[derive(Clone, Debug)]
pub struct Pages {
    /// Whether windows are stored.
    pub ingest: Ingest,
    /// Becomes true when the coordinator stops.
    pub stopping: watch::Receiver<bool>,
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

/// All pages.
pub fn router(pages: Pages) -> Router {
    Router::new().route("/", get(home)).route("/healthz", get(healthz)).with_state(pages)
}

async fn home() -> String {
    format!("railgauge-coordinator {VERSION}\n")
}

async fn healthz(State(pages): State<Pages>) -> (StatusCode, &'static str) {
    match pages.illness() {
        None => (StatusCode::OK, "ok\n"),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, why),
    }
}
