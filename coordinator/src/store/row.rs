//! Keys and values of the tables. Every value carries a CRC over key and content, as redb checks its own checksums only after a crash:
//! what a flipped bit makes of a row is found when it is read.

use prost::Message as _;
use railgauge_core::path::{Endpoint, Memory, NodeName, Path, PortName, Transport};
use railgauge_core::path_window::{Parameters, PathWindow};
use railgauge_proto::{convert, v1};

use super::file::FileError;

fn damaged(what: &str) -> FileError {
    FileError::Damaged(what.into())
}

fn crc(key: &[u8], content: &[u8]) -> [u8; 4] {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&(key.len() as u64).to_le_bytes());
    hasher.update(key);
    hasher.update(content);
    hasher.finalize().to_le_bytes()
}

/// The value that stands for `content` under `key`.
pub(super) fn seal(key: &[u8], content: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(content.len() + 4);
    value.extend_from_slice(&crc(key, content));
    value.extend_from_slice(content);
    value
}

/// The content of a value.
pub(super) fn unseal<'a>(key: &[u8], value: &'a [u8]) -> Result<&'a [u8], FileError> {
    let (sum, content) =
        value.split_first_chunk::<4>().ok_or_else(|| damaged("a row is too short"))?;
    if *sum != crc(key, content) {
        return Err(damaged("the checksum of a row is wrong"));
    }
    Ok(content)
}

/// A number alone.
pub(super) fn number(content: &[u8]) -> Result<u64, FileError> {
    let bytes = content.try_into().map_err(|_| damaged("a number is not 8 octets"))?;
    Ok(u64::from_le_bytes(bytes))
}

/// The key of a unit (a minute, or an hour by its first minute).
pub(super) const fn unit_key(unit: u32) -> [u8; 4] {
    unit.to_be_bytes()
}

/// The unit that a key begins with.
pub(super) fn unit_of(key: &[u8]) -> Result<u32, FileError> {
    let unit = key.first_chunk::<4>().ok_or_else(|| damaged("a key is too short"))?;
    Ok(u32::from_be_bytes(*unit))
}

/// The keys of one unit: those from the first up to the second.
pub(super) fn unit_range(unit: u32) -> (Vec<u8>, Vec<u8>) {
    (unit_key(unit).to_vec(), unit_key(unit.saturating_add(1)).to_vec())
}

/// The keys of one agent in a unit. Names hold neither 0 nor 1.
pub(super) fn agent_range(unit: u32, agent: &str) -> (Vec<u8>, Vec<u8>) {
    let with = |end: u8| [&unit_key(unit), agent.as_bytes(), &[end]].concat();
    (with(0), with(1))
}

/// The key of an agent's counts in a unit.
pub(super) fn counts_key(unit: u32, agent: &str) -> Vec<u8> {
    agent_range(unit, agent).0
}

/// The agent of a key made by [`counts_key`].
pub(super) fn counts_agent(key: &[u8]) -> Result<&str, FileError> {
    let name = key.get(4..key.len().saturating_sub(1)).unwrap_or_default();
    std::str::from_utf8(name).map_err(|_| damaged("a name is not text"))
}

/// The key of a batch.
pub(super) fn batch_key(minute: u32, agent: &str, instance: u64, first: u64) -> Vec<u8> {
    let mut key = agent_range(minute, agent).0;
    key.extend_from_slice(&instance.to_be_bytes());
    key.extend_from_slice(&first.to_be_bytes());
    key
}

/// Octets of a batch in one row: with key and checksum just under four pages, as redb rounds rows up to a power of two of pages.
const PART: usize = 16_000;

/// The rows of a batch: its content in parts, each after an octet that tells the last one.
pub(super) fn batch_rows(key: &[u8], content: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let count = content.len().div_ceil(PART);
    let part = |(n, part): (u16, &[u8])| {
        let key = [key, &n.to_be_bytes()].concat();
        let last = u8::from(usize::from(n) + 1 == count);
        let value = seal(&key, &[&[last], part].concat());
        (key, value)
    };
    (0u16..).zip(content.chunks(PART)).map(part).collect()
}

