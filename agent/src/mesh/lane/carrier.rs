//! How probes of a lane leave and come back, by what carries them: packets of a socket or queue pair, or operations on a connection.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use railgauge_core::rdma::parameters::RdmaParameters;
use railgauge_core::session::{Completion, Probe, ProbeSession, Wake};
use railgauge_core::stamp::TimestampFormat;
use railgauge_core::time::{Monotonic, Wall};
use railgauge_core::timestamp_source::StampSource;
use railgauge_fabric::clock;
use railgauge_fabric::socket::{ErrorQueue, Readiness, ReceiveBatch};
use railgauge_fabric::verbs::Flags;

use super::Lane;
use crate::mesh::links::Link;
use crate::probe_thread::flow::{Flow, FlowEvent};
use crate::probe_thread::watch::ThreadWatch;
use crate::probe_thread::{ENOUGH_TO_MISS_STAMPS, reply_reason, report, trouble};
use crate::rdma::rc::engine::reason;
use crate::rdma::rc::link::{RcLink, Seen};

/// Probes sent in a row before others have their turn.
const MOST_SENT: usize = 16;

/// Datagrams that nobody answers for so long may go to a queue pair that is there no more: the exchange is made again.
const SILENT: Duration = Duration::from_secs(2);

/// So many slots without an answer, too, where they are far apart.
const SILENT_SLOTS: u32 = 4;

/// What carries a lane's probes.
pub enum Carrier {
    /// This.
    Linked(Link),
    /// Over verbs, nothing for the moment: another link is being made. Slots count as sent and lost, since a dead path must not look like
    /// an idle prober.
    Gone,
}

/// What a lane over a link has under way, and what it has heard.
#[derive(Default)]
pub struct LinkState {
    /// The operation under way, and when it was posted.
    under_way: Option<(Probe, Monotonic)>,
    /// The link is of no more use.
    broken: Option<&'static str>,
    /// When the last answer came, or the link was made.
    heard: Option<Monotonic>,
    /// Slots and times from post to completion, to be given to windows.
    completions: Vec<(Monotonic, u64)>,
}

impl Carrier {
    pub fn flow(&self) -> Option<&Flow> {
        match self {
            Self::Linked(Link::Packets(flow)) => Some(flow),
            _ => None,
        }
    }

    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Linked(link) => link.fd(),
            Self::Gone => None,
        }
    }

    pub fn parameters(&self) -> Option<RdmaParameters> {
        match self {
            Self::Linked(link) => link.parameters(),
            Self::Gone => None,
        }
    }
}

impl Lane {
    /// The link, when it is of no more use; another one is to be made.
    pub fn take_broken(&mut self, now: Monotonic) -> Option<Link> {
        let Carrier::Linked(link) = &self.carrier else { return None };
        // A socket lasts as long as its lane.
        self.setup.rdma.as_ref()?;
        let is_silent = matches!(link, Link::Packets(_)) && {
            let heard = *self.state.heard.get_or_insert(now);
            let patience = SILENT.max(self.setup.interval.saturating_mul(SILENT_SLOTS));
            now.saturating_since(heard) > patience
        };
        if self.state.broken.is_none() && !is_silent && !link.is_over() {
            return None;
        }
        let why = self.state.broken.unwrap_or(if is_silent { "no_answer" } else { "peer_gone" });
        tracing::debug!("{}: another link is made: {why}", self.setup.path);
        self.fail_under_way(why);
        self.state = LinkState {
            completions: std::mem::take(&mut self.state.completions),
            ..LinkState::default()
        };
        match std::mem::replace(&mut self.carrier, Carrier::Gone) {
            Carrier::Linked(link) => Some(link),
            Carrier::Gone => None,
        }
    }

    /// Whether it waits for a link.
    pub const fn is_unlinked(&self) -> bool {
        matches!(self.carrier, Carrier::Gone)
    }

    /// Goes on over this link.
    pub fn relink(&mut self, link: Link) {
        self.carrier = Carrier::Linked(link);
        self.windows.probed_over(self.carrier.parameters());
        self.wake = Monotonic::default();
    }

