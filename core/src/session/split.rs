//! The split of one sample into network, prober and responder, exact to the nanosecond.

use super::ring::{Arrival, Entry};
use crate::time::{Monotonic, Wall};
use crate::timestamp_source::{StampSource, TimestampSource};

/// What became of one probe that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A reply in time.
    Reply(Sample),
    /// None.
    Lost {
        /// The probe's number in the run.
        number: u64,
        /// The intended send time.
        slot: Monotonic,
        /// The flow that carried it.
        flow: u16,
    },
}

/// One answered probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The probe's number in the run.
    pub number: u64,
    /// The intended send time.
    pub slot: Monotonic,
    /// The flow that carried it.
    pub flow: u16,
    /// From the slot to the application having the reply, ns.
    pub app_rtt: u64,
    /// The split, or why there is none.
    pub parts: Result<Parts, PartsMissing>,
    /// Where the four stamps were taken.
    pub source: TimestampSource,
}

/// The parts of an app RTT, ns: they add up to it exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts {
    /// (t4 - t1) - (t3 - t2).
    pub network_rtt: u64,
    /// app RTT - (t4 - t1).
    pub prober_delay: u64,
    /// t3 - t2.
    pub responder_delay: u64,
}

/// Why an answered probe has no split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartsMissing {
    /// The kernel or NIC never reported when the probe left.
    TransmitStamp,
    /// The reflector never sent the true t3 it had promised (the reply that carried it was lost).
    FollowUp,
    /// The other side's software took part, and stamps nothing: what of the time was the network's is unknown.
    ResponderStamps,
    /// The two stamps of one end come from clocks that cannot be subtracted (a NIC's and the system's).
    MixedClocks,
    /// A part came out negative, or a stamp cannot be: the text names which.
    Invalid(&'static str),
}

impl PartsMissing {
    /// The reason under which it is counted.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::TransmitStamp => "transmit_stamp_missing",
            Self::FollowUp => "follow_up_missing",
            Self::ResponderStamps => "responder_stamps_missing",
            Self::MixedClocks => "mixed_clocks",
            Self::Invalid(reason) => reason,
        }
    }
}

/// Splits a replied entry; `None` fields of the arrival cannot occur for one.
pub(super) fn split(entry: &Entry) -> Sample {
    let probe = &entry.probe;
    let unknown = TimestampSource {
        t1: StampSource::None,
        t2: StampSource::None,
        t3: StampSource::None,
        t4: StampSource::None,
    };
    let mut sample = Sample {
        number: probe.number,
        slot: probe.slot,
        flow: probe.flow,
        app_rtt: 0,
        parts: Err(PartsMissing::TransmitStamp),
        source: unknown,
    };
    let Some(arrival) = entry.arrival else { return sample };
    // The reply is read after the probe was sent, and the probe is sent at its slot or later, on one clock.
    sample.app_rtt = arrival.at.minus(probe.slot).non_negative().unwrap_or(0);
    let Some(t1) = entry.t1 else { return sample };
    sample.source =
        TimestampSource { t1: t1.1, t2: arrival.t2.1, t3: arrival.t3.1, t4: arrival.t4.1 };
    sample.parts = parts(sample.app_rtt, t1, &arrival);
    sample
}

fn parts(app_rtt: u64, t1: (Wall, StampSource), arrival: &Arrival) -> Result<Parts, PartsMissing> {
    if arrival.unstamped {
        return Err(PartsMissing::ResponderStamps);
    }
    if arrival.t3_follows.is_some() {
        return Err(PartsMissing::FollowUp);
    }
    if let Some(reason) = arrival.invalid {
        return Err(PartsMissing::Invalid(reason));
    }
    if is_nic(t1.1) != is_nic(arrival.t4.1) || is_nic(arrival.t2.1) != is_nic(arrival.t3.1) {
        return Err(PartsMissing::MixedClocks);
    }
    let invalid = PartsMissing::Invalid;
    let round_trip = arrival.t4.0.minus(t1.0).non_negative();
    let round_trip = round_trip.ok_or(invalid("negative_round_trip"))?;
    let responder_delay = arrival.t3.0.minus(arrival.t2.0).non_negative();
    let responder_delay = responder_delay.ok_or(invalid("negative_responder_delay"))?;
    let network_rtt = round_trip.checked_sub(responder_delay);
    let network_rtt = network_rtt.ok_or(invalid("negative_network_rtt"))?;
    let prober_delay = app_rtt.checked_sub(round_trip).ok_or(invalid("negative_prober_delay"))?;
    Ok(Parts { network_rtt, prober_delay, responder_delay })
}

const fn is_nic(source: StampSource) -> bool {
    matches!(source, StampSource::Hardware | StampSource::Cqe)
}