/// Adds the content of the next row of a batch; whether it is whole now.
pub(super) fn add_part(whole: &mut Vec<u8>, row: &[u8]) -> Result<bool, FileError> {
    let (last, part) = row.split_first().ok_or_else(|| damaged("a row is empty"))?;
    whole.extend_from_slice(part);
    Ok(*last != 0)
}

/// What a batch is kept as: whether its clock was skewed, and its octets.
pub(super) fn batch_content(skewed: bool, encoded: &[u8]) -> Vec<u8> {
    let mut content = Vec::with_capacity(encoded.len() + 1);
    content.push(u8::from(skewed));
    content.extend_from_slice(encoded);
    content
}

/// A batch kept so.
pub(super) fn read_batch(content: &[u8]) -> Result<(bool, convert::Batch), FileError> {
    let (skewed, encoded) = content.split_first().ok_or_else(|| damaged("a batch is empty"))?;
    let message =
        v1::WindowBatch::decode(encoded).map_err(|_| damaged("a batch does not decode"))?;
    let batch = convert::batch(&message).map_err(|_| damaged("a batch contradicts itself"))?;
    Ok((*skewed != 0, batch))
}

/// What tells one series of windows from another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Series {
    /// The path.
    pub path: Path,
    /// How it was probed.
    pub parameters: Parameters,
    /// Recorded by a clock known to be wrong: kept, and left out of joins over time.
    pub skewed: bool,
}

impl Series {
    /// As the end of a key; begins with the node that recorded it and a 0.
    pub(super) fn key(&self) -> Vec<u8> {
        let Self { path: Path { src, dst, transport, memory, flow, dscp }, parameters, skewed } =
            self;
        let mut key = Vec::with_capacity(96);
        for name in [src.node.as_str(), dst.node.as_str(), src.port.as_str(), dst.port.as_str()] {
            key.extend_from_slice(name.as_bytes());
            key.push(0);
        }
        let transport = match transport {
            Transport::Udp => 0,
            Transport::Tcp => 1,
            Transport::RdmaUd => 2,
            Transport::RdmaRc => 3,
        };
        let memory = match memory {
            Memory::Host => 0,
        };
        key.extend_from_slice(&src.rail.to_be_bytes());
        key.extend_from_slice(&dst.rail.to_be_bytes());
        key.extend_from_slice(&[transport, memory, *dscp, u8::from(*skewed)]);
        key.extend_from_slice(&flow.to_be_bytes());
        key.extend_from_slice(&parameters.interval_ns.to_be_bytes());
        key.extend_from_slice(&parameters.timeout_ns.to_be_bytes());
        key.extend_from_slice(&parameters.size_bytes.to_be_bytes());
        if let Some(rdma) = &parameters.rdma {
            // One form for each, as the wire's; sorted behind the windows of sockets, which have none.
            key.extend_from_slice(&convert::rdma::message(rdma).encode_to_vec());
        }
        key
    }

    /// Reads one back.
    pub(super) fn from_key(key: &[u8]) -> Result<Self, FileError> {
        Self::try_from_key(key).ok_or_else(|| damaged("a key does not decode"))
    }

