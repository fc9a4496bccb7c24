//! Two questions to a network driver: which stamps can it take (`ETHTOOL_GET_TS_INFO`), and which does it take now
//! (`SIOCGHWTSTAMP`).
//!
//! Only read, never set: turning hardware stamps on would break a running `ptp4l` (design D2).
#![allow(unsafe_code, reason = "SIOCETHTOOL and SIOCGHWTSTAMP have no safe wrapper in nix")]

use serde::Serialize;
use std::os::fd::{AsRawFd, OwnedFd};
use std::{io, mem, ptr};

/// `ETHTOOL_GET_TS_INFO` of linux/ethtool.h.
const GET_TS_INFO: u32 = 0x41;
/// `SIOCETHTOOL` of linux/sockios.h.
const SIOCETHTOOL: libc::Ioctl = 0x8946;
/// `SIOCGHWTSTAMP` of linux/sockios.h; anybody may ask.
const SIOCGHWTSTAMP: libc::Ioctl = 0x89b1;
/// `HWTSTAMP_FILTER_ALL` of linux/net_tstamp.h: the only receive filter that covers UDP on any port.
const FILTER_ALL: i32 = 1;
// Bits of `so_timestamping`, linux/net_tstamp.h.
const TX_HARDWARE: u32 = 1 << 0;
const TX_SOFTWARE: u32 = 1 << 1;
const RX_HARDWARE: u32 = 1 << 2;
const RX_SOFTWARE: u32 = 1 << 3;
const RAW_HARDWARE: u32 = 1 << 6;

/// `struct ethtool_ts_info` of linux/ethtool.h.
#[repr(C)]
#[derive(Default)]
struct TsInfo {
    cmd: u32,
    so_timestamping: u32,
    phc_index: i32,
    tx_types: u32,
    tx_reserved: [u32; 3],
    rx_filters: u32,
    rx_reserved: [u32; 3],
}

/// `struct hwtstamp_config` of linux/net_tstamp.h.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct HwtstampConfig {
    flags: i32,
    tx_type: i32,
    rx_filter: i32,
}

/// Whether the NIC behind `name` now stamps what leaves, and every packet that comes, with one clock. A driver that does not
/// say, or knows no such thing, does not.
pub fn stamps_every_packet(name: &str) -> bool {
    stamping_now(name).is_ok_and(|config| covers_every_packet(&config))
}

fn stamping_now(name: &str) -> io::Result<HwtstampConfig> {
    let mut request = request_for(name).map_err(io::Error::other)?;
    let mut config = HwtstampConfig::default();
    request.ifr_ifru.ifru_data = ptr::from_mut(&mut config).cast();
    let socket = datagram_socket()?;
    // SAFETY: `request` names an interface and points to `config`, which is laid out as hwtstamp_config and
    // outlives the call; the kernel writes at most size_of::<HwtstampConfig>() bytes there.
    let answer =
        unsafe { libc::ioctl(socket.as_raw_fd(), SIOCGHWTSTAMP, ptr::from_mut(&mut request)) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(config) }
}

/// Transmit types from `HWTSTAMP_TX_ON` (1) on stamp all that asks for it; the PTP, NTP and "some" filters leave our ports
/// out; a flag (`HWTSTAMP_FLAG_BONDED_PHC_INDEX`) says that the clock may change under way.
const fn covers_every_packet(config: &HwtstampConfig) -> bool {
    config.flags == 0 && config.tx_type >= 1 && config.rx_filter == FILTER_ALL
}

/// The stamps a netdev's driver says it can take. Hardware ones also need the NIC's filter switched on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Timestamping {
    /// Transmit stamps by the NIC, delivered raw.
    pub tx_hardware: bool,
    /// Receive stamps by the NIC, delivered raw.
    pub rx_hardware: bool,
    /// Receive stamps of every packet, not of PTP event messages alone (`HWTSTAMP_FILTER_ALL`); probes
    /// are ordinary UDP, so without it their hardware stamps are missing.
    pub rx_hardware_any_packet: bool,
    /// Transmit stamps by the driver at hand-over.
    pub tx_software: bool,
    /// Receive stamps by the kernel.
    pub rx_software: bool,
    /// The PTP hardware clock, `/dev/ptpN`; `None` where the NIC has none.
    pub phc_index: Option<u32>,
}

/// The driver could not be asked, or declined.
#[derive(Debug, thiserror::Error)]
pub enum TsInfoError {
    /// The name does not fit the kernel's 15 characters, or holds a NUL.
    #[error("interface name {name:?} is not 1 to 15 bytes; give a name of `ip link`")]
    Name {
        /// The name as given.
        name: String,
    },
    /// No socket to ask through.
    #[error(
        "no socket to ask about {name} through; the limit on open files may be reached (`ulimit -n`)"
    )]
    Socket {
        /// The interface.
        name: String,
        /// What `socket(2)` said.
        #[source]
        source: io::Error,
    },
    /// The driver declined (EOPNOTSUPP), or the interface is gone (ENODEV).
    #[error(
        "the driver of {name} does not say which stamps it takes (ETHTOOL_GET_TS_INFO: {source}); try `ethtool -T {name}`"
    )]
    Declined {
        /// The interface.
        name: String,
        /// What `ioctl(2)` said.
        #[source]
        source: io::Error,
    },
}

