//! UD between two devices.

use std::os::fd::AsFd;
use std::time::Duration;

use railgauge_core::rdma::mtu::GRH_OCTETS;
use railgauge_fabric::clock;
use railgauge_fabric::socket::Waiter;
use railgauge_fabric::verbs::{
    AddressCache, AddressHandle, CompletionQueueOptions, Data, Datagram, Flags, Stamps, UdQueuePair,
};
use serde_json::json;

use crate::ends::{End, PATIENCE, QUEUE_KEY, since};
use crate::ledger::{Ledger, Trouble, chain};

const OCTETS: u32 = 48;
const ROOM: u32 = GRH_OCTETS + OCTETS;
/// Where sends come from, out of the way of receives.
const OUTBOX: usize = 32 << 10;
/// How long nothing has to come to be nothing.
const SILENCE: Duration = Duration::from_millis(300);

pub fn run(ledger: &mut Ledger, device: &str, peer: &str, count: u64) -> Result<(), Trouble> {
    for (name, stamps) in [
        ("datagrams there and back", Stamps::Best),
        ("datagrams by extended polling", Stamps::NoneExtended),
    ] {
        let (mut here, mut there) = (End::open(device, stamps)?, End::open(peer, stamps)?);
        there_and_back(ledger, name, &mut here, &mut there, count)?;
    }
    let (mut here, mut there) = (End::open(device, Stamps::Best)?, End::open(peer, Stamps::Best)?);
    refused(ledger, &mut here, &mut there)?;
    sleeping(ledger, here, there)
}

/// A device that talks to itself, and one end that does.
pub fn to_itself(ledger: &mut Ledger, device: &str, count: u64) -> Result<(), Trouble> {
    let (mut here, mut there) =
        (End::open(device, Stamps::Best)?, End::open(device, Stamps::Best)?);
    there_and_back(ledger, "datagrams to itself", &mut here, &mut there, count)
}

/// Sends one datagram, by its completion.
fn send(
    end: &mut End,
    pair: &mut UdQueuePair,
    to: (&AddressHandle, u32, u32),
    inline: bool,
    text: &[u8],
) -> Result<(), Trouble> {
    let data = if inline {
        Data::Inline(text)
    } else {
        end.region.host().ok_or("no host memory")?.write(OUTBOX, text);
        let length = u32::try_from(text.len())?;
        Data::Region(end.region.slice(OUTBOX, length).ok_or("outside the region")?)
    };
    let (to, queue_pair, queue_key) = to;
    let datagram = Datagram { to, queue_pair, queue_key, data, immediate: Some(0x0a0b_0c0d) };
    pair.post_send(7, &datagram, Flags::SIGNALED)?;
    Ok(())
}

fn receive(end: &End, pair: &mut UdQueuePair) -> Result<(), Trouble> {
    Ok(pair.post_receive(1, end.region.slice(0, ROOM).ok_or("outside the region")?)?)
}

/// Waits for a receive; sends of this end may complete before it.
fn received(end: &mut End, from: u32, text: &[u8]) -> Result<(), Trouble> {
    let completion = loop {
        let completion = end.done()?;
        if completion.opcode.is_receive() {
            break completion;
        }
    };
    let mut bytes = vec![0; text.len()];
    end.region.host().ok_or("no host memory")?.read(GRH_OCTETS as usize, &mut bytes);
    let as_sent = completion.bytes as usize == GRH_OCTETS as usize + text.len()
        && completion.source_queue_pair == from
        && completion.immediate == Some(0x0a0b_0c0d)
        && completion.has_global_route
        && bytes == text;
    if as_sent { Ok(()) } else { Err(format!("not what was sent: {completion:?}").into()) }
}

/// Ping-pong, with inline data and without in turn; at the end nothing may come that was not sent.
fn there_and_back(
    ledger: &mut Ledger,
    name: &str,
    here: &mut End,
    there: &mut End,
    count: u64,
) -> Result<(), Trouble> {
    let (mut ours, mut theirs) = (here.datagrams()?, there.datagrams()?);
    let mut ways = AddressCache::new(&here.domain, 4);
    let back = there.domain.address_handle(&there.way(here))?;
    let mut times = Vec::new();
    for round in 0..count {
        let text = format!("datagram {round:039}");
        receive(there, &mut theirs)?;
        receive(here, &mut ours)?;
        let begin = clock::monotonic();
        let way = ways.get(&here.way(there))?;
        let inline = round % 2 == 0;
        send(here, &mut ours, (way, theirs.number(), QUEUE_KEY), inline, text.as_bytes())?;
        received(there, ours.number(), text.as_bytes())?;
        send(there, &mut theirs, (&back, ours.number(), QUEUE_KEY), inline, text.as_bytes())?;
        received(here, theirs.number(), text.as_bytes())?;
        times.push(since(begin));
    }
    let mut left = 0;
    while let Some(completion) = here.within(SILENCE)? {
        left += u64::from(completion.opcode.is_receive());
    }
    while let Some(completion) = there.within(SILENCE)? {
        left += u64::from(completion.opcode.is_receive());
    }
    times.sort_unstable();
    let [without, backwards] = [
        here.stamps.without + there.stamps.without,
        here.stamps.backwards + there.stamps.backwards,
    ];
    let figures = json!({
        "unstamped": without, "stamped_backwards": backwards,
        "count": count, "p50_us": times[times.len() / 2].as_micros(), "from_nowhere": left,
        "ways": ways.len(), "inline_octets": ours.max_inline_bytes(), "clock": format!("{:?}", here.queue.clock()),
    });
    let held = left == 0 && ways.len() == 1 && without == 0 && backwards == 0;
    ledger.check(name, held, &figures)
}

