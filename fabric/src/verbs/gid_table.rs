//! The GIDs of a port: the addresses by which it can be reached.

use std::ffi::CStr;
use std::mem::{size_of, zeroed};
use std::path::{Path, PathBuf};

use railgauge_core::rdma::gid::{Gid, GidEntry, GidKind, LinkLayer};

use super::device::Context;
use super::failure::VerbError;
use super::ffi::ibv_gid_entry;

impl Context {
    /// The GIDs in use at a port, by index; without those of a kind that this program does not know. An interface is named where it
    /// is in our network namespace.
    ///
    /// # Errors
    /// When the device has gone, or there is no such port.
    pub fn gid_table(&self, port: u8) -> Result<Vec<GidEntry>, VerbError> {
        let attributes = self.port(port)?;
        let length = attributes.gid_table_length;
        match self.gids_by_verbs(port, length) {
            Some(entries) => Ok(entries),
            None => Ok(self.gids_by_sysfs(port, length, attributes.link_layer)),
        }
    }

    /// The same by sysfs alone, for libraries older than rdma-core 32 and as a second opinion.
    fn gids_by_sysfs(&self, port: u8, length: u32, link: Option<LinkLayer>) -> Vec<GidEntry> {
        let port = format!("/sys/class/infiniband/{}/ports/{port}", self.device().name);
        link.map_or_else(Vec::new, |link| Sysfs { port: port.into(), link }.read(length))
    }

    /// `None` where the library or the kernel has no such query.
    fn gids_by_verbs(&self, port: u8, length: u32) -> Option<Vec<GidEntry>> {
        let context = self.owner();
        let query = context.functions()._ibv_query_gid_table?;
        // The query is over all ports; ports beyond the first few have tables of the same length.
        let ports = self.attributes().map_or(1, |attributes| attributes.ports.max(1));
        let room = (length.max(1) as usize) * usize::from(ports);
        // SAFETY: all-zero octets are valid for this struct of integers.
        let zero: ibv_gid_entry = unsafe { zeroed() };
        let mut entries = vec![zero; room];
        let size = size_of::<ibv_gid_entry>();
        // SAFETY: the context is open, and there is room for as many entries as we say.
        let count = unsafe { query(context.raw(), entries.as_mut_ptr(), room, 0, size) };
        let count = usize::try_from(count).ok()?;
        let mine = entries.iter().take(count).filter(|entry| entry.port_num == u32::from(port));
        let mut found: Vec<GidEntry> = mine.filter_map(gid_entry).collect();
        found.sort_by_key(|entry| entry.index);
        Some(found)
    }
}

fn gid_entry(entry: &ibv_gid_entry) -> Option<GidEntry> {
    let kind = GidKind::from_verbs(entry.gid_type)?;
    // SAFETY: both members of the union are 16 octets without invalid values.
    let gid = Gid::from_octets(unsafe { entry.gid.raw });
    Some(GidEntry { index: entry.gid_index, gid, kind, netdev: interface(entry.ndev_ifindex) })
}

/// The name of an interface; it resolves only in the network namespace that has it.
fn interface(index: u32) -> Option<Box<str>> {
    let mut name = [0; libc::IF_NAMESIZE];
    // SAFETY: `name` has the length that if_indextoname(3) demands.
    let found = unsafe { libc::if_indextoname(index, name.as_mut_ptr()) };
    if index == 0 || found.is_null() {
        return None;
    }
    // SAFETY: if_indextoname ended it with NUL.
    Some(unsafe { CStr::from_ptr(found) }.to_string_lossy().into())
}

/// `gids` and `gid_attrs` of one port.
struct Sysfs {
    port: PathBuf,
    link: LinkLayer,
}

impl Sysfs {
    fn read(&self, length: u32) -> Vec<GidEntry> {
        (0..length).filter_map(|index| self.entry(index)).collect()
    }

    fn entry(&self, index: u32) -> Option<GidEntry> {
        // Reading the kind of an entry that is not in use gives EINVAL.
        let kind = self.word(Path::new("gid_attrs/types"), index)?;
        let kind = GidKind::from_sysfs(&kind, self.link)?;
        let gid: Gid = self.word(Path::new("gids"), index)?.parse().ok()?;
        if gid.is_zero() {
            return None;
        }
        let netdev = self.word(Path::new("gid_attrs/ndevs"), index);
        Some(GidEntry { index, gid, kind, netdev: netdev.map(Into::into) })
    }

    fn word(&self, directory: &Path, index: u32) -> Option<String> {
        let path = self.port.join(directory).join(index.to_string());
        std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_port_in_sysfs_is_read_with_its_holes() {
        let port = std::env::temp_dir().join(format!("railgauge-gids-{}", std::process::id()));
        let put = |name: &str, index: u32, text: &str| {
            let directory = port.join(name);
            fs::create_dir_all(&directory).unwrap();
            fs::write(directory.join(index.to_string()), text).unwrap();
        };
        put("gids", 0, "fe80:0000:0000:0000:5054:00ff:fe12:3456\n");
        put("gid_attrs/types", 0, "IB/RoCE v1\n");
        put("gid_attrs/ndevs", 0, "v1\n");
        put("gids", 1, "0000:0000:0000:0000:0000:0000:0000:0000\n");
        put("gids", 3, "0000:0000:0000:0000:0000:ffff:0a4d:0001\n");
        put("gid_attrs/types", 3, "RoCE v2\n");
        put("gid_attrs/ndevs", 3, "v1\n");
        let table = Sysfs { port: port.clone(), link: LinkLayer::Ethernet }.read(8);
        fs::remove_dir_all(&port).unwrap();
        let [first, second] = &table[..] else { panic!("{table:?}") };
        assert_eq!((first.index, first.kind), (0, GidKind::RoceV1));
        assert_eq!((second.index, second.kind), (3, GidKind::RoceV2));
        assert_eq!(second.gid, Gid::from(std::net::IpAddr::from([10, 77, 0, 1])));
        assert_eq!(second.netdev.as_deref(), Some("v1"));
    }

    #[test]
    fn a_kind_newer_than_this_program_is_left_out() {
        // SAFETY: all-zero octets are valid for this struct of integers.
        let zero: ibv_gid_entry = unsafe { zeroed() };
        let known = gid_entry(&ibv_gid_entry { gid_type: 2, gid_index: 3, ..zero }).unwrap();
        assert_eq!((known.kind, known.index, known.netdev), (GidKind::RoceV2, 3, None));
        assert_eq!(gid_entry(&ibv_gid_entry { gid_type: 7, ..zero }), None);
    }
}
