//! Counters of recorded and of made ports: what the kernel's texts become, and what a second look makes of them.

#[path = "../testdata/tree.rs"]
mod tree;

use std::fs;
use std::time::Duration;

use proptest::prelude::*;
use railgauge_core::rdma::counters::{CounterReading, CounterSet, Delta, Group, Why, deltas};
use railgauge_core::time::Monotonic;
use railgauge_fabric::inventory::Roots;
use railgauge_fabric::rdma_counters::{CountersError, ports, read};
use tree::RecordedTree;

const PORT: &str = "sys/class/infiniband/mlx5_0/ports/1";

fn roots(tree: &RecordedTree) -> Roots {
    Roots { sysfs: tree.directory.join("sys"), procfs: tree.directory.join("proc") }
}

fn look(tree: &RecordedTree, second: u64) -> CounterSet {
    read(&roots(tree), "mlx5_0", 1, Monotonic::from_nanos(second * 1_000_000_000)).unwrap()
}

fn get(set: &CounterSet, group: Group, name: &str) -> Option<CounterReading> {
    set.readings.get(&(group, name.into())).cloned()
}

/// A port as ConnectX-7 shows it, with a link that has been down more often than its counter can say.
fn connectx() -> RecordedTree {
    let tree = RecordedTree::empty();
    tree.add(&format!(
        "f {PORT}/counters/link_downed 255\\n\nf {PORT}/counters/symbol_error 3\\n\n\
         f {PORT}/counters/port_xmit_wait 4294967295\\n\nf {PORT}/counters/port_xmit_data 90\\n\n\
         f {PORT}/hw_counters/local_ack_timeout_err 4294967295\\n\n\
         f {PORT}/hw_counters/np_cnp_sent 7\\n\nf {PORT}/hw_counters/lifespan 12\\n"
    ));
    tree
}

#[test]
fn a_window_between_two_looks() {
    let tree = connectx();
    let before = look(&tree, 0);
    assert_eq!(before.lifespan, Duration::from_millis(12));
    assert_eq!(get(&before, Group::Driver, "lifespan"), None, "a setting and no counter");
    tree.add(&format!(
        "f {PORT}/counters/symbol_error 5\\n\nf {PORT}/hw_counters/local_ack_timeout_err 2\\n\n\
         f {PORT}/hw_counters/np_cnp_sent 9\\n"
    ));
    let all = deltas(&before, &look(&tree, 10));
    let of = |group, name: &str| all[&(group, name.into())];
    assert_eq!(of(Group::Port, "link_downed"), Delta::Unknown(Why::Saturated));
    assert_eq!(of(Group::Port, "port_xmit_wait"), Delta::Unknown(Why::Saturated));
    assert_eq!(of(Group::Port, "symbol_error"), Delta::By(2));
    assert_eq!(of(Group::Port, "port_xmit_data"), Delta::By(0));
    assert_eq!(of(Group::Driver, "local_ack_timeout_err"), Delta::By(3));
    assert_eq!(of(Group::Driver, "np_cnp_sent"), Delta::By(2));
}

#[test]
fn a_driver_loaded_anew_is_seen_by_its_directory() {
    let tree = connectx();
    let before = look(&tree, 0);
    // Kept under another name, so that no file system gives its inode to the new one.
    let port = tree.directory.join(PORT);
    fs::rename(&port, port.with_file_name("gone")).unwrap();
    tree.add(&format!("f {PORT}/hw_counters/local_ack_timeout_err 4294967295\\n"));
    let after = look(&tree, 10);
    assert_ne!(before.incarnation, after.incarnation);
    let all = deltas(&before, &after);
    assert!(all.values().all(|delta| *delta == Delta::Unknown(Why::Reset)), "{all:?}");
    assert_eq!(look(&tree, 20).incarnation, after.incarnation);
}

#[test]
fn what_is_not_there_or_does_not_count_says_so() {
    let tree = RecordedTree::empty();
    tree.add(&format!(
        "f {PORT}/counters/port_xmit_data N/A (no PMA)\\n\nf {PORT}/hw_counters/sent_pkts many\\n\n\
         f {PORT}/hw_counters/rcvd_pkts \\xff\\n\nd {PORT}/hw_counters/directory\n\
         f {PORT}/hw_counters/lifespan soon\\n"
    ));
    let set = look(&tree, 0);
    let kind = |group, name| get(&set, group, name).unwrap();
    assert_eq!(kind(Group::Port, "port_xmit_data"), CounterReading::NotAvailable);
    for name in ["sent_pkts", "rcvd_pkts", "directory"] {
        let reading = kind(Group::Driver, name);
        assert!(matches!(reading, CounterReading::Unreadable(_)), "{name}: {reading:?}");
    }
    assert_eq!(set.lifespan, Duration::from_millis(10), "the kernel's own");
    let all = deltas(&set, &look(&tree, 1));
    assert!(all.values().all(|delta| matches!(delta, Delta::Unknown(_))), "{all:?}");
}

#[test]
fn a_port_that_is_not_there_is_an_error_and_not_zero() {
    let tree = connectx();
    for (device, port) in
        [("mlx5_0", 2), ("mlx5_9", 1), ("", 1), ("..", 1), ("../net/lo", 1), ("a\0b", 1)]
    {
        let error = read(&roots(&tree), device, port, Monotonic::default()).unwrap_err();
        assert_eq!(error, CountersError::NoPort { device: device.to_owned(), port });
    }
    assert_eq!(ports(&roots(&tree)), [("mlx5_0".to_owned(), 1)]);
    assert_eq!(ports(&roots(&RecordedTree::empty())), []);
}

#[test]
fn recorded_machines_have_counters() {
    for (kind, devices) in [("hgx-h100", 12), ("gb200", 4)] {
        let tree = RecordedTree::unpack(kind);
        let roots = roots(&tree);
        let ports = ports(&roots);
        assert!(ports.len() >= devices, "{kind}: {ports:?}");
        let counts = |(device, port): &(String, u32)| {
            let set = read(&roots, device, *port, Monotonic::default()).unwrap();
            set.readings.values().filter(|reading| reading.known().is_some()).count()
        };
        assert!(ports.iter().any(|port| counts(port) > 5), "{kind}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever lies there: no panic, no endless read, no name that would not fit a label.
    #[test]
    fn anything_may_lie_in_the_tree(
        names in prop::collection::vec("[a-z_. -]{1,80}", 1..6), content in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let tree = RecordedTree::empty();
        let directory = tree.directory.join(PORT).join("hw_counters");
        fs::create_dir_all(&directory).unwrap();
        for name in names.iter().filter(|name| !matches!(name.trim_matches('.'), "")) {
            fs::write(directory.join(name), &content).unwrap();
        }
        let set = look(&tree, 0);
        for (_, name) in set.readings.keys() {
            prop_assert!(name.len() <= 64 && !name.contains(' '), "{name}");
        }
        prop_assert!(deltas(&set, &look(&tree, 1)).len() == set.readings.len());
    }
}