    /// Its link, at its end.
    pub fn into_link(self) -> Option<Link> {
        match self.carrier {
            Carrier::Linked(link) => Some(link),
            Carrier::Gone => None,
        }
    }

    fn fail_under_way(&mut self, why: &'static str) {
        if let Some((probe, _)) = self.state.under_way.take() {
            self.session.failed(probe.number, why);
        }
    }

    /// Gives windows what took from post to completion.
    pub(super) fn note_completions(&mut self, wall_offset: i64) {
        let Self { state, windows, .. } = self;
        for (slot, nanos) in state.completions.drain(..) {
            windows.completed(slot, nanos, wall_offset);
        }
    }

    /// Sends what is due; returns when something will be.
    pub(super) fn send_due(
        &mut self,
        mut now: Monotonic,
        watch: &mut ThreadWatch,
        errors: &mut ErrorQueue,
        wall_offset: i64,
    ) -> Monotonic {
        if !matches!(self.carrier, Carrier::Linked(Link::Packets(_))) {
            // Whatever came was read when it was told: nothing waits unseen in a queue.
            self.session.read_dry(now);
        }
        for _ in 0..MOST_SENT {
            // One operation at a time: slots that come due meanwhile wait, and their wait is in their app RTT.
            if let Some((_, posted)) = self.state.under_way {
                let until = posted.saturating_add(self.setup.timeout);
                if now < until && self.state.broken.is_none() {
                    return until;
                }
                self.state.broken.get_or_insert("no_completion");
                self.fail_under_way("no_completion");
            }
            let late_before = self.session.account().late_starts;
            let wake = self.session.poll(now);
            if self.session.account().late_starts > late_before {
                watch.late_start();
            }
            match wake {
                Wake::Send(probe) => self.hand_over(probe, now, errors, wall_offset),
                Wake::Wait(until) => return until,
                Wake::Done => {
                    self.is_done = true;
                    return now;
                }
            }
            now = watch.now();
        }
        now
    }

    fn hand_over(
        &mut self,
        probe: Probe,
        now: Monotonic,
        errors: &mut ErrorQueue,
        wall_offset: i64,
    ) {
        let before = self.session.account().sent;
        let slot = probe.slot;
        match &mut self.carrier {
            Carrier::Linked(Link::Packets(_)) => self.send_packet(probe, now),
            Carrier::Linked(Link::Operations(_)) if self.state.broken.is_none() => {
                self.post(probe);
            }
            Carrier::Linked(Link::Operations(_)) | Carrier::Gone => {
                self.session.sent(probe, now, as_wall(now), [0; 8]);
                self.session.failed(probe.number, "no_queue_pair");
            }
        }
        // Neither warm-up nor follow-up.
        if self.session.account().sent > before {
            self.windows.sent(slot, wall_offset);
        }
        self.conclude(probe.number, errors);
    }

    fn send_packet(&mut self, probe: Probe, now: Monotonic) {
        let Self { session, template, carrier, .. } = self;
        let Carrier::Linked(Link::Packets(flow)) = carrier else { return };
        let packet = flow.next_packet(probe.number);
        #[expect(clippy::cast_possible_truncation, reason = "numbers wrap (RFC 8762 section 4.2)")]
        let sequence = probe.number as u32;
        let t1 = clock::wall();
        template.write(sequence, t1, packet);
        flow.transmit();
        session.sent(probe, now, t1, TimestampFormat::Ntp.encode(t1));
        if !flow.is_stamped() {
            session.transmitted(probe.number, t1, StampSource::User);
        }
    }

    fn conclude(&mut self, _number: u64, errors: &mut ErrorQueue) {
        let Self { session, carrier, setup, .. } = self;
        let Carrier::Linked(Link::Packets(flow)) = carrier else { return };
        let mut mtu = None;
        let mut on = |event: FlowEvent<'_>| report(session, &mut mtu, &event);
        flow.conclude(errors, &mut on);
        // Datagrams over verbs leave a completion each, stamped or not.
        if flow.awaits_stamps() || setup.rdma.is_some() {
            flow.drain_errors(errors, on);
        }
    }

