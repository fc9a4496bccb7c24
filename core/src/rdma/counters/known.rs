//! What is known of counters by their names.

/// The directory a counter is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Group {
    /// `counters`: the port's performance management agent.
    Port,
    /// `hw_counters`: the driver.
    Driver,
}

impl Group {
    /// The directory's name.
    pub const fn directory(self) -> &'static str {
        match self {
            Self::Port => "counters",
            Self::Driver => "hw_counters",
        }
    }
}

/// What a counter does at the end of its range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Stops at the largest value of so many bits.
    Stops {
        /// 4, 8, 16 or 32.
        bits: u8,
    },
    /// Stops at 32 bits, or has 64, by what the port's agent can do; only the value tells.
    Data,
    /// Goes on at 0 after 32 bits.
    Wraps32,
    /// Has 64 bits, whose end no counter reaches: it falls only when it begins anew.
    Counts64,
}

impl Kind {
    /// The largest value, at which it stops or after which it wraps.
    pub const fn most(self) -> u64 {
        match self {
            Self::Stops { bits } => (1 << bits) - 1,
            Self::Data | Self::Wraps32 => 0xffff_ffff,
            Self::Counts64 => u64::MAX,
        }
    }
}

/// What one step of a counter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// An event or a packet.
    Events,
    /// 4 octets (`PortXmitData`, IB spec section 16.1.3.5).
    Words,
    /// A tick in which data waited and could not leave: its length is the device's affair, so it is no time.
    Ticks,
}

/// What a rise of a counter is a sign of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Sign {
    /// This port sent again after an ACK time-out: a packet or its acknowledgement was lost.
    TimedOut,
    /// This port sent again because the peer missed one.
    SentAgain,
    /// This port missed one. Under adaptive routing packets overtake each other, and some of it is usual.
    MissedOne,
    /// A queue pair of this port gave up.
    GaveUp,
    /// A receiver had nothing posted: a program was slow, not the network.
    NotReady,
    /// Congestion was signalled.
    Congestion,
    /// Data waited for credit or a pause to end.
    Waited,
    /// Packets were thrown away.
    Discarded,
    /// The physical layer: cable, transceiver, port.
    Physical,
    /// The link went down.
    LinkDown,
    /// Data was damaged on the way.
    Corrupted,
}

/// Those of the agent: name, bits (0: data), unit, sign. IB spec section 16.1.3.5, by the names of the kernel's sysfs.c.
const AGENT: &[(&str, u8, Unit, Option<Sign>)] = &[
    ("symbol_error", 16, Unit::Events, Some(Sign::Physical)),
    ("link_error_recovery", 8, Unit::Events, Some(Sign::Physical)),
    ("link_downed", 8, Unit::Events, Some(Sign::LinkDown)),
    ("port_rcv_errors", 16, Unit::Events, Some(Sign::Physical)),
    ("port_rcv_remote_physical_errors", 16, Unit::Events, Some(Sign::Physical)),
    ("port_rcv_switch_relay_errors", 16, Unit::Events, Some(Sign::Discarded)),
    ("port_xmit_discards", 16, Unit::Events, Some(Sign::Discarded)),
    ("port_xmit_constraint_errors", 8, Unit::Events, Some(Sign::Discarded)),
    ("port_rcv_constraint_errors", 8, Unit::Events, Some(Sign::Discarded)),
    ("local_link_integrity_errors", 4, Unit::Events, Some(Sign::Physical)),
    ("excessive_buffer_overrun_errors", 4, Unit::Events, Some(Sign::Physical)),
    ("VL15_dropped", 16, Unit::Events, Some(Sign::Discarded)),
    ("port_xmit_wait", 32, Unit::Ticks, Some(Sign::Waited)),
    ("port_xmit_data", 0, Unit::Words, None),
    ("port_rcv_data", 0, Unit::Words, None),
    ("port_xmit_packets", 0, Unit::Events, None),
    ("port_rcv_packets", 0, Unit::Events, None),
];

/// Queue counters of mlx5, of 32 bits.
const WRAPPING: &[&str] = &[
    "rx_write_requests",
    "rx_read_requests",
    "rx_atomic_requests",
    "rx_dct_connect",
    "out_of_buffer",
    "out_of_sequence",
    "duplicate_request",
    "rnr_nak_retry_err",
    "packet_seq_err",
    "implied_nak_seq_err",
    "local_ack_timeout_err",
    "resp_local_length_error",
    "resp_cqe_error",
    "req_cqe_error",
    "req_remote_invalid_request",
    "req_remote_access_errors",
    "resp_remote_access_errors",
    "resp_cqe_flush_error",
    "req_cqe_flush_error",
    "req_transport_retries_exceeded",
    "req_rnr_retries_exceeded",
    "roce_adp_retrans",
    "roce_adp_retrans_to",
    "roce_slow_restart",
    "roce_slow_restart_cnps",
    "roce_slow_restart_trans",
];

