//! The task that lets time pass for the keys: it begins rotations, writes the file, and answers those who asked.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use railgauge_core::probe_keys::{Action, KeyFile, Report};
use railgauge_core::time::Monotonic;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::MissedTickBehavior;

use super::{Ask, KeysError, RotateError, file, settings};
use crate::clock::{self, Now};
use crate::config::Config;
use crate::fleet::Fleet;

/// How often it is looked what has happened.
const TICK: Duration = Duration::from_millis(100);
/// A coordinator that has just started lets its fleet come before it rotates by itself.
const REST: Duration = Duration::from_secs(60);
/// When the file could not be written, it is tried again after so long.
const RETRY: Duration = Duration::from_secs(30);

/// What the task has.
#[derive(Debug)]
pub struct Keeper {
    path: PathBuf,
    asked: mpsc::UnboundedReceiver<Ask>,
    /// Those who wait for the end of the rotation that is under way.
    waiting: Vec<oneshot::Sender<Result<Report, RotateError>>>,
    /// No rotation by itself before that.
    not_before: Monotonic,
    /// When a first key could not be made.
    tried_at: Monotonic,
    /// The file has keys that were withdrawn; to be tried then.
    write_at: Option<Monotonic>,
}

impl Keeper {
    pub(super) fn new(path: PathBuf, asked: mpsc::UnboundedReceiver<Ask>, now: Now) -> Self {
        let not_before = now.monotonic.saturating_add(REST);
        let (waiting, tried_at) = (Vec::new(), Monotonic::default());
        Self { path, asked, waiting, not_before, tried_at, write_at: None }
    }
}

/// Runs until the configuration is nobody's any more.
pub async fn run(fleet: Arc<Fleet>, mut config: watch::Receiver<Arc<Config>>, mut keeper: Keeper) {
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            Some(ask) = keeper.asked.recv() => keeper.begin(&fleet, ask).await,
            changed = config.changed() => {
                if changed.is_err() {
                    return;
                }
                let mut state = fleet.keys.state();
                let settings = settings(&config.borrow_and_update());
                state.settings = settings;
                state.rotation.set(settings);
            }
        }
        let config = Arc::clone(&config.borrow());
        keeper.step(&fleet, &config).await;
    }
}

impl Keeper {
    async fn begin(&mut self, fleet: &Fleet, ask: Ask) {
        let is_under_way = {
            let mut state = fleet.keys.state();
            let is_under_way = state.rotation.is_under_way();
            if is_under_way && ask.withdraw {
                state.rotation.force();
            }
            is_under_way
        };
        if !is_under_way && let Err(error) = self.make(fleet, ask.withdraw).await {
            let why = crate::sentence(&error);
            tracing::error!("no new key: {why}");
            // Who asked may have gone.
            drop(ask.answer.send(Err(RotateError::Unwritten(why))));
            return;
        }
        self.waiting.push(ask.answer);
    }

    /// A new epoch: on the disk before anybody hears of it.
    async fn make(&mut self, fleet: &Fleet, withdraw: bool) -> Result<(), KeysError> {
        let (last, mut kept) = {
            let state = fleet.keys.state();
            (state.rotation.newest(), state.file())
        };
        let made = file::make(last, clock::now().wall)?;
        let epoch = made.epoch;
        if kept.generations.is_empty() {
            kept.first = epoch;
        }
        kept.generations.push(made.clone());
        let first = kept.first;
        self.write(kept).await?;
        let mut state = fleet.keys.state();
        state.first = first;
        state.secrets.insert(epoch, made);
        state.rotation.begin(epoch, withdraw, clock::now().monotonic);
        drop(state);
        tracing::info!("keys of probes: epoch {epoch} begins");
        Ok(())
    }

    async fn write(&self, kept: KeyFile) -> Result<(), KeysError> {
        let path = self.path.clone();
        let written = tokio::task::spawn_blocking(move || file::write(&path, &kept)).await;
        written.unwrap_or_else(|panicked| {
            let source = std::io::Error::other(panicked);
            Err(KeysError::Io { path: self.path.clone(), source })
        })
    }

    async fn step(&mut self, fleet: &Fleet, config: &Config) {
        let now = clock::now();
        if self.is_due(fleet, config, now)
            && let Err(error) = self.make(fleet, false).await
        {
            tracing::error!("no new key: {}", crate::sentence(&error));
            self.tried_at = now.monotonic;
            self.not_before = now.monotonic.saturating_add(RETRY);
        }
        self.turn(fleet, config);
        let actions = {
            let mut state = fleet.keys.state();
            let actions = state.rotation.tick(clock::now().monotonic);
            let kept: Vec<u64> = state.rotation.epochs().collect();
            state.secrets.retain(|epoch, _| kept.contains(epoch));
            actions
        };
        for action in actions {
            match action {
                Action::KeysChanged => {
                    fleet.keys.version.send_modify(|version| *version += 1);
                    self.write_at = Some(Monotonic::default());
                }
                Action::Replan => fleet.touch(),
                Action::Done(report) => self.done(&report),
            }
        }
        if self.write_at.is_some_and(|at| now.monotonic >= at) {
            self.write_at = None;
            let kept = fleet.keys.state().file();
            if let Err(error) = self.write(kept).await {
                tracing::warn!("withdrawn keys are still on the disk: {}", crate::sentence(&error));
                self.write_at = Some(now.monotonic.saturating_add(RETRY));
            }
        }
    }

    /// On or off, as configured; on when there is a key.
    fn turn(&self, fleet: &Fleet, config: &Config) {
        let mut state = fleet.keys.state();
        let is_on = config.probe_authentication && !state.secrets.is_empty();
        if state.is_on == is_on {
            return;
        }
        state.is_on = is_on;
        if is_on {
            state.rotation.turned_on(clock::now().monotonic);
        }
        drop(state);
        fleet.keys.version.send_modify(|version| *version += 1);
        fleet.touch();
    }

    /// Whether the time has come for new keys, or there are none yet.
    fn is_due(&self, fleet: &Fleet, config: &Config, now: Now) -> bool {
        let state = fleet.keys.state();
        if !config.probe_authentication || state.rotation.is_under_way() {
            return false;
        }
        let Some((_, newest)) = state.secrets.last_key_value() else {
            return now.monotonic >= self.tried_at.saturating_add(RETRY);
        };
        let period = config.probe_key_rotation.duration();
        let age = (now.wall.as_unix_nanos() / 1_000_000_000).saturating_sub(newest.made_unix_s);
        !period.is_zero() && age >= period.as_secs() && now.monotonic >= self.not_before
    }

    fn done(&mut self, report: &Report) {
        let Report { epoch, confirmed, laggards } = report;
        tracing::info!("keys of probes: {confirmed} nodes have confirmed epoch {epoch}");
        for laggard in laggards {
            tracing::warn!("old keys of probes are still answered: {laggard}");
        }
        for waiting in self.waiting.drain(..) {
            // Who asked may have gone.
            drop(waiting.send(Ok(report.clone())));
        }
    }
}