    /// Posts the operation of a probe.
    fn post(&mut self, probe: Probe) {
        let Self { session, carrier, state, .. } = self;
        let Carrier::Linked(Link::Operations(link)) = carrier else { return };
        let posted = clock::monotonic();
        let taken = link.post(probe.number, 0, Flags::SIGNALED);
        session.sent(probe, posted, as_wall(posted), [0; 8]);
        if taken.is_err() {
            session.failed(probe.number, "post_refused");
            state.broken = Some("post_refused");
            return;
        }
        state.under_way = Some((probe, posted));
        look(session, link, state);
    }

    /// Takes what the socket or queue has to offer, as this wait has found.
    pub fn take(
        &mut self,
        wait: u64,
        readiness: Readiness,
        receive: &mut ReceiveBatch,
        errors: &mut ErrorQueue,
    ) {
        self.wake = Monotonic::default();
        let Self { session, template, carrier, state, .. } = self;
        let flow = match carrier {
            Carrier::Gone => return,
            Carrier::Linked(Link::Operations(link)) => {
                if link.quiet().is_err() {
                    state.broken = Some("device_failed");
                }
                return look(session, link, state);
            }
            Carrier::Linked(Link::Packets(flow)) => flow,
        };
        let (mut mtu, mut telemetry_unknown) = (None, false);
        if readiness.error {
            flow.drain_errors(errors, |event| report(session, &mut mtu, &event));
        }
        if readiness.readable {
            self.found_by = wait;
            flow.receive(receive, errors, |event| match event {
                FlowEvent::Packet { bytes, stamp, read_at } => match template.parse_reply(bytes) {
                    Ok(reply) => {
                        state.heard = Some(read_at.monotonic);
                        trouble(session, &mut telemetry_unknown, &reply);
                        session.received(&reply, read_at.monotonic, read_at.arrival(stamp));
                    }
                    Err(e) => session.error(reply_reason(e), 1),
                },
                other => report(session, &mut mtu, &other),
            });
            self.doubt_stamps(errors);
        }
    }

    /// Where so many replies came and no stamp of a departure did, the next best ones are taken.
    fn doubt_stamps(&mut self, errors: &mut ErrorQueue) {
        let Self { session, carrier, .. } = self;
        let Carrier::Linked(Link::Packets(flow)) = carrier else { return };
        if flow.lacks_stamps(ENOUGH_TO_MISS_STAMPS) {
            let mut mtu = None;
            flow.drain_errors(errors, |event| report(session, &mut mtu, &event));
            if flow.lacks_stamps(ENOUGH_TO_MISS_STAMPS) {
                flow.give_up_stamps();
            }
        }
    }
}

/// Looks whether the operation under way has ended, and has the next completion wake us if not.
fn look(session: &mut ProbeSession, link: &mut RcLink, state: &mut LinkState) {
    // What came before the arming wakes nobody: looked at once more after it.
    for is_armed in [false, true] {
        if is_armed && link.arm().is_err() {
            state.broken = Some("device_failed");
            return;
        }
        while let Some(seen) = link.look_at_sends() {
            match seen {
                Seen::Completed { id } => completed(session, state, id),
                Seen::Answered(_) => {}
                Seen::Failed(status) => {
                    let why = reason(status);
                    if let Some((probe, _)) = state.under_way.take() {
                        session.failed(probe.number, why);
                    }
                    state.broken = Some(why);
                    return;
                }
            }
        }
        if state.under_way.is_none() {
            return;
        }
    }
}

fn completed(session: &mut ProbeSession, state: &mut LinkState, id: u64) {
    let Some((probe, posted)) = state.under_way.take_if(|(probe, _)| probe.number == id) else {
        return;
    };
    let at = clock::monotonic();
    state.heard = Some(at);
    let stamp = |at| (as_wall(at), StampSource::User);
    let one_sided = Completion::OneSided { posted: stamp(posted), completed: stamp(at) };
    if session.completed(probe.number, at, one_sided) && probe.counts() {
        let nanos = at.as_nanos().saturating_sub(posted.as_nanos());
        state.completions.push((probe.slot, nanos));
    }
}

/// The monotonic clock as a stamp: only differences of two such are ever taken.
const fn as_wall(at: Monotonic) -> Wall {
    Wall::from_unix_nanos(at.as_nanos())
}
