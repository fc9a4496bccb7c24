//! Real agents and their coordinator, scraped by two servers: one that takes native histograms, one that does not.

use super::dashboard::queries;
use super::server::{Server, complaints, config, config_complaints};
use crate::Failure;
use crate::harness::Bench;
use crate::http::get;
use crate::process::{Running, wait_for};
use crate::rows::coordinator::Coordinator;
use crate::rows::{Outcome, Scale};
use nix::sys::signal::Signal;
use railgauge_metrics::Metric;
use railgauge_metrics::definitions::{self, ALL, On};
use serde_json::Value;
use std::collections::BTreeSet;
use std::time::Duration;

const AGENTS: u8 = 3;
const START_BOUND: Duration = Duration::from_secs(20);
const STOP_BOUND: Duration = Duration::from_secs(20);
const SCRAPE_BOUND: Duration = Duration::from_secs(180);
/// How much wider the next native bucket of schema 4 is, and by how much a sample may be moved into it (see `metrics::buckets`).
const BUCKET: f64 = 1.044_273_782_427_413_8 * 1.001;
/// Classic bounds, as the page has them.
const CLASSIC: [f64; 20] = [
    1e-6, 2e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1,
    0.2, 0.5, 1.0, 10.0,
];
const RTT: &str = "railgauge_probe_network_rtt_seconds";
const COORDINATOR: &str = "job=\"railgauge-coordinator\"";

pub fn run(bench: &Bench<'_>, scale: Scale, outcome: &mut Outcome) -> Result<(), Failure> {
    let shipped = bench.repo().path("deploy/prometheus/prometheus.yml");
    let wrong = config_complaints(bench, &shipped)?;
    outcome.expect(wrong.is_empty(), || format!("promtool check config: {wrong}"));
    let coordinator = Coordinator::start_with(
        bench,
        &["--window", "1s", "--probe-interval", "5ms", "--inbound-per-second", "100000"],
    )?;
    let agents = (1..=AGENTS)
        .map(|n| Agent::start(bench, &coordinator, n))
        .collect::<Result<Vec<_>, _>>()?;
    let pages: Vec<String> = agents.iter().map(|agent| agent.http.clone()).collect();
    let text = config(bench, &coordinator.http, &pages)?;
    let native = Server::start(bench, "prometheus-native", &text, true)?;
    let classic = Server::start(bench, "prometheus-classic", &text, false)?;
    // Each probe of the six paths is recorded, delivered, stored and scraped.
    let least = scale.pick(10_000.0, 60_000.0);
    let received = format!("sum(railgauge_probes_received_total{{{COORDINATOR}}})");
    native.until(SCRAPE_BOUND, &received, |count| count >= least)?;
    judged(bench, &native, outcome)?;
    tidy_pages(bench, &coordinator, &pages, outcome)?;
    // All at once, as each answers the others' last probes before it goes.
    for agent in &agents {
        agent.running.signal(Signal::SIGTERM)?;
    }
    for agent in agents {
        agent.ended()?;
    }
    same_samples(&coordinator, &native, &classic, outcome)?;
    coordinator.stop()
}

/// Every query of the dashboard, as soon as there was a judgement.
fn judged(bench: &Bench<'_>, native: &Server, outcome: &mut Outcome) -> Result<(), Failure> {
    let count = "count(railgauge_worst_path_network_rtt_seconds{percentile=\"p99\"})";
    native.until(SCRAPE_BOUND, count, |count| count >= 1.0)?;
    let file = bench.repo().path("deploy/grafana/railgauge.json");
    let dashboard = std::fs::read_to_string(&file)
        .map_err(|error| Failure::because(format!("cannot read {}", file.display()), error))?;
    let (mut asked, mut empty) = (0.0, 0.0);
    for query in queries(&dashboard)? {
        asked += 1.0;
        match native.query(&query.expression) {
            Err(failure) => outcome.misses.push(format!("panel {}: {failure}", query.panel)),
            Ok(found) if found.is_empty() => {
                empty += 1.0;
                outcome.expect(query.may_be_empty(), || {
                    format!("panel {} finds nothing: {}", query.panel, query.expression)
                });
            }
            Ok(_) => {}
        }
    }
    outcome.figure("queries of the dashboard", asked, "");
    outcome.figure("of them without data, for a reason", empty, "");
    let up = native.one("sum(up)")?;
    let all = f64::from(AGENTS + 1);
    outcome.expect(up == all, || format!("{up} of {all} targets are up"));
    Ok(())
}

