//! A device that goes away while it is open, and one whose addresses and link change.

use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use railgauge_core::rdma::reliability::Profile;
use railgauge_core::time::Monotonic;
use railgauge_fabric::clock;
use railgauge_fabric::socket::Waiter;
use railgauge_fabric::verbs::{
    AsyncEvent, Context, EventCode, Presence, Stamps, Undestroyed, undestroyed,
};
use serde_json::json;

use crate::connections::connected;
use crate::ends::{End, PATIENCE, since};
use crate::ledger::{Ledger, Trouble};

/// How often a watcher asks.
const TICK: Duration = Duration::from_millis(100);
/// How soon a removed device has to be noticed and let go.
const PROMPT: Duration = Duration::from_secs(1);
/// How long a deletion is seen to wait before the device is let go.
const WAITING: Duration = Duration::from_millis(300);
/// The address that comes and goes.
const ADDRESS: &str = "10.77.9.9/32";

fn run_command(program: &str, arguments: &[&str]) -> Result<(), Trouble> {
    let output = Command::new(program).args(arguments).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(format!("{program} {}: {said}", arguments.join(" ")).into())
}

/// Sleeps a tick, or until the device has something to say.
fn tick(context: &Context) -> Result<(), Trouble> {
    Ok(Waiter::new([context.event_fd().as_fd()].into_iter()).wait(TICK)?)
}

/// Events that come until `wanted` is among them.
fn events_until(context: &Context, wanted: EventCode) -> Result<Vec<AsyncEvent>, Trouble> {
    let (begin, mut events) = (clock::monotonic(), Vec::new());
    while since(begin) < PATIENCE {
        tick(context)?;
        while let Some(event) = context.next_event()? {
            events.push(event);
        }
        if events.iter().any(|event| event.code == wanted) {
            break;
        }
    }
    Ok(events)
}

/// An address more, an address less, link down, link up.
pub fn events(ledger: &mut Ledger, device: &str, netdev: &str) -> Result<(), Trouble> {
    let context = Context::open(device)?;
    let add: &[&str] = &["addr", "add", ADDRESS, "dev", netdev];
    let remove: &[&str] = &["addr", "del", ADDRESS, "dev", netdev];
    let down: &[&str] = &["link", "set", netdev, "down"];
    let up: &[&str] = &["link", "set", netdev, "up"];
    for (change, wanted) in [
        (add, EventCode::GID_CHANGE),
        (remove, EventCode::GID_CHANGE),
        (down, EventCode::PORT_ERROR),
        (up, EventCode::PORT_ACTIVE),
    ] {
        let before = context.gid_table(1)?;
        run_command("ip", change)?;
        let events = events_until(&context, wanted)?;
        let said: Vec<String> =
            events.iter().map(|event| format!("{} {:?}", event.code, event.subject)).collect();
        let (after, active) = (context.gid_table(1)?, context.port(1)?.is_active());
        let held =
            events.iter().any(|event| event.code == wanted && event.code.changes_addresses());
        let figures = json!({
            "events": said, "gids_before": before.len(), "gids_after": after.len(), "active": active,
        });
        ledger.check(&format!("ip {}", change.join(" ")), held, &figures)?;
    }
    Ok(())
}

/// Deletes `peer` while it is open and in use, adds it again, as often as `count`.
pub fn run(
    ledger: &mut Ledger,
    device: &str,
    peer: &str,
    netdev: &str,
    count: u64,
) -> Result<(), Trouble> {
    let here = End::open(device, Stamps::Best)?;
    let mut descriptors = Vec::new();
    for _ in 0..count {
        removal(ledger, &here, peer, netdev)?;
        run_command("rdma", &["link", "add", peer, "type", "rxe", "netdev", netdev])?;
        descriptors.push(std::fs::read_dir("/proc/self/fd")?.count());
    }
    let there = End::open(peer, Stamps::Best)?;
    let works = connected(&here, &there, Profile::Continuous.reliability()).is_ok();
    let none_left = undestroyed() == Undestroyed::default();
    let steady = descriptors.windows(2).all(|pair| pair[0] == pair[1]);
    let figures = json!({
        "descriptors": descriptors, "undestroyed": format!("{:?}", undestroyed()), "works_again": works,
    });
    ledger.check(
        "a device that comes back works, and nothing is left",
        works && none_left && steady,
        &figures,
    )
}

fn removal(ledger: &mut Ledger, here: &End, peer: &str, netdev: &str) -> Result<(), Trouble> {
    let there = End::open(peer, Stamps::Best)?;
    let (ours, theirs) = connected(here, &there, Profile::Continuous.reliability())?;
    let datagrams = there.datagrams()?;
    let context = there.context.clone();

    let begin = clock::monotonic();
    let mut deletion =
        Command::new("rdma").args(["link", "delete", peer]).stderr(Stdio::piped()).spawn()?;
    let mut said = Vec::new();
    let why = loop {
        tick(&context)?;
        while let Ok(Some(event)) = context.next_event() {
            said.push(event.code.to_string());
        }
        match context.presence() {
            Presence::Gone(why) => break why,
            Presence::Present if since(begin) > PATIENCE => break "never noticed".to_owned(),
            Presence::Present => {}
        }
    };
    let noticed = since(begin);
    // The deletion waits for us: that is why watching is needed at all.
    let waits = !ended_within(&mut deletion, &context, WAITING)?;
    let letting_go = clock::monotonic();
    drop((theirs, datagrams, there, context));
    let succeeded = ended(&mut deletion, letting_go)?;
    let let_go = since(letting_go);
    drop(ours);
    let figures = json!({
        "netdev": netdev, "noticed_ms": noticed.as_millis(), "why": why, "events": said, "deletion_waits": waits,
        "let_go_ms": let_go.as_millis(), "deletion_succeeded": succeeded,
    });
    let held = noticed < PROMPT && waits && succeeded && let_go < PROMPT;
    ledger.check("a device is deleted while it is open", held, &figures)
}

/// Whether the child ends within `patience`.
fn ended_within(child: &mut Child, context: &Context, patience: Duration) -> Result<bool, Trouble> {
    let begin = clock::monotonic();
    while since(begin) < patience {
        if child.try_wait()?.is_some() {
            return Ok(true);
        }
        tick(context)?;
    }
    Ok(false)
}

/// Waits for the child, with a bound; true when it succeeded.
fn ended(child: &mut Child, begin: Monotonic) -> Result<bool, Trouble> {
    let mut nothing = Waiter::new(std::iter::empty());
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status.success());
        }
        if since(begin) > PATIENCE {
            child.kill()?;
            return Ok(false);
        }
        nothing.wait(Duration::from_millis(10))?;
    }
}
