//! What was recorded against what is left of it, by keys and by counts.
//!
//! **Drops.** A spool counts as dropped what it gave up without knowing it stored. So a recorded window that is in no store and no
//! spool must be counted, and what is counted beyond those must be one of: a window whose acknowledgement never reached the
//! spool's disk, so that it is stored and dropped; a frame that a kill left between its write and its sync.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use prost::Message;
use railgauge_agent::spool::{Limits, Spool};
use railgauge_coordinator::clock;
use railgauge_coordinator::store::{Config, Resolution, Store};
use railgauge_core::time::Wall;
use railgauge_proto::v1::WindowBatch;
use serde::Serialize;

use super::chaos::{Happened, SLOTS, WINDOW};
use super::sums::Sums;
use super::{Trouble, stored};
use crate::ledger::{BatchKey, Ledger, records};

/// What a kill may cost beside the window that is open: 0.5 s in which windows are gathered into a batch, 0.2 s in which the
/// window's last probes may be answered, and as much as a busy machine takes to sync.
const MOST_GAP_S: f64 = 1.0 + 0.5 + 0.2 + 0.5;

/// Numbers of one run; windows where nothing else is said.
#[derive(Debug, Default, Serialize)]
pub struct Judgement {
    /// In frames that were synced.
    pub recorded: u64,
    /// In frames that began to be written.
    pub possible: u64,
    /// In the store.
    pub ingested: u64,
    /// In spools.
    pub in_spools: u64,
    /// In both: the acknowledgement was lost.
    pub in_both: u64,
    /// In either, though a kill came before the sync.
    pub unsynced_and_kept: u64,
    /// Counted by spools.
    pub dropped: u64,
    /// Counted by spools.
    pub refused: u64,
    /// Recorded, and in neither.
    pub missing: u64,
    /// Counted as dropped beyond those: stored, or never synced.
    pub stored_and_dropped: u64,
    /// Replies in the store.
    pub replies: u64,
    /// Panics that the daemons' logs show.
    pub panics: u64,
    /// Faults put into agents and coordinator.
    pub faults: BTreeMap<String, u64>,
    /// From the end of the last recorded window to the clean kill, seconds.
    pub gap_s: f64,
    /// Windows judged for continuity before it.
    pub windows_in_a_row: u64,
    /// Sentences.
    pub violations: Vec<String>,
}

/// Judges a run that has ended.
///
/// # Errors
/// When something cannot be read.
pub fn judge(happened: &Happened) -> Result<Judgement, Trouble> {
    let mut judgement =
        Judgement { violations: happened.violations.clone(), ..Judgement::default() };
    let config = Config::new(happened.store.clone());
    let store = Store::open(config.clone())?;
    let totals = stored::totals(&store)?;
    let first = [Resolution::Finest, Resolution::Coarsest].map(|r| stored::sums(&store, r));
    judgement.damage(&store, &happened.store)?;
    drop(store);
    let keys = stored::keys(&happened.store)?;

    let mut expected = Sums::default();
    for (name, directory, ledger) in &happened.agents {
        let ledger = Ledger::read(ledger)?;
        let in_store = keys.get(name).cloned().unwrap_or_default();
        let counted = totals.stored.get(name).copied().unwrap_or_default();
        judgement.expect(counted.windows == in_store.len() as u64, || {
            format!(
                "{name}: the store counts {} windows and has {} keys",
                counted.windows,
                in_store.len()
            )
        });
        judgement.agent(
            name,
            directory,
            happened.spool_bytes,
            &ledger,
            &in_store,
            &mut expected,
        )?;
        for (fault, times) in &ledger.faults {
            *judgement.faults.entry(format!("agent {fault}")).or_default() += times;
        }
    }
    judgement.expect(totals.expired.is_empty() && totals.dropped.is_empty(), || {
        "the store let something go".to_owned()
    });
    let waiting = judgement.in_spools - judgement.in_both;
    judgement.expect(!happened.drained || waiting == 0, || {
        format!("{waiting} windows were not delivered though nothing hindered them any more")
    });
    judgement.expect(keys.len() <= happened.agents.len(), || "the store knows strangers".into());

    judgement.replies = expected.received;
    let when = ["as stored, finest", "as stored, coarsest"];
    for (when, sums) in when.into_iter().zip(first) {
        judgement.same(when, &sums?, &expected);
    }
    judgement.rolled(config, &expected)?;
    judgement.gap(happened)?;
    judgement.store_faults(happened)?;
    judgement.panics(happened)?;
    Ok(judgement)
}

