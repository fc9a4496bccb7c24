//! What must hold when documents, settings, selectors and the store's rows hold anything.

use std::collections::BTreeMap;

use railgauge_agent::daemon::config as agent;
use railgauge_coordinator::config as coordinator;
use railgauge_coordinator::store;
use railgauge_core::quantile::Quantile;
use railgauge_core::selector::Selector;
use railgauge_report::doc::{Findings, PathDoc, Paths, ReadError, Sweep, from_json};
use railgauge_report::html::{live_page, sweep_page};

use super::{Outcomes, count};

/// Reads `octets` as each document, writes it again, makes its page, and counts what became of it.
///
/// # Panics
/// When something does not hold that must.
pub fn exercise_document(octets: &[u8], outcomes: &mut Outcomes) {
    let mut what = "no document";
    match from_json::<Sweep>(octets) {
        Ok(sweep) => {
            let again = serde_json::to_vec(&sweep).expect("what was read can be written");
            from_json::<Sweep>(&again).expect("what we write we read");
            check_page(&sweep_page(&sweep), octets, sweep.nodes.len(), &sweep.paths);
            what = "sweep";
        }
        Err(ReadError::OtherSchema { .. }) => what = "other schema",
        Err(ReadError::Malformed { .. }) => {}
    }
    if let Ok(paths) = from_json::<Paths>(octets) {
        let again = serde_json::to_vec(&paths).expect("what was read can be written");
        from_json::<Paths>(&again).expect("what we write we read");
        let page = live_page(&paths, &Findings::default(), Quantile::P99);
        check_page(&page, octets, paths.nodes.len(), &paths.paths);
        what = "paths";
    }
    if let Ok(findings) = from_json::<Findings>(octets) {
        let again = serde_json::to_vec(&findings).expect("what was read can be written");
        from_json::<Findings>(&again).expect("what we write we read");
        check_page(&live_page(&Paths::default(), &findings, Quantile::P50), octets, 0, &[]);
        what = "findings";
    }
    count(outcomes, what);
}

/// Views of a map at most, and octets of one cell in one of them.
const VIEWS: usize = 10;
const CELL: usize = 300;
/// Nodes on a map at most.
const MOST_NODES: usize = 256;

/// A page runs nothing, and is as large as its map and its document make it.
fn check_page(page: &str, octets: &[u8], nodes: usize, paths: &[PathDoc]) {
    for forbidden in ["<script", "<iframe", "<object", " onload=\"x"] {
        assert!(!page.contains(forbidden), "{forbidden}");
    }
    let nodes = (nodes + 2 * paths.len()).min(MOST_NODES);
    // Six octets for a quotation mark, in a few places each; style, captions and drawings.
    let most = 400_000 + nodes * nodes * VIEWS * CELL + 60 * octets.len();
    assert!(page.len() <= most, "{} octets of page, of {}", page.len(), octets.len());
}

/// Reads `octets` as a selector and as both daemons' settings, and counts what became of them.
///
/// # Panics
/// When something does not hold that must.
pub fn exercise_text(octets: &[u8], outcomes: &mut Outcomes) {
    let text = &*String::from_utf8_lossy(octets);
    let what = match Selector::parse(text) {
        Ok(selector) => {
            let labels = BTreeMap::from([("rack".to_owned(), text.to_owned())]);
            let matched = selector.matches(text, &labels);
            let pieces: Vec<_> = selector.pieces().iter().map(ToString::to_string).collect();
            let again = Selector::parse(&pieces.join(",")).expect("what we write we read");
            assert_eq!(again, selector);
            assert_eq!(selector.matches(text, &labels), matched);
            "selector"
        }
        Err(error) => {
            assert!(error.to_string().len() < 4_000, "{}", error.to_string().len());
            "no selector"
        }
    };
    count(outcomes, what);
    // Plaintext on loopback, so that what else is wrong can be.
    let flags = agent::Flags { insecure: Some(true), ..agent::Flags::default() };
    let what = match agent::parse("a.toml", text, &flags, Some("host".to_owned())) {
        Ok(config) => {
            assert!(config.labels.len() <= 64 && config.endpoint.len() <= 64);
            for endpoint in &config.endpoint {
                endpoint.endpoint(&config.node).expect("its names were checked");
            }
            "agent's settings"
        }
        Err(error) => {
            drop(error.to_string());
            "no settings of an agent"
        }
    };
    count(outcomes, what);
    let flags = coordinator::Layer::default();
    let what = match coordinator::parse("c.toml", text, &flags) {
        Ok(config) => {
            let again = coordinator::parse("c.toml", &config.to_toml(), &flags);
            assert_eq!(again.expect("what we write we read"), config);
            "coordinator's settings"
        }
        Err(error) => {
            drop(error.to_string());
            "no settings of a coordinator"
        }
    };
    count(outcomes, what);
}

/// Reads `octets`, the first of which tells how many belong to the key, as a row of every table, and counts what it could be.
///
/// # Panics
/// When something does not hold that must.
pub fn exercise_row(octets: &[u8], outcomes: &mut Outcomes) {
    let Some((&length, rest)) = octets.split_first() else { return };
    let (key, content) = rest.split_at(usize::from(length).min(rest.len()));
    if store::readable(key, content).is_empty() {
        count(outcomes, "wrong checksum");
    }
    for kind in store::readable_content(key, content) {
        count(outcomes, kind);
    }
}
