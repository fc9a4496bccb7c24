//! Making and dropping everything: nothing may be left in the kernel, in the process, or in memory.

use std::process::Command;

use railgauge_core::rdma::reliability::Profile;
use railgauge_fabric::clock;
use railgauge_fabric::verbs::{Stamps, Undestroyed, undestroyed};
use serde_json::{Value, json};

use crate::connections::connected;
use crate::ends::{End, since};
use crate::ledger::{Ledger, Trouble};

/// Cycles before the first count: libraries and the allocator take what they keep.
const WARM_UP: u64 = 100;
/// What resident memory may move, in KiB: less than a byte a cycle would show at ten thousand of them, as pages.
const RESIDENT_KIB: u64 = 2048;

pub fn run(ledger: &mut Ledger, device: &str, peer: &str, count: u64) -> Result<(), Trouble> {
    let contexts = (End::open(device, Stamps::None)?, End::open(peer, Stamps::None)?);
    for _ in 0..WARM_UP {
        cycle(&contexts.0, &contexts.1)?;
    }
    let (before, begin) = (Left::look()?, clock::monotonic());
    for round in 0..count {
        cycle(&contexts.0, &contexts.1)?;
        // Opening costs more: one in a hundred.
        if round % 100 == 0 {
            drop(End::open(device, Stamps::Best)?);
        }
    }
    let (took, after) = (since(begin), Left::look()?);
    let figures = json!({
        "count": count, "took_s": took.as_secs_f64(), "before": before.figures(), "after": after.figures(),
    });
    let kept = after.resident_kib.saturating_sub(before.resident_kib);
    let held = after.descriptors == before.descriptors
        && after.resources == before.resources
        && after.undestroyed == Undestroyed::default()
        && kept < RESIDENT_KIB;
    ledger.check("nothing is left after making and dropping everything", held, &figures)
}

/// Two ends with all kinds of objects, dropped in an order that changes.
fn cycle(here: &End, there: &End) -> Result<(), Trouble> {
    let (ours, theirs) =
        (End::on(&here.context, Stamps::Best)?, End::on(&there.context, Stamps::None)?);
    let channel = ours.context.completion_channel()?;
    let datagrams = ours.datagrams()?;
    let way = ours.domain.address_handle(&ours.way(&theirs))?;
    let (from, to) = connected(&ours, &theirs, Profile::Continuous.reliability())?;
    drop(ours);
    drop(to);
    drop((channel, way));
    drop(theirs);
    drop((from, datagrams));
    Ok(())
}

/// What a process holds.
struct Left {
    descriptors: usize,
    /// As `rdma resource` counts them: by device, all processes.
    resources: Value,
    resident_kib: u64,
    undestroyed: Undestroyed,
}

impl Left {
    fn look() -> Result<Self, Trouble> {
        let output = Command::new("rdma").args(["-j", "resource", "show"]).output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(format!("rdma resource show fails: {said}").into());
        }
        let status = std::fs::read_to_string("/proc/self/status")?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let resident = resident.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
        Ok(Self {
            descriptors: std::fs::read_dir("/proc/self/fd")?.count(),
            resources: serde_json::from_slice(&output.stdout)?,
            resident_kib: resident.ok_or("no VmRSS in /proc/self/status")?,
            undestroyed: undestroyed(),
        })
    }

    fn figures(&self) -> Value {
        json!({
            "descriptors": self.descriptors, "resources": self.resources,
            "resident_kib": self.resident_kib, "undestroyed": format!("{:?}", self.undestroyed),
        })
    }
}