/// Asks the driver of `name` on the running machine, in the network namespace of this thread.
pub fn timestamping(name: &str) -> Result<Timestamping, TsInfoError> {
    let mut request = request_for(name)?;
    let mut info = TsInfo { cmd: GET_TS_INFO, ..TsInfo::default() };
    request.ifr_ifru.ifru_data = ptr::from_mut(&mut info).cast();
    let socket = datagram_socket()
        .map_err(|source| TsInfoError::Socket { name: name.to_owned(), source })?;
    // SAFETY: `request` names an interface and points to `info`, which is laid out as ethtool_ts_info
    // and outlives the call; the kernel writes at most size_of::<TsInfo>() bytes there.
    let answer =
        unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, ptr::from_mut(&mut request)) };
    if answer < 0 {
        let source = io::Error::last_os_error();
        return Err(TsInfoError::Declined { name: name.to_owned(), source });
    }
    Ok(decode(&info))
}

fn request_for(name: &str) -> Result<libc::ifreq, TsInfoError> {
    // SAFETY: ifreq is plain data; all zeroes is a valid value of each of its members.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    // The last byte stays NUL.
    if name.is_empty() || name.len() >= request.ifr_name.len() || name.contains('\0') {
        return Err(TsInfoError::Name { name: name.to_owned() });
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    Ok(request)
}

fn datagram_socket() -> io::Result<OwnedFd> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
    Ok(socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?)
}

fn decode(info: &TsInfo) -> Timestamping {
    let has = |bits: u32| info.so_timestamping & bits == bits;
    // HWTSTAMP_TX_ON and HWTSTAMP_FILTER_ALL are enumeration value 1 of their masks.
    Timestamping {
        tx_hardware: has(TX_HARDWARE | RAW_HARDWARE) && info.tx_types & 2 != 0,
        rx_hardware: has(RX_HARDWARE | RAW_HARDWARE),
        rx_hardware_any_packet: has(RX_HARDWARE | RAW_HARDWARE) && info.rx_filters & 2 != 0,
        tx_software: has(TX_SOFTWARE),
        rx_software: has(RX_SOFTWARE),
        phc_index: u32::try_from(info.phc_index).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_takes_kernel_stamps_and_has_no_clock() {
        let stamps = timestamping("lo").unwrap();
        assert!(stamps.rx_software && stamps.tx_software);
        assert!(!stamps.rx_hardware && !stamps.tx_hardware);
        assert_eq!(stamps.phc_index, None);
    }

    #[test]
    fn unknown_interface_and_unfit_names_are_told_apart() {
        assert!(matches!(timestamping("rg-none0"), Err(TsInfoError::Declined { .. })));
        for unfit in ["", "sixteen-bytes-16", "a\0b"] {
            assert!(matches!(timestamping(unfit), Err(TsInfoError::Name { .. })), "{unfit:?}");
        }
    }

    #[test]
    fn hardware_needs_raw_delivery_and_all_packets_needs_its_filter() {
        let info = |so_timestamping, rx_filters| TsInfo {
            so_timestamping,
            rx_filters,
            tx_types: 3,
            phc_index: 2,
            ..TsInfo::default()
        };
        let ptp_only = decode(&info(RX_HARDWARE | TX_HARDWARE | RAW_HARDWARE, 1 | 1 << 12));
        assert!(ptp_only.rx_hardware && ptp_only.tx_hardware && !ptp_only.rx_hardware_any_packet);
        assert_eq!(ptp_only.phc_index, Some(2));
        assert!(decode(&info(RX_HARDWARE | RAW_HARDWARE, 3)).rx_hardware_any_packet);
        assert!(!decode(&info(RX_HARDWARE | TX_HARDWARE, 3)).rx_hardware);
    }

    #[test]
    fn only_a_filter_for_all_packets_covers_probes() {
        let config = |flags, tx_type, rx_filter| HwtstampConfig { flags, tx_type, rx_filter };
        assert!(covers_every_packet(&config(0, 1, 1)));
        // Off; transmit only; receive only; PTP event messages (12) and NTP (15), as ptp4l and chrony set; bonded.
        for (flags, tx_type, rx_filter) in
            [(0, 0, 0), (0, 1, 0), (0, 0, 1), (0, 1, 2), (0, 1, 12), (0, 1, 15), (1, 1, 1)]
        {
            assert!(!covers_every_packet(&config(flags, tx_type, rx_filter)), "{rx_filter}");
        }
    }

    #[test]
    fn loopback_has_no_stamping_to_read() {
        let refused = stamping_now("lo").err().and_then(|e| e.raw_os_error());
        assert_eq!(refused, Some(libc::EOPNOTSUPP));
        assert!(!stamps_every_packet("lo") && !stamps_every_packet("rg-none0"));
    }

    #[test]
    fn layout_is_the_kernels() {
        assert_eq!(mem::size_of::<HwtstampConfig>(), 12);
        assert_eq!(mem::size_of::<TsInfo>(), 44);
        assert_eq!(mem::offset_of!(TsInfo, rx_filters), 28);
    }
}
