//! Pages of a daemon with known counts, against committed goldens.
//! `UPDATE_GOLDEN=1 cargo test -p railgauge-metrics --test pages` rewrites the goldens.

use std::fmt::Write as _;
use std::fs;
use std::path::Path as File;

use prost::Message as _;
use prost::bytes::Buf;
use railgauge_core::histogram::Recorder;
use railgauge_core::path::{Endpoint, Memory, NodeName, Path, PortName, Transport};
use railgauge_core::path_window::{Parameters, PathWindow, Split, WindowAccount};
use railgauge_core::timestamp_source::{StampSource, TimestampSource};
use railgauge_metrics::model::{Family, Histogram};
use railgauge_metrics::{Class, Format, Locality, Registry, definitions as defined, raise};

fn path() -> Path {
    let at = |node: &str| Endpoint {
        node: NodeName::new(node).unwrap(),
        port: PortName::new("mlx5_0").unwrap(),
        rail: 3,
    };
    let (transport, memory) = (Transport::Udp, Memory::Host);
    Path { src: at("gpu-07"), dst: at("gpu-12"), transport, memory, flow: 0, dscp: 0 }
}

/// Six probes: four replies, one of them late to start, a loss, and a slot that passed.
fn window() -> PathWindow {
    let series = |samples: [u64; 4]| {
        let mut recorder = Recorder::new();
        samples.iter().for_each(|ns| recorder.record(*ns));
        recorder
    };
    let kernel = StampSource::Kernel;
    let mut network_rtt = series([8_000, 8_200, 8_300, 21_000_000]);
    network_rtt.record_censored();
    let mut app_rtt = series([20_000, 21_000, 22_000, 70_000_000_000]);
    app_rtt.record_censored();
    let mut window =
        PathWindow::new(Parameters { interval_ns: 1, timeout_ns: 1, size_bytes: 44, rdma: None });
    window.account = WindowAccount {
        scheduled: 6,
        sent: 5,
        skipped: 1,
        received: 4,
        lost: 1,
        late_starts: 1,
        ..WindowAccount::default()
    };
    window.app_rtt = app_rtt.drain();
    window.splits.push(Split {
        source: TimestampSource { t1: kernel, t2: kernel, t3: kernel, t4: kernel },
        network_rtt: network_rtt.drain(),
        prober_delay: series([0, 0, 1, 6_000]).drain(),
        responder_delay: series([1_500, 1_600, 1_700, 1_800]).drain(),
    });
    window
}

fn registry() -> Registry {
    let registry = Registry::new("0.1.0 (0123456789ab)");
    let probes = registry.probes();
    probes.add([(&path(), &window()), (&path(), &window())]);
    let class =
        Class { transport: Transport::Udp, memory: Memory::Host, locality: Locality::CrossRail };
    raise(&probes.over_budget(&class), 17);
    registry.counter(&defined::WINDOWS_INGESTED).inc_by(2);
    let worst = registry.gauges(&defined::WORST_PATH_RTT);
    let labels = ["1", "gpu-07/mlx5_0", "gpu-12/mlx5_0", "udp", "p99"];
    worst.with_label_values(&labels).set(0.021);
    registry.gauge(&defined::STORE_BYTES).set(12_345_678_901.0);
    registry
}

fn compare(name: &str, text: &str) {
    let golden = File::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&golden, text).unwrap();
    }
    let wanted = fs::read_to_string(&golden).unwrap_or_default();
    assert_eq!(text, wanted, "{golden:?} differs: UPDATE_GOLDEN=1 and read the difference");
}

/// What the process uses is another thing each time.
fn lasts(name: &str) -> bool {
    !name.contains("process_")
}

#[test]
fn the_text_is_its_golden() {
    let page = String::from_utf8(registry().page(Format::Text)).unwrap();
    assert!(page.contains("\nprocess_cpu_seconds_total "), "{page}");
    let lasting: Vec<&str> = page.lines().filter(|line| lasts(line)).collect();
    compare("page.txt", &(lasting.join("\n") + "\n"));
}

fn shown(histogram: &Histogram) -> String {
    let classic = histogram.bucket.iter().map(|b| (b.upper_bound(), b.cumulative_count()));
    let classic: Vec<_> = classic.map(|(bound, count)| format!("{bound}: {count}")).collect();
    let spans: Vec<_> = histogram.positive_span.iter().map(|s| (s.offset(), s.length())).collect();
    format!(
        " count {} sum {}\n    classic {}\n    schema {} zero {} up to {} spans {spans:?} deltas {:?}\n",
        histogram.sample_count(),
        histogram.sample_sum(),
        classic.join(", "),
        histogram.schema(),
        histogram.zero_count(),
        histogram.zero_threshold(),
        histogram.positive_delta,
    )
}

#[test]
fn the_protobuf_decodes_to_its_golden() {
    let page = registry().page(Format::Protobuf);
    let (mut rest, mut text) = (page.as_slice(), String::new());
    while rest.has_remaining() {
        let family = Family::decode_length_delimited(&mut rest).unwrap();
        if lasts(family.name()) {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{} {:?}: {}", family.name(), family.kind(), family.help());
            for series in &family.series {
                let labels = series.label.iter().map(|l| format!("{}={:?}", l.name(), l.value()));
                let _ = write!(text, "  {{{}}}", labels.collect::<Vec<_>>().join(", "));
                match (&series.histogram, series.counter, series.gauge) {
                    (Some(histogram), None, None) => text.push_str(&shown(histogram)),
                    (None, Some(counter), None) => {
                        let _ = writeln!(text, " counter {}", counter.value());
                    }
                    (None, None, gauge) => {
                        let _ = writeln!(text, " gauge {}", gauge.unwrap().value());
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
    }
    compare("page.protobuf.txt", &text);
}
