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
    /// The kernel has devices, and their nodes are not here: libibverbs leaves such devices out.
    #[error(
        "RDMA unavailable: there is no node in /dev/infiniband for {}: load ib_uverbs, or give the container its /dev/infiniband/uverbs*",
        list(devices)
    )]
    NoNode {
        /// The devices in `/sys/class/infiniband` without one.
        devices: Vec<String>,
    },
    /// The kernel has devices, and libibverbs knows none of them.
    #[error(
        "RDMA unavailable: no library drives {}: install the provider (ibverbs-providers on Debian and Ubuntu, rdma-core or the NIC maker's packages elsewhere)",
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

/// A device in `/sys/class/infiniband`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct InKernel {
    pub name: String,
    /// Whether its character device is where libibverbs looks for it.
    pub has_node: bool,
}

/// Why there is nothing to choose from, or `None` where there is.
pub(super) fn judge(listing: Listing, in_kernel: Vec<InKernel>) -> Option<Unavailable> {
    let names = |devices: Vec<InKernel>| devices.into_iter().map(|device| device.name).collect();
    match listing {
        Listing::Count(0) if in_kernel.is_empty() => Some(Unavailable::NoDevice),
        Listing::Count(0) => {
            let (with, without): (Vec<_>, Vec<_>) =
                in_kernel.into_iter().partition(|device| device.has_node);
            Some(match with.is_empty() {
                true => Unavailable::NoNode { devices: names(without) },
                false => Unavailable::ProviderMissing { devices: names(with) },
            })
        }
        Listing::Count(_) => None,
        Listing::Failed(error) if error.raw_os_error() == Some(libc::ENOSYS) => {
            Some(Unavailable::NoKernelSupport)
        }
        Listing::Failed(error) => Some(Unavailable::List(error)),
    }
}

/// The devices that the kernel has, by name; none where there is no such directory. `root` is `/` but for tests.
pub(super) fn devices_in_kernel(root: &Path) -> Vec<InKernel> {
    let uverbs = root.join("sys/class/infiniband_verbs");
    // Devices whose node is there: /sys/class/infiniband_verbs/uverbs0/ibdev has the name.
    let with_node: Vec<String> = names(&uverbs)
        .into_iter()
        .filter(|node| root.join("dev/infiniband").join(node).exists())
        .filter_map(|node| std::fs::read_to_string(uverbs.join(node).join("ibdev")).ok())
        .map(|name| name.trim().to_owned())
        .collect();
    let devices = names(&root.join("sys/class/infiniband")).into_iter();
    devices.map(|name| InKernel { has_node: with_node.contains(&name), name }).collect()
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
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
        let device = |name: &&str| InKernel { name: (*name).to_owned(), has_node: true };
        let in_kernel = in_kernel.iter().map(device).collect();
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

    #[test]
    fn a_device_without_a_node_is_told_from_one_without_a_provider() {
        let root = std::env::temp_dir().join(format!("railgauge-nodes-{}", std::process::id()));
        let put = |path: &str, text: &str| {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        put("sys/class/infiniband/mlx5_0/fw_ver", "1\n");
        put("sys/class/infiniband_verbs/uverbs0/ibdev", "mlx5_0\n");
        put("sys/class/infiniband_verbs/abi_version", "6\n");
        let without = judge(Listing::Count(0), devices_in_kernel(&root)).unwrap();
        put("dev/infiniband/uverbs0", "");
        let with = judge(Listing::Count(0), devices_in_kernel(&root)).unwrap();
        std::fs::remove_dir_all(&root).unwrap();
        assert!(without.to_string().contains("no node in /dev/infiniband for mlx5_0"), "{without}");
        assert!(with.to_string().contains("no library drives mlx5_0"), "{with}");
    }
}