/// promtool on each text page.
fn tidy_pages(
    bench: &Bench<'_>,
    coordinator: &Coordinator,
    agents: &[String],
    outcome: &mut Outcome,
) -> Result<(), Failure> {
    for (who, address, on) in
        [("coordinator", &coordinator.http, On::Coordinator), ("agent", &agents[0], On::Agent)]
    {
        let page = get(address, "/metrics", None)?;
        outcome.misses.extend(undocumented(&page.text(), on).iter().map(|m| format!("{who}: {m}")));
        let kind = "text/plain; version=0.0.4; charset=utf-8";
        outcome.expect(page.kind == kind, || format!("{who}: the page is {}", page.kind));
        let wrong = complaints(bench, &page.text())?;
        outcome.expect(wrong.is_empty(), || format!("promtool, {who}: {wrong}"));
    }
    Ok(())
}

/// What a fleet as young and well as a test's has no value of.
const MAY_BE_ABSENT: [&Metric; 4] = [
    &definitions::SWEEPS,
    &definitions::RELOADS,
    &definitions::CERTIFICATE_EXPIRY,
    &definitions::CERTIFICATE_RELOAD_SUCCESSFUL,
];

/// Metrics of a daemon's page that are not in the documentation, and those that are and not on the page.
fn undocumented(page: &str, on: On) -> Vec<String> {
    let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let present: BTreeSet<&str> = types.filter_map(|line| line.split(' ').next()).collect();
    let here = ALL.iter().filter(|metric| metric.on == on || metric.on == On::Both);
    let documented: BTreeSet<&str> = here.clone().map(|metric| metric.name).collect();
    let unknown = present.difference(&documented).map(|name| format!("{name} is not documented"));
    let absent = here.filter(|metric| {
        !present.contains(metric.name) && !MAY_BE_ABSENT.iter().any(|may| may.name == metric.name)
    });
    unknown.chain(absent.map(|metric| format!("{} is not on the page", metric.name))).collect()
}

