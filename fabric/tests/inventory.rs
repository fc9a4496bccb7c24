//! The inventory of recorded trees against committed goldens, and against random content.
//! `UPDATE_GOLDEN=1 cargo test -p railgauge-fabric --test inventory` rewrites the goldens.

#[path = "../testdata/tree.rs"]
mod tree;

use proptest::prelude::*;
use railgauge_fabric::inventory::{
    self, DeviceNodeError, Inventory, Reading, Role, Roots, collect, cpus_of_numa_node,
    current_clocksource, governor_of_cpu, numa_node_of_device,
};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;
use tree::RecordedTree;

const KINDS: [&str; 5] = ["small-vm", "hgx-h100", "gb200", "ec2-vm", "broken"];

fn roots(tree: &RecordedTree) -> Roots {
    Roots { sysfs: tree.directory.join("sys"), procfs: tree.directory.join("proc") }
}

/// The inventory of each tree, read once: unpacking the large ones takes longer than all the tests.
fn inventory_of(kind: &str) -> Inventory {
    static ALL: LazyLock<BTreeMap<&str, Inventory>> = LazyLock::new(|| {
        KINDS.map(|kind| (kind, collect(&roots(&RecordedTree::unpack(kind))))).into_iter().collect()
    });
    ALL[kind].clone()
}

#[test]
fn every_recorded_tree_reads_as_its_golden() {
    for kind in KINDS {
        let text = serde_json::to_string_pretty(&inventory_of(kind)).unwrap() + "\n";
        let golden = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("testdata")
            .join(format!("{kind}.golden.json"));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&golden, &text).unwrap();
        }
        let wanted = fs::read_to_string(&golden).unwrap();
        assert!(
            text == wanted,
            "{kind}: differs from {golden:?}; UPDATE_GOLDEN=1 and read the difference"
        );
    }
}

#[test]
fn reading_a_tree_twice_gives_the_same() {
    let tree = RecordedTree::unpack("broken");
    assert_eq!(collect(&roots(&tree)), collect(&roots(&tree)));
}

#[test]
fn a_narrow_link_is_named_with_both_its_ends() {
    let inventory = inventory_of("hgx-h100");
    let ill: Vec<_> =
        inventory.pci_devices.known().unwrap().iter().filter(|d| !d.problems.is_empty()).collect();
    let [device] = ill.as_slice() else { panic!("{ill:?}") };
    assert_eq!(device.names, ["ibp156s0", "mlx5_6"]);
    assert_eq!(device.links.known().unwrap().len(), 2, "NIC to switch, switch to root port");
    let [problem] = device.problems.as_slice() else { panic!("{:?}", device.problems) };
    assert!(
        problem.contains("0000:9c:00.0 to 0000:99:00.0") && problem.contains("32 GT/s x8"),
        "{problem}"
    );
    assert!(inventory.warnings.contains(problem));
}

/// A GPU below a switch, `up` being the state of the switch's link to the root port.
fn gpu_below_a_switch(root_best: u32, up_now: u32, gpu_speed_now: &str) -> Vec<String> {
    let path = "sys/devices/pci0000:00/0000:00:01.0";
    let port = |path: &str, speed: &str, width: u32, best: u32| {
        format!(
            "f {path}/current_link_speed {speed} GT/s PCIe\nf {path}/current_link_width {width}\n\
             f {path}/max_link_speed 32.0 GT/s PCIe\nf {path}/max_link_width {best}\n"
        )
    };
    let up = format!("{path}/0000:01:00.0");
    let down = format!("{up}/0000:02:00.0");
    let gpu = format!("{down}/0000:03:00.0");
    let tree = RecordedTree::empty();
    tree.add(&port(path, "32.0", up_now, root_best));
    tree.add(&port(&up, "32.0", up_now, 16));
    tree.add(&port(&down, gpu_speed_now, 16, 16));
    tree.add(&port(&gpu, gpu_speed_now, 16, 16));
    tree.add(&format!("f {gpu}/class 0x030200\nf {gpu}/vendor 0x10de\n"));
    let below_sys = gpu.strip_prefix("sys/").unwrap();
    tree.add(&format!("l sys/bus/pci/devices/0000:03:00.0 ../../../{below_sys}"));
    collect(&roots(&tree)).pci_devices.known().unwrap()[0].problems.clone()
}

