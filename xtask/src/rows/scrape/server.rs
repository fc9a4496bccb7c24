//! A Prometheus that runs, and what it answers.

use crate::harness::Bench;
use crate::http::{escaped, get};
use crate::process::{Running, wait_for};
use crate::{Failure, tools};
use serde_json::Value;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

const START_BOUND: Duration = Duration::from_secs(60);

/// One that runs.
pub struct Server {
    /// Ended when it is dropped.
    _running: Running,
    address: String,
}

/// What a query found: the value of each series.
pub type Found = Vec<f64>;

impl Server {
    /// Starts one with this configuration; `native` says whether it is to take native histograms.
    pub fn start(
        bench: &Bench<'_>,
        name: &str,
        config: &str,
        native: bool,
    ) -> Result<Self, Failure> {
        let file = bench.scratch().join(format!("{name}.yml"));
        std::fs::write(&file, config)
            .map_err(|error| Failure::because(format!("cannot write {}", file.display()), error))?;
        let address = free_port()?;
        let mut command = Command::new(tools::program(bench.repo(), "prometheus")?);
        command.arg(format!("--config.file={name}.yml"));
        command.arg(format!("--storage.tsdb.path={name}-data"));
        command.arg(format!("--web.listen-address={address}"));
        if native {
            command.arg("--enable-feature=native-histograms");
        }
        let mut running = bench.start(command, name)?;
        let ready = wait_for(START_BOUND, || {
            if running.exit_code()?.is_some() {
                let said = running.stderr();
                let last = said.lines().last().unwrap_or("nothing");
                return Err(Failure::new(format!("{name} ended and said {last}")));
            }
            Ok(get(&address, "/-/ready", None).is_ok_and(|page| page.status == 200).then_some(()))
        })?;
        ready.ok_or_else(|| Failure::new(format!("{name} was not ready in time")))?;
        Ok(Self { _running: running, address })
    }

    /// Asks for a query's value now.
    ///
    /// # Errors
    /// When Prometheus finds fault with the query: its own words.
    pub fn query(&self, query: &str) -> Result<Found, Failure> {
        let answer = get(&self.address, &format!("/api/v1/query?query={}", escaped(query)), None)?;
        let said: Value = serde_json::from_slice(&answer.body)
            .map_err(|error| Failure::because(format!("{query}: no JSON"), error))?;
        if said["status"] != "success" {
            return Err(Failure::because(query, said["error"].as_str().unwrap_or("no reason")));
        }
        let value = |series: &Value| -> Option<f64> { series["value"][1].as_str()?.parse().ok() };
        Ok(said["data"]["result"].as_array().into_iter().flatten().filter_map(value).collect())
    }

    /// The one value of a query.
    ///
    /// # Errors
    /// When there is none, or several.
    pub fn one(&self, query: &str) -> Result<f64, Failure> {
        match self.query(query)?.as_slice() {
            [value] => Ok(*value),
            found => Err(Failure::new(format!("{query}: {} series, not one", found.len()))),
        }
    }

    /// Waits until a query's one value is as `wanted`.
    ///
    /// # Errors
    /// When it does not become so within `bound`.
    pub fn until(
        &self,
        bound: Duration,
        query: &str,
        wanted: impl Fn(f64) -> bool,
    ) -> Result<f64, Failure> {
        let mut last = None;
        let found = wait_for(bound, || {
            last = self.query(query)?.first().copied();
            crate::process::pause(Duration::from_millis(100));
            Ok(last.filter(|value| wanted(*value)))
        })?;
        found.ok_or_else(|| {
            let seconds = bound.as_secs();
            Failure::new(format!("{query}: {last:?} after {seconds} s, and not what it should be"))
        })
    }
}

/// The complaints of `promtool check metrics` about a page, one a line.
pub fn complaints(bench: &Bench<'_>, page: &str) -> Result<String, Failure> {
    let file = bench.scratch().join("page.txt");
    let cannot = |error| Failure::because(format!("cannot use {}", file.display()), error);
    std::fs::write(&file, page).map_err(cannot)?;
    let mut command = Command::new(tools::program(bench.repo(), "promtool")?);
    command.args(["check", "metrics"]).stdin(std::fs::File::open(&file).map_err(cannot)?);
    said(command)
}

/// What `promtool check config` has against a file.
pub fn config_complaints(bench: &Bench<'_>, file: &Path) -> Result<String, Failure> {
    let mut command = Command::new(tools::program(bench.repo(), "promtool")?);
    command.args(["check", "config", "--syntax-only"]).arg(file).stdin(Stdio::null());
    said(command)
}

fn said(mut command: Command) -> Result<String, Failure> {
    let output =
        command.output().map_err(|error| Failure::because("cannot start promtool", error))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() {
        return Ok(text(&output.stderr));
    }
    Ok(format!("{} {}", text(&output.stdout), text(&output.stderr)))
}

/// A port of loopback that nobody had a moment ago: Prometheus does not say which one it was given.
fn free_port() -> Result<String, Failure> {
    let listener = TcpListener::bind("127.0.0.1:0");
    let address = listener.and_then(|listener| listener.local_addr());
    address
        .map(|address| address.to_string())
        .map_err(|error| Failure::because("no port is free", error))
}

/// The configuration that we ship, with these targets in place of its own and a scrape every second.
pub fn config(bench: &Bench<'_>, coordinator: &str, agents: &[String]) -> Result<String, Failure> {
    let file = bench.repo().path("deploy/prometheus/prometheus.yml");
    let mut text = std::fs::read_to_string(&file)
        .map_err(|error| Failure::because(format!("cannot read {}", file.display()), error))?;
    let agents = agents.iter().map(|agent| format!("{agent:?}")).collect::<Vec<_>>().join(", ");
    for (ours, theirs) in [
        ("\"127.0.0.1:7461\"", format!("{coordinator:?}")),
        ("\"127.0.0.1:7462\"", agents),
        ("scrape_interval: 15s", "scrape_interval: 1s".to_owned()),
    ] {
        if !text.contains(ours) {
            return Err(Failure::new(format!("{} has no {ours}", file.display())));
        }
        text = text.replace(ours, &theirs);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use crate::repo::Repo;

    /// No Prometheus that knows the setting can be had as a package here, so that one configuration is held against the other.
    #[test]
    fn the_configurations_differ_in_the_setting_for_native_histograms_alone() {
        let repo = Repo::find().unwrap();
        let read = |file: &str| {
            let text = std::fs::read_to_string(repo.path("deploy/prometheus").join(file)).unwrap();
            let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        let (old, mut new) = (read("prometheus.yml"), read("prometheus-3.yml"));
        let setting = "    scrape_native_histograms: true";
        let jobs = old.iter().filter(|line| line.contains("job_name")).count();
        assert_eq!(new.iter().filter(|line| *line == setting).count(), jobs);
        new.retain(|line| line != setting);
        assert_eq!(old, new);
    }
}