/// When nothing more comes, the servers' p99.9 and our own are of the same samples.
fn same_samples(
    coordinator: &Coordinator,
    native: &Server,
    classic: &Server,
    outcome: &mut Outcome,
) -> Result<(), Failure> {
    let page = get(&coordinator.http, "/paths.json", None)?;
    let document: Value = serde_json::from_slice(&page.body)
        .map_err(|error| Failure::because("paths.json is no JSON", error))?;
    let series = &document["fleet"]["network_rtt"];
    let number = |pointer: &str| {
        let found = series.pointer(pointer).and_then(Value::as_f64);
        found.ok_or_else(|| Failure::new(format!("the fleet's network_rtt has no {pointer}")))
    };
    let (count, lost) = (number("/count")?, number("/censored/count")?);
    let mut quantiles = series["quantiles"].as_array().into_iter().flatten();
    let own = quantiles.find(|entry| entry["q"] == 0.999).unwrap_or(&Value::Null);
    let Some(own) = own["value_ns"].as_f64() else {
        outcome
            .misses
            .push(format!("of {count} samples and {lost} losses there is no p99.9: {own}"));
        return Ok(());
    };
    let own = own / 1e9;
    // Our ranks count losses, above all replies; the servers know of replies alone.
    let share = (0.999 * (count + lost) / count).min(1.0);
    // The document tells of the kind of stamps that most samples have.
    let source = series["timestamp_source"].as_str().unwrap_or_default();
    let which = format!("{{{COORDINATOR},timestamp_source={source:?}}}");
    let selected = format!("{RTT}{which}");
    let in_time = Duration::from_secs(20);
    native.until(in_time, &format!("histogram_count(sum({selected}))"), |n| n == count)?;
    let of_native = native.one(&format!("histogram_quantile({share}, sum({selected}))"))?;
    let buckets = format!("sum by (le) ({RTT}_bucket{which})");
    let all = format!("sum({RTT}_count{which})");
    classic.until(in_time, &all, |n| n == count)?;
    let of_classic = classic.one(&format!("histogram_quantile({share}, {buckets})"))?;
    let ratio = of_native / own;
    outcome.figure("p99.9 by native buckets over our own", ratio, "");
    outcome.figure("p99.9 by classic buckets over our own", of_classic / own, "");
    outcome.figure("of samples", count, "");
    outcome.expect((1.0 / BUCKET..=BUCKET).contains(&ratio), || {
        format!("native p99.9 {of_native} s, our own {own} s: more than one bucket apart")
    });
    let at = CLASSIC.partition_point(|bound| *bound < own);
    let low = at.checked_sub(1).map_or(0.0, |at| CLASSIC[at]);
    let high = CLASSIC.get(at).copied().unwrap_or(f64::INFINITY);
    outcome.expect((low * 0.999..=high * 1.001).contains(&of_classic), || {
        format!("classic p99.9 {of_classic} s is not in the bucket of our own, {own} s")
    });
    Ok(())
}

struct Agent {
    running: Running,
    http: String,
}

impl Agent {
    fn start(bench: &Bench<'_>, coordinator: &Coordinator, n: u8) -> Result<Self, Failure> {
        let name = format!("agent-{n}");
        let text = format!(
            "node = \"{name}\"\ninsecure = true\ncoordinator = \"http://{}\"\nstate_dir = \"{name}\"\n\
             http_listen = \"127.0.0.{n}:0\"\n[[endpoint]]\nport = \"lo\"\naddress = \"127.0.0.{n}\"\nudp_port = 0\n",
            coordinator.address
        );
        let file = bench.scratch().join(format!("{name}.toml"));
        std::fs::write(&file, text)
            .map_err(|error| Failure::because(format!("cannot write {}", file.display()), error))?;
        let addresses = bench.scratch().join(format!("{name}.addresses"));
        let mut command = bench.program("railgauge-agent", None);
        command.arg("--config").arg(&file).arg("--addresses-file").arg(&addresses);
        let mut running = bench.start(command, &name)?;
        let http = wait_for(START_BOUND, || {
            if running.exit_code()?.is_some() {
                let said = running.stderr();
                return Err(Failure::new(format!("{name} ended: {}", said.trim())));
            }
            let text = std::fs::read_to_string(&addresses).unwrap_or_default();
            Ok(text.strip_prefix("http=").map(|address| address.trim().to_owned()))
        })?;
        let http = http.ok_or_else(|| Failure::new(format!("{name} does not say where it is")))?;
        Ok(Self { running, http })
    }

    fn ended(self) -> Result<(), Failure> {
        let ended = self.running.finish(STOP_BOUND)?;
        if ended.code == Some(0) {
            return Ok(());
        }
        Err(Failure::because("an agent did not end well", ended.stderr.trim()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documentation_and_page_are_held_against_each_other() {
        let wrong =
            undocumented("# TYPE railgauge_made_up gauge\nrailgauge_made_up 1\n", On::Agent);
        assert!(wrong.contains(&"railgauge_made_up is not documented".to_owned()), "{wrong:?}");
        assert!(wrong.contains(&"railgauge_spool_bytes is not on the page".to_owned()));
        assert!(!wrong.iter().any(|sentence| sentence.contains("railgauge_store_bytes")));
    }
}