#[test]
fn a_bottleneck_anywhere_up_to_the_root_port_is_named() {
    assert_eq!(gpu_below_a_switch(16, 16, "32.0"), Vec::<String>::new());
    let ill = gpu_below_a_switch(16, 4, "32.0");
    assert!(ill.len() == 1 && ill[0].contains("0000:01:00.0 to 0000:00:01.0"), "{ill:?}");
    let slot = gpu_below_a_switch(8, 8, "32.0");
    assert!(
        slot.len() == 1
            && slot[0]
                .contains("can 504 Gbit/s and the link 0000:01:00.0 to 0000:00:01.0 at best 252"),
        "{slot:?}"
    );
    let idle = gpu_below_a_switch(16, 16, "2.5");
    assert!(idle.len() == 1 && idle[0].contains("look again under load"), "{idle:?}");
}

#[test]
fn bare_metal_of_a_cloud_is_not_called_virtual() {
    let tree = RecordedTree::empty();
    tree.add("f sys/class/dmi/id/sys_vendor Amazon EC2\nf sys/class/dmi/id/product_name p5.metal");
    assert_eq!(collect(&roots(&tree)).host.virtualisation, Reading::Known("none".to_owned()));
    tree.add("f sys/class/dmi/id/product_name p5.48xlarge");
    assert_eq!(collect(&roots(&tree)).host.virtualisation, Reading::Known("amazon".to_owned()));
}

#[test]
fn the_shape_of_a_big_machine() {
    let inventory = inventory_of("hgx-h100");
    let cpus = &inventory.cpus;
    let shape = (&cpus.sockets, &cpus.cores, &cpus.threads);
    assert_eq!(shape, (&Reading::Known(2), &Reading::Known(112), &Reading::Known(224)));
    let gpus =
        inventory.pci_devices.known().unwrap().iter().filter(|d| d.role == Role::Gpu).count();
    assert_eq!((gpus, inventory.rdma_devices.known().unwrap().len()), (8, 12));
    assert!(inventory.left_out.is_empty(), "{:?}", inventory.left_out);
}

#[test]
fn transports_say_what_is_missing_and_the_way_out() {
    let reasons = |kind: &str| {
        let all = inventory_of(kind).transports;
        assert_eq!(
            all.iter().map(|t| t.transport).collect::<Vec<_>>(),
            ["udp", "tcp", "rdma-ud", "rdma-rc", "nvlink", "pcie"]
        );
        all
    };
    let small = reasons("small-vm");
    assert!(small[0].measurable && small[1].measurable);
    assert!(
        small[2].reason.contains("load the NIC's driver (mlx5_ib) or rdma_rxe"),
        "{}",
        small[2].reason
    );
    assert!(small[4].reason.starts_with("no NVIDIA GPU"));
    let big = reasons("hgx-h100");
    assert!(!big[2].measurable && big[2].reason.starts_with("not in this version"));
    assert!(!big[5].measurable && big[5].reason.contains("8 NVIDIA GPU"));
}

#[test]
fn unknown_is_not_zero() {
    let json = serde_json::to_value(inventory_of("small-vm")).unwrap();
    let nics = json["nics"].as_array().unwrap();
    let eth0 = nics.iter().find(|nic| nic["name"] == "eth0").unwrap();
    assert!(eth0["speed_mbps"].is_null());
    assert!(eth0["speed_mbps_reason"].as_str().unwrap().starts_with("unsupported: "));
    assert!(eth0["numa_node"].is_null() && eth0.get("mtu_bytes_reason").is_none());
    assert!(json["nvlinks"].is_null() && json["nvlinks_reason"].is_string());
}

#[test]
fn questions_of_the_probe() {
    let tree = RecordedTree::unpack("hgx-h100");
    let roots = roots(&tree);
    assert_eq!(numa_node_of_device(&roots, "mlx5_9").unwrap(), 1);
    assert_eq!(numa_node_of_device(&roots, "enp27s0f0np0").unwrap(), 0);
    let cpus = cpus_of_numa_node(&roots, 1).unwrap();
    assert_eq!((cpus.len(), cpus[0], cpus[111]), (112, 56, 223));
    assert_eq!(current_clocksource(&roots), Reading::Known("tsc".to_owned()));
    assert_eq!(governor_of_cpu(&roots, 60).as_deref(), Some("powersave"));
    assert_eq!(governor_of_cpu(&roots, 999), None);
}

#[test]
fn questions_without_an_answer_name_the_thing_and_the_way_out() {
    let tree = RecordedTree::unpack("small-vm");
    let roots = roots(&tree);
    for nothing in ["mlx5_9", "", "..", "../net/eth0", "eth0/device"] {
        let error = numa_node_of_device(&roots, nothing).unwrap_err();
        assert!(matches!(error, DeviceNodeError::NoDevice { .. }), "{nothing}: {error}");
    }
    let unknown = numa_node_of_device(&roots, "eth0").unwrap_err().to_string();
    assert!(unknown.contains("eth0") && unknown.contains("--cpu"), "{unknown}");
    let no_node = cpus_of_numa_node(&roots, 7).unwrap_err().to_string();
    assert!(no_node.contains("node 7") && no_node.contains("--cpu"), "{no_node}");
}

