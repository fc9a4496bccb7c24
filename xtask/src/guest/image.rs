//! What the guest is made of, below `target/guest`: Debian's kernel with the modules it needs, a first file system, and a layer of
//! packages that lie over the host's root in the guest and are not installed here. Each is made once and again when what it is made of
//! changes.

use super::archive::Archive;
use crate::{Failure, packages, repo::Repo};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The kernel of the day.
const KERNEL: &str = "linux-image-amd64";
/// What runs before the host's root is there.
const BUSYBOX: &str = "busybox-static";
/// What the host may lack and the guest must not: libibverbs with its providers, the commands for links, disturbances and RDMA devices,
/// and the programs that our probes are compared with.
const PACKAGES: &[&str] = &[
    "ibverbs-providers",
    "ibverbs-utils",
    "iproute2",
    "libibverbs1",
    "librdmacm1",
    "perftest",
    "rdma-core",
];

/// Modules by name; those that they need come by themselves. Without `crc32_generic`, soft RoCE only says "failed to add".
const MODULES: &[&str] = &[
    "virtio_pci",
    "9p",
    "9pnet_virtio",
    "overlay",
    "crc32_generic",
    "crc32_pclmul",
    "crc32c_generic",
    "rdma_rxe",
    "rdma_ucm",
    "ib_uverbs",
    "rdma_cm",
    "ib_umad",
    "veth",
    "bridge",
    "sch_netem",
    "sch_tbf",
];

/// Parts of the kernel package that are large and hold nothing of [`MODULES`].
const NOT_UNPACKED: &[&str] = &[
    "drivers/gpu",
    "drivers/media",
    "drivers/net/ethernet",
    "drivers/net/wireless",
    "drivers/scsi",
    "drivers/staging",
    "drivers/usb",
    "sound",
];

/// Room that is taken while it is made, in octets: the package, what is unpacked of it, and the layer.
const ROOM: u64 = 700 << 20;

/// Everything to boot from.
#[derive(Debug, Clone)]
pub struct Image {
    /// Debian's kernel.
    pub kernel: PathBuf,
    /// The first file system.
    pub initramfs: PathBuf,
    /// A directory that lies over the host's root.
    pub layer: PathBuf,
}

/// Makes what is missing of the image.
///
/// # Errors
/// A sentence when a package cannot be had or there is no room.
pub fn prepare(repo: &Repo) -> Result<Image, Failure> {
    let home = repo.target().join("guest");
    std::fs::create_dir_all(&home)
        .map_err(|error| Failure::because(format!("cannot make {}", home.display()), error))?;
    let image = Image {
        kernel: home.join("vmlinuz"),
        initramfs: home.join("initramfs"),
        layer: home.join("layer"),
    };
    make_layer(&home, &image.layer)?;
    make_kernel(&home)?;
    make_initramfs(repo, &home, &image.initramfs)?;
    Ok(image)
}

/// The note beside a thing that says what it was made of.
fn is_made_of(thing: &Path, parts: &str) -> bool {
    thing.exists()
        && std::fs::read_to_string(thing.with_extension("made-of")).is_ok_and(|text| text == parts)
}

fn note(thing: &Path, parts: &str) -> Result<(), Failure> {
    write(&thing.with_extension("made-of"), parts.as_bytes())
}

fn write(path: &Path, octets: &[u8]) -> Result<(), Failure> {
    std::fs::write(path, octets)
        .map_err(|error| Failure::because(format!("cannot write {}", path.display()), error))
}

fn make_layer(home: &Path, layer: &Path) -> Result<(), Failure> {
    if !Path::new("/bin").is_symlink() {
        return Err(Failure::new(
            "this machine's /bin is a directory of its own; the guest lays merged packages over the root and needs a merged one (Debian 12)",
        ));
    }
    let missing = packages::missing(PACKAGES)?;
    let parts = missing.join("\n");
    if is_made_of(layer, &parts) {
        return Ok(());
    }
    has_room(home)?;
    let _ = std::fs::remove_dir_all(layer);
    // One directory at least, or there would be nothing to lay over.
    std::fs::create_dir_all(layer.join("usr"))
        .map_err(|error| Failure::because(format!("cannot make {}", layer.display()), error))?;
    let fetched = home.join("packages");
    for package in packages::fetch(&missing, &fetched)? {
        packages::unpack(&package, layer, &[])?;
    }
    let _ = std::fs::remove_dir_all(&fetched);
    note(layer, &parts)
}

/// The kernel, the modules and busybox, in `home`. One that is there stays, even when Debian has a newer one: what is fetched is
/// fetched once.
fn make_kernel(home: &Path) -> Result<(), Failure> {
    let kernel = home.join("vmlinuz");
    let parts = format!("{}\n{BUSYBOX}\n", MODULES.join("\n"));
    if is_made_of(&kernel, &parts) {
        return Ok(());
    }
    has_room(home)?;
    let (fetched, unpacked) = (home.join("packages"), home.join("kernel"));
    let _ = std::fs::remove_dir_all(&unpacked);
    let names = [packages::behind(KERNEL)?, BUSYBOX.to_owned()];
    let mut choice = vec!["--wildcards".to_owned()];
    choice
        .extend(NOT_UNPACKED.iter().map(|part| format!("--exclude=./lib/modules/*/kernel/{part}")));
    for package in packages::fetch(&names, &fetched)? {
        packages::unpack(&package, &unpacked, &choice)?;
    }
    let modules = home.join("modules");
    let _ = std::fs::remove_dir_all(&modules);
    keep_modules(&unpacked.join("lib/modules"), &modules)?;
    let found = first_file(&unpacked.join("boot"), "vmlinuz-")
        .ok_or_else(|| Failure::new("the kernel package holds no boot/vmlinuz-*"))?;
    let moved = [(found, kernel.clone()), (unpacked.join("bin/busybox"), home.join("busybox"))];
    for (from, to) in moved {
        std::fs::copy(&from, &to)
            .map_err(|error| Failure::because(format!("cannot copy {}", from.display()), error))?;
    }
    for directory in [fetched, unpacked] {
        let _ = std::fs::remove_dir_all(directory);
    }
    // Its modules are another kernel's.
    let _ = std::fs::remove_file(home.join("initramfs"));
    note(&kernel, &parts)
}

