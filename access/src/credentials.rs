//! Certificate and key, read again while we run: who renews them need not tell us.

use std::mem::Discriminant;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use railgauge_core::access::Identity;
use tokio::sync::{Notify, watch};
use tokio::time::{MissedTickBehavior, interval};

use crate::files::{Files, LoadError, Material, Octets};
use crate::now;

/// How often the files are looked at: they are small.
const LOOK: Duration = Duration::from_secs(5);

/// What is in force, and what became of attempts to replace it.
#[derive(Clone, Debug)]
pub struct Credentials {
    current: watch::Receiver<Arc<Material>>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    look: Notify,
    failing: AtomicBool,
    replaced: AtomicU64,
    failed: AtomicU64,
}

/// What became of attempts to replace them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reloads {
    /// What is in the files now cannot be used; what was before is in force.
    pub failing: bool,
    /// Times that they were replaced.
    pub replaced: u64,
    /// Times that what was found could not be used.
    pub failed: u64,
}

impl Credentials {
    /// Reads the files, and goes on looking at them. Needs a tokio runtime.
    ///
    /// # Errors
    /// When what is there cannot be used.
    pub fn load(files: Files) -> Result<Self, LoadError> {
        let octets = files.read()?;
        let material = files.judge(&octets, now())?;
        let (replace, current) = watch::channel(Arc::new(material));
        let shared = Arc::new(Shared::default());
        tokio::spawn(look_again(files, octets, replace, Arc::clone(&shared)));
        Ok(Self { current, shared })
    }

    /// What is in force.
    pub fn current(&self) -> Arc<Material> {
        Arc::clone(&self.current.borrow())
    }

    /// Tells when something else is.
    pub fn changes(&self) -> watch::Receiver<Arc<Material>> {
        self.current.clone()
    }

    /// Looks at the files now.
    pub fn look(&self) {
        self.shared.look.notify_one();
    }

    /// When our certificate ends, and the first of the authorities' ones: seconds since 1970.
    pub fn ends(&self) -> [u64; 2] {
        let current = self.current.borrow();
        [current.own.ends, current.authority_ends]
            .map(|ends| ends.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs())
    }

    /// What became of attempts to replace them.
    pub fn reloads(&self) -> Reloads {
        Reloads {
            failing: self.shared.failing.load(Ordering::Relaxed),
            replaced: self.shared.replaced.load(Ordering::Relaxed),
            failed: self.shared.failed.load(Ordering::Relaxed),
        }
    }
}

async fn look_again(
    files: Files,
    mut last: Octets,
    replace: watch::Sender<Arc<Material>>,
    shared: Arc<Shared>,
) {
    let mut tick = interval(LOOK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut wrong = Wrong::default();
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = shared.look.notified() => {}
            () = replace.closed() => return,
        }
        let read = files.clone();
        let Ok(read) = tokio::task::spawn_blocking(move || read.read()).await else { continue };
        let judged = match read {
            Ok(octets) if octets == last && wrong.looks == 0 => continue,
            Ok(octets) => replacement(&files, octets, &replace.borrow().identity),
            Err(error) => Err(error),
        };
        match judged {
            Ok((octets, material)) => {
                if octets != last {
                    tracing::info!("certificate and key are those of {} now", material.identity);
                    replace.send_replace(Arc::new(material));
                    shared.replaced.fetch_add(1, Ordering::Relaxed);
                    last = octets;
                }
                wrong = Wrong::default();
                shared.failing.store(false, Ordering::Relaxed);
            }
            Err(error) => failed(&error, &mut wrong, &shared),
        }
    }
}

fn replacement(
    files: &Files,
    octets: Octets,
    was: &Identity,
) -> Result<(Octets, Material), LoadError> {
    let material = files.judge(&octets, now())?;
    if material.identity != *was {
        let (is, was) = (material.identity, was.clone());
        return Err(LoadError::Another { file: files.cert.clone(), is, was });
    }
    Ok((octets, material))
}

/// What was wrong at the last looks.
#[derive(Debug, Default)]
struct Wrong {
    what: Option<(Discriminant<LoadError>, PathBuf)>,
    /// So many in a row.
    looks: u32,
}

/// Who renews three files does so one after the other: what is wrong once may be right at the next look. Looks are counted, and not
/// sentences compared: some of them hold the time. Who mends one mistake by another is told of that too.
fn failed(error: &LoadError, wrong: &mut Wrong, shared: &Shared) {
    let what = Some(error.kind());
    if wrong.what != what {
        *wrong = Wrong { what, looks: 0 };
    }
    wrong.looks = wrong.looks.saturating_add(1);
    if wrong.looks == 2 {
        tracing::error!("the certificate stays as it was: {}", crate::sentence(error));
        shared.failed.fetch_add(1, Ordering::Relaxed);
        shared.failing.store(true, Ordering::Relaxed);
    }
}
