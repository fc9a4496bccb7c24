pub(super) mod faults;

mod bad_days;
mod life;
mod rate;

use std::collections::BTreeMap;
use std::path::Path as FsPath;

use prost::Message as _;
use railgauge_core::histogram::Recorder;
use railgauge_core::path::{Endpoint, Memory, NodeName, Path, PortName, Transport};
use railgauge_core::path_window::{Parameters, PathWindow, Split, WindowAccount};
use railgauge_core::time::Wall;
use railgauge_core::timestamp_source::{StampSource, TimestampSource};
use railgauge_proto::{convert, v1};

use super::*;

/// 2026-11-23T07:00:00Z.
const START_NS: u64 = 1_795_417_200_000_000_000;
const SECOND: u64 = 1_000_000_000;

fn path(src: &str, dst: &str) -> Path {
    let at = |node: &str| Endpoint {
        node: NodeName::new(node).unwrap(),
        port: PortName::new("eth0").unwrap(),
        rail: 3,
    };
    let (src, dst) = (at(src), at(dst));
    Path { src, dst, transport: Transport::Udp, memory: Memory::Host, flow: 7, dscp: 46 }
}

/// A window of as many replies as there are samples, and one loss.
fn window(samples: &[u64]) -> PathWindow {
    let mut recorder = Recorder::new();
    let mut record = |lost: bool| {
        samples.iter().for_each(|sample| recorder.record(*sample));
        if lost {
            recorder.record_censored();
        }
        recorder.drain()
    };
    let kernel = StampSource::Kernel;
    let parameters =
        Parameters { interval_ns: 100_000_000, timeout_ns: SECOND, size_bytes: 44, rdma: None };
    let mut window = PathWindow::new(parameters);
    let received = samples.len() as u64;
    window.account = WindowAccount {
        scheduled: received + 1,
        sent: received + 1,
        received,
        lost: 1,
        ..Default::default()
    };
    window.app_rtt = record(true);
    window.splits.push(Split {
        source: TimestampSource { t1: kernel, t2: kernel, t3: kernel, t4: kernel },
        network_rtt: record(true),
        prober_delay: record(false),
        responder_delay: record(false),
    });
    window
}

/// Windows of an agent to `n0`, `n1` and so on.
fn incoming(agent: &str, first: u64, start: u64, windows: &[PathWindow]) -> Incoming {
    let paths = (0..windows.len()).map(|n| convert::path_message(&path(agent, &format!("n{n}"))));
    let message = v1::WindowBatch {
        agent: agent.into(),
        instance: 7,
        first_sequence: first,
        start_unix_ns: start,
        length_ns: 10 * SECOND,
        plan_epoch: 1,
        paths: paths.collect(),
        windows: (0u32..).zip(windows).map(|(n, w)| convert::window_message(n, w)).collect(),
    };
    let batch = convert::batch(&message).unwrap();
    Incoming { encoded: message.encode_to_vec(), batch, skewed: false }
}

fn opened(dir: &FsPath) -> Store {
    Store::open(Config::new(dir.into())).unwrap()
}

fn wall(ns: u64) -> Wall {
    Wall::from_unix_nanos(ns)
}

fn everything(resolution: Resolution) -> Selection {
    Selection { skewed: true, resolution, ..Selection::between(0, u64::MAX) }
}

/// Maintains until there is no more to do.
fn settle(store: &mut Store, now: u64) {
    for _ in 0..10_000 {
        if store.maintain(wall(now)).unwrap() == Progress::Idle {
            return;
        }
    }
    panic!("maintenance never ends");
}

type Merged = BTreeMap<Series, PathWindow>;

fn add(all: &mut Merged, incoming: &Incoming) {
    for (path, window) in &incoming.batch.windows {
        let path = incoming.batch.paths[*path].clone();
        let series = Series { path, parameters: window.parameters, skewed: incoming.skewed };
        match all.get_mut(&series) {
            Some(all) => all.merge(window),
            None => drop(all.insert(series, window.clone())),
        }
    }
}

/// Holds what the store has, at every resolution and by its counts, against what it should have.
fn agrees(store: &Store, expected: &Merged, windows: u64) {
    let reader = store.reader();
    for resolution in [Resolution::Finest, Resolution::Coarsest] {
        assert_eq!(&reader.merged(&everything(resolution)).unwrap(), expected, "{resolution:?}");
    }
    let totals = reader.totals().unwrap();
    let mut counted = Counts::default();
    totals.stored.values().for_each(|counts| counted.add(counts));
    let mut merged = Counts::default();
    expected.values().for_each(|window| merged.add(&Counts::of(0, window)));
    merged.windows = windows;
    assert_eq!(counted, merged);
}
