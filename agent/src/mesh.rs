//! The continuous probes of a node: one thread drives all its paths (design D5), each with an open-loop session and a socket
//! of its own, and hands over what became of every slot, window by window. Paths over verbs have a mesh, and so a thread, of their own:
//! a device that stands still holds up no sockets.
//!
//! Nothing here blocks but the thread's own sleep. Finished windows leave through a bounded queue; where it is full, because
//! the disk behind it stands still, they are counted as unrecorded.

mod lane;
pub(crate) mod links;
mod relink;
#[cfg(test)]
mod tests;
mod windows;

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use railgauge_core::path::Path;
use railgauge_core::stamp::Key;
use railgauge_core::time::Monotonic;
use railgauge_fabric::socket::{ErrorQueue, Poller, ReceiveBatch};
use railgauge_fabric::{clock, thread as fabric_thread};

use crate::probe_thread::watch::{ThreadFindings, ThreadWatch};
use crate::pulse::Pulse;
use lane::Lane;
use links::Maker;
use relink::{Links, REMAKE_AFTER};
pub use windows::RawWindow;

/// The longest sleep: the wall clock is looked at this often.
const LONGEST_SLEEP: Duration = Duration::from_millis(500);

/// How often the wall clock is compared with the monotonic one.
const LOOK_AT_CLOCK: Duration = Duration::from_secs(1);

/// How long a path whose socket could not be opened is left alone.
const REOPEN_AFTER: Duration = Duration::from_secs(10);

/// How long the end waits for replies: one time-out of a second, and some.
const LAST_REPLIES: Duration = Duration::from_millis(1_500);

/// The longest reply that is read whole: to a request that fits a jumbo frame.
const LARGEST_REPLY: usize = 9_216;

/// Sockets opened in a row before others have their turn: each takes some 50 us.
const OPENED_AT_ONCE: usize = 8;

/// Token of the pipe that brings commands.
const COMMANDS: u64 = u64::MAX;

/// One path to probe.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LaneSetup {
    /// Which.
    pub path: Arc<Path>,
    /// The responder.
    pub peer: SocketAddr,
    /// Our address, that of the path's source endpoint.
    pub local: IpAddr,
    /// Between intended sends.
    pub interval: Duration,
    /// Slots are at multiples of the interval, by the wall clock, plus this.
    pub phase: Duration,
    /// When a probe is lost.
    pub timeout: Duration,
    /// Least octets of payload.
    pub size: usize,
    /// Our port of an RDMA device, as `mlx5_0/1`, where the path is over verbs; the peer is then where endpoints are exchanged.
    pub rdma: Option<Arc<str>>,
    /// Probed in STAMP's authenticated mode. The key itself is no part of what a lane is: another one changes nothing that is
    /// measured.
    pub authenticated: bool,
}

/// The key of a path's reflector.
#[derive(Clone, Debug)]
pub struct LaneKey {
    /// Which of its keys.
    pub epoch: u64,
    /// The key.
    pub key: Key,
}

/// A path to probe, and with which key: there is one where its setup says that it is authenticated.
#[derive(Clone, Debug)]
pub struct PlannedLane {
    /// How.
    pub setup: LaneSetup,
    /// With which key.
    pub key: Option<LaneKey>,
}

impl From<LaneSetup> for PlannedLane {
    /// Without a key.
    fn from(setup: LaneSetup) -> Self {
        Self { setup: LaneSetup { authenticated: false, ..setup }, key: None }
    }
}

/// What the thread can be told.
enum Command {
    /// Probe these, under this epoch, and nothing else.
    Plan(u64, Vec<PlannedLane>),
    /// The keys of the plan are good until then.
    KeysUntil(Monotonic),
    /// Multiply all intervals by this.
    Slow(u32),
    /// Windows of this length from now on.
    Window(Duration),
    /// Send no more, wait for what is under way, hand over all windows, end.
    Drain,
}

/// What the thread has done, readable at any time.
#[derive(Debug, Default)]
pub struct MeshCounters {
    /// Windows lost because the queue behind the thread was full.
    pub windows_unrecorded: AtomicU64,
    /// Paths of the plan.
    pub paths: AtomicU64,
    /// Of those, the ones that no socket could be opened for.
    pub paths_failed: AtomicU64,
    /// Links over verbs made again, because a device, a peer or an operation failed.
    pub links_remade: AtomicU64,
    /// Slots skipped because their key was good no more, without a word from the coordinator.
    pub probes_without_key: AtomicU64,
    /// Epoch of the plan in force.
    pub plan_epoch: AtomicU64,
    /// Told when a plan has come into force.
    pub plan_applied: tokio::sync::Notify,
    /// Of the thread.
    pub alive: Pulse,
}

