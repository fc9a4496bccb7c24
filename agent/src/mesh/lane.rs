//! One path of the mesh: its session, its socket or queue pair, its windows.

mod carrier;

use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use railgauge_core::path::Transport;
use railgauge_core::session::{ConfigError, Outcome, ProbeSession, SessionConfig};
use railgauge_core::stamp::{
    ErrorEstimate, RequestTemplate, SenderConfig, SizeError, TimestampFormat, request_len,
};
use railgauge_core::time::Monotonic;
use railgauge_fabric::clock;
use railgauge_fabric::socket::{BURST, ErrorQueue, UdpOptions};

use super::links::Link;
use super::windows::{LaneWindows, RawWindow};
use super::{LaneKey, LaneSetup, PlannedLane};
use crate::probe_thread::flow::Flow;
use crate::probe_thread::watch::ThreadWatch;
use crate::probe_thread::{FlowError, FlowOptions};
use crate::receive_buffer_for;
use carrier::{Carrier, LinkState};

/// Probes sent later than this after their slot are late starts (design D3, sleeping).
const LATE: Duration = Duration::from_millis(1);

/// Enough to fill neighbour tables and caches: a plan that changes must not cost a flood.
const WARMUP: u64 = 3;

/// Why slots are skipped when the coordinator has been away for too long, as it is counted.
const KEY_EXPIRED: &str = "probe_key_expired";

