//! The meshes of a node: that of sockets, and that of verbs where an endpoint has an RDMA device.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use railgauge_core::time::Monotonic;

use crate::mesh::{Mesh, MeshCounters, PlannedLane};

/// All that probes continuously, told as one.
#[derive(Clone)]
pub struct Engines {
    sockets: Arc<Mesh>,
    verbs: Option<Arc<Mesh>>,
}

impl Engines {
    /// These.
    pub const fn new(sockets: Arc<Mesh>, verbs: Option<Arc<Mesh>>) -> Self {
        Self { sockets, verbs }
    }

    fn all(&self) -> impl Iterator<Item = &Arc<Mesh>> {
        std::iter::once(&self.sockets).chain(&self.verbs)
    }

    /// What each has done.
    pub fn counters(&self) -> impl Iterator<Item = &Arc<MeshCounters>> {
        self.all().map(|mesh| mesh.counters())
    }

    /// See [`Mesh::plan`]. Paths over verbs are planned only for a node that has said that it offers them.
    pub fn plan(&self, epoch: u64, lanes: Vec<PlannedLane>) {
        let (verbs, sockets) = lanes.into_iter().partition(|lane| lane.setup.rdma.is_some());
        self.sockets.plan(epoch, sockets);
        if let Some(mesh) = &self.verbs {
            let verbs: Vec<PlannedLane> = verbs;
            mesh.plan(epoch, verbs);
        }
    }

    /// See [`Mesh::keys_until`].
    pub fn keys_until(&self, until: Monotonic) {
        self.all().for_each(|mesh| mesh.keys_until(until));
    }

    /// See [`Mesh::slow`].
    pub fn slow(&self, factor: u32) {
        self.all().for_each(|mesh| mesh.slow(factor));
    }

    /// See [`Mesh::set_window`].
    pub fn set_window(&self, length: Duration) {
        self.all().for_each(|mesh| mesh.set_window(length));
    }

    /// See [`Mesh::drain`].
    pub fn drain(&self) {
        self.all().for_each(|mesh| drop(mesh.drain()));
    }

    /// Waits until one of them has put a plan in force.
    pub async fn plan_applied(&self) {
        let verbs = async {
            match &self.verbs {
                Some(mesh) => mesh.counters().plan_applied.notified().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.sockets.counters().plan_applied.notified() => {}
            () = verbs => {}
        }
    }

    /// Whether all of them probe under this plan.
    pub fn are_under(&self, epoch: u64) -> bool {
        self.counters().all(|counters| counters.plan_epoch.load(Ordering::Acquire) == epoch)
    }
}