/// Octets that a path takes, about.
pub fn memory_of(setup: &LaneSetup) -> usize {
    lane::memory_of(setup)
}

/// A running mesh.
pub struct Mesh {
    commands: Sender<Command>,
    wake: UnixStream,
    counters: Arc<MeshCounters>,
    thread: Mutex<Option<JoinHandle<ThreadFindings>>>,
}

impl Mesh {
    /// Starts the thread, on processor `cpu` if given. Windows of `window` length go to `windows`.
    ///
    /// # Errors
    /// When the system has no thread or descriptor left.
    pub fn start(
        cpu: Option<usize>,
        window: Duration,
        windows: SyncSender<RawWindow>,
    ) -> io::Result<Self> {
        let (commands, received) = mpsc::channel();
        let (wake, woken) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        woken.set_nonblocking(true)?;
        let counters = Arc::new(MeshCounters { alive: Pulse::begin(), ..MeshCounters::default() });
        let maker = Maker::new(wake.try_clone()?);
        let driver = Driver::new(received, woken, window, windows, Arc::clone(&counters), maker)?;
        let run = move || {
            if fabric_thread::set_timer_slack_to_minimum().is_err() {
                tracing::debug!("timer slack stays at its default: probes may start 50 us late");
            }
            let pinned = cpu.map(fabric_thread::pin_to);
            if let Some(Err(error)) = pinned {
                tracing::warn!("the probe thread is not pinned: {error}");
            }
            driver.run()
        };
        let thread = thread::Builder::new().name("mesh".to_owned()).spawn(run)?;
        Ok(Self { commands, wake, counters, thread: Mutex::new(Some(thread)) })
    }

    /// Probes these from now on, under this epoch, and nothing else. Paths that were probed alike go on undisturbed.
    /// What changes of a path but its key makes it another.
    pub fn plan(&self, epoch: u64, lanes: Vec<impl Into<PlannedLane>>) {
        self.tell(Command::Plan(epoch, lanes.into_iter().map(Into::into).collect()));
    }

    /// The keys of the plan are good until then; after it, slots of authenticated paths are skipped.
    pub fn keys_until(&self, until: Monotonic) {
        self.tell(Command::KeysUntil(until));
    }

    /// Multiplies all intervals by `factor`: 1 is the plan's own rate.
    pub fn slow(&self, factor: u32) {
        self.tell(Command::Slow(factor.max(1)));
    }

    /// Windows are this long from now on.
    pub fn set_window(&self, length: Duration) {
        self.tell(Command::Window(length));
    }

    /// What it has done.
    pub const fn counters(&self) -> &Arc<MeshCounters> {
        &self.counters
    }

