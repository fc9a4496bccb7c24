//! Where packets go: address vectors, address handles and a cache of them.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io;
use std::mem::zeroed;
use std::ptr::NonNull;
use std::sync::Arc;

use railgauge_core::rdma::flow_label::FlowLabel;
use railgauge_core::rdma::gid::Gid;

use super::failure::{CreateError, Kind, destroyed};
use super::ffi::{ibv_ah, ibv_ah_attr};
use super::memory::{DomainOwner, ProtectionDomain};

/// The way to a peer's port, for an address handle (UD) or a connection (RC). Every part is the caller's choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AddressVector {
    /// Our port, from 1.
    pub port: u8,
    /// The peer's LID; zero on RoCE.
    pub lid: u16,
    /// Low bits of our own LID to send from.
    pub source_path_bits: u8,
    /// The service level: virtual lane on InfiniBand, 802.1p priority on RoCE.
    pub service_level: u8,
    /// Inter-packet delay as InfiniBand numbers it; zero: none.
    pub static_rate: u8,
    /// The global route: always on RoCE, on InfiniBand beyond a subnet or where the port demands it.
    pub global: Option<GlobalRoute>,
}

/// The network layer of a way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GlobalRoute {
    /// The peer's GID.
    pub destination: Gid,
    /// Our GID, by its index now: look it up again when a `GID_CHANGE` event comes.
    pub source_index: u8,
    /// Chooses among equal paths. Never unset for UD on mlx5, which then takes a random one for each handle.
    pub flow_label: FlowLabel,
    /// Routers at most; 0 and 1 die at the first.
    pub hop_limit: u8,
    /// DSCP in the upper six bits; the lower two (ECN) are the NIC's.
    pub traffic_class: u8,
}

impl AddressVector {
    pub(super) fn attributes(&self) -> ibv_ah_attr {
        // SAFETY: all-zero octets are valid for this struct of integers.
        let mut attr: ibv_ah_attr = unsafe { zeroed() };
        attr.dlid = self.lid;
        attr.sl = self.service_level;
        attr.src_path_bits = self.source_path_bits;
        attr.static_rate = self.static_rate;
        attr.port_num = self.port;
        if let Some(global) = &self.global {
            attr.is_global = 1;
            attr.grh.dgid.raw = global.destination.octets();
            attr.grh.flow_label = global.flow_label.get();
            attr.grh.sgid_index = global.source_index;
            attr.grh.hop_limit = global.hop_limit;
            attr.grh.traffic_class = global.traffic_class;
        }
        attr
    }
}

/// A way that the NIC knows, for UD sends. Keep it until the sends that use it have completed.
pub struct AddressHandle {
    raw: NonNull<ibv_ah>,
    domain: Arc<DomainOwner>,
}

// SAFETY: libibverbs is thread safe, and nothing of the handle is read or written here.
unsafe impl Send for AddressHandle {}
// SAFETY: as above.
unsafe impl Sync for AddressHandle {}

impl ProtectionDomain {
    /// Makes the NIC know a way. On RoCE this resolves the peer's or the router's MAC address, which may take the kernel
    /// a second or more when nobody answers: not for a probe thread's loop without need, see [`AddressCache`].
    ///
    /// # Errors
    /// `ETIMEDOUT`, `EHOSTUNREACH` or `ENETUNREACH` where the peer's address does not resolve; `EINVAL` where the index of our GID
    /// is empty.
    pub fn address_handle(&self, way: &AddressVector) -> Result<AddressHandle, CreateError> {
        let domain = self.owner();
        let mut attr = way.attributes();
        // SAFETY: the domain is alive, and `attr` is on our stack.
        let raw =
            unsafe { (domain.context().functions().ibv_create_ah)(domain.raw(), &raw mut attr) };
        let Some(raw) = NonNull::new(raw) else {
            let (error, device) = (io::Error::last_os_error(), domain.context().name());
            return Err(CreateError::new("ibv_create_ah", device, error));
        };
        Ok(AddressHandle { raw, domain: Arc::clone(domain) })
    }
}

impl AddressHandle {
    #[inline]
    pub(super) const fn raw(&self) -> *mut ibv_ah {
        self.raw.as_ptr()
    }

    #[inline]
    pub(super) const fn domain(&self) -> &Arc<DomainOwner> {
        &self.domain
    }
}

impl fmt::Debug for AddressHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AddressHandle").field(&self.domain.context().name()).finish()
    }
}

impl Drop for AddressHandle {
    fn drop(&mut self) {
        let context = self.domain.context();
        // SAFETY: this is the only release.
        let rc = unsafe { (context.functions().ibv_destroy_ah)(self.raw()) };
        destroyed(Kind::AddressHandle, context.name(), rc);
    }
}

/// Address handles by their way, at most so many: whoever sends us requests could otherwise fill the NIC with ways back.
#[derive(Debug)]
pub struct AddressCache {
    domain: ProtectionDomain,
    handles: HashMap<AddressVector, AddressHandle>,
    /// Oldest first.
    order: VecDeque<AddressVector>,
    capacity: usize,
}

impl AddressCache {
    /// Empty, for `capacity` ways (at least one).
    pub fn new(domain: &ProtectionDomain, capacity: usize) -> Self {
        let capacity = capacity.max(1);
        Self {
            domain: domain.clone(),
            handles: HashMap::with_capacity(capacity),
            order: VecDeque::with_capacity(capacity),
            capacity,
        }
    }

    /// The handle of a way, made now if it is not known; then the oldest goes where there is no room. Does not allocate for a
    /// known way.
    ///
    /// # Errors
    /// As [`ProtectionDomain::address_handle`].
    pub fn get(&mut self, way: &AddressVector) -> Result<&AddressHandle, CreateError> {
        if !self.handles.contains_key(way) {
            let handle = self.domain.address_handle(way)?;
            if self.order.len() >= self.capacity
                && let Some(oldest) = self.order.pop_front()
            {
                self.handles.remove(&oldest);
            }
            self.order.push_back(*way);
            self.handles.insert(*way, handle);
        }
        Ok(&self.handles[way])
    }

    /// Forgets all: GIDs, links or MAC addresses have changed.
    pub fn clear(&mut self) {
        self.handles.clear();
        self.order.clear();
    }

    /// How many ways are known.
    pub fn len(&self) -> usize {
        self.handles.len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.handles.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_without_a_global_route_says_so_to_the_nic() {
        let local = AddressVector {
            port: 1,
            lid: 7,
            source_path_bits: 2,
            service_level: 3,
            static_rate: 0,
            global: None,
        };
        let attr = local.attributes();
        assert_eq!((attr.is_global, attr.dlid, attr.sl, attr.port_num), (0, 7, 3, 1));
        let global = GlobalRoute {
            destination: Gid::from_octets([9; 16]),
            source_index: 3,
            flow_label: FlowLabel::new(0x12345).unwrap(),
            hop_limit: 64,
            traffic_class: 104,
        };
        let attr = AddressVector { global: Some(global), ..local }.attributes();
        assert_eq!((attr.is_global, attr.grh.sgid_index, attr.grh.flow_label), (1, 3, 0x12345));
        assert_eq!((attr.grh.hop_limit, attr.grh.traffic_class), (64, 104));
        // SAFETY: both members of the union are 16 octets without invalid values.
        assert_eq!(unsafe { attr.grh.dgid.raw }, [9; 16]);
    }
}