    fn try_from_key(key: &[u8]) -> Option<Self> {
        fn name<'a>(key: &mut &'a [u8]) -> Option<&'a str> {
            let end = key.iter().position(|octet| *octet == 0)?;
            let (name, rest) = key.split_at(end);
            *key = rest.get(1..)?;
            std::str::from_utf8(name).ok()
        }
        let mut rest = key;
        let (src, dst) = (name(&mut rest)?, name(&mut rest)?);
        let (src_port, dst_port) = (name(&mut rest)?, name(&mut rest)?);
        let (tail, rest) = rest.split_first_chunk::<30>()?;
        let rdma = match rest {
            [] => None,
            encoded => {
                let message = v1::RdmaParameters::decode(encoded).ok()?;
                let rdma = convert::rdma::parameters(&message).ok()?;
                // Another form of the same would be another key for one series.
                (convert::rdma::message(&rdma).encode_to_vec() == encoded).then_some(Some(rdma))?
            }
        };
        let short = |at: usize| Some(u16::from_be_bytes(*tail.get(at..)?.first_chunk()?));
        let long = |at: usize| Some(u64::from_be_bytes(*tail.get(at..)?.first_chunk()?));
        let transport = match tail[4] {
            0 => Transport::Udp,
            1 => Transport::Tcp,
            2 => Transport::RdmaUd,
            3 => Transport::RdmaRc,
            _ => return None,
        };
        let memory = match tail[5] {
            0 => Memory::Host,
            _ => return None,
        };
        let endpoint = |node: &str, port: &str, rail: u16| {
            let (node, port) = (NodeName::new(node).ok()?, PortName::new(port).ok()?);
            Some(Endpoint { node, port, rail })
        };
        Some(Self {
            path: Path {
                src: endpoint(src, src_port, short(0)?)?,
                dst: endpoint(dst, dst_port, short(2)?)?,
                transport,
                memory,
                flow: short(8)?,
                dscp: tail[6],
            },
            parameters: Parameters {
                interval_ns: long(10)?,
                timeout_ns: long(18)?,
                size_bytes: u32::from_be_bytes(*tail.get(26..)?.first_chunk()?),
                rdma,
            },
            skewed: tail[7] != 0,
        })
    }
}

/// What a merged window is kept as.
pub(super) fn window_content(window: &PathWindow) -> Vec<u8> {
    convert::window_message(0, window).encode_to_vec()
}

/// Reads a row as one of every table, as a damaged file may hold anything anywhere: which of them it could be. For whoever
/// tests that no octets make a reader panic.
pub fn readable(key: &[u8], value: &[u8]) -> Vec<&'static str> {
    let Ok(content) = unseal(key, value) else { return Vec::new() };
    let mut whole = Vec::new();
    let part = add_part(&mut whole, content);
    let found = [
        ("number", number(content).is_ok()),
        ("unit", unit_of(key).is_ok()),
        ("counts", counts_agent(key).is_ok() && Counts::read(content).is_ok()),
        ("batch", part.is_ok_and(|last| last) && read_batch(&whole).is_ok()),
        ("series", key.get(4..).is_some_and(|key| Series::from_key(key).is_ok())),
        ("window", read_window(content).is_ok()),
    ];
    found.into_iter().filter(|(_, could)| *could).map(|(name, _)| name).collect()
}

/// Reads a key and a content as every kind of row; `key` as it stands and `content` as if its checksum were right.
pub fn readable_content(key: &[u8], content: &[u8]) -> Vec<&'static str> {
    readable(key, &seal(key, content))
}

/// A window kept so.
pub(super) fn read_window(content: &[u8]) -> Result<PathWindow, FileError> {
    let message = v1::Window::decode(content).map_err(|_| damaged("a window does not decode"))?;
    convert::window(0, &message).map_err(|_| damaged("a window contradicts itself"))
}

/// What windows add up to, for holding levels against each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Counts {
    /// Windows, as recorded.
    pub windows: u64,
    /// Slots whose time came.
    pub scheduled: u64,
    /// Probes handed to the kernel.
    pub sent: u64,
    /// Those with a reply in time.
    pub received: u64,
    /// Those without.
    pub lost: u64,
    /// Samples of all series, time-outs included.
    pub samples: u64,
}

impl Counts {
    /// Those of one window, which may be merged of several: `windows` is for the caller to say.
    pub fn of(windows: u64, window: &PathWindow) -> Self {
        let account = &window.account;
        let splits = window.splits.iter().map(|split| {
            let parts = [&split.network_rtt, &split.prober_delay, &split.responder_delay];
            parts.map(railgauge_core::histogram::Window::samples)
        });
        // An agent may claim anything, and none of it must end the thread that stores.
        let completions = window.post_to_completion.as_ref();
        let completions = completions.map_or(0, railgauge_core::histogram::Window::samples);
        let others = window.app_rtt.samples().saturating_add(completions);
        let samples = splits.flatten().fold(others, u64::saturating_add);
        Self {
            windows,
            scheduled: account.scheduled,
            sent: account.sent,
            received: account.received,
            lost: account.lost,
            samples,
        }
    }

    /// Those of a batch.
    pub fn of_batch(batch: &convert::Batch) -> Self {
        let mut counts = Self::default();
        batch.windows.iter().for_each(|(_, window)| counts.add(&Self::of(1, window)));
        counts
    }