/// Why a path cannot be probed.
#[derive(Debug, thiserror::Error)]
pub enum LaneError {
    /// Its socket.
    #[error(transparent)]
    Flow(#[from] FlowError),
    /// Its schedule.
    #[error(transparent)]
    Session(#[from] ConfigError),
    /// Its packets.
    #[error(transparent)]
    Size(#[from] SizeError),
}

pub struct Lane {
    pub setup: LaneSetup,
    pub token: u64,
    /// Of the plan that it is probed under.
    pub epoch: u64,
    /// Length of its windows.
    pub window: Duration,
    /// When something is to be done, if nothing comes before.
    pub wake: Monotonic,
    /// No more slots.
    pub is_finishing: bool,
    /// Nothing more will come of it.
    pub is_done: bool,
    session: ProbeSession,
    template: RequestTemplate,
    /// Epoch of the key that probes are signed with; 0 without one.
    key_epoch: u64,
    /// It is good until then.
    key_until: Monotonic,
    /// Until then replies signed with the key before it may come.
    former_until: Option<Monotonic>,
    /// Slots skipped without a good key, since they were asked for.
    skipped_without_key: u64,
    carrier: Carrier,
    state: LinkState,
    windows: LaneWindows,
    /// The last wait that found something at the socket.
    found_by: u64,
}

impl Lane {
    pub fn open(
        planned: PlannedLane,
        token: u64,
        epoch: u64,
        window: Duration,
        wall_offset: i64,
    ) -> Result<Self, LaneError> {
        let template = template(&planned)?;
        let setup = &planned.setup;
        let options = FlowOptions::Udp(UdpOptions {
            local: SocketAddr::new(setup.local, 0),
            peer: Some(setup.peer),
            dscp: setup.path.dscp,
            ttl: 255,
            receive_buffer_bytes: receive_buffer_for(setup.interval, setup.timeout, template.len()),
            stamps: true,
        });
        let flow = Flow::open(&options, template.len())?;
        let carrier = Carrier::Linked(Link::Packets(Box::new(flow)));
        Self::with(planned, template, carrier, token, epoch, window, wall_offset)
    }

    /// One over verbs, with the link that was made for it.
    pub fn over(
        planned: PlannedLane,
        link: Link,
        token: u64,
        epoch: u64,
        window: Duration,
        wall_offset: i64,
    ) -> Result<Self, LaneError> {
        let template = template(&planned)?;
        let carrier = Carrier::Linked(link);
        Self::with(planned, template, carrier, token, epoch, window, wall_offset)
    }

    fn with(
        planned: PlannedLane,
        template: RequestTemplate,
        carrier: Carrier,
        token: u64,
        epoch: u64,
        window: Duration,
        wall_offset: i64,
    ) -> Result<Self, LaneError> {
        let PlannedLane { setup, key } = planned;
        let key_epoch = key.as_ref().map_or(0, |key| key.epoch);
        let is_stamped = carrier.flow().is_some_and(Flow::is_stamped);
        let config = SessionConfig {
            interval: setup.interval,
            count: u64::MAX,
            warmup: WARMUP,
            timeout: setup.timeout,
            late_threshold: LATE,
            flows: 1,
            transmit_stamps: is_stamped,
            // Over verbs a true t3 follows in one, where the peer's NIC stamps.
            second_acknowledgements: is_stamped && setup.rdma.is_some(),
        };
        let start = first_slot(&setup, wall_offset);
        let mut session = ProbeSession::new(config, start)?;
        session.keep_unsent();
        let size = octets(&setup, template.len());
        let mut windows = LaneWindows::new(&setup, size, window);
        windows.probed_over(carrier.parameters());
        Ok(Self {
            setup,
            token,
            epoch,
            window,
            wake: start,
            is_finishing: false,
            is_done: false,
            session,
            template,
            key_epoch,
            key_until: Monotonic::from_nanos(u64::MAX),
            former_until: None,
            skipped_without_key: 0,
            carrier,
            state: LinkState::default(),
            windows,
            found_by: 0,
        })
    }

    pub fn with_key_until(mut self, until: Monotonic) -> Self {
        self.key_until(until);
        self
    }

    /// Its key is good until then.
    pub fn key_until(&mut self, until: Monotonic) {
        self.key_until = until;
        // What was withheld may leave again.
        self.wake = Monotonic::default();
    }

    /// Signs with this key from now on. Nothing else changes: no probe is lost, and no window ends.
    pub fn set_key(&mut self, key: Option<LaneKey>) {
        let Some(LaneKey { epoch, key }) = key.filter(|key| key.epoch != self.key_epoch) else {
            return;
        };
        self.key_epoch = epoch;
        self.template.replace_key(key);
        // Probes that have left are answered with the key they came with, or are lost.
        let longest = self.setup.timeout.saturating_mul(2);
        self.former_until = Some(clock::monotonic().saturating_add(longest));
    }

    /// Slots skipped without a good key, since the last call.
    pub fn take_skipped_without_key(&mut self) -> u64 {
        std::mem::take(&mut self.skipped_without_key)
    }

    fn mind_the_key(&mut self, now: Monotonic) {
        let is_good = !self.setup.authenticated || now < self.key_until;
        self.session.withhold((!is_good).then_some(KEY_EXPIRED));
        if self.former_until.is_some_and(|until| now >= until) {
            self.former_until = None;
            self.template.forget_former_key();
        }
    }

    /// Octets of its packets.
    pub fn packet_length(&self) -> usize {
        self.template.len()
    }

    /// What a poller waits on; `None` without a link.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.carrier.fd()
    }

    /// Sends what is due, and hands over what is finished.
    pub fn step(
        &mut self,
        now: Monotonic,
        (wait, waited_at): (u64, Option<Monotonic>),
        watch: &mut ThreadWatch,
        errors: &mut ErrorQueue,
        wall_offset: i64,
        deliver: impl FnMut(RawWindow),
    ) {
        if let Some(at) = waited_at.filter(|_| self.found_by != wait) {
            self.session.read_dry(at);
        }
        self.mind_the_key(now);
        let skipped_before = self.session.account().skipped;
        self.wake = self.send_due(now, watch, errors, wall_offset);
        self.note_completions(wall_offset);
        if self.setup.authenticated && now >= self.key_until {
            self.skipped_without_key += self.session.account().skipped - skipped_before;
        }
        let Self { session, windows, .. } = self;
        let mut settle = |outcome: Outcome| windows.outcome(outcome, wall_offset);
        while session.settle(now, &mut settle) {}
        session.drain_unsent(|slot, why| windows.unsent(slot, why, wall_offset));
        let account = session.account();
        windows.note(account);
        if self.is_done {
            windows.in_flight(account.in_flight, now, wall_offset);
        }
        let settled_before = if self.is_done { None } else { session.settled_before() };
        // Later than all that was sent.
        windows.close(settled_before, watch.now(), wall_offset, self.epoch, deliver);
    }

    /// No more slots; what is under way is waited for.
    pub fn finish(&mut self) {
        self.is_finishing = true;
        self.session.finish();
        self.wake = Monotonic::default();
    }

    /// What is under way is given up.
    pub fn stop(&mut self) {
        self.session.stop();
        self.wake = Monotonic::default();
    }

    pub fn clock_stepped(&mut self) {
        self.windows.clock_stepped();
    }
}

fn template(planned: &PlannedLane) -> Result<RequestTemplate, SizeError> {
    // Operations carry no packet; the template of such a path is not used.
    let is_packet = planned.setup.path.transport != Transport::RdmaRc;
    RequestTemplate::new(SenderConfig {
        format: TimestampFormat::Ntp,
        ssid: 0,
        error_estimate: ErrorEstimate::UNSYNCHRONIZED,
        key: planned.key.as_ref().map(|key| key.key.clone()),
        telemetry: true,
        min_size: if is_packet { planned.setup.size } else { 0 },
    })
}

/// Octets of the packets of a path over verbs.
pub fn packet_length(planned: &PlannedLane) -> Result<usize, SizeError> {
    template(planned).map(|template| octets(&planned.setup, template.len()))
}

/// Octets that a probe carries.
fn octets(setup: &LaneSetup, packet: usize) -> usize {
    if setup.path.transport == Transport::RdmaRc { setup.size } else { packet }
}

/// Octets that a lane takes, about: unfinished probes of three time-outs, each with an outcome in a window, packets, tables.
pub fn memory_of(setup: &LaneSetup) -> usize {
    const PROBE: u128 = 300;
    const FIXED: usize = 24 << 10;
    // Queues, their entries, and the stacks of the threads that keep the exchange at either end.
    const VERBS: usize = 512 << 10;
    let probes = 4 * setup.timeout.as_nanos() / setup.interval.as_nanos().max(1) + 64;
    let probes = usize::try_from(probes.saturating_mul(PROBE)).unwrap_or(usize::MAX);
    let size = request_len(setup.authenticated, setup.size);
    let link = if setup.rdma.is_some() { VERBS } else { 0 };
    probes.saturating_add(BURST * size).saturating_add(FIXED).saturating_add(link)
}

/// The next multiple of the interval plus phase, by the wall clock.
fn first_slot(setup: &LaneSetup, wall_offset: i64) -> Monotonic {
    let now = clock::monotonic();
    let interval = setup.interval.as_nanos().max(1);
    let wall = u128::from(now.as_nanos().saturating_add_signed(wall_offset));
    let phase = setup.phase.as_nanos() % interval;
    let wait = (interval + phase - wall % interval) % interval;
    now.saturating_add(Duration::from_nanos(u64::try_from(wait).unwrap_or(0)))
}