/// Signs by the names that drivers use: mlx5, rxe, bnxt_re, irdma, efa.
const SIGNS: &[(Sign, &[&str])] = &[
    (
        Sign::TimedOut,
        &[
            "local_ack_timeout_err",
            "roce_adp_retrans_to",
            "to_retransmits",
            "retrans_timeout_events",
        ],
    ),
    (
        Sign::SentAgain,
        &[
            "packet_seq_err",
            "implied_nak_seq_err",
            "roce_adp_retrans",
            "rcvd_seq_err",
            "completer_retry_err",
            "seq_err_naks_rcvd",
            "tcpRetransSegs",
            "retrans_pkts",
        ],
    ),
    (
        Sign::MissedOne,
        &["out_of_sequence", "out_of_seq_request", "duplicate_request", "missing_resp"],
    ),
    (
        Sign::GaveUp,
        &[
            "req_transport_retries_exceeded",
            "retry_exceeded_err",
            "max_retry_exceeded",
            "unresponsive_remote_events",
        ],
    ),
    (
        Sign::NotReady,
        &[
            "rnr_nak_retry_err",
            "out_of_buffer",
            "req_rnr_retries_exceeded",
            "rcvd_rnr_err",
            "send_rnr_err",
            "retry_rnr_exceeded_err",
            "rnr_naks_rcvd",
        ],
    ),
    (
        Sign::Congestion,
        &["np_ecn_marked_roce_packets", "np_cnp_sent", "rp_cnp_handled", "rp_cnp_ignored"],
    ),
    (Sign::LinkDown, &["link_downed"]),
    (Sign::Corrupted, &["rx_icrc_encapsulated"]),
];

fn of_agent(group: Group, name: &str) -> Option<&'static (&'static str, u8, Unit, Option<Sign>)> {
    (group == Group::Port).then(|| AGENT.iter().find(|one| one.0 == name)).flatten()
}

/// What a counter does at the end of its range. A name that is not known is taken to have 64 bits: where it has fewer, its wrap
/// is unknown and not a number.
pub fn kind(group: Group, name: &str) -> Kind {
    match of_agent(group, name) {
        Some((_, 0, ..)) => Kind::Data,
        Some((_, bits, ..)) => Kind::Stops { bits: *bits },
        None if group == Group::Driver && WRAPPING.contains(&name) => Kind::Wraps32,
        None => Kind::Counts64,
    }
}

/// What one step of a counter is.
pub fn unit(group: Group, name: &str) -> Unit {
    of_agent(group, name).map_or(Unit::Events, |one| one.2)
}

/// What a rise of a counter is a sign of, where it is one.
pub fn sign(group: Group, name: &str) -> Option<Sign> {
    match group {
        Group::Port => of_agent(group, name)?.3,
        Group::Driver => SIGNS.iter().find(|(_, names)| names.contains(&name)).map(|one| one.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_are_those_of_the_standard_and_of_mlx5() {
        assert_eq!(kind(Group::Port, "link_downed"), Kind::Stops { bits: 8 });
        assert_eq!(kind(Group::Port, "port_rcv_data"), Kind::Data);
        assert_eq!(kind(Group::Driver, "packet_seq_err"), Kind::Wraps32);
        // rxe has one of the same name among the driver's.
        assert_eq!(kind(Group::Driver, "link_downed"), Kind::Counts64);
        assert_eq!(kind(Group::Driver, "never_heard_of"), Kind::Counts64);
        let most = [4, 8, 16, 32].map(|bits| Kind::Stops { bits }.most());
        assert_eq!(most, [15, 255, 65_535, 4_294_967_295]);
    }

    #[test]
    fn units_and_signs_are_known_by_name_and_group() {
        assert_eq!(unit(Group::Port, "port_xmit_data"), Unit::Words);
        assert_eq!(unit(Group::Port, "port_xmit_wait"), Unit::Ticks);
        assert_eq!(sign(Group::Driver, "local_ack_timeout_err"), Some(Sign::TimedOut));
        assert_eq!(sign(Group::Driver, "completer_retry_err"), Some(Sign::SentAgain));
        assert_eq!(sign(Group::Port, "local_ack_timeout_err"), None);
        assert_eq!(sign(Group::Port, "link_downed"), Some(Sign::LinkDown));
    }

    #[test]
    fn no_name_is_in_two_lists() {
        let mut names: Vec<&str> = SIGNS.iter().flat_map(|one| one.1.iter().copied()).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
