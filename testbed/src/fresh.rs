//! Windows of fresh samples, as a fleet would send them: no two alike, and each encoded as on the wire.

use prost::Message;
use railgauge_core::histogram::{Recorder, Window};
use railgauge_core::path_window::{Parameters, PathWindow, Split};
use railgauge_core::timestamp_source::{StampSource, TimestampSource};
use railgauge_proto::{convert, v1};
use rand_pcg::Pcg64Mcg;
use rand_pcg::rand_core::{Rng, SeedableRng};

/// 10 s, as the coordinator's default is.
pub const WINDOW_NS: u64 = 10_000_000_000;
/// Probes in a window, ten a second.
pub const PROBES: u64 = 100;

/// Draws windows. Log-normal latencies about 10 us; 1 % is in a tail up to milliseconds.
pub struct Fresh {
    random: Pcg64Mcg,
    recorders: [Recorder; 4],
}

impl Fresh {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        let recorders = std::array::from_fn(|_| Recorder::new());
        Self { random: Pcg64Mcg::seed_from_u64(seed), recorders }
    }

    /// The next window: four series of [`PROBES`] samples each.
    pub fn window(&mut self) -> PathWindow {
        self.window_of(PROBES)
    }

    /// The next window, of so many probes.
    pub fn window_of(&mut self, probes: u64) -> PathWindow {
        for _ in 0..probes {
            let network = self.latency(10_000.0, 0.01);
            let (prober, responder) = (self.latency(2_500.0, 0.01), self.latency(1_500.0, 0.01));
            let parts = [network + prober + responder, network, prober, responder];
            for (recorder, sample) in self.recorders.iter_mut().zip(parts) {
                recorder.record(sample);
            }
        }
        let [app_rtt, network_rtt, prober_delay, responder_delay]: [Window; 4] =
            std::array::from_fn(|series| self.recorders[series].drain());
        // Each window is of another path.
        self.recorders.iter_mut().for_each(Recorder::begin_series);
        let kernel = StampSource::Kernel;
        let source = TimestampSource { t1: kernel, t2: kernel, t3: kernel, t4: kernel };
        let parameters = Parameters {
            interval_ns: 100_000_000,
            timeout_ns: 1_000_000_000,
            size_bytes: 44,
            rdma: None,
        };
        let mut window = PathWindow::new(parameters);
        let account = &mut window.account;
        (account.scheduled, account.sent, account.received) = (probes, probes, probes);
        window.app_rtt = app_rtt;
        window.splits = vec![Split { source, network_rtt, prober_delay, responder_delay }];
        window
    }

    /// So many windows, of paths 0 and up: the field `windows` of a batch as it is encoded.
    pub fn encoded(&mut self, windows: u32) -> Vec<u8> {
        let windows = (0..windows).map(|path| convert::window_message(path, &self.window()));
        v1::WindowBatch { windows: windows.collect(), ..v1::WindowBatch::default() }.encode_to_vec()
    }

    fn uniform(&mut self) -> f64 {
        let bits = u32::try_from(self.random.next_u64() >> 32).unwrap_or(u32::MAX);
        (f64::from(bits) + 0.5) / 2f64.powi(32)
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "casts saturate")]
    fn latency(&mut self, median: f64, tail: f64) -> u64 {
        let angle = std::f64::consts::TAU * self.uniform();
        let normal = (-2.0 * self.uniform().ln()).sqrt() * angle.cos();
        let body = median * (0.2 * normal).exp();
        let more = if self.uniform() < tail { 50_000.0 * self.uniform().powf(-0.7) } else { 0.0 };
        (body + more) as u64
    }
}

/// The name of an agent by its number.
pub fn name(agent: usize) -> String {
    format!("n{agent:04}")
}

/// The paths of an agent to the agents after it; when there are too few, several flows to each.
pub fn paths(agent: usize, agents: usize, paths: usize) -> Vec<v1::Path> {
    let endpoint = |agent| v1::Endpoint { node: name(agent), port: "eth0".into(), rail: 0 };
    let others = agents.saturating_sub(1).max(1);
    let path = |n: usize| v1::Path {
        src: Some(endpoint(agent)),
        dst: Some(endpoint((agent + 1 + n % others) % agents.max(1))),
        transport: v1::Transport::Udp.into(),
        memory: v1::Memory::Host.into(),
        flow: u32::try_from(n / others).unwrap_or(0),
        dscp: 0,
    };
    (0..paths).map(path).collect()
}

/// The octets of a batch: those of its head, in which there are no windows, and then those that [`Fresh::encoded`] made.
pub fn batch(head: &v1::WindowBatch, windows: &[u8]) -> Vec<u8> {
    let mut octets = Vec::with_capacity(head.encoded_len() + windows.len());
    head.encode_raw(&mut octets);
    octets.extend_from_slice(windows);
    octets
}