/// A wrong queue key and a datagram beyond the MTU reach nobody, and the pair lives on.
fn refused(ledger: &mut Ledger, here: &mut End, there: &mut End) -> Result<(), Trouble> {
    let (mut ours, mut theirs) = (here.datagrams()?, there.datagrams()?);
    let way = here.domain.address_handle(&here.way(there))?;
    let to = (&way, theirs.number());
    receive(there, &mut theirs)?;
    send(here, &mut ours, (to.0, to.1, QUEUE_KEY + 1), true, b"wrong key")?;
    here.done()?;
    let silent = there.within(SILENCE)?.is_none();
    ledger.check("a wrong queue key reaches nobody", silent, &json!({}))?;

    let long = vec![0; here.mtu.octets() as usize + 1];
    let posted = send(here, &mut ours, (to.0, to.1, QUEUE_KEY), false, &long);
    let ended = match posted {
        Ok(()) => here.within(PATIENCE)?.map_or_else(
            || "never completes".to_owned(),
            |completion| format!("completes: {}", completion.status),
        ),
        Err(error) => format!("not posted: {}", chain(&*error)),
    };
    let silent = there.within(SILENCE)?.is_none();
    ledger.check(
        "a datagram beyond the MTU reaches nobody",
        silent,
        &json!({ "sender": ended }),
    )?;

    let too_long = vec![0; ours.max_inline_bytes() as usize + 1];
    let posted = send(here, &mut ours, (to.0, to.1, QUEUE_KEY), true, &too_long);
    let why = posted.map_or_else(|error| chain(&*error), |()| "posted".to_owned());
    ledger.check(
        "too much for inline is refused",
        why.contains("do not fit"),
        &json!({ "why": why }),
    )?;

    let mut others = here.datagrams()?;
    let foreign = send(
        here,
        &mut others,
        (&there.domain.address_handle(&there.way(here))?, 1, 1),
        true,
        b"x",
    );
    let why = foreign.map_or_else(|error| chain(&*error), |()| "posted".to_owned());
    ledger.check(
        "an address handle of another device is refused",
        why.contains("another protection domain"),
        &json!({ "why": why }),
    )?;

    let state = ours.query()?.state;
    ours.fail()?;
    let flushed = ours.query()?.state;
    let figures = json!({ "before": state.to_string(), "after": flushed.to_string() });
    ledger.check("a queue pair says its state", state != flushed, &figures)
}

/// A channel wakes a sleeper, by token, and says nothing before.
fn sleeping(ledger: &mut Ledger, mut here: End, mut there: End) -> Result<(), Trouble> {
    const TOKEN: u64 = 0xfeed_f00d_dead_beef;
    let channel = there.context.completion_channel()?;
    let options = CompletionQueueOptions {
        channel: Some(&channel),
        token: TOKEN,
        ..CompletionQueueOptions::default()
    };
    there.queue = there.context.completion_queue(&options)?;
    let (mut ours, mut theirs) = (here.datagrams()?, there.datagrams()?);
    let way = here.domain.address_handle(&here.way(&there))?;
    receive(&there, &mut theirs)?;
    there.queue.arm()?;
    let quiet = channel.next()?.is_none();
    send(&mut here, &mut ours, (&way, theirs.number(), QUEUE_KEY), true, b"wake up")?;
    let fd = channel.fd();
    let begin = clock::monotonic();
    Waiter::new([fd.as_fd()].into_iter()).wait(PATIENCE)?;
    let slept = since(begin);
    let token = channel.next()?;
    received(&mut there, ours.number(), b"wake up")?;
    // The channel goes before its queue, the queue before its pair: the order is the owners' business, not ours.
    drop(channel);
    drop(there);
    drop(theirs);
    let held = quiet && token == Some(TOKEN) && slept < PATIENCE;
    ledger.check("a channel wakes a sleeper", held, &json!({ "slept_us": slept.as_micros() }))
}
