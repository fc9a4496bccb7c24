//! Pages that were made a moment ago.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use railgauge_core::quantile::Quantile;
use railgauge_core::selector::Selector;
use railgauge_core::time::Monotonic;
use railgauge_report::doc::{Findings, Paths};
use railgauge_report::html::live_page;
use tokio::sync::Mutex;

use super::{Body, Pages};
use crate::{clock, documents, judging};

/// How long what was made is shown at least.
const KEPT: Duration = Duration::from_secs(2);
/// And so many times as long as it took to make.
const SHARE: u32 = 10;

/// See the module. Who asks while it is made waits for it.
#[derive(Clone, Debug, Default)]
pub struct Shown(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    until: Option<Monotonic>,
    paths: Paths,
    findings: Findings,
    json: Option<Body>,
    pages: BTreeMap<Quantile, Body>,
}

impl Shown {
    /// The live page with a quantile; `None` when making it failed.
    pub async fn page(&self, pages: &Pages, quantile: Quantile) -> Option<Body> {
        self.made(pages, move |kept| {
            let Kept { paths, findings, pages, .. } = kept;
            let page = || live_page(paths, findings, quantile).into();
            pages.entry(quantile).or_insert_with(page).clone()
        })
        .await
    }

    /// The document of all paths.
    pub async fn paths(&self, pages: &Pages) -> Option<Body> {
        self.made(pages, |kept| {
            let json = || serde_json::to_vec(&kept.paths).unwrap_or_default().into();
            kept.json.get_or_insert_with(json).clone()
        })
        .await
    }

    async fn made(
        &self,
        pages: &Pages,
        make: impl FnOnce(&mut Kept) -> Body + Send + 'static,
    ) -> Option<Body> {
        let mut kept = Arc::clone(&self.0).lock_owned().await;
        let pages = pages.clone();
        // Work of a caller who has left goes on, and is there for the next.
        let made = tokio::task::spawn_blocking(move || {
            let began = clock::now().monotonic;
            let fresh = kept.until.is_none_or(|until| until <= began);
            if fresh {
                *kept = Kept::default();
                let Ok(all) = Selector::parse("") else { return Body::new() };
                let (fleet, judging) = (&pages.fleet, &pages.judging);
                kept.paths = documents::paths_now(fleet, judging, judging::JUDGED, &all);
                kept.findings = documents::findings_now(judging);
                if let Some(why) = fleet.planless() {
                    kept.findings.error = Some(format!("no new plan can be given out: {why}"));
                }
                if let Some(why) = pages.ingest.counters().failing() {
                    kept.findings.error = Some(format!("windows cannot be stored now: {why}"));
                }
            }
            let body = make(&mut kept);
            let now = clock::now().monotonic;
            let took = now.saturating_since(began);
            let until = now.saturating_add(KEPT.max(took * SHARE));
            // Another page of the same documents is shown as long as they are, or as its own making asks.
            if fresh || took > KEPT {
                kept.until = Some(until);
            }
            body
        });
        made.await.ok()
    }
}