    /// Sends no more, waits for what is under way, 1.5 s at most, and returns when all windows are handed over; `None` for a second
    /// call.
    pub fn drain(&self) -> Option<ThreadFindings> {
        self.tell(Command::Drain);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        match thread.join() {
            Ok(findings) => Some(findings),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    fn tell(&self, command: Command) {
        // The thread ends only when told to, and a full pipe wakes it as well as one octet more would.
        let _ = self.commands.send(command);
        let _ = (&self.wake).write(&[1]);
    }
}

struct Driver {
    commands: Receiver<Command>,
    woken: UnixStream,
    window: Duration,
    windows: SyncSender<RawWindow>,
    counters: Arc<MeshCounters>,
    poller: Poller,
    lanes: Vec<Lane>,
    /// The plan as given, and its epoch.
    plan: Vec<PlannedLane>,
    epoch: u64,
    keys_until: Monotonic,
    factor: u32,
    /// Paths without a socket, and when to try again.
    failed: Vec<PlannedLane>,
    retry_at: Monotonic,
    /// Why the last socket could not be opened, as it was said.
    said: String,
    /// Paths to open, the next last.
    to_open: Vec<PlannedLane>,
    links: Links,
    /// Counts the waits.
    wait: u64,
    /// The last wait looked at every socket, later than this; one that it did not report had nothing then.
    waited_at: Option<Monotonic>,
    next_token: u64,
    receive: ReceiveBatch,
    errors: ErrorQueue,
    watch: ThreadWatch,
    wall_offset: i64,
    look_at_clock: Monotonic,
    /// Ending, and when what is under way is given up.
    draining: Option<Monotonic>,
}

impl Driver {
    fn new(
        commands: Receiver<Command>,
        woken: UnixStream,
        window: Duration,
        windows: SyncSender<RawWindow>,
        counters: Arc<MeshCounters>,
        maker: Maker,
    ) -> io::Result<Self> {
        let poller = Poller::new()?;
        poller.add(woken.as_fd(), COMMANDS)?;
        Ok(Self {
            commands,
            woken,
            window,
            windows,
            counters,
            poller,
            lanes: Vec::new(),
            plan: Vec::new(),
            epoch: 0,
            keys_until: Monotonic::from_nanos(u64::MAX),
            factor: 1,
            failed: Vec::new(),
            retry_at: clock::monotonic(),
            said: String::new(),
            to_open: Vec::new(),
            links: Links::new(maker),
            wait: 0,
            waited_at: None,
            next_token: 0,
            receive: ReceiveBatch::new(1, LARGEST_REPLY),
            errors: ErrorQueue::default(),
            watch: ThreadWatch::begin(),
            wall_offset: clock::wall_offset(),
            look_at_clock: clock::monotonic(),
            draining: None,
        })
    }

    fn run(mut self) -> ThreadFindings {
        self.watch = ThreadWatch::begin();
        loop {
            let now = self.watch.now();
            self.counters.alive.beat(now);
            self.look_at_clock(now);
            self.open_some();
            let look_again = self.tend_links(now);
            let mut next = self.step_lanes(now).min(look_again);
            if !self.to_open.is_empty() {
                next = now;
            }
            if let Some(deadline) = self.draining {
                if self.lanes.is_empty() {
                    return self.watch.findings();
                }
                if now >= deadline {
                    self.lanes.iter_mut().for_each(Lane::stop);
                }
            }
            if !self.failed.is_empty() && now >= self.retry_at {
                self.reopen(now);
            }
            self.sleep(next);
        }
    }

    /// Does what is due, and returns when something will be.
    fn step_lanes(&mut self, now: Monotonic) -> Monotonic {
        let Self { lanes, errors, windows, counters, watch, wall_offset, wait, waited_at, .. } =
            self;
        let waited = (*wait, *waited_at);
        let mut next = now.saturating_add(LONGEST_SLEEP);
        let (mut any_done, mut without_key) = (false, 0);
        for lane in lanes.iter_mut() {
            if lane.wake <= now {
                let deliver = |window| deliver(windows, counters, window);
                lane.step(now, waited, watch, errors, *wall_offset, deliver);
                without_key += lane.take_skipped_without_key();
            }
            any_done |= lane.is_done;
            next = next.min(lane.wake);
        }
        if without_key > 0 {
            counters.probes_without_key.fetch_add(without_key, Ordering::Relaxed);
        }
        if any_done {
            self.take_out_done();
        }
        next
    }

    fn sleep(&mut self, next: Monotonic) {
        let now = self.watch.now();
        let timeout = next.saturating_since(now);
        if timeout > Duration::ZERO {
            self.watch.caught_up();
        }
        let waited = self.poller.wait(timeout);
        self.watch.woken(now.saturating_add(timeout));
        self.waited_at = None;
        if let Err(error) = waited {
            // Without it nothing can be waited for; what is due is done all the same, a tick at a time.
            tracing::error!("cannot wait for packets: {error}");
            thread::park_timeout(Duration::from_millis(10));
            return;
        }
        let mut commands = false;
        self.wait += 1;
        self.waited_at = (!self.poller.is_full()).then_some(now);
        let Self { poller, lanes, receive, errors, wait, .. } = self;
        for (token, readiness) in poller.ready() {
            if token == COMMANDS {
                commands = true;
            } else if let Ok(index) = lanes.binary_search_by_key(&token, |lane| lane.token) {
                lanes[index].take(*wait, readiness, receive, errors);
            }
        }
        if commands {
            self.take_commands();
        }
    }

    fn take_commands(&mut self) {
        let mut octets = [0; 64];
        while matches!(self.woken.read(&mut octets), Ok(n) if n > 0) {}
        let mut changed = false;
        // Of plans that come faster than they can be put in force, the last counts.
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Plan(epoch, plan) => (self.epoch, self.plan) = (epoch, plan),
                Command::Slow(factor) if factor == self.factor => continue,
                Command::Slow(factor) => self.factor = factor,
                Command::KeysUntil(until) => {
                    self.keys_until = until;
                    self.lanes.iter_mut().for_each(|lane| lane.key_until(until));
                    continue;
                }
                Command::Window(length) => self.window = length.max(Duration::from_millis(1)),
                Command::Drain => {
                    self.draining = Some(clock::monotonic().saturating_add(LAST_REPLIES));
                }
            }
            changed = true;
        }
        if self.draining.is_some() {
            self.plan.clear();
        }
        if changed {
            self.apply_plan();
        }
    }

