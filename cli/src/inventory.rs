//! The table of `railgauge inventory`: one screen, the worst first below the facts. Plain ASCII.

mod machine;

use crate::args::{InventoryArgs, Output};
use crate::columns::{Columns, ascii};
use crate::{Exit, output};
use railgauge_agent::inventory::{
    self, Inventory, Nic, RdmaDevice, RdmaPort, Reading, Role, Roots, Timestamping,
};
use std::io::{self, Write};

/// Runs the command.
pub(crate) fn run(args: &InventoryArgs) -> Exit {
    for root in [&args.sysfs_root, &args.procfs_root] {
        if !root.is_dir() {
            let shown = root.display();
            output::say(&format!(
                "railgauge inventory: {shown} is no directory: give the root of a sysfs or procfs tree"
            ));
            return Exit::Usage;
        }
    }
    let roots = Roots { sysfs: args.sysfs_root.clone(), procfs: args.procfs_root.clone() };
    let inventory = inventory::collect(&roots);
    match args.output {
        Output::Json => output::json(&inventory, Exit::Healthy),
        Output::Table => {
            let mut table = Vec::new();
            // Writing to memory cannot fail.
            let _ = write_table(&inventory, &mut table);
            output::result(&String::from_utf8_lossy(&table), Exit::Healthy)
        }
    }
}

/// Writes the inventory for a person to read. Errors are the writer's own.
pub fn write_table(inventory: &Inventory, out: &mut impl Write) -> io::Result<()> {
    write_machine(inventory, out)?;
    write_nics(inventory, out)?;
    write_rdma(inventory, out)?;
    write_pcie(inventory, out)?;
    write_transports(inventory, out)?;
    write_list("WARNINGS", &warnings_not_above(inventory), out)?;
    if !inventory.left_out.is_empty() {
        write_list("NOT SHOWN ABOVE", &inventory.left_out, out)?;
    }
    Ok(())
}

fn write_machine(inventory: &Inventory, out: &mut impl Write) -> io::Result<()> {
    for (label, text) in machine::lines(inventory) {
        writeln!(out, "{label:<8} {}", ascii(&text))?;
    }
    Ok(())
}

fn write_nics(inventory: &Inventory, out: &mut impl Write) -> io::Result<()> {
    writeln!(out)?;
    let Some(nics) = inventory.nics.known() else {
        return write_absent("NIC", &inventory.nics, out);
    };
    let heads =
        ["NIC", "KIND", "STATE", "SPEED", "MTU", "NUMA", "PCI", "DRIVER", "UPPER", "STAMPS", "PHC"];
    let mut columns = Columns::new(&heads);
    for nic in nics {
        columns.row(nic_row(nic));
    }
    columns.write(out)
}

fn nic_row(nic: &Nic) -> Vec<String> {
    let state = match nic.carrier.known() {
        Some(false) => format!("{} (no carrier)", nic.operstate),
        Some(true) | None => nic.operstate.to_string(),
    };
    vec![
        nic.name.clone(),
        nic.kind.to_string(),
        state,
        nic.speed_mbps.known().map_or_else(|| "-".to_owned(), |speed| speed_text(*speed)),
        nic.mtu_bytes.to_string(),
        nic.numa_node.to_string(),
        nic.pci_address.to_string(),
        nic.driver.to_string(),
        nic.upper.to_string(),
        stamps(&nic.timestamping),
        clock_of(nic),
    ]
}

fn speed_text(mbps: u64) -> String {
    if mbps.is_multiple_of(1000) {
        format!("{} Gbit/s", mbps / 1000)
    } else {
        format!("{mbps} Mbit/s")
    }
}

/// The best stamps for ordinary UDP: NIC ones count only where every packet gets them.
fn stamps(reading: &Reading<Timestamping>) -> String {
    let Some(stamps) = reading.known() else { return "-".to_owned() };
    let word = match stamps {
        Timestamping { tx_hardware: true, rx_hardware_any_packet: true, .. } => "hardware",
        Timestamping { tx_hardware: true, rx_hardware: true, .. } => "hardware (PTP only), kernel",
        Timestamping { tx_software: true, rx_software: true, .. } => "kernel",
        Timestamping { rx_software: true, .. } => "kernel (receive)",
        _ => "none",
    };
    word.to_owned()
}

fn clock_of(nic: &Nic) -> String {
    match (nic.timestamping.known().and_then(|stamps| stamps.phc_index), nic.ptp_clocks.known()) {
        (Some(index), _) => format!("ptp{index}"),
        (None, Some(clocks)) if !clocks.is_empty() => clocks.join(","),
        (None, _) => "-".to_owned(),
    }
}

