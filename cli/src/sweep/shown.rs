//! What a sweep will take, said before it does.

use railgauge_proto::v1::SweepAnnounced;
use railgauge_report::number::{count, counted, span};
use serde::Serialize;

use crate::columns::wrap;

/// Schema of [`Announcement`].
pub(super) const ANNOUNCEMENT: &str = "railgauge/sweep-announcement/v1";

/// What `--dry-run` and `--detach` print as JSON.
#[derive(Debug, Serialize)]
pub(super) struct Announcement<'a> {
    schema: &'static str,
    id: &'a str,
    nodes: u32,
    rounds: u32,
    measurements: u32,
    expected_duration_ns: u64,
    limit_ns: u64,
    expected_packets: u64,
    expected_bytes: u64,
    excluded: &'a [String],
}

impl<'a> Announcement<'a> {
    pub(super) fn new(event: &'a SweepAnnounced) -> Self {
        Self {
            schema: ANNOUNCEMENT,
            id: &event.id,
            nodes: event.nodes,
            rounds: event.rounds,
            measurements: event.measurements,
            expected_duration_ns: event.expected_duration_ns,
            limit_ns: event.limit_ns,
            expected_packets: event.expected_packets,
            expected_bytes: event.expected_bytes,
            excluded: &event.excluded,
        }
    }
}

/// The same for people: nodes, rounds, time, traffic, who is left out.
pub(super) fn announcement(event: &SweepAnnounced) -> String {
    let id = if event.id.is_empty() { String::new() } else { format!(" {}", event.id) };
    let mut text = String::new();
    let extent = format!(
        "sweep{id}: {}, {}, {}",
        counted(event.nodes as usize, "node"),
        counted(event.rounds as usize, "round"),
        counted(event.measurements as usize, "measurement"),
    );
    wrap(&mut text, "", &extent);
    let cost = format!(
        "about {}, at most {}; {} packets, {} on the wire",
        span(event.expected_duration_ns),
        span(event.limit_ns),
        count(event.expected_packets),
        octets(event.expected_bytes)
    );
    wrap(&mut text, "takes ", &cost);
    for node in &event.excluded {
        wrap(&mut text, "left out: ", node);
    }
    if event.measurements == 0 {
        wrap(
            &mut text,
            "",
            "nothing would be measured: a sweep needs two connected nodes or more, `railgauge nodes` lists them",
        );
    }
    text
}

/// After `--detach`.
pub(super) fn where_to_look(id: &str) -> String {
    let mut text = String::new();
    wrap(&mut text, "", &format!("it runs on: `railgauge sweep show {id}` has its result"));
    wrap(&mut text, "", &format!("to end it:  `railgauge sweep cancel {id}`"));
    text
}

#[expect(clippy::cast_precision_loss, reason = "two digits are printed")]
fn octets(number: u64) -> String {
    let units = [("GB", 1e9), ("MB", 1e6), ("kB", 1e3)];
    let value = number as f64;
    let fits = units.iter().find(|(_, factor)| value >= *factor);
    fits.map_or_else(
        || format!("{number} B"),
        |(unit, factor)| format!("{:.1} {unit}", value / factor),
    )
}
