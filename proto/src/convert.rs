//! Between messages and the words of `core`. What comes from outside is checked here, once; what is returned can be true.

use railgauge_core::histogram::codec::DecodeError;
use railgauge_core::histogram::{PartsError, SparseCounts, Window, WindowParts};
use railgauge_core::path::{Endpoint, Memory, NameError, NodeName, Path, PortName, Transport};
use railgauge_core::path_window::{Inconsistent, Parameters, PathWindow, Split, WindowAccount};
use railgauge_core::rdma::parameters::ParametersError;
use railgauge_core::rdma::reliability::OutOfRange;
use railgauge_core::timestamp_source::{StampSource, TimestampSource};

use crate::{MOST_WINDOWS, v1};

pub mod rdma;

/// Why a message is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    /// A field that must be there is not.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A number out of range, or an enumerator not known.
    #[error("{field} is {value}, which is not {allowed}")]
    Value {
        /// Which.
        field: &'static str,
        /// As sent.
        value: u64,
        /// What it should be.
        allowed: &'static str,
    },
    /// A histogram.
    #[error("{series} does not decode")]
    Histogram {
        /// Which.
        series: &'static str,
        /// Why.
        source: DecodeError,
    },
    /// Its rises.
    #[error("{series} has impossible rises")]
    Rises {
        /// Which.
        series: &'static str,
        /// Why.
        source: PartsError,
    },
    /// Counts that cannot be true.
    #[error("window {index} contradicts itself")]
    Inconsistent {
        /// Which of the batch.
        index: usize,
        /// How.
        source: Inconsistent,
    },
    /// How it was probed over verbs.
    #[error(transparent)]
    Rdma(#[from] ParametersError),
    /// Retry settings.
    #[error(transparent)]
    Reliability(#[from] OutOfRange),
    /// Parameters or series that the path's transport does not have.
    #[error("a window of {0} has parameters or series of another transport")]
    Foreign(&'static str),
    /// A path of another node.
    #[error("path {path} does not begin at {agent}, which sent it")]
    NotOurs {
        /// As sent.
        path: String,
        /// Who sent it.
        agent: String,
    },
}

const fn value(field: &'static str, value: u64, allowed: &'static str) -> ConvertError {
    ConvertError::Value { field, value, allowed }
}

/// An endpoint.
///
/// # Errors
/// Where a name or the rail is none.
pub fn endpoint(from: Option<&v1::Endpoint>) -> Result<Endpoint, ConvertError> {
    let from = from.ok_or(ConvertError::Missing("endpoint"))?;
    let rail = u16::try_from(from.rail);
    Ok(Endpoint {
        node: NodeName::new(&from.node)?,
        port: PortName::new(&from.port)?,
        rail: rail.map_err(|_| value("rail", from.rail.into(), "0 to 65535"))?,
    })
}

/// The message of an endpoint.
pub fn endpoint_message(from: &Endpoint) -> v1::Endpoint {
    let Endpoint { node, port, rail } = from;
    v1::Endpoint { node: node.to_string(), port: port.to_string(), rail: (*rail).into() }
}

/// A path.
///
/// # Errors
/// Where an endpoint, transport, memory, flow or DSCP is none.
pub fn path(from: &v1::Path) -> Result<Path, ConvertError> {
    let transport = match from.transport() {
        v1::Transport::Udp => Transport::Udp,
        v1::Transport::Tcp => Transport::Tcp,
        v1::Transport::RdmaUd => Transport::RdmaUd,
        v1::Transport::RdmaRc => Transport::RdmaRc,
        v1::Transport::Unspecified => {
            return Err(value("transport", number(from.transport), "a known one"));
        }
    };
    let memory = match from.memory() {
        v1::Memory::Host => Memory::Host,
        v1::Memory::Unspecified => {
            return Err(value("memory", number(from.memory), "a known one"));
        }
    };
    let flow = u16::try_from(from.flow);
    let dscp = u8::try_from(from.dscp).ok().filter(|dscp| *dscp < 64);
    Ok(Path {
        src: endpoint(from.src.as_ref())?,
        dst: endpoint(from.dst.as_ref())?,
        transport,
        memory,
        flow: flow.map_err(|_| value("flow", from.flow.into(), "0 to 65535"))?,
        dscp: dscp.ok_or_else(|| value("dscp", from.dscp.into(), "0 to 63"))?,
    })
}

fn number(enumerator: i32) -> u64 {
    u64::try_from(enumerator).unwrap_or(0)
}

/// The message of a path.
pub fn path_message(from: &Path) -> v1::Path {
    let transport = match from.transport {
        Transport::Udp => v1::Transport::Udp,
        Transport::Tcp => v1::Transport::Tcp,
        Transport::RdmaUd => v1::Transport::RdmaUd,
        Transport::RdmaRc => v1::Transport::RdmaRc,
    };
    let memory = match from.memory {
        Memory::Host => v1::Memory::Host,
    };
    v1::Path {
        src: Some(endpoint_message(&from.src)),
        dst: Some(endpoint_message(&from.dst)),
        transport: transport.into(),
        memory: memory.into(),
        flow: from.flow.into(),
        dscp: from.dscp.into(),
    }
}

/// The message of a series.
pub fn series_message(from: &Window) -> v1::Series {
    if from.samples() == 0 {
        return v1::Series::default();
    }
    let sum = from.sum_ns();
    let low = u64::try_from(sum & u128::from(u64::MAX)).unwrap_or(0);
    let high = u64::try_from(sum >> 64).unwrap_or(u64::MAX);
    let mut before = None;
    let gap = |&(place, _): &(u16, i64)| {
        let gap = before.map_or(u32::from(place) + 1, |b: u16| u32::from(place - b));
        before = Some(place);
        gap
    };
    v1::Series {
        hdr_v2: from.counts().encode_v2(),
        min_ns: from.min_ns().unwrap_or(0),
        max_ns: from.max_ns().unwrap_or(0),
        sum_ns_low: low,
        sum_ns_high: high,
        overflow: from.overflow(),
        censored: from.censored(),
        rise_gaps: from.rises().iter().map(gap).collect(),
        rise_counts: from.rises().iter().map(|rise| rise.1).collect(),
    }
}

/// The samples of a series; an absent one has none.
///
/// # Errors
/// Where the histogram or its rises do not decode.
pub fn series(name: &'static str, from: Option<&v1::Series>) -> Result<Window, ConvertError> {
    let Some(from) = from else { return Ok(Window::default()) };
    let counts = if from.hdr_v2.is_empty() {
        SparseCounts::default()
    } else {
        SparseCounts::decode_v2(&from.hdr_v2)
            .map_err(|source| ConvertError::Histogram { series: name, source })?
    };
    if from.rise_gaps.len() != from.rise_counts.len() {
        let lengths = from.rise_gaps.len() as u64;
        return Err(value("the number of rise_gaps", lengths, "that of rise_counts"));
    }
    let mut place = 0u32;
    let mut rises = Vec::with_capacity(from.rise_gaps.len());
    for (gap, rise) in from.rise_gaps.iter().zip(&from.rise_counts) {
        place = place.saturating_add(*gap);
        let index = place.checked_sub(1).and_then(|place| u16::try_from(place).ok());
        let index = index.ok_or_else(|| value("rise_gaps", place.into(), "a place"))?;
        rises.push((index, *rise));
    }
    let parts = WindowParts {
        counts,
        min_ns: from.min_ns,
        max_ns: from.max_ns,
        sum_ns: u128::from(from.sum_ns_high) << 64 | u128::from(from.sum_ns_low),
        overflow: from.overflow,
        censored: from.censored,
        rises,
    };
    Window::from_parts(parts).map_err(|source| ConvertError::Rises { series: name, source })
}

const fn stamp_message(from: StampSource) -> v1::StampSource {
    match from {
        StampSource::Hardware => v1::StampSource::Hardware,
        StampSource::Cqe => v1::StampSource::Cqe,
        StampSource::Kernel => v1::StampSource::Kernel,
        StampSource::User => v1::StampSource::User,
        StampSource::Device => v1::StampSource::Device,
        StampSource::Unknown | StampSource::None => v1::StampSource::Unknown,
    }
}

fn stamp(from: i32) -> Result<StampSource, ConvertError> {
    match v1::StampSource::try_from(from) {
        Ok(v1::StampSource::Hardware) => Ok(StampSource::Hardware),
        Ok(v1::StampSource::Cqe) => Ok(StampSource::Cqe),
        Ok(v1::StampSource::Kernel) => Ok(StampSource::Kernel),
        Ok(v1::StampSource::User) => Ok(StampSource::User),
        Ok(v1::StampSource::Device) => Ok(StampSource::Device),
        Ok(v1::StampSource::Unknown) => Ok(StampSource::Unknown),
        Ok(v1::StampSource::Unspecified) | Err(_) => {
            Err(value("stamp source", number(from), "a known one"))
        }
    }
}

fn split(from: &v1::Split) -> Result<Split, ConvertError> {
    let source = TimestampSource {
        t1: stamp(from.t1)?,
        t2: stamp(from.t2)?,
        t3: stamp(from.t3)?,
        t4: stamp(from.t4)?,
    };
    Ok(Split {
        source,
        network_rtt: series("network_rtt", from.network_rtt.as_ref())?,
        prober_delay: series("prober_delay", from.prober_delay.as_ref())?,
        responder_delay: series("responder_delay", from.responder_delay.as_ref())?,
    })
}

fn split_message(from: &Split) -> v1::Split {
    let TimestampSource { t1, t2, t3, t4 } = from.source;
    v1::Split {
        t1: stamp_message(t1).into(),
        t2: stamp_message(t2).into(),
        t3: stamp_message(t3).into(),
        t4: stamp_message(t4).into(),
        network_rtt: Some(series_message(&from.network_rtt)),
        prober_delay: Some(series_message(&from.prober_delay)),
        responder_delay: Some(series_message(&from.responder_delay)),
    }
}

const fn account(from: &v1::Account) -> WindowAccount {
    WindowAccount {
        scheduled: from.scheduled,
        sent: from.sent,
        skipped: from.skipped,
        send_errors: from.send_errors,
        received: from.received,
        lost: from.lost,
        in_flight: from.in_flight,
        late_replies: from.late_replies,
        duplicate: from.duplicate,
        reordered: from.reordered,
        late_starts: from.late_starts,
        invalid_stamps: from.invalid_stamps,
    }
}

/// The message of an account.
pub const fn account_message(from: &WindowAccount) -> v1::Account {
    v1::Account {
        scheduled: from.scheduled,
        sent: from.sent,
        skipped: from.skipped,
        send_errors: from.send_errors,
        received: from.received,
        lost: from.lost,
        in_flight: from.in_flight,
        late_replies: from.late_replies,
        duplicate: from.duplicate,
        reordered: from.reordered,
        late_starts: from.late_starts,
        invalid_stamps: from.invalid_stamps,
    }
}

/// A window whose counts can be true. `index` is its place in the batch, for the sentence.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn window(index: usize, from: &v1::Window) -> Result<PathWindow, ConvertError> {
    let own = from.account.as_ref().ok_or(ConvertError::Missing("account"))?;
    let splits = from.splits.iter().map(split).collect::<Result<_, _>>()?;
    let completions = from.post_to_completion.as_ref();
    let completions = completions.map(|own| series("post_to_completion", Some(own)));
    let window = PathWindow {
        parameters: Parameters {
            interval_ns: from.interval_ns,
            timeout_ns: from.timeout_ns,
            size_bytes: from.size_bytes,
            rdma: from.rdma.as_ref().map(rdma::parameters).transpose()?,
        },
        account: account(own),
        app_rtt: series("app_rtt", from.app_rtt.as_ref())?,
        splits,
        post_to_completion: completions.transpose()?,
        clock_stepped: from.clock_stepped,
    };
    window.check().map_err(|source| ConvertError::Inconsistent { index, source })?;
    Ok(window)
}

/// The message of a window of the batch's path `path`.
pub fn window_message(path: u32, from: &PathWindow) -> v1::Window {
    v1::Window {
        path,
        account: Some(account_message(&from.account)),
        app_rtt: Some(series_message(&from.app_rtt)),
        splits: from.splits.iter().map(split_message).collect(),
        interval_ns: from.parameters.interval_ns,
        timeout_ns: from.parameters.timeout_ns,
        size_bytes: from.parameters.size_bytes,
        clock_stepped: from.clock_stepped,
        rdma: from.parameters.rdma.as_ref().map(rdma::message),
        post_to_completion: from.post_to_completion.as_ref().map(series_message),
    }
}

/// A batch, checked: each window with its path.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Who recorded it.
    pub agent: NodeName,
    /// The start of its process.
    pub instance: u64,
    /// Sequence number of the first window.
    pub first_sequence: u64,
    /// Start of the interval, by the agent's clock.
    pub start_unix_ns: u64,
    /// Its length.
    pub length_ns: u64,
    /// The plan's epoch.
    pub plan_epoch: u64,
    /// The paths.
    pub paths: Vec<Path>,
    /// The windows: index into the paths, and what was seen.
    pub windows: Vec<(usize, PathWindow)>,
}

