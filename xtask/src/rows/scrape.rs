//! Both daemons as a real Prometheus sees them.

mod dashboard;
mod fleet;
mod scale;
mod server;

use super::{Judged, Outcome, Row, Scale};
use crate::Failure;
use crate::harness::Bench;

pub const ROW: Row = Row {
    name: "scrape",
    shows: "Debian's Prometheus takes the pages of agents and coordinator, natively and not, and the dashboard's queries find what they ask for",
    bound: "a coordinator with 1,000 agents under load: every page in <= 100 ms and <= 2 MiB; as many series however many paths; promtool has no complaint; \
            histogram_quantile(0.999, …) within one native bucket of our own p99.9",
    covers: &[
        "metrics",
        "agent/src/daemon/metrics.rs",
        "agent/src/daemon/http.rs",
        "coordinator/src/metrics.rs",
        "coordinator/src/http.rs",
        "deploy/prometheus",
        "deploy/grafana",
    ],
    judged: Judged::AtEveryScale,
    run,
};

fn run(bench: &Bench<'_>, scale: Scale) -> Result<Outcome, Failure> {
    let mut outcome = Outcome::default();
    scale::run(bench, scale, &mut outcome)?;
    fleet::run(bench, scale, &mut outcome)?;
    Ok(outcome)
}