impl Judgement {
    fn expect(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        if !holds {
            self.violations.push(otherwise());
        }
    }

    fn same(&mut self, when: &str, sums: &Sums, expected: &Sums) {
        if let Some(difference) = sums.difference(expected) {
            self.violations
                .push(format!("{when}: the store differs from the ledger: {difference}"));
        }
    }

    /// Write errors and kills damage no file of the store.
    fn damage(&mut self, store: &Store, directory: &Path) -> Result<(), Trouble> {
        for incident in store.incidents() {
            self.violations
                .push(format!("the store set {} aside: {}", incident.file, incident.reason));
        }
        for entry in std::fs::read_dir(directory)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            self.expect(!name.contains("damaged"), || format!("the store has set aside {name}"));
        }
        Ok(())
    }

    /// Merging by minute and by hour changes nothing.
    fn rolled(&mut self, config: Config, expected: &Sums) -> Result<(), Trouble> {
        let mut store = Store::open(config)?;
        let now = clock::now().wall.as_unix_nanos();
        for (when, later_s) in [("by minute", 180), ("by hour", 3_800)] {
            stored::maintain(&mut store, Wall::from_unix_nanos(now + later_s * 1_000_000_000))?;
            for resolution in [Resolution::Finest, Resolution::Coarsest] {
                let sums = stored::sums(&store, resolution)?;
                self.same(&format!("merged {when}, {resolution:?}"), &sums, expected);
            }
        }
        let windows: u64 =
            stored::totals(&store)?.stored.values().map(|counts| counts.windows).sum();
        let ingested = self.ingested;
        self.expect(windows == ingested, || {
            format!("merged, the store counts {windows} windows, not {ingested}")
        });
        Ok(())
    }

    fn agent(
        &mut self,
        name: &str,
        directory: &Path,
        spool_bytes: u64,
        ledger: &Ledger,
        in_store: &BTreeSet<(u64, u64)>,
        expected: &mut Sums,
    ) -> Result<(), Trouble> {
        let (mut spool, _) = Spool::open(directory, Limits::of(spool_bytes))?;
        let pending = spool.pending(None, usize::MAX)?;
        let in_spool: BTreeMap<BatchKey, Vec<u8>> = pending
            .into_iter()
            .map(|batch| {
                let (instance, first_sequence, windows) =
                    (batch.key.instance, batch.key.first_sequence, batch.key.windows);
                (BatchKey { instance, first_sequence, windows }, batch.payload)
            })
            .collect();
        let state = spool.state();
        let (mut stored, mut missing, mut lost_ack, mut unsynced_and_gone) = (0, 0, 0, 0);
        for (key, payload) in &ledger.possible {
            let windows = u64::from(key.windows);
            let recorded = ledger.recorded.contains_key(key);
            let sequences = key.first_sequence..key.first_sequence + windows;
            let there = sequences.filter(|n| in_store.contains(&(key.instance, *n))).count() as u64;
            self.expect(there == 0 || there == windows, || {
                format!("{name}: of {key:?} only {there} windows are in the store")
            });
            let (is_stored, is_spooled) = (there == windows, in_spool.contains_key(key));
            self.possible += windows;
            stored += there;
            if recorded {
                self.recorded += windows;
            } else if is_stored || is_spooled {
                self.unsynced_and_kept += windows;
            } else if !ledger.forgotten.contains(key) {
                unsynced_and_gone += windows;
            }
            if is_stored {
                let batch = WindowBatch::decode(payload.as_slice())?;
                for window in &batch.windows {
                    let path = batch.paths.get(usize::try_from(window.path)?);
                    expected.add(path.ok_or("a window without a path")?, window)?;
                }
                if is_spooled {
                    self.in_both += windows;
                } else if !ledger.forgotten.contains(key) {
                    lost_ack += windows;
                }
            } else if recorded && !is_spooled {
                missing += windows;
            }
        }
        self.expect(stored == in_store.len() as u64, || {
            format!(
                "{name}: {} windows in the store were never written",
                in_store.len() as u64 - stored
            )
        });
        for (key, payload) in &in_spool {
            self.expect(ledger.possible.get(key) == Some(payload), || {
                format!("{name}: the spool has {key:?}, which was not written so")
            });
            self.in_spools += u64::from(key.windows);
        }
        let counted = state.windows_dropped + state.windows_refused;
        self.expect(missing <= counted, || {
            format!("{name}: {missing} recorded windows are nowhere, {counted} are counted")
        });
        let excess = counted.saturating_sub(missing);
        self.expect(excess <= lost_ack + unsynced_and_gone, || {
            format!(
                "{name}: {counted} are counted as dropped or refused, {missing} are missing; {lost_ack} stored ones may \
                 count and {unsynced_and_gone} unsynced ones"
            )
        });
        self.expect(state.windows_refused == 0, || {
            format!("{name}: {} windows were refused", state.windows_refused)
        });
        self.ingested += stored;
        self.missing += missing;
        self.dropped += state.windows_dropped;
        self.refused += state.windows_refused;
        self.stored_and_dropped += excess;
        Ok(())
    }

    /// Until an agent is killed while nothing else is wrong, its windows have no gap; the kill costs the open one.
    fn gap(&mut self, happened: &Happened) -> Result<(), Trouble> {
        let Some((name, instance, killed_ns)) = &happened.clean_kill else { return Ok(()) };
        let agent = happened.agents.iter().find(|(agent, ..)| agent == name);
        let (_, _, ledger) = agent.ok_or("no such agent")?;
        let mut paths = BTreeMap::<Vec<u8>, BTreeMap<u64, (u64, u64)>>::new();
        let mut epochs = BTreeSet::new();
        for (key, batch) in Ledger::read(ledger)?.messages()? {
            if key.instance != *instance {
                continue;
            }
            epochs.insert(batch.plan_epoch);
            for window in &batch.windows {
                let path = batch.paths.get(usize::try_from(window.path)?);
                let path = path.ok_or("a window without a path")?.encode_to_vec();
                let scheduled = window.account.unwrap_or_default().scheduled;
                let at = paths.entry(path).or_default().entry(batch.start_unix_ns).or_default();
                *at = (at.0 + scheduled, batch.plan_epoch);
            }
        }
        let length = u64::try_from(WINDOW.as_nanos())?;
        let last_epoch = epochs.last().copied().unwrap_or_default();
        // Another may have left the plan.
        let stays = |windows: &&BTreeMap<u64, (u64, u64)>| {
            windows.values().filter(|(_, epoch)| *epoch == last_epoch).count() >= 2
        };
        let paths: Vec<_> = paths.values().filter(stays).collect();
        for windows in &paths {
            // Under the last plan, but for the first window, which that plan found begun.
            let whole: Vec<_> = windows.iter().filter(|(_, w)| w.1 == last_epoch).skip(1).collect();
            let mut next = None;
            for (start, (scheduled, _)) in whole {
                self.expect(next.is_none_or(|next| next == *start), || {
                    format!("{name}: a window before {start} is missing, and nothing was wrong")
                });
                self.expect(*scheduled == SLOTS, || {
                    format!("{name}: the window at {start} has {scheduled} slots, not {SLOTS}")
                });
                self.windows_in_a_row += 1;
                next = Some(start + length);
            }
            let last = windows.last_key_value().map_or(0, |(start, _)| start + length);
            let gap_ns = i64::try_from(*killed_ns)?.saturating_sub(i64::try_from(last)?);
            #[expect(clippy::cast_precision_loss, reason = "seconds")]
            let gap_s = gap_ns as f64 / 1e9;
            self.gap_s = self.gap_s.max(gap_s);
        }
        let gap_s = self.gap_s;
        self.expect(!paths.is_empty() && gap_s <= MOST_GAP_S, || {
            format!("{name}: the kill cost {gap_s:.3} s, more than {MOST_GAP_S} s")
        });
        Ok(())
    }

    fn store_faults(&mut self, happened: &Happened) -> Result<(), Trouble> {
        let octets = std::fs::read(happened.out.join("coordinator.ledger"))?;
        for record in records(&octets).0.iter().filter(|record| record.kind == b'F') {
            let kind = String::from_utf8_lossy(record.rest);
            *self.faults.entry(format!("coordinator {kind}")).or_default() += 1;
        }
        Ok(())
    }

    fn panics(&mut self, happened: &Happened) -> Result<(), Trouble> {
        for entry in std::fs::read_dir(&happened.out)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "log") {
                let log = String::from_utf8_lossy(&std::fs::read(&path)?).into_owned();
                for line in log.lines().filter(|line| line.contains(" panicked at ")) {
                    self.panics += 1;
                    self.violations.push(format!("{}: {line}", path.display()));
                }
            }
        }
        Ok(())
    }
}
