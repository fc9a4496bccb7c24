//! The counters of RDMA ports, from sysfs under a given root
//! (Documentation/ABI/stable/sysfs-class-infiniband). What they mean is in `railgauge_core::rdma::counters`.

use std::collections::BTreeMap;
use std::time::Duration;

use railgauge_core::rdma::counters::{CounterReading, CounterSet, Group};
use railgauge_core::time::Monotonic;

use crate::inventory::{Reading, Roots, tree::Tree};

const DIRECTORY: &str = "class/infiniband";
/// How long a driver keeps its counters if it does not say (`RDMA_HW_STATS_DEFAULT_LIFESPAN`, include/rdma/ib_verbs.h).
const LIFESPAN: Duration = Duration::from_millis(10);
/// The longest that is believed. Longer than a window nothing would ever be known; who sets that wants no reads.
const LONGEST_LIFESPAN: Duration = Duration::from_mins(1);
/// More counters than any driver has in one directory; the rest is left out.
const MOST_COUNTERS: usize = 256;
/// The longest name of a counter, in octets: names become labels of metrics.
const LONGEST_NAME: usize = 64;

/// The counters of a port could not be read at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CountersError {
    /// No such device or port, now.
    #[error("there is no port {port} of an RDMA device {device:?}")]
    NoPort {
        /// The device as given.
        device: String,
        /// The port as given.
        port: u32,
    },
    /// The directory is there and does not open.
    #[error("the counters of {device}/{port} cannot be listed: {reason}")]
    Unreadable {
        /// The device.
        device: String,
        /// Its port.
        port: u32,
        /// Why.
        reason: String,
    },
}

/// All ports there are, as device and number; none where there is no RDMA.
pub fn ports(roots: &Roots) -> Vec<(String, u32)> {
    let sysfs = Tree::sysfs(roots);
    let devices = sysfs.names_or_none(DIRECTORY).into_iter();
    let of = |device: String| {
        let directory = format!("{DIRECTORY}/{device}/ports");
        let names = sysfs.names_or_none(&directory);
        let numbers = sysfs.numbered(&directory, &names, "");
        numbers.into_iter().map(move |port| (device.clone(), port)).collect::<Vec<_>>()
    };
    devices.flat_map(of).collect()
}

/// Reads every counter of a port. `at` is the time just before, by the host's monotonic clock.
///
/// Counters of the port's agent are asked of the device one by one, some tens of microseconds each: not for a probe thread.
///
/// # Errors
/// When the port is not there, or hidden.
pub fn read(
    roots: &Roots,
    device: &str,
    port: u32,
    at: Monotonic,
) -> Result<CounterSet, CountersError> {
    let sysfs = Tree::sysfs(roots);
    let no_port = || CountersError::NoPort { device: device.to_owned(), port };
    if !is_plain(device) {
        return Err(no_port());
    }
    let path = format!("{DIRECTORY}/{device}/ports/{port}");
    let incarnation = match sysfs.identity(&path) {
        Reading::Known(identity) => identity,
        Reading::Unsupported(_) => return Err(no_port()),
        Reading::Failed(reason) => {
            return Err(CountersError::Unreadable { device: device.to_owned(), port, reason });
        }
    };
    let mut readings = BTreeMap::new();
    for group in [Group::Port, Group::Driver] {
        let directory = format!("{path}/{}", group.directory());
        let names = sysfs.names_or_none(&directory);
        // A setting and not a counter.
        let names = names.into_iter().filter(|name| name != "lifespan" && is_plain(name));
        for name in names.take(MOST_COUNTERS) {
            let reading = reading(&sysfs.text(&format!("{directory}/{name}")));
            if reading != CounterReading::Missing {
                readings.insert((group, name.into()), reading);
            }
        }
    }
    Ok(CounterSet { at, incarnation, lifespan: lifespan(&sysfs, &path), readings })
}

/// A name that stays in its directory, and fits a label.
fn is_plain(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    (1..=LONGEST_NAME).contains(&name.len()) && name.chars().all(plain) && !name.starts_with('.')
}

/// A file that has gone since it was listed, or whose driver declines, is a counter that is not there.
fn reading(text: &Reading<String>) -> CounterReading {
    match text {
        Reading::Known(text) => CounterReading::parse(text),
        Reading::Unsupported(_) => CounterReading::Missing,
        Reading::Failed(why) => CounterReading::Unreadable(why.clone()),
    }
}

fn lifespan(sysfs: &Tree, port: &str) -> Duration {
    let file = format!("{port}/{}/lifespan", Group::Driver.directory());
    match sysfs.number::<u64>(&file) {
        Reading::Known(ms) => Duration::from_millis(ms).min(LONGEST_LIFESPAN),
        Reading::Unsupported(_) | Reading::Failed(_) => LIFESPAN,
    }
}
