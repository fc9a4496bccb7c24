//! What stands in the pages, and what cannot.

mod support;

use railgauge_core::quantile::Quantile;
use railgauge_report::doc::Sweep;
use railgauge_report::html::{live_page, quantile_from, sweep_page};
use support::{Fault, live, sweep};

/// Where each of `parts` begins: they must come in that order.
fn in_order(page: &str, parts: &[&str]) {
    let mut at = 0;
    for part in parts {
        let found = page[at..].find(part).unwrap_or_else(|| panic!("{part:?} after octet {at}"));
        at += found + part.len();
    }
}

/// Nothing that a browser would fetch or run.
fn stands_alone(page: &str) {
    for forbidden in [
        "http://", "https://", "url(", "@import", "<script", "src=", "<iframe", "<object", "onload",
    ] {
        assert!(!page.contains(forbidden), "{forbidden}");
    }
    // Links of the live page lead to the coordinator that serves it, and are followed only when asked.
    let own = [
        r#"href="?q="#,
        r#"href="/sweeps"#,
        r#"href="/paths.json"#,
        r#"href="/findings.json"#,
        r#"href="/nodes.json"#,
    ];
    let own: usize = own.iter().map(|link| page.matches(link).count()).sum();
    assert_eq!(page.matches("href=").count() - own, 1, "the empty icon");
}

#[test]
fn the_verdict_comes_first_then_findings_map_curves_and_what_is_not_known() {
    let fault = Fault { slow_host: Some(2), absent: Some(5), ..Fault::default() };
    let page = sweep_page(&sweep(8, 200, fault));
    in_order(
        &page,
        &[
            "<!DOCTYPE html>",
            r#"<html lang="en">"#,
            "<title>",
            "Degraded</p>",
            "gpu-03 answers late",
            "Findings",
            "gpu-03",
            "host delay",
            "31.2ms",
            "[24.9-39.6]",
            "Speaks for it",
            "Rules others out",
            "Next:",
            "Who is slow to whom",
            "<caption>p50 of network RTT",
            "<svg",
            "99.9%",
            "Worst paths",
            "Loss",
            "What is not known",
            "gpu-06: expected",
            "p99.9 is withheld",
            "Nodes",
            "127.0.0.2:7862",
            "How it was measured",
            "kernel/kernel/kernel/kernel",
            "0.1.0 (b0c1497)",
            "How to read it",
        ],
    );
    // The map opens where the finding shows.
    assert!(page.contains(r#"id="map-5" checked"#), "responder delay");
    stands_alone(&page);
}

#[test]
fn the_live_page_says_its_age_asks_again_and_offers_the_other_quantiles() {
    let (paths, findings) = live(&sweep(4, 200, Fault { lossy: Some(1), ..Fault::default() }));
    let page = live_page(&paths, &findings, Quantile::P99);
    for part in [
        r#"http-equiv="refresh" content="10""#,
        "State of 2026-11-23T07:50:00Z",
        "last 10m 0s",
        r#"href="?q=p50""#,
        r#"href="?q=p99.9""#,
        "first seen 2026-11-23T07:42:00Z",
        "gpu-02 loses",
    ] {
        assert!(page.contains(part), "{part}");
    }
    assert!(!page.contains(r#"href="?q=p99""#));
    stands_alone(&page);
    assert_eq!(
        ["p50", "p99.9", "p98"].map(quantile_from),
        [Some(Quantile::P50), Some(Quantile::P99_9), None]
    );
}

#[test]
fn nothing_measured_is_never_healthy() {
    let error = Some("no agent is connected".to_owned());
    let page = sweep_page(&Sweep { error, ..Sweep::default() });
    assert!(page.contains("Unknown</p>") && page.contains("no agent is connected"));
    assert!(
        !page.contains("healthy</span>") && !page.contains("was asked for was measured"),
        "{page}"
    );
}

#[test]
fn silence_and_too_few_samples_are_told_by_signs_and_not_by_shade_alone() {
    let page =
        sweep_page(&sweep(4, 10, Fault { silent: Some(1), absent: Some(3), ..Fault::default() }));
    for part in [r#"class="l5""#, ">x</td>", r#"class="l6""#, ">-</td>", r#"class="l7""#, ">?</td>"]
    {
        assert!(page.contains(part), "{part}");
    }
}

#[test]
fn hostile_text_stays_text_wherever_it_stands() {
    let mut sweep = sweep(3, 100, Fault { slow_host: Some(1), ..Fault::default() });
    let evil = r#""><script>alert(1)</script><img src=x onerror='a'>"#;
    let json = serde_json::to_string(&sweep).unwrap();
    // Everything that is a text in the document, but what is told apart by its value.
    let mut value: serde_json::Value = serde_json::from_str(&json).unwrap();
    poison(&mut value, evil, "");
    sweep = serde_json::from_value(value).unwrap();
    let (paths, findings) = live(&sweep);
    for page in [sweep_page(&sweep), live_page(&paths, &findings, Quantile::P50)] {
        assert!(page.contains("&lt;script&gt;") && page.contains("alert(1)"));
        stands_alone(&page.replace("img src=x onerror", ""));
        assert!(!page.contains("<img"));
    }
}

fn poison(value: &mut serde_json::Value, evil: &str, key: &str) {
    match value {
        serde_json::Value::String(text)
            if !["schema", "verdict", "severity", "kind", "reason", "hdr_v2"].contains(&key) =>
        {
            text.push_str(evil);
        }
        serde_json::Value::Array(list) => list.iter_mut().for_each(|v| poison(v, evil, key)),
        serde_json::Value::Object(map) => {
            map.iter_mut().for_each(|(key, value)| poison(value, evil, key));
        }
        _ => {}
    }
}

#[test]
fn size_stays_bounded() {
    let mut large = sweep(20, 100, Fault { slow_network: Some(3), ..Fault::default() });
    // 200 nodes: the paths of 20, ten by ten times.
    let small = std::mem::take(&mut large.paths);
    large.nodes.clear();
    for a in 0..10 {
        for b in 0..10 {
            large.paths.extend(small.iter().cloned().map(|mut path| {
                path.src_node = format!("{}-{a}", path.src_node);
                path.dst_node = format!("{}-{b}", path.dst_node);
                let m = &mut path.measures;
                // Not what is tested here, and long to decode without optimization.
                for series in [
                    &mut m.network_rtt,
                    &mut m.app_rtt,
                    &mut m.prober_delay,
                    &mut m.responder_delay,
                ] {
                    series.as_mut().unwrap().hdr_v2.clear();
                }
                path
            }));
        }
    }
    let page = sweep_page(&large);
    assert_eq!(large.paths.len(), 38_000);
    std::fs::write(support::scratch("browser").join("huge.html"), &page).unwrap();
    assert!(page.len() < 8 << 20, "{} octets", page.len());
    assert!(!page.contains("p99 of network RTT, us"), "no numbers in cells");
}
