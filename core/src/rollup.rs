//! Windows of paths merged, exactly, into those of nodes, rails and the fleet.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::histogram::Recorder;
use crate::path::{Memory, NodeName, Path, Transport};
use crate::path_window::{Parameters, PathWindow, Split, WindowAccount};
use crate::timestamp_source::TimestampSource;

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
#[derive(Default)]
pub struct Rollup {
    merged: BTreeMap<Kind, BTreeMap<Level, PathWindow>>,
    sum: Option<Box<Sum>>,
}

impl Rollup {
    /// Nothing merged yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a window of a path at every level it belongs to. Of many at once, [`Self::add_all`] is cheaper.
    pub fn add(&mut self, path: &Path, window: &PathWindow) {
        self.add_all([(path, window)]);
    }

    /// Adds windows at every level they belong to: those of a path are added up first, then these sums by node, and so on, so that
    /// each level is touched once for all that it gets.
    pub fn add_all<'w>(&mut self, windows: impl IntoIterator<Item = (&'w Path, &'w PathWindow)>) {
        let mut sum = self.sum.take().unwrap_or_default();
        let item = |(path, window): (&'w Path, &'w PathWindow)| Item {
            path,
            kind: kind(path, window),
            window: Cow::Borrowed(window),
        };
        let mut single: Vec<Item<'_>> = windows.into_iter().map(item).collect();
        single.sort_by(|a, b| (a.kind, a.path).cmp(&(b.kind, b.path)));
        let paths = grouped(&mut sum, &single, |a, b| a == b);
        let nodes =
            grouped(&mut sum, &paths, |a, b| a.src.node == b.src.node && rail(a) == rail(b));
        let mut to: Vec<Item<'_>> = paths.iter().map(Item::borrowed).collect();
        to.sort_by_key(|item| (item.kind, &item.path.dst.node));
        let to = grouped(&mut sum, &to, |a, b| a.dst.node == b.dst.node);
        let mut rails: Vec<Item<'_>> = nodes.iter().map(Item::borrowed).collect();
        rails.sort_by_key(|item| (item.kind, rail(item.path)));
        let rails = grouped(&mut sum, &rails, |a, b| rail(a) == rail(b));
        let fleet = grouped(&mut sum, &rails, |_, _| true);
        self.sum = Some(sum);
        // Those before may be of those after.
        self.merge(fleet, |_| Some(Level::Fleet));
        self.merge(rails, |path| rail(path).map(Level::Rail));
        self.merge(nodes, |path| Some(Level::From(path.src.node.clone())));
        self.merge(to, |path| Some(Level::To(path.dst.node.clone())));
        self.merge(paths, |path| Some(Level::Path(path.clone())));
    }

    fn merge(&mut self, items: Vec<Item<'_>>, level: impl Fn(&Path) -> Option<Level>) {
        for Item { path, kind, window } in items {
            let Some(level) = level(path) else { continue };
            match self.merged.entry(kind).or_default().entry(level) {
                Entry::Vacant(entry) => drop(entry.insert(window.into_owned())),
                Entry::Occupied(mut entry) => entry.get_mut().merge(&window),
            }
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

/// What a window can be merged with.
fn kind(path: &Path, window: &PathWindow) -> Kind {
    let &Path { transport, memory, dscp, .. } = path;
    Kind { transport, memory, dscp, parameters: window.parameters }
}

/// The rail of a path, where it keeps to one.
fn rail(path: &Path) -> Option<u16> {
    (path.src.rail == path.dst.rail).then_some(path.src.rail)
}

/// What was seen on a path, or on all that it stands for.
struct Item<'w> {
    path: &'w Path,
    kind: Kind,
    window: Cow<'w, PathWindow>,
}

impl<'w> Item<'w> {
    fn borrowed(&'w self) -> Self {
        Self { path: self.path, kind: self.kind, window: Cow::Borrowed(&self.window) }
    }
}

/// Neighbours of a kind and for which `same` holds, as one.
fn grouped<'w>(
    sum: &mut Sum,
    items: &'w [Item<'w>],
    same: impl Fn(&Path, &Path) -> bool,
) -> Vec<Item<'w>> {
    let groups = items.chunk_by(|a, b| a.kind == b.kind && same(a.path, b.path));
    let one = |group: &'w [Item<'w>]| match group {
        [] => None,
        [one] => Some(one.borrowed()),
        [first, ..] => {
            let other: Vec<_> = group.iter().filter(|item| !sum.add(&item.window)).collect();
            let mut window = sum.take(first.kind.parameters);
            other.iter().for_each(|item| window.merge(&item.window));
            Some(Item { path: first.path, kind: first.kind, window: Cow::Owned(window) })
        }
    };
    groups.filter_map(one).collect()
}

