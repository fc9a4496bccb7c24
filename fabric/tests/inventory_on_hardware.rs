//! What only a machine with the hardware can show; docs/hardware.md says how to run these. A missing device
//! or variable is a failure, not a skip.

use railgauge_fabric::ethtool;
use railgauge_fabric::inventory::{
    Reading, Role, Roots, collect, cpus_of_numa_node, numa_node_of_device,
};
use std::path::Path;

fn named(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| panic!("set {variable} to a device of this machine"))
}

#[test]
#[ignore = "needs a NIC with a PTP clock, named by RAILGAUGE_TEST_PHC_NIC"]
fn a_nic_with_a_clock_offers_hardware_stamps_and_sysfs_agrees() {
    let name = named("RAILGAUGE_TEST_PHC_NIC");
    let stamps = ethtool::timestamping(&name).unwrap();
    assert!(stamps.tx_hardware && stamps.rx_hardware, "{stamps:?}");
    let index = stamps.phc_index.expect("hardware stamps and no clock");
    assert!(Path::new(&format!("/dev/ptp{index}")).exists(), "/dev/ptp{index}");
    let inventory = collect(&Roots::default());
    let nic = inventory.nics.known().unwrap().iter().find(|nic| nic.name == name).unwrap();
    assert!(
        nic.ptp_clocks.known().unwrap().contains(&format!("ptp{index}")),
        "{:?}",
        nic.ptp_clocks
    );
}

#[test]
#[ignore = "needs several NUMA nodes and a NIC or RDMA device, named by RAILGAUGE_TEST_NUMA_DEVICE"]
fn a_device_of_a_big_machine_has_a_node_with_some_of_its_cpus() {
    let device = named("RAILGAUGE_TEST_NUMA_DEVICE");
    let node = numa_node_of_device(&Roots::default(), &device).unwrap();
    let near = cpus_of_numa_node(&Roots::default(), node).unwrap();
    let all = collect(&Roots::default()).cpus.threads;
    assert!(
        !near.is_empty() && matches!(all, Reading::Known(all) if near.len() < all),
        "{near:?} of {all:?}"
    );
}

#[test]
#[ignore = "needs an RDMA device, named by RAILGAUGE_TEST_RDMA_DEVICE"]
fn an_rdma_device_shows_its_ports() {
    let name = named("RAILGAUGE_TEST_RDMA_DEVICE");
    let inventory = collect(&Roots::default());
    let devices = inventory.rdma_devices.known().expect("no /sys/class/infiniband");
    let device = devices.iter().find(|device| device.name == name).expect("no such device");
    for port in device.ports.known().unwrap() {
        assert!(port.state.known().is_some() && port.rate.known().is_some(), "{port:?}");
        assert!(!port.gids.is_empty(), "{name}/{} has no GID", port.port);
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU on the PCI bus"]
fn every_gpu_is_on_the_bus_with_its_driver() {
    let inventory = collect(&Roots::default());
    let devices = inventory.pci_devices.known().unwrap();
    let gpus: Vec<_> = devices.iter().filter(|device| device.role == Role::Gpu).collect();
    assert!(!gpus.is_empty(), "no NVIDIA GPU on the PCI bus");
    for gpu in gpus {
        assert!(gpu.driver.known().is_some_and(|driver| driver == "nvidia"), "{gpu:?}");
    }
}
