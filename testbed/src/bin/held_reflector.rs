//! A reflector that keeps every request for a known time before it answers: the truth that `ping` has to tell.
//!
//! It is made of the shipped rules and sockets, but the wait is here, so that the shipped binaries hold no fault code
//! (design D13). It spins, so that the wait is what was asked for to the microsecond, and serves until it is killed.

use std::error::Error;
use std::io::Write;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use clap::Parser;
use railgauge_core::reflector::{Received, Reflector, ReflectorConfig};
use railgauge_core::time::Wall;
use railgauge_core::timestamp_source::StampSource;
use railgauge_fabric::clock;
use railgauge_fabric::socket::{
    Datagram, ErrorQueue, QueuedError, ReceiveBatch, ReplyRoute, UdpOptions, UdpSocket, Waiter,
};

/// What can be typed.
#[derive(Parser)]
struct Args {
    /// Where to listen.
    #[arg(long)]
    listen: SocketAddr,
    /// How long each request is kept, from its arrival stamp to just before the reply is handed over.
    #[arg(long)]
    hold_us: u64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let socket = UdpSocket::open(&UdpOptions {
        local: args.listen,
        peer: None,
        dscp: 0,
        ttl: 255,
        receive_buffer_bytes: 1 << 20,
        stamps: true,
    })?;
    socket.stamps().map_err(ToOwned::to_owned)?;
    let local = socket.local_addr();
    writeln!(
        std::io::stderr(),
        "listening on {local} (held); measure with: railgauge ping {local}"
    )?;
    let hold = args.hold_us * 1_000;
    let mut reflector = Reflector::new(ReflectorConfig { max_rate: None, ..Default::default() });
    let (mut batch, mut errors) = (ReceiveBatch::new(32, 2048), ErrorQueue::default());
    let mut waiter = Waiter::new(std::iter::once(socket.as_fd()));
    loop {
        waiter.wait(Duration::from_secs(1))?;
        socket.receive(&mut batch)?;
        for datagram in batch.iter() {
            answer(&socket, &datagram, hold, &mut reflector, &mut errors)?;
        }
    }
}

/// Answers one request; its departure stamp is there when the send returns, as these are loopback sockets.
fn answer(
    socket: &UdpSocket,
    datagram: &Datagram<'_>,
    hold_ns: u64,
    reflector: &mut Reflector,
    errors: &mut ErrorQueue,
) -> Result<(), Box<dyn Error>> {
    let (t2, t2_source) = datagram.stamp.ok_or("a request without an arrival stamp")?;
    let from = datagram.from.ok_or("a request without an address")?;
    let rx = Received { t2, t2_source, t3_source: StampSource::Kernel, ttl: datagram.ttl };
    let mut out = [0; 2048];
    let prepared = reflector.receive(clock::monotonic(), from, datagram.payload, rx, &mut out);
    let Ok(prepared) = prepared else { return Ok(()) };
    let until = Wall::from_unix_nanos(t2.as_unix_nanos() + hold_ns);
    while clock::wall() < until {
        std::hint::spin_loop();
    }
    let packet = prepared.finish(clock::wall(), &mut out);
    socket.reply(packet, &ReplyRoute { to: from, local: datagram.local, tos: None })?;
    errors.drain(socket, |entry| {
        if let (QueuedError::Transmitted { stamp, source, .. }, Some(token)) =
            (entry, prepared.token())
        {
            reflector.transmitted(token, stamp, source);
        }
    })?;
    Ok(())
}
