//! RC between two devices: each operation, and each way in which one goes wrong.

use std::time::Duration;

use railgauge_core::rdma::reliability::{Profile, Reliability};
use railgauge_fabric::clock;
use railgauge_fabric::verbs::{
    Access, Data, Flags, Opcode, RcConnection, RcParameters, RcQueuePair, Remote, Stamps, Status,
    UnconnectedRc, Work,
};
use serde_json::json;

use crate::ends::{End, PATIENCE, since};
use crate::ledger::{Ledger, Trouble};

/// Where reads and atomics put what they found.
const FOUND: usize = 48 << 10;

pub fn run(ledger: &mut Ledger, device: &str, peer: &str, count: u64) -> Result<(), Trouble> {
    let mut here = End::open(device, Stamps::Best)?;
    let mut there = End::open(peer, Stamps::Best)?;
    operations(ledger, &mut here, &mut there, count)?;
    failures(ledger, &mut here, &mut there)
}

fn parameters() -> RcParameters {
    RcParameters { port: 1, partition_key_index: 0, access: Access::REMOTE }
}

fn connection(from: &End, to: &End, queue_pair: u32, reliability: Reliability) -> RcConnection {
    RcConnection {
        way: from.way(to),
        queue_pair,
        path_mtu: from.mtu.between(to.mtu),
        packet_sequence: 0x00ab_cdef,
        peer_packet_sequence: 0x00ab_cdef,
        reliability,
        max_reads_out: 1,
        max_reads_in: 1,
    }
}

/// Two queue pairs, each the other's peer.
pub fn connected(
    here: &End,
    there: &End,
    reliability: Reliability,
) -> Result<(RcQueuePair, RcQueuePair), Trouble> {
    let ours = UnconnectedRc::new(&here.domain, &here.options(), &parameters())?;
    let theirs = UnconnectedRc::new(&there.domain, &there.options(), &parameters())?;
    let (our_number, their_number) = (ours.number(), theirs.number());
    Ok((
        ours.connect(&connection(here, there, their_number, reliability))?,
        theirs.connect(&connection(there, here, our_number, reliability))?,
    ))
}

fn remote(end: &End, offset: u64) -> Remote {
    Remote { address: end.region.address() + offset, key: end.region.remote_key() }
}

/// Does one piece of work and waits for its completion.
fn work(end: &mut End, pair: &mut RcQueuePair, work: &Work<'_>) -> Result<Duration, Trouble> {
    let begin = clock::monotonic();
    pair.post(9, work, Flags::SIGNALED)?;
    let completion = end.done()?;
    if completion.id != 9 || completion.opcode.is_receive() {
        return Err(format!("not the completion that was waited for: {completion:?}").into());
    }
    Ok(since(begin))
}

fn operations(
    ledger: &mut Ledger,
    here: &mut End,
    there: &mut End,
    count: u64,
) -> Result<(), Trouble> {
    let profile = Profile::Continuous.reliability();
    let (mut ours, mut theirs) = connected(here, there, profile)?;
    let asked = profile.codes();
    let said = ours.query()?;
    let figures = json!({
        "asked": asked, "in_force": format!("{said:?}"), "writes_in_order": ours.writes_in_order(),
        "inline_octets": ours.max_inline_bytes(),
    });
    let same = [said.ack_timeout, said.retries, said.rnr_retries] == asked[..3];
    ledger.check("parameters are in force", same, &figures)?;

    let mut times: [Vec<Duration>; 6] = Default::default();
    for round in 0..count {
        let text = format!("round {round:026}");
        let data = Data::Inline(text.as_bytes());
        let to = remote(there, 0);
        let write = Work::Write { data, to, immediate: None };
        times[0].push(work(here, &mut ours, &write)?);
        seen(there, 0, text.as_bytes())?;

        theirs.post_receive(1, None)?;
        let write = Work::Write { data, to: remote(there, 64), immediate: Some(7) };
        times[1].push(work(here, &mut ours, &write)?);
        let completion = there.done()?;
        if completion.opcode != Opcode::RECEIVE_WRITE || completion.immediate != Some(7) {
            return Err(format!("no write with immediate: {completion:?}").into());
        }
        seen(there, 64, text.as_bytes())?;

        theirs.post_receive(2, there.region.slice(128, 64))?;
        let send = Work::Send { data, immediate: None };
        times[2].push(work(here, &mut ours, &send)?);
        let completion = there.done()?;
        if completion.opcode != Opcode::RECEIVE || completion.bytes as usize != text.len() {
            return Err(format!("no send: {completion:?}").into());
        }
        seen(there, 128, text.as_bytes())?;

        times[3].push(one_sided(here, &mut ours, remote(there, 128), text.len())?);
        seen(here, FOUND, text.as_bytes())?;
    }
    for round in 0..count {
        let add = Atomic::Add(3);
        times[4].push(atomic(here, &mut ours, remote(there, 1024), add)?);
        number(here, FOUND, round * 3)?;
    }
    for round in 0..count {
        let swap = Atomic::Swap { expected: count * 3 + round, new: count * 3 + round + 1 };
        times[5].push(atomic(here, &mut ours, remote(there, 1024), swap)?);
        number(there, 1024, count * 3 + round + 1)?;
    }
    let medians = times.map(|mut times| {
        times.sort_unstable();
        times[times.len() / 2].as_micros()
    });
    let [write, write_immediate, send, read, add, swap] = medians;
    let figures = json!({
        "count": count, "p50_us": { "write": write, "write_immediate": write_immediate,
        "send": send, "read": read, "fetch_add": add, "compare_swap": swap },
    });
    ledger.check("every operation does what it says", true, &figures)
}