fn write_rdma(inventory: &Inventory, out: &mut impl Write) -> io::Result<()> {
    writeln!(out)?;
    let devices = list(&inventory.rdma_devices);
    if devices.is_empty() {
        return write_absent("RDMA", &inventory.rdma_devices, out);
    }
    let heads = [
        "RDMA", "STATE", "RATE", "LAYER", "NETDEV", "ROCE GID", "NUMA", "PCI", "TYPE", "FIRMWARE",
        "COUNTERS",
    ];
    let mut columns = Columns::new(&heads);
    for device in devices {
        match device.ports.known() {
            Some(ports) => ports.iter().for_each(|port| columns.row(port_row(device, port))),
            None => columns.row(vec![device.name.clone(), "no ports shown".to_owned()]),
        }
    }
    columns.write(out)
}

fn port_row(device: &RdmaDevice, port: &RdmaPort) -> Vec<String> {
    vec![
        format!("{}/{}", device.name, port.port),
        format!("{} {}", port.state, port.physical_state),
        port.rate.to_string(),
        port.link_layer.to_string(),
        port.netdev.to_string(),
        roce_gid(port),
        device.numa_node.to_string(),
        device.pci_address.to_string(),
        device.hca_type.to_string(),
        device.firmware.to_string(),
        port.counters.known().map_or_else(|| counters_absent(port), ToString::to_string),
    ]
}

/// Indices of the RoCE v2 GIDs that are not link-local: the ones a job would choose from.
fn roce_gid(port: &RdmaPort) -> String {
    let usable = port.gids.iter().filter(|gid| {
        gid.kind.known().is_some_and(|kind| kind == "RoCE v2") && !gid.gid.starts_with("fe80:")
    });
    let indices: Vec<String> = usable.map(|gid| gid.index.to_string()).collect();
    if indices.is_empty() { "-".to_owned() } else { indices.join(",") }
}

fn counters_absent(port: &RdmaPort) -> String {
    match &port.counters {
        Reading::Unsupported(why) if why.starts_with("N/A") => why.clone(),
        _ => "-".to_owned(),
    }
}

fn write_pcie(inventory: &Inventory, out: &mut impl Write) -> io::Result<()> {
    writeln!(out)?;
    let Some(devices) = inventory.pci_devices.known() else {
        return write_absent("PCIE", &inventory.pci_devices, out);
    };
    let linked = devices.iter().filter(|device| device.links.known().is_some()).count();
    let gpus = devices.iter().filter(|d| d.role == Role::Gpu).count();
    writeln!(
        out,
        "{:<8} {} network function(s), {gpus} NVIDIA GPU(s); a path to the root port is shown for {linked}",
        "PCIE",
        devices.len() - gpus
    )?;
    let mut problems: Vec<&str> =
        devices.iter().flat_map(|device| device.problems.iter().map(String::as_str)).collect();
    problems.dedup();
    if problems.is_empty() && linked > 0 {
        return writeln!(out, "         no link is known to run below its best");
    }
    problems.iter().try_for_each(|problem| writeln!(out, "         {}", ascii(problem)))
}

/// The warnings without those of PCIe links, which stand in their own part.
fn warnings_not_above(inventory: &Inventory) -> Vec<String> {
    let above: Vec<&String> =
        list(&inventory.pci_devices).iter().flat_map(|device| &device.problems).collect();
    inventory.warnings.iter().filter(|warning| !above.contains(warning)).cloned().collect()
}

fn write_transports(inventory: &Inventory, out: &mut impl Write) -> io::Result<()> {
    writeln!(out)?;
    let mut columns = Columns::new(&["TRANSPORT", "HERE", "WHY"]);
    for ability in &inventory.transports {
        let here = if ability.measurable { "yes" } else { "no" };
        columns.row(vec![ability.transport.to_owned(), here.to_owned(), ability.reason.clone()]);
    }
    columns.write(out)
}

fn write_list(label: &str, sentences: &[String], out: &mut impl Write) -> io::Result<()> {
    writeln!(out)?;
    if sentences.is_empty() {
        return writeln!(out, "{label}: none");
    }
    writeln!(out, "{label}")?;
    sentences.iter().try_for_each(|sentence| writeln!(out, "- {}", ascii(sentence)))
}

fn write_absent<T>(label: &str, reading: &Reading<Vec<T>>, out: &mut impl Write) -> io::Result<()> {
    let why = reading.reason().unwrap_or_else(|| "none".to_owned());
    writeln!(out, "{label:<8} {}", ascii(&why))
}

fn list<T>(reading: &Reading<Vec<T>>) -> &[T] {
    reading.known().map_or(&[], Vec::as_slice)
}
