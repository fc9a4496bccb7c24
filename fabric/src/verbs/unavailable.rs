//! Why this machine has no RDMA for us: a sentence for each case.

use std::io;
use std::path::Path;

/// Why no RDMA device can be used here.
#[derive(Debug, thiserror::Error)]
pub enum Unavailable {
    /// rdma-core is not installed, or not for this process.
    #[error(
        "RDMA unavailable: {reason}; install libibverbs1 and ibverbs-providers (Debian, Ubuntu) or rdma-core (RHEL, SUSE)"
    )]
    LibraryMissing {
        /// What the dynamic linker says; it names the file.
        reason: String,
    },
    /// Something else is called libibverbs, or it is older than anything we know.
    #[error(
        "RDMA unavailable: libibverbs.so.1 has no function {symbol}: it is older than rdma-core 15, or no libibverbs"
    )]
    SymbolMissing {
        /// The function.
        symbol: &'static str,
    },
    /// `ENOSYS`: ib_core or ib_uverbs is not loaded.
    #[error(
        "RDMA unavailable: the kernel has no RDMA subsystem (/sys/class/infiniband_verbs is missing): load the NIC's driver and ib_uverbs"
    )]
    NoKernelSupport,
    /// The kernel has devices, and libibverbs knows none of them.
    #[error(
        "RDMA unavailable: no library drives {}: install the provider (ibverbs-providers on Debian and Ubuntu, rdma-core or the NIC maker's packages elsewhere), or load ib_uverbs",
        list(devices)
    )]
    ProviderMissing {
        /// The devices in `/sys/class/infiniband`.
        devices: Vec<String>,
    },
    /// Everything is there but a device.
    #[error("RDMA unavailable: this machine has no RDMA device (/sys/class/infiniband is empty)")]
    NoDevice,
    /// Any other failure of `ibv_get_device_list`.
    #[error("RDMA unavailable: the list of devices cannot be had")]
    List(#[source] io::Error),
}

/// What came of asking libibverbs for its list.
pub(super) enum Listing {
    /// So many devices.
    Count(usize),
    /// NULL, with this errno.
    Failed(io::Error),
}

/// Why there is nothing to choose from, or `None` where there is. `in_kernel` are the devices in `/sys/class/infiniband`.
pub(super) fn judge(listing: Listing, in_kernel: Vec<String>) -> Option<Unavailable> {
    match listing {
        Listing::Count(0) if in_kernel.is_empty() => Some(Unavailable::NoDevice),
        Listing::Count(0) => Some(Unavailable::ProviderMissing { devices: in_kernel }),
        Listing::Count(_) => None,
        Listing::Failed(error) if error.raw_os_error() == Some(libc::ENOSYS) => {
            Some(Unavailable::NoKernelSupport)
        }
        Listing::Failed(error) => Some(Unavailable::List(error)),
    }
}

/// The devices that the kernel has, by name; none where there is no such directory.
pub(super) fn devices_in_kernel(sysfs: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(sysfs.join("class/infiniband")).into_iter().flatten();
    let mut names: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// `a, b and c`.
pub(super) fn list(names: &[String]) -> String {
    match names {
        [] => "none".to_owned(),
        [only] => only.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(listing: Listing, in_kernel: &[&str]) -> String {
        let in_kernel = in_kernel.iter().map(|name| (*name).to_owned()).collect();
        judge(listing, in_kernel).map_or_else(String::new, |error| error.to_string())
    }

    #[test]
    fn each_kind_of_nothing_has_its_sentence() {
        assert!(said(Listing::Count(0), &[]).contains("no RDMA device"));
        let text = said(Listing::Count(0), &["mlx5_0", "mlx5_1"]);
        assert!(text.contains("no library drives mlx5_0 and mlx5_1"), "{text}");
        let errno = |errno| Listing::Failed(io::Error::from_raw_os_error(errno));
        assert!(said(errno(libc::ENOSYS), &[]).contains("no RDMA subsystem"));
        assert!(said(errno(libc::EPERM), &[]).contains("list of devices"));
        assert_eq!(said(Listing::Count(1), &["rxe1"]), "");
    }
}
