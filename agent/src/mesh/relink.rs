//! The driver's part in links over verbs: when they are made, made again, and let go.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use railgauge_core::time::Monotonic;

use super::lane::{Lane, packet_length};
use super::links::{Link, LinkError, Made, Maker, let_go};
use super::{Driver, LaneKey, LaneSetup, PlannedLane};

/// How often it is looked whether links are still there. A device that is removed waits for all that is open on it, so that they are
/// closed within a second of it.
const LOOK: Duration = Duration::from_millis(200);

/// Between two tries to make one: short against the windows that paths have to be back in, long enough not to burden a peer that comes
/// up.
pub(super) const REMAKE_AFTER: Duration = Duration::from_millis(500);

/// Links in the making, and when to look at the others.
pub(super) struct Links {
    maker: Maker,
    /// Lanes that begin when their link is there.
    to_begin: HashMap<Arc<LaneSetup>, PlannedLane>,
    /// Lanes whose link failed and could not be made again yet.
    to_remake: Vec<(u64, Monotonic)>,
    look_at: Monotonic,
}

impl Links {
    pub(super) fn new(maker: Maker) -> Self {
        let (to_begin, to_remake) = (HashMap::new(), Vec::new());
        Self { maker, to_begin, to_remake, look_at: Monotonic::default() }
    }
}

impl Driver {
    /// Takes what was made, lets go what is of no more use, and has it made again; returns when to look again.
    pub(super) fn tend_links(&mut self, now: Monotonic) -> Monotonic {
        while let Some(made) = self.links.maker.next_made() {
            self.take_link(made, now);
        }
        if !self.lanes.iter().any(|lane| lane.setup.rdma.is_some()) {
            return Monotonic::from_nanos(u64::MAX);
        }
        if now >= self.links.look_at {
            self.links.look_at = now.saturating_add(LOOK);
            self.let_broken_go(now);
        }
        self.links.look_at
    }

    fn let_broken_go(&mut self, now: Monotonic) {
        let Self { lanes, poller, links, counters, .. } = self;
        for lane in lanes.iter_mut() {
            if let Some(broken) = lane.take_broken(now) {
                counters.links_remade.fetch_add(1, Ordering::Relaxed);
                forget(poller, &broken);
                let_go(broken);
                lane.wake = Monotonic::default();
                if !lane.is_finishing {
                    links.to_remake.push((lane.token, now));
                }
            }
        }
        let (due, later) =
            std::mem::take(&mut links.to_remake).into_iter().partition(|(_, at)| *at <= now);
        links.to_remake = later;
        let due: Vec<(u64, Monotonic)> = due;
        for (token, _) in due {
            if let Ok(at) = lanes.binary_search_by_key(&token, |lane| lane.token)
                && !lanes[at].is_finishing
            {
                let setup = Arc::new(lanes[at].setup.clone());
                let length = lanes[at].packet_length();
                links.maker.make(setup, length);
            }
        }
    }

    fn take_link(&mut self, Made { setup, link }: Made, now: Monotonic) {
        if let Some(planned) = self.links.to_begin.remove(&setup) {
            return self.begin_over(planned, link);
        }
        let waits = |lane: &Lane| lane.setup == *setup && lane.is_unlinked() && !lane.is_finishing;
        let Some(lane) = self.lanes.iter_mut().find(|lane| waits(lane)) else {
            // Of a plan that is in force no more.
            return link.map_or((), let_go);
        };
        match link {
            Ok(link) => {
                lane.relink(link);
                let added = lane.fd().map_or(Ok(()), |fd| self.poller.add(fd, lane.token));
                if let Err(error) = added {
                    tracing::warn!("cannot wait on {}: {error}", setup.path);
                }
            }
            Err(error) => {
                tracing::debug!("{}: {}", setup.path, crate::sentence(&error));
                self.links.to_remake.push((lane.token, now.saturating_add(REMAKE_AFTER)));
            }
        }
    }

    fn begin_over(&mut self, planned: PlannedLane, link: Result<Link, LinkError>) {
        let begun = link.map_err(Failed::Link).and_then(|link| {
            let (token, epoch) = (self.next_token, self.epoch);
            Lane::over(planned.clone(), link, token, epoch, self.window, self.wall_offset)
                .map_err(Failed::Lane)
        });
        match begun {
            Ok(lane) => self.admit(lane, planned),
            Err(Failed::Link(error)) => self.fail(planned, &error),
            Err(Failed::Lane(error)) => self.fail(planned, &error),
        }
        self.counters.paths_failed.store(self.failed.len() as u64, Ordering::Relaxed);
    }

    /// Has the link of a new lane made.
    pub(super) fn make_link(&mut self, planned: PlannedLane) {
        let length = match packet_length(&planned) {
            Ok(length) => length,
            Err(error) => return self.fail(planned, &error),
        };
        let setup = Arc::new(planned.setup.clone());
        self.links.to_begin.insert(Arc::clone(&setup), planned);
        self.links.maker.make(setup, length);
    }

    /// Those of the new plan whose link is in the making go on waiting for it, with the key they have now; the others are not waited for.
    pub(super) fn keep_in_the_making(&mut self, wanted: &mut HashMap<LaneSetup, Option<LaneKey>>) {
        self.links.to_begin.retain(|setup, planned| match wanted.remove(&**setup) {
            Some(key) => {
                planned.key = key;
                true
            }
            None => false,
        });
    }

    /// Forgets lanes of which nothing more will come.
    pub(super) fn take_out_done(&mut self) {
        let Self { lanes, poller, .. } = self;
        for lane in lanes.extract_if(.., |lane| lane.is_done) {
            let is_over_verbs = lane.setup.rdma.is_some();
            if let Some(link) = lane.into_link().filter(|_| is_over_verbs) {
                forget(poller, &link);
                let_go(link);
            }
        }
    }
}

enum Failed {
    Link(LinkError),
    Lane(super::lane::LaneError),
}

/// Its descriptor stays open until another thread has let it go.
fn forget(poller: &railgauge_fabric::socket::Poller, link: &Link) {
    if let Some(fd) = link.fd() {
        // One that was never waited on cannot wake us either.
        let _ = poller.remove(fd);
    }
}