#[test]
fn missing_roots_are_an_answer_too() {
    let nowhere = Roots { sysfs: "/nonexistent/sys".into(), procfs: "/nonexistent/proc".into() };
    let inventory = collect(&nowhere);
    assert!(!inventory.transports[0].measurable);
    assert!(
        inventory.host.kernel.reason().unwrap().contains("there is no /proc/sys/kernel/osrelease")
    );
}

#[test]
fn a_pipe_in_a_tree_does_not_stop_the_reader() {
    let tree = RecordedTree::empty();
    let pipe = tree.directory.join("proc/cpuinfo");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    assert!(matches!(collect(&roots(&tree)).cpus.model, Reading::Failed(_)));
}

#[test]
fn a_file_longer_than_any_attribute_is_refused_by_name() {
    let tree = RecordedTree::empty();
    let file = tree.directory.join("sys/class/dmi/id/sys_vendor");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, vec![b'x'; 70_000]).unwrap();
    let reason = collect(&roots(&tree)).host.vendor.reason().unwrap();
    assert!(reason.contains("sys_vendor is longer than 65536 bytes"), "{reason}");
}

#[test]
fn names_that_are_not_text_are_listed_as_left_out() {
    use std::os::unix::ffi::OsStrExt;
    let tree = RecordedTree::unpack("small-vm");
    let name = std::ffi::OsStr::from_bytes(b"eth\xff");
    fs::create_dir(tree.directory.join("sys/class/net").join(name)).unwrap();
    let left_out = collect(&roots(&tree)).left_out;
    assert_eq!(left_out.len(), 1, "{left_out:?}");
    assert!(left_out[0].starts_with("/sys/class/net"), "{left_out:?}");
}

#[test]
fn the_running_machine_is_read_and_its_loopback_asked_for_stamps() {
    let inventory = collect(&Roots::default());
    assert!(inventory.live);
    let lo = inventory.nics.known().unwrap().iter().find(|nic| nic.name == "lo").unwrap();
    assert!(lo.timestamping.known().unwrap().rx_software);
    // The kernel answers EINVAL: a real errno, which a recorded tree cannot have.
    assert!(matches!(&lo.speed_mbps, Reading::Unsupported(why) if why.contains("does not answer")));
    assert!(!inventory.cpus.online.known().unwrap().is_empty());
}

/// Every plain file of a tree, in a fixed order.
fn files(directory: &Path, found: &mut Vec<std::path::PathBuf>) {
    let mut entries: Vec<_> = fs::read_dir(directory).unwrap().map(|e| e.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        let kind = fs::symlink_metadata(&path).unwrap().file_type();
        if kind.is_dir() {
            files(&path, found);
        } else if kind.is_file() {
            found.push(path);
        }
    }
}

fn content() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..200),
        "[0-9,:\\-x. \n]{0,40}".prop_map(String::into_bytes),
        any::<i64>().prop_map(|n| n.to_string().into_bytes()),
        "[0-9.eE+\\-]{1,12} GT/s( PCIe)?".prop_map(String::into_bytes),
        Just(b"NaN GT/s".to_vec()),
        "DEVTYPE=\\PC{0,20}\n|processor: 1\nflags: \\PC{0,30}|Node 0 MemTotal: [0-9]{1,30} kB"
            .prop_map(String::into_bytes),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Any content in any files of a tree: never a panic, always JSON that parses and keeps its shape.
    #[test]
    fn random_content_never_panics(
        kind in prop_oneof![Just("small-vm"), Just("ec2-vm"), Just("broken")],
        changes in proptest::collection::vec((any::<prop::sample::Index>(), content()), 1..40),
    ) {
        let tree = RecordedTree::unpack(kind);
        let mut all = Vec::new();
        files(&tree.directory, &mut all);
        for (which, bytes) in changes {
            fs::write(which.get(&all), bytes).unwrap();
        }
        let text = serde_json::to_string(&collect(&roots(&tree))).unwrap();
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(json["schema"].as_str(), Some(inventory::SCHEMA));
        prop_assert_eq!(json["transports"].as_array().map(Vec::len), Some(6));
        prop_assert!(no_bare_null(&json), "a null without a reason: {text}");
    }
}

/// Each `null` field has its `_reason` beside it (`phc_index` is an optional, not a reading).
fn no_bare_null(json: &serde_json::Value) -> bool {
    match json {
        serde_json::Value::Object(map) => map.iter().all(|(key, value)| {
            (!value.is_null() || key == "phc_index" || map.contains_key(&format!("{key}_reason")))
                && no_bare_null(value)
        }),
        serde_json::Value::Array(items) => items.iter().all(no_bare_null),
        _ => true,
    }
}