fn one_sided(
    end: &mut End,
    pair: &mut RcQueuePair,
    from: Remote,
    octets: usize,
) -> Result<Duration, Trouble> {
    let begin = clock::monotonic();
    let into = end.region.slice(FOUND, u32::try_from(octets)?).ok_or("outside the region")?;
    pair.post(9, &Work::Read { into, from }, Flags::SIGNALED)?;
    end.done()?;
    Ok(since(begin))
}

enum Atomic {
    Add(u64),
    Swap { expected: u64, new: u64 },
}

fn atomic(
    end: &mut End,
    pair: &mut RcQueuePair,
    at: Remote,
    atomic: Atomic,
) -> Result<Duration, Trouble> {
    let begin = clock::monotonic();
    let into = end.region.slice(FOUND, 8).ok_or("outside the region")?;
    let work = match atomic {
        Atomic::Add(add) => Work::FetchAdd { into, at, add },
        Atomic::Swap { expected, new } => Work::CompareSwap { into, at, expected, new },
    };
    pair.post(9, &work, Flags::SIGNALED)?;
    end.done()?;
    Ok(since(begin))
}

fn seen(end: &End, offset: usize, text: &[u8]) -> Result<(), Trouble> {
    let mut bytes = vec![0; text.len()];
    end.region.host().ok_or("no host memory")?.read(offset, &mut bytes);
    if bytes == text { Ok(()) } else { Err(format!("found {bytes:?} at {offset}").into()) }
}

fn number(end: &End, offset: usize, expected: u64) -> Result<(), Trouble> {
    seen(end, offset, &expected.to_ne_bytes())
}

fn failures(ledger: &mut Ledger, here: &mut End, there: &mut End) -> Result<(), Trouble> {
    // 4.2 ms, one retry, one retry while not ready, 0.64 ms.
    let brief = Reliability::from_codes([10, 1, 1, 12])?;
    let write = |to| Work::Write { data: Data::Inline(b"x"), to, immediate: None };

    let (mut ours, theirs) = connected(here, there, brief)?;
    let wrong = Remote { key: there.region.remote_key() ^ 0x55, ..remote(there, 0) };
    let status = fails(here, &mut ours, &write(wrong))?;
    expect(ledger, "a wrong key", status, Status::REMOTE_ACCESS)?;
    let after = fails(here, &mut ours, &write(remote(there, 0)))?;
    expect(ledger, "work after a failure", after, Status::FLUSHED)?;
    drop((ours, theirs));

    let (mut ours, theirs) = connected(here, there, brief)?;
    drop(theirs);
    let begin = clock::monotonic();
    let status = fails(here, &mut ours, &write(remote(there, 0)))?;
    let took = since(begin);
    expect(ledger, "a peer that has gone", status, Status::RETRIES_EXCEEDED)?;
    // Two tries of one to four time-outs each; an emulated machine's timers are late.
    let held = took < PATIENCE;
    ledger.check("a dead path is an error soon", held, &json!({ "took_ms": took.as_millis() }))?;

    let (mut ours, theirs) = connected(here, there, brief)?;
    let send = Work::Send { data: Data::Inline(b"x"), immediate: None };
    let status = fails(here, &mut ours, &send)?;
    expect(ledger, "a peer without a receive", status, Status::RNR_RETRIES_EXCEEDED)?;
    drop((ours, theirs));

    // Memory that is dropped under a posted receive: an error, and nothing is written where it was.
    let (mut ours, mut theirs) = connected(here, there, brief)?;
    let region = there.domain.register(4096, Default::default(), Access::REMOTE)?;
    theirs.post_receive(3, region.slice(0, 64))?;
    drop(region);
    ours.post(9, &send, Flags::SIGNALED)?;
    let status = there.next()?.status;
    let sender = here.next()?.status;
    let held = !status.is_success() && !sender.is_success();
    let figures = json!({ "receiver": status.to_string(), "sender": sender.to_string() });
    ledger.check("memory dropped under a receive", held, &figures)
}

fn fails(end: &mut End, pair: &mut RcQueuePair, work: &Work<'_>) -> Result<Status, Trouble> {
    pair.post(9, work, Flags::SIGNALED)?;
    Ok(end.next()?.status)
}

fn expect(
    ledger: &mut Ledger,
    name: &str,
    status: Status,
    expected: Status,
) -> Result<(), Trouble> {
    let figures = json!({ "status": status.to_string(), "number": status.0 });
    ledger.check(&format!("{name}: {expected}"), status == expected, &figures)
}
