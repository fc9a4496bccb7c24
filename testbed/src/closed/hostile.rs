//! Who wants no answer: connections that say nothing, or something else, or too much, or too slowly. While they are there, who is served must be
//! served.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rand_pcg::Pcg64;
use rand_pcg::rand_core::{Rng as _, SeedableRng};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::Code;

use super::{Answer, Client, Person};

/// The preface of HTTP/2 (RFC 9113, section 3.4) and an empty SETTINGS.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// A try of somebody who is to be served.
const PATIENCE: Duration = Duration::from_secs(20);

/// What was held against the coordinator, and what it did to others.
#[derive(Debug, Default)]
pub struct Hostility {
    /// Sentences about what should not be.
    pub violations: Vec<String>,
    /// What happened.
    pub figures: Vec<Value>,
}

#[expect(clippy::disallowed_methods, reason = "how long somebody was kept waiting")]
fn now() -> Instant {
    Instant::now()
}

/// File descriptors for so many connections.
fn raise_limit(connections: usize) -> io::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let wanted = u64::try_from(connections).unwrap_or(u64::MAX) + 512;
    if hard < wanted {
        return Err(io::Error::other(format!("{hard} open files are allowed, {wanted} needed")));
    }
    Ok(setrlimit(Resource::RLIMIT_NOFILE, wanted, hard)?)
}

impl Hostility {
    /// All of it, against one coordinator. `viewer` is to be served, `agent` has a certificate and means ill.
    ///
    /// # Errors
    /// When it cannot be tried.
    pub async fn against(
        viewer: &Client,
        agent: &Person,
        connections: usize,
        seed: u64,
    ) -> io::Result<Self> {
        raise_limit(connections)?;
        let mut found = Self::default();
        for (what, to) in [("idle on gRPC", viewer.grpc), ("idle on pages", viewer.http)] {
            let idle = idle(to, connections).await?;
            found.served(what, idle.len(), viewer).await;
        }
        let mut random = Pcg64::seed_from_u64(seed);
        for to in [viewer.grpc, viewer.http] {
            for _ in 0..200 {
                noise(to, &mut random).await;
            }
        }
        found.served("noise instead of TLS", 400, viewer).await;
        let slow = slow_pages(viewer, 300).await;
        found.served("slow headers", slow.len(), viewer).await;
        drop(slow);
        let ill = Client { tls: agent.tls.clone(), ..viewer.clone() };
        let frames = frames(&ill, &mut random).await;
        found.served("frames that are none", frames, viewer).await;
        Ok(found)
    }

    /// Somebody is served while they are there.
    async fn served(&mut self, what: &str, many: usize, viewer: &Client) {
        let began = now();
        let rpc = timeout(PATIENCE, viewer.rpc("/railgauge.v1.Operator/ListNodes")).await;
        if !matches!(rpc, Ok(Answer::Rpc(Code::Ok, _))) {
            self.violations.push(format!("{what}: ListNodes came to {rpc:?}"));
        }
        let page = timeout(PATIENCE, viewer.page("/nodes.json")).await;
        if page != Ok(Answer::Page(200)) {
            self.violations.push(format!("{what}: /nodes.json came to {page:?}"));
        }
        let waited = began.elapsed().as_secs_f64();
        self.figures.push(json!({"what": what, "connections": many, "served_after_s": waited}));
    }
}

async fn idle(to: SocketAddr, many: usize) -> io::Result<Vec<TcpStream>> {
    let mut held = Vec::with_capacity(many);
    for _ in 0..many {
        held.push(TcpStream::connect(to).await?);
    }
    Ok(held)
}

/// Octets at random, behind the head of a TLS record or not.
async fn noise(to: SocketAddr, random: &mut Pcg64) {
    let mut octets = vec![0; usize::from(random.next_u32().to_be_bytes()[0]) * 64 + 5];
    random.fill_bytes(&mut octets);
    if random.next_u32().is_multiple_of(2) {
        octets[..3].copy_from_slice(&[0x16, 3, 1]);
    }
    if let Ok(mut stream) = TcpStream::connect(to).await {
        // It may be closed at any of these.
        drop(stream.write_all(&octets).await);
        drop(stream.shutdown().await);
    }
}

/// Connections to the pages that have begun a request and do not end it.
async fn slow_pages(viewer: &Client, many: usize) -> Vec<impl Sized + use<>> {
    let mut held = Vec::new();
    for _ in 0..many {
        if let Ok(mut stream) = viewer.dial(b"http/1.1", viewer.http).await {
            drop(stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ").await);
            drop(stream.flush().await);
            held.push(stream);
        }
    }
    held
}

/// In TLS, with a certificate: a frame larger than any, headers without end, streams without number, frames at random.
async fn frames(client: &Client, random: &mut Pcg64) -> usize {
    let mut noise = vec![0; 20_000];
    random.fill_bytes(&mut noise);
    let huge = [&[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1][..], &noise].concat();
    // HEADERS without END_HEADERS, then CONTINUATION after CONTINUATION (the flood of CVE-2024-27316).
    let mut endless = vec![0, 0x10, 0, 1, 0, 0, 0, 0, 1];
    endless.extend_from_slice(&noise[..4_096]);
    for _ in 0..200 {
        endless.extend_from_slice(&[0, 0x10, 0, 9, 0, 0, 0, 0, 1]);
        endless.extend_from_slice(&noise[..4_096]);
    }
    // A PING and a RST_STREAM for a stream each time (the rapid reset of CVE-2023-44487).
    let mut resets = Vec::new();
    for stream in (1_u32..20_001).step_by(2) {
        resets.extend_from_slice(&[0, 0, 1, 1, 5]);
        resets.extend_from_slice(&stream.to_be_bytes());
        resets.push(0x82);
        resets.extend_from_slice(&[0, 0, 4, 3, 0]);
        resets.extend_from_slice(&stream.to_be_bytes());
        resets.extend_from_slice(&[0, 0, 0, 8]);
    }
    let mut tried = 0;
    for frames in [huge, endless, resets, noise] {
        for _ in 0..10 {
            let Ok(mut stream) = client.dial(b"h2", client.grpc).await else { continue };
            tried += 1;
            // It is closed somewhere in this.
            let sent = async {
                stream.write_all(PREFACE).await?;
                stream.write_all(&frames).await?;
                stream.flush().await
            };
            drop(timeout(Duration::from_secs(5), sent).await);
            let mut rest = vec![0; 65_536];
            drop(timeout(Duration::from_millis(200), stream.read(&mut rest)).await);
        }
    }
    tried
}