/// A RoCE port as mlx5 shows it: `lines` after those of a good one, where `@` is the port's directory.
fn roce(lines: &str) -> Vec<String> {
    let tree = RecordedTree::empty();
    for (number, device) in ["mlx5_0", "mlx5_1"].into_iter().enumerate() {
        let port = format!("sys/class/infiniband/{device}/ports/1");
        let good = format!(
            "f sys/class/infiniband/{device}/hca_type MT4129\nf sys/class/infiniband/{device}/board_id B\n\
             f sys/class/infiniband_verbs/uverbs{number}/ibdev {device}\n\
             f {port}/state 4: ACTIVE\nf {port}/phys_state 5: LinkUp\nf {port}/link_layer Ethernet\n\
             f {port}/rate 400 Gb/sec (4X NDR)\nf sys/class/net/eth{number}/mtu 9000\n\
             f {port}/gids/3 0000:0000:0000:0000:0000:ffff:0a00:0001\nf {port}/gid_attrs/types/3 RoCE v2\n\
             f {port}/gid_attrs/ndevs/3 eth{number}\nf {port}/counters/link_downed 3\n"
        );
        tree.add(&good);
    }
    tree.add(&lines.replace('@', "sys/class/infiniband/mlx5_0/ports/1"));
    let inventory = collect(&roots(&tree));
    let devices = inventory.rdma_devices.known().unwrap();
    assert_eq!(devices[1].problems, Vec::<String>::new(), "only the first is ill");
    for problem in &devices[0].problems {
        assert!(inventory.warnings.contains(problem), "{problem}");
    }
    devices[0].problems.clone()
}

/// Each makes one thing wrong, and one sentence says what and how to change it.
#[test]
fn what_is_wrong_with_an_rdma_port_is_said_once_and_with_a_way_out() {
    assert_eq!(roce(""), Vec::<String>::new());
    let cases: [(&str, &[&str]); 12] = [
        (
            "f @/state 1: DOWN\nf @/phys_state 2: Polling",
            &["port mlx5_0/1 is DOWN (Polling)", "no partner answers on the cable"],
        ),
        (
            "f @/state 1: DOWN\nf @/phys_state 3: Disabled",
            &["is DOWN (Disabled)", "`ip link set eth0 up`"],
        ),
        ("f @/state 2: INIT", &["is INIT (LinkUp)", "no subnet manager has set it up"]),
        (
            "f @/gids/3 0000:0000:0000:0000:0000:0000:0000:0000\nd sys/class/infiniband/mlx5_0/device/net/eth0",
            &["port mlx5_0/1 has no GID", "give its network interface an address"],
        ),
        ("f @/gid_attrs/types/3 IB/RoCE v1", &["has no RoCE v2 GID", "`cma_roce_mode`"]),
        (
            "f sys/class/net/eth0/mtu 1500",
            &[
                "carries 1024 bytes in a packet where 4096 are possible",
                "`ip link set eth0 mtu 9000`",
            ],
        ),
        (
            "f @/rate 200 Gb/sec (2X NDR)",
            &["runs at 200 Gb/sec (2X NDR) and others of its make at 400 Gb/sec"],
        ),
        ("f @/rate 100 Gb/sec (4X EDR)", &["others of its make at 400 Gb/sec; check cable"]),
        ("f @/counters/link_downed N/A (no PMA)", &["does not count errors and discards (no PMA"]),
        (
            "f @/counters/link_downed 255\nf @/counters/port_xmit_wait 4294967295\nf @/counters/symbol_error 9",
            &["stopped at their largest value", "link_downed, port_xmit_wait; `perfquery -R`"],
        ),
        (
            "f sys/class/infiniband_verbs/uverbs0/ibdev mlx5_7",
            &["no uverbs device", "`modprobe ib_uverbs`"],
        ),
        (
            "f @/state 5: ACTIVE_DEFER",
            &["is ACTIVE_DEFER (LinkUp); check the cable, and `ip link show eth0`"],
        ),
    ];
    for (ill, expected) in cases {
        let problems = roce(ill);
        assert_eq!(problems.len(), 1, "{ill}: {problems:?}");
        for text in expected {
            assert!(problems[0].contains(text), "{:?} does not say {text:?}", problems[0]);
        }
    }
}

#[test]
fn a_slower_port_of_another_make_is_not_ill() {
    let problems =
        roce("f sys/class/infiniband/mlx5_0/hca_type MT4125\nf @/rate 100 Gb/sec (4X EDR)");
    assert_eq!(problems, Vec::<String>::new());
}
