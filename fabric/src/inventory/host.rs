//! Which machine this is, and whether it is one.

use super::reading::record;
use super::tree::Tree;
use super::{Reading, cpu};

record! {
    /// The machine and its kernel.
    Host {
        /// `/proc/sys/kernel/hostname`.
        read hostname: String,
        /// Kernel release, as `uname -r`.
        read kernel: String,
        /// Maker of the machine, from DMI.
        read vendor: String,
        /// The maker's name for the machine, from DMI.
        read product: String,
        /// The CPU's own word that a hypervisor runs below (CPUID leaf 1, ECX bit 31; x86 only).
        read hypervisor_bit: bool,
        /// `none`, or what kind of virtual machine this is.
        read virtualisation: String,
        /// Changes at each boot; two inventories with the same one are of the same boot.
        read boot_id: String,
    }
}

/// DMI vendor or product beginnings of virtual machines, as systemd-detect-virt knows them.
const VIRTUAL_MACHINES: [(&str, &str); 12] = [
    ("Amazon EC2", "amazon"),
    ("Google Compute Engine", "google"),
    ("Alibaba Cloud ECS", "kvm"),
    ("OpenStack", "kvm"),
    ("KubeVirt", "kvm"),
    ("QEMU", "qemu"),
    ("KVM", "kvm"),
    ("VMware", "vmware"),
    ("Virtual Machine", "microsoft"),
    ("innotek GmbH", "virtualbox"),
    ("Xen", "xen"),
    ("Parallels", "parallels"),
];

pub(super) fn collect(sysfs: &Tree, procfs: &Tree) -> Host {
    let vendor = sysfs.word("class/dmi/id/sys_vendor");
    let product = sysfs.word("class/dmi/id/product_name");
    let hypervisor_bit = cpu::flag(procfs, "hypervisor");
    Host {
        hostname: procfs.word("sys/kernel/hostname"),
        kernel: procfs.word("sys/kernel/osrelease"),
        virtualisation: virtualisation(sysfs, &vendor, &product, &hypervisor_bit),
        vendor,
        product,
        hypervisor_bit,
        boot_id: procfs.word("sys/kernel/random/boot_id"),
    }
}

fn virtualisation(
    sysfs: &Tree,
    vendor: &Reading<String>,
    product: &Reading<String>,
    hypervisor_bit: &Reading<bool>,
) -> Reading<String> {
    if let Reading::Known(kind) = sysfs.word("hypervisor/type") {
        return Reading::Known(kind);
    }
    // EC2 bare metal has EC2's vendor too, and no hypervisor bit.
    if hypervisor_bit.known() == Some(&false) || is_bare_ec2(product) {
        return Reading::Known("none".to_owned());
    }
    let named = [vendor, product].into_iter().filter_map(Reading::known).find_map(|text| {
        VIRTUAL_MACHINES.iter().find(|(start, _)| text.starts_with(start)).map(|(_, kind)| *kind)
    });
    match (named, hypervisor_bit.known()) {
        (Some(kind), _) => Reading::Known(kind.to_owned()),
        (None, Some(_)) => Reading::Known("of a kind DMI does not name".to_owned()),
        (None, None) => Reading::Unsupported(
            "this CPU shows no hypervisor bit and DMI names no virtual machine; `systemd-detect-virt` may know"
                .to_owned(),
        ),
    }
}

fn is_bare_ec2(product: &Reading<String>) -> bool {
    product.known().is_some_and(|name| name.ends_with(".metal") || name.contains(".metal-"))
}