    /// Adds others.
    pub const fn add(&mut self, other: &Self) {
        macro_rules! add {
            ($($field:ident),*) => { $(self.$field = self.$field.saturating_add(other.$field);)* };
        }
        add!(windows, scheduled, sent, received, lost, samples);
    }

    pub(super) fn content(&self) -> Vec<u8> {
        let Self { windows, scheduled, sent, received, lost, samples } = *self;
        [windows, scheduled, sent, received, lost, samples].map(u64::to_le_bytes).concat()
    }

    pub(super) fn read(content: &[u8]) -> Result<Self, FileError> {
        let (numbers, rest) = content.as_chunks::<8>();
        match numbers {
            &[windows, scheduled, sent, received, lost, samples] if rest.is_empty() => {
                let [windows, scheduled, sent, received, lost, samples] =
                    [windows, scheduled, sent, received, lost, samples].map(u64::from_le_bytes);
                Ok(Self { windows, scheduled, sent, received, lost, samples })
            }
            _ => Err(damaged("counts are of the wrong length")),
        }
    }
}

#[cfg(test)]
mod tests {
    use railgauge_core::rdma::mtu::PathMtu;
    use railgauge_core::rdma::operation::{
        CompletionStamps, MemoryRoute, Method, Operation, Polling, Service,
    };
    use railgauge_core::rdma::parameters::RdmaParameters;
    use railgauge_core::rdma::reliability::Profile;

    use super::*;

    fn series(transport: Transport, rdma: Option<RdmaParameters>) -> Series {
        let end = |node: &str| Endpoint {
            node: NodeName::new(node).unwrap(),
            port: PortName::new("mlx5_0/1").unwrap(),
            rail: 3,
        };
        let (src, dst, memory) = (end("a"), end("b"), Memory::Host);
        let parameters = Parameters { interval_ns: 1, timeout_ns: 2, size_bytes: 64, rdma };
        let path = Path { src, dst, transport, memory, flow: 7, dscp: 26 };
        Series { path, parameters, skewed: false }
    }

    fn connection(operation: Operation, profile: Profile) -> RdmaParameters {
        RdmaParameters {
            method: Method::latency(Service::Connection, operation, true),
            outstanding: 1,
            reliability: Some(profile.reliability()),
            mtu: PathMtu::B4096,
            service_level: 0,
            prober_route: MemoryRoute::Host,
            responder_route: MemoryRoute::Host,
            polling: Polling::Busy,
            stamps: CompletionStamps::Raw,
        }
    }

    /// Probed otherwise is another series, and so another key; each is read back as it was.
    #[test]
    fn keys_are_read_back_and_tell_ways_of_probing_apart() {
        let datagram = RdmaParameters {
            method: Method::latency(Service::Datagram, Operation::Send, true),
            reliability: None,
            ..connection(Operation::Send, Profile::Continuous)
        };
        let all = [
            series(Transport::Udp, None),
            series(Transport::Tcp, None),
            series(Transport::RdmaUd, Some(datagram)),
            series(Transport::RdmaRc, Some(connection(Operation::Write, Profile::Continuous))),
            series(Transport::RdmaRc, Some(connection(Operation::Write, Profile::Nccl))),
            series(Transport::RdmaRc, Some(connection(Operation::Read, Profile::Nccl))),
        ];
        let mut keys: Vec<Vec<u8>> = all.iter().map(Series::key).collect();
        for (series, key) in all.iter().zip(&keys) {
            assert_eq!(Series::from_key(key).unwrap(), *series);
        }
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), all.len());
    }

    #[test]
    fn one_series_has_one_key() {
        let key =
            series(Transport::RdmaRc, Some(connection(Operation::Write, Profile::Nccl))).key();
        assert!(Series::from_key(&key[..key.len() - 1]).is_err());
        // An unknown field, and a known one said twice: both decode, and neither is how it is written.
        for more in [&[0xf8, 0x01, 0x01][..], &[0x20, 0x01]] {
            assert!(Series::from_key(&[&key, more].concat()).is_err(), "{more:?}");
        }
    }
}
