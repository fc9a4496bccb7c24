//! A spool that is full before its agent starts: batches of a process that is long gone, so that the bound is felt.

use std::path::Path;

use prost::Message;
use railgauge_agent::spool::{Key, Limits, Spool};
use railgauge_core::histogram::{Recorder, Window};
use railgauge_core::path_window::{Parameters, PathWindow, Split, WindowAccount};
use railgauge_core::timestamp_source::{StampSource, TimestampSource};
use railgauge_proto::{convert, v1};
use rand_pcg::Pcg64Mcg;
use rand_pcg::rand_core::{Rng, SeedableRng};

use super::Trouble;

/// Windows of a batch, and samples of a window.
const WINDOWS: u32 = 4;
const SAMPLES: u64 = 300;
/// Octets of a batch at most.
const MOST_BATCH: u64 = 20 << 10;

/// Appends `octets` of batches of `agent`, whose windows begin at `from_unix_ns`, to the spool in `directory`, which holds at
/// most `most_bytes`. A failed append is as it is: the shim may be there.
///
/// # Errors
/// When the spool does not open.
pub fn prefill(
    directory: &Path,
    agent: &str,
    most_bytes: u64,
    octets: usize,
    from_unix_ns: u64,
    seed: u64,
) -> Result<(), Trouble> {
    let (mut spool, _) = Spool::open(directory, Limits::of(most_bytes))?;
    let mut random = Pcg64Mcg::seed_from_u64(seed);
    let instance = random.next_u64();
    let (mut written, mut first_sequence, mut start_unix_ns) = (0, 0, from_unix_ns);
    // To the brim: the agent's first windows push others out.
    while written < octets || spool.state().bytes + MOST_BATCH < most_bytes {
        let endpoint = |node: &str, rail: u32| v1::Endpoint {
            node: node.to_owned(),
            port: format!("p{rail}"),
            rail,
        };
        let path = |rail| v1::Path {
            src: Some(endpoint(agent, rail)),
            dst: Some(endpoint("gone", rail)),
            transport: v1::Transport::Udp.into(),
            memory: v1::Memory::Host.into(),
            flow: 0,
            dscp: 0,
        };
        let batch = v1::WindowBatch {
            agent: agent.to_owned(),
            instance,
            first_sequence,
            start_unix_ns,
            length_ns: 1_000_000_000,
            plan_epoch: 1,
            paths: (0..WINDOWS).map(path).collect(),
            windows: (0..WINDOWS)
                .map(|path| convert::window_message(path, &window(&mut random)))
                .collect(),
        };
        let payload = batch.encode_to_vec();
        written += payload.len();
        let _ = spool.append(Key { instance, first_sequence, windows: WINDOWS }, &payload);
        first_sequence += u64::from(WINDOWS);
        start_unix_ns += 1_000_000_000;
    }
    Ok(())
}

fn window(random: &mut Pcg64Mcg) -> PathWindow {
    let lost = random.next_u64() % 3;
    let mut window = PathWindow::new(Parameters {
        interval_ns: 3_000_000,
        timeout_ns: 200_000_000,
        size_bytes: 44,
        rdma: None,
    });
    window.account = WindowAccount {
        scheduled: SAMPLES + lost,
        sent: SAMPLES + lost,
        received: SAMPLES,
        lost,
        ..WindowAccount::default()
    };
    window.app_rtt = series(random, lost);
    let kernel = StampSource::Kernel;
    window.splits.push(Split {
        source: TimestampSource { t1: kernel, t2: kernel, t3: kernel, t4: kernel },
        network_rtt: series(random, lost),
        prober_delay: series(random, 0),
        responder_delay: series(random, 0),
    });
    window
}

fn series(random: &mut Pcg64Mcg, lost: u64) -> Window {
    let mut recorder = Recorder::new();
    recorder.begin_series();
    (0..SAMPLES).for_each(|_| recorder.record(10_000 + random.next_u64() % 5_000_000));
    (0..lost).for_each(|_| recorder.record_censored());
    recorder.drain()
}