/// Keeps of all modules below `tree` those wanted, in the directory `into`, with a file `order` in which each comes after those it
/// needs. One that the package has compressed is unpacked.
fn keep_modules(tree: &Path, into: &Path) -> Result<(), Failure> {
    let cannot = |error| {
        Failure::because(format!("cannot keep kernel modules in {}", into.display()), error)
    };
    std::fs::create_dir_all(into).map_err(cannot)?;
    let mut found = BTreeMap::new();
    find_modules(tree, &mut found).map_err(cannot)?;
    let mut kept: Vec<String> = Vec::new();
    for name in MODULES {
        keep(name, &found, into, &mut kept)?;
    }
    let order: String = kept.iter().map(|name| format!("{name}.ko\n")).collect();
    write(&into.join("order"), order.as_bytes())
}

fn keep(
    name: &str,
    found: &BTreeMap<String, PathBuf>,
    into: &Path,
    kept: &mut Vec<String>,
) -> Result<(), Failure> {
    if kept.iter().any(|one| one == name) {
        return Ok(());
    }
    let path = found.get(name).ok_or_else(|| {
        Failure::new(format!(
            "Debian's kernel package has no module `{name}` where it was looked for"
        ))
    })?;
    let octets = read_module(path)?;
    for needed in depends(&octets) {
        keep(&needed, found, into, kept)?;
    }
    kept.push(name.to_owned());
    write(&into.join(format!("{name}.ko")), &octets)
}

fn read_module(path: &Path) -> Result<Vec<u8>, Failure> {
    let cannot = |error| Failure::because(format!("cannot read {}", path.display()), error);
    if path.extension().is_some_and(|extension| extension == "xz") {
        let unpacked = Command::new("xz").args(["--decompress", "--stdout"]).arg(path).output();
        return unpacked.map(|unpacked| unpacked.stdout).map_err(cannot);
    }
    std::fs::read(path).map_err(cannot)
}

/// Modules by the name the kernel gives them, which has no dashes.
fn find_modules(directory: &Path, found: &mut BTreeMap<String, PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().replace('-', "_");
        if entry.file_type()?.is_dir() {
            find_modules(&path, found)?;
        } else if let Some((name, "" | ".xz")) = name.split_once(".ko") {
            found.insert(name.to_owned(), path);
        }
    }
    Ok(())
}

/// What a module says it needs: `depends=a,b` among its strings, which end with NUL.
fn depends(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(at) = module.windows(KEY.len()).position(|window| window == KEY) else {
        return Vec::new();
    };
    let list = module[at + KEY.len()..].split(|octet| *octet == 0).next().unwrap_or_default();
    let list = String::from_utf8_lossy(list);
    list.split(',').filter(|name| !name.is_empty()).map(|name| name.replace('-', "_")).collect()
}

/// busybox, the modules and `testbed/guest/init`, in one archive.
fn make_initramfs(repo: &Repo, home: &Path, initramfs: &Path) -> Result<(), Failure> {
    let read = |path: PathBuf| {
        std::fs::read(&path)
            .map_err(|error| Failure::because(format!("cannot read {}", path.display()), error))
    };
    let init = read(repo.path("testbed/guest/init"))?;
    let modules = home.join("modules");
    let order = read(modules.join("order"))?;
    let parts = String::from_utf8_lossy(&[&order[..], &init].concat()).into_owned();
    if is_made_of(initramfs, &parts) {
        return Ok(());
    }
    let mut archive = Archive::default();
    for name in ["bin", "dev", "lower", "modules", "proc", "sys"] {
        archive.directory(name);
    }
    archive.file("init", &init);
    archive.file("bin/busybox", &read(home.join("busybox"))?);
    archive.file("modules/order", &order);
    for name in String::from_utf8_lossy(&order).lines() {
        archive.file(&format!("modules/{name}"), &read(modules.join(name))?);
    }
    write(initramfs, &archive.finish())?;
    note(initramfs, &parts)
}

fn has_room(home: &Path) -> Result<(), Failure> {
    let room = nix::sys::statvfs::statvfs(home).map_err(|error| {
        Failure::because(format!("cannot tell the room in {}", home.display()), error)
    })?;
    let free = room.blocks_available() * room.fragment_size();
    if free >= ROOM {
        return Ok(());
    }
    Err(Failure::new(format!(
        "{} has {} MiB left, and making the guest takes {} MiB",
        home.display(),
        free >> 20,
        ROOM >> 20
    )))
}

fn first_file(directory: &Path, prefix: &str) -> Option<PathBuf> {
    let files = std::fs::read_dir(directory).ok()?.flatten().map(|entry| entry.path());
    files
        .into_iter()
        .find(|file| file.file_name().is_some_and(|n| n.to_string_lossy().starts_with(prefix)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_says_what_it_needs() {
        let module = b"\x7fELF\0description=x\0depends=ib_core,ip6-udp-tunnel\0retpoline=Y\0";
        assert_eq!(depends(module), ["ib_core", "ip6_udp_tunnel"]);
        assert!(depends(b"\0depends=\0name=veth\0").is_empty());
        assert!(depends(b"nothing").is_empty());
    }
}