/// Windows of one kind, added up where every place is at hand: 2 MiB, whatever is sent.
#[derive(Default)]
struct Sum {
    account: WindowAccount,
    clock_stepped: bool,
    app_rtt: Recorder,
    source: Option<TimestampSource>,
    parts: [Recorder; 3],
    /// Made when the first window with completions comes.
    post_to_completion: Option<Recorder>,
    completed: bool,
}

impl Sum {
    /// Adds a window; `false`, and nothing is added, when it has other splits than those before it.
    fn add(&mut self, window: &PathWindow) -> bool {
        let split = match window.splits.as_slice() {
            [] => None,
            [one] if self.source.is_none_or(|source| source == one.source) => Some(one),
            _ => return false,
        };
        if let Some(split) = split {
            self.source = Some(split.source);
            let parts = [&split.network_rtt, &split.prober_delay, &split.responder_delay];
            self.parts.iter_mut().zip(parts).for_each(|(sum, part)| sum.add_window(part));
        }
        if let Some(completions) = &window.post_to_completion {
            self.post_to_completion.get_or_insert_default().add_window(completions);
            self.completed = true;
        }
        self.account.merge(&window.account);
        self.clock_stepped |= window.clock_stepped;
        self.app_rtt.add_window(&window.app_rtt);
        true
    }

    /// The sum, and begins anew.
    fn take(&mut self, parameters: Parameters) -> PathWindow {
        let [network_rtt, prober_delay, responder_delay] = &mut self.parts;
        let split = self.source.take().map(|source| Split {
            source,
            network_rtt: network_rtt.drain(),
            prober_delay: prober_delay.drain(),
            responder_delay: responder_delay.drain(),
        });
        let completed = std::mem::take(&mut self.completed);
        let completions = self.post_to_completion.as_mut().filter(|_| completed);
        let completions = completions.map(Recorder::drain);
        PathWindow {
            parameters,
            account: std::mem::take(&mut self.account),
            app_rtt: self.app_rtt.drain(),
            splits: split.into_iter().collect(),
            post_to_completion: completions,
            clock_stepped: std::mem::take(&mut self.clock_stepped),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::{Endpoint, PortName};
    use crate::timestamp_source::StampSource;

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
        let parameters = Parameters { interval_ns: 1, timeout_ns: 2, size_bytes: 72, rdma: None };
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

    #[test]
    fn many_at_once_are_the_same_as_one_by_one() {
        let mut recorder = Recorder::new();
        let mut split = |t1, n: u64| {
            let mut series = || {
                (0..n).for_each(|k| recorder.record(900 + (k * 7_919 + n) % 4_000));
                recorder.record(70_000_000_000);
                recorder.drain()
            };
            let source =
                TimestampSource { t1, t2: t1, t3: StampSource::User, t4: StampSource::User };
            let (network_rtt, prober_delay, responder_delay) = (series(), series(), series());
            Split { source, network_rtt, prober_delay, responder_delay }
        };
        let paths = [path("a", "b", 0), path("a", "c", 0), path("a", "b", 1), path("d", "a", 1)];
        let mut windows: Vec<(usize, PathWindow)> = Vec::new();
        for n in 0..24u64 {
            let mut window = window(n);
            window.clock_stepped = n == 7;
            window.post_to_completion = (n % 4 == 0).then(|| window.app_rtt.clone());
            let stamps = if n % 5 == 0 { StampSource::Kernel } else { StampSource::User };
            window.splits.extend((n % 3 > 0).then(|| split(stamps, n)));
            window.splits.extend((n == 11).then(|| split(StampSource::Device, n)));
            window.parameters.size_bytes = if n < 20 { 72 } else { 100 };
            windows.push((usize::try_from(n / 3 % 4).unwrap(), window));
        }
        let (mut batch, mut single) = (Rollup::new(), Rollup::new());
        let all = windows.iter().map(|(at, window)| (&paths[*at], window));
        batch.add_all(all.clone().take(10));
        batch.add_all(all.skip(10));
        windows.iter().for_each(|(at, window)| single.add(&paths[*at], window));
        let all = |rollup: &Rollup| {
            let mut all = Vec::new();
            for (kind, level, window) in rollup.iter() {
                let mut window = window.clone();
                window.splits.sort_by_key(|split| split.source.to_string());
                all.push((*kind, level.clone(), window));
            }
            all
        };
        assert!(all(&single).len() > 10);
        assert_eq!(all(&batch), all(&single));
    }
}