/// Probes and samples that a window of an agent's can have: more than an hour at any rate, and the losses of a day that a
/// split may carry. Many windows of so many still add up: sums that stop at what 64 bits hold would contradict each other, and
/// what was merged of them would look like damage to whoever reads it back.
const MOST_SAMPLES: u64 = 1 << 40;

fn within_reason(window: &PathWindow) -> Result<(), ConvertError> {
    let splits = window.splits.iter().map(|split| split.network_rtt.samples());
    let most = splits.fold(window.account.scheduled, u64::max);
    if most > MOST_SAMPLES {
        return Err(value("a window's number of samples", most, "at most 2^40"));
    }
    Ok(())
}

/// A batch.
///
/// # Errors
/// The first thing that is wrong: a batch is taken whole or not at all.
pub fn batch(from: &v1::WindowBatch) -> Result<Batch, ConvertError> {
    let agent = NodeName::new(&from.agent)?;
    let count = from.windows.len();
    if count == 0 || count > MOST_WINDOWS {
        return Err(value("the number of windows", count as u64, "1 to 1024"));
    }
    if from.first_sequence.checked_add(count as u64).is_none() {
        return Err(value("first_sequence", from.first_sequence, "so small that all follow"));
    }
    if !(1_000_000..=3_600_000_000_000).contains(&from.length_ns) {
        return Err(value("length_ns", from.length_ns, "1 ms to 1 h"));
    }
    if !from.start_unix_ns.is_multiple_of(from.length_ns) {
        return Err(value("start_unix_ns", from.start_unix_ns, "a multiple of length_ns"));
    }
    let paths = from.paths.iter().map(path).collect::<Result<Vec<_>, _>>()?;
    if let Some(path) = paths.iter().find(|path| path.src.node != agent) {
        return Err(ConvertError::NotOurs { path: path.to_string(), agent: agent.to_string() });
    }
    let windows = from.windows.iter().enumerate().map(|(index, each)| {
        let path = usize::try_from(each.path).unwrap_or(usize::MAX);
        if path >= paths.len() {
            return Err(value("a window's path", each.path.into(), "one of the batch's paths"));
        }
        let window = window(index, each)?;
        rdma::fits(paths[path].transport, &window)?;
        within_reason(&window)?;
        Ok((path, window))
    });
    Ok(Batch {
        agent,
        instance: from.instance,
        first_sequence: from.first_sequence,
        start_unix_ns: from.start_unix_ns,
        length_ns: from.length_ns,
        plan_epoch: from.plan_epoch,
        windows: windows.collect::<Result<_, _>>()?,
        paths,
    })
}

#[cfg(test)]
mod tests;
