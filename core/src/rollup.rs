//! Windows of paths merged, exactly, into those of nodes, rails and the fleet.

use std::collections::BTreeMap;

use crate::path::{Memory, NodeName, Path, Transport};
use crate::path_window::{Parameters, PathWindow};

/// What windows are merged by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// All of them.
    Fleet,
    /// Both ends on this rail.
    Rail(u16),
    /// Probes that leave this node.
    From(NodeName),
    /// Probes that this node answers.
    To(NodeName),
    /// One path.
    Path(Path),
}

/// Windows that can be merged: probed alike, over alike paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind {
    /// What carried the probes.
    pub transport: Transport,
    /// Where their memory was.
    pub memory: Memory,
    /// Their class of traffic.
    pub dscp: u8,
    /// How they were sent.
    pub parameters: Parameters,
}

/// Windows merged at every level. Conserves: the windows of all paths add up to that of the fleet, and so do those from all nodes.
#[derive(Clone, Debug, Default)]
pub struct Rollup {
    merged: BTreeMap<Kind, BTreeMap<Level, PathWindow>>,
}

impl Rollup {
    /// Nothing merged yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a window of a path at every level it belongs to.
    pub fn add(&mut self, path: &Path, window: &PathWindow) {
        let &Path { transport, memory, dscp, .. } = path;
        let kind = Kind { transport, memory, dscp, parameters: window.parameters };
        let levels = self.merged.entry(kind).or_default();
        let rail = (path.src.rail == path.dst.rail).then_some(Level::Rail(path.src.rail));
        let from_to = [Level::From(path.src.node.clone()), Level::To(path.dst.node.clone())];
        let all = [Level::Fleet, Level::Path(path.clone())].into_iter().chain(from_to).chain(rail);
        for level in all {
            let empty = || PathWindow::new(window.parameters);
            levels.entry(level).or_insert_with(empty).merge(window);
        }
    }

    /// What was merged at a level.
    pub fn get(&self, kind: &Kind, level: &Level) -> Option<&PathWindow> {
        self.merged.get(kind)?.get(level)
    }

    /// All that was merged: fleet, rails, nodes, paths, in that order.
    pub fn iter(&self) -> impl Iterator<Item = (&Kind, &Level, &PathWindow)> {
        self.merged.iter().flat_map(|(kind, levels)| {
            levels.iter().map(move |(level, window)| (kind, level, window))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::histogram::Recorder;
    use crate::path::{Endpoint, PortName};

    fn path(src: &str, dst: &str, rail: u16) -> Path {
        let end = |node| Endpoint {
            node: NodeName::new(node).unwrap(),
            port: PortName::new("p").unwrap(),
            rail,
        };
        let (src, dst) = (end(src), end(dst));
        Path { src, dst, transport: Transport::Udp, memory: Memory::Host, flow: 0, dscp: 0 }
    }

    fn window(replies: u64) -> PathWindow {
        let parameters = Parameters { interval_ns: 1, timeout_ns: 2, size_bytes: 72 };
        let mut window = PathWindow::new(parameters);
        let mut recorder = Recorder::new();
        (0..replies).for_each(|n| recorder.record(1_000 + n));
        window.app_rtt = recorder.drain();
        let account = &mut window.account;
        (account.scheduled, account.sent, account.received) = (replies, replies, replies);
        window
    }

    #[test]
    fn every_level_conserves_what_was_added() {
        let mut rollup = Rollup::new();
        for (src, dst, rail, replies) in [
            ("a", "b", 0, 3),
            ("b", "a", 0, 5),
            ("a", "b", 1, 7),
            ("a", "c", 0, 11),
            ("a", "b", 0, 13),
        ] {
            rollup.add(&path(src, dst, rail), &window(replies));
        }
        let node = |name| NodeName::new(name).unwrap();
        let kind = *rollup.iter().next().unwrap().0;
        let replies = |level: &Level| {
            let merged = rollup.get(&kind, level).unwrap();
            assert_eq!(merged.check(), Ok(()));
            merged.app_rtt.replies()
        };
        assert_eq!(replies(&Level::Fleet), 39);
        assert_eq!(replies(&Level::Path(path("a", "b", 0))), 16);
        assert_eq!((replies(&Level::From(node("a"))), replies(&Level::From(node("b")))), (34, 5));
        assert_eq!((replies(&Level::To(node("b"))), replies(&Level::To(node("c")))), (23, 11));
        assert_eq!((replies(&Level::Rail(0)), replies(&Level::Rail(1))), (32, 7));
        assert!(rollup.get(&kind, &Level::Rail(2)).is_none());
    }
}