    /// Ends lanes that are not wanted any more, begins those that are new; others go on.
    fn apply_plan(&mut self) {
        let slowed = |lane: &PlannedLane| {
            let interval = lane.setup.interval.saturating_mul(self.factor);
            (LaneSetup { interval, ..lane.setup.clone() }, lane.key.clone())
        };
        let mut wanted: HashMap<LaneSetup, Option<LaneKey>> =
            self.plan.iter().map(slowed).collect();
        self.counters.paths.store(wanted.len() as u64, Ordering::Relaxed);
        let (epoch, window) = (self.epoch, self.window);
        for lane in self.lanes.iter_mut().filter(|lane| !lane.is_finishing) {
            let kept = if window == lane.window { wanted.remove(&lane.setup) } else { None };
            match kept {
                Some(key) => {
                    lane.epoch = epoch;
                    lane.set_key(key);
                }
                None => lane.finish(),
            }
        }
        self.failed.clear();
        self.keep_in_the_making(&mut wanted);
        self.counters.paths_failed.store(0, Ordering::Relaxed);
        self.to_open.clear();
        self.to_open.extend(wanted.into_iter().map(|(setup, key)| PlannedLane { setup, key }));
        if self.counters.plan_epoch.swap(epoch, Ordering::Release) != epoch {
            self.counters.plan_applied.notify_one();
        }
    }

    fn reopen(&mut self, now: Monotonic) {
        self.retry_at = now;
        self.to_open.append(&mut self.failed);
    }

    fn open_some(&mut self) {
        if self.to_open.is_empty() {
            return;
        }
        for _ in 0..OPENED_AT_ONCE {
            let Some(planned) = self.to_open.pop() else { break };
            if planned.setup.rdma.is_some() {
                self.make_link(planned);
                continue;
            }
            let token = self.next_token;
            let opened =
                Lane::open(planned.clone(), token, self.epoch, self.window, self.wall_offset);
            match opened {
                Ok(lane) => self.admit(lane, planned),
                Err(error) => self.fail(planned, &error),
            }
        }
        self.counters.paths_failed.store(self.failed.len() as u64, Ordering::Relaxed);
    }

    /// Waits on a lane from now on.
    fn admit(&mut self, lane: Lane, planned: PlannedLane) {
        let lane = lane.with_key_until(self.keys_until);
        let added = lane.fd().map_or(Ok(()), |fd| self.poller.add(fd, lane.token));
        match added {
            Ok(()) => {
                self.next_token += 1;
                // Tokens rise, so the list stays sorted by them.
                self.lanes.push(lane);
            }
            Err(error) => self.fail(planned, &error),
        }
    }

    fn fail(&mut self, lane: PlannedLane, error: &dyn std::error::Error) {
        if self.failed.is_empty() {
            let after = if lane.setup.rdma.is_some() { REMAKE_AFTER } else { REOPEN_AFTER };
            self.retry_at = clock::monotonic().saturating_add(after);
        }
        let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
        let text = format!("{error}{cause}");
        if text == self.said {
            tracing::debug!("cannot probe {}: {text}", lane.setup.path);
        } else {
            tracing::warn!("cannot probe {}: {text}", lane.setup.path);
            self.said = text;
        }
        self.failed.push(lane);
    }

    /// Slots are given to windows by the wall clock; a step of it marks the windows that are open.
    fn look_at_clock(&mut self, now: Monotonic) {
        if now < self.look_at_clock {
            return;
        }
        self.look_at_clock = now.saturating_add(LOOK_AT_CLOCK);
        if let Some(offset) = self.watch.look_at_clock() {
            self.wall_offset = offset;
            self.lanes.iter_mut().for_each(Lane::clock_stepped);
        }
    }
}

fn deliver(windows: &SyncSender<RawWindow>, counters: &MeshCounters, window: RawWindow) {
    if windows.try_send(window).is_err() {
        counters.windows_unrecorded.fetch_add(1, Ordering::Relaxed);
    }
}
