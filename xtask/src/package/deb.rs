//! Debian packages, by `dpkg-deb`: the control files are few and ours, so nothing stands between them and their reader.

use super::contents::{Package, ZSH, ZSH_OF_DEBIAN};
use super::elf::{Needs, needs};
use super::stage::{self, Stage};
use super::{Edition, Failure, MAINTAINER, Packed, must, read, write};
use crate::repo::Repo;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

/// The scripts of a daemon, with `@NAME@` where its name belongs.
const SCRIPTS: &[&str] = &["postinst", "prerm", "postrm"];

pub fn pack(
    repo: &Repo,
    edition: &Edition,
    stage: &Stage,
    package: &Package,
) -> Result<Packed, Failure> {
    let root = stage.fill(repo, edition, package, |to| to.replace(ZSH, ZSH_OF_DEBIAN))?;
    let needs = needs(repo, &repo.release(package.program()))?;
    documents(edition, package, &root)?;
    control(repo, edition, package, &needs, &root)?;
    stage::set_modes(&root)?;
    let version = version(edition);
    let file =
        edition.out.join(format!("{}_{version}_{}.deb", package.name, needs.machine.debian()));
    let mut dpkg = Command::new(super::tool(repo, "dpkg-deb")?);
    dpkg.args(if edition.quick { ["-Zgzip", "-z1"] } else { ["-Zxz", "-z6"] });
    dpkg.args(["--root-owner-group", "--build"]).arg(&root).arg(&file);
    // It dates what is younger with this.
    dpkg.env("SOURCE_DATE_EPOCH", &edition.epoch);
    must(dpkg)?;
    Ok(Packed { name: package.name, file })
}

/// The packages' own release of a version: one, until one is packed again for other reasons than its programs.
fn version(edition: &Edition) -> String {
    format!("{}-1", edition.version)
}

/// Changelog and copyright, as Debian wants them.
fn documents(edition: &Edition, package: &Package, root: &Path) -> Result<(), Failure> {
    let doc = root.join("usr/share/doc").join(package.name);
    let date = debian_date(&edition.epoch)?;
    let log = format!(
        "railgauge ({}) unstable; urgency=medium\n\n  * Release {}; what has changed is in changelog.gz.\n\n -- {MAINTAINER}  {date}\n",
        version(edition),
        edition.version
    );
    let plain = doc.join("changelog.Debian");
    write(&plain, log)?;
    stage::compress(&plain, &doc.join("changelog.Debian.gz"))?;
    std::fs::remove_file(&plain)
        .map_err(|error| Failure::because("cannot remove the plain changelog", error))?;
    write(&doc.join("copyright"), COPYRIGHT)?;
    let overrides = root.join("usr/share/lintian/overrides");
    stage::make(&overrides)?;
    let text = format!(
        "# It is not uploaded to Debian, so no bug asked for it.\n{}: initial-upload-closes-no-bugs\n",
        package.name
    );
    write(&overrides.join(package.name), text)
}

const COPYRIGHT: &str = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: railgauge

Files: *
Copyright: 2026 the Railgauge authors
License: Apache-2.0
 On Debian systems the text is in /usr/share/common-licenses/Apache-2.0.
Comment: the works of others that the program contains, with their licences,
 are listed in third-party-notices.gz beside this file.
";

/// The date form of RFC 5322, in UTC.
fn debian_date(epoch: &str) -> Result<String, Failure> {
    let seconds: i64 =
        epoch.parse().map_err(|error| Failure::because(format!("{epoch} is no time"), error))?;
    let time = jiff::Timestamp::from_second(seconds);
    let time = time.map_err(|error| Failure::because(format!("{epoch} is no time"), error))?;
    Ok(time.strftime("%a, %d %b %Y %H:%M:%S +0000").to_string())
}

fn control(
    repo: &Repo,
    edition: &Edition,
    package: &Package,
    needs: &Needs,
    root: &Path,
) -> Result<(), Failure> {
    let files: Vec<String> =
        stage::files(root)?.into_iter().filter(|name| !name.ends_with('/')).collect();
    let control = root.join("DEBIAN");
    stage::make(&control)?;
    write(&control.join("control"), fields(edition, package, needs, installed_kib(root, &files)))?;
    let mut sums = Command::new("md5sum");
    sums.args(&files).current_dir(root);
    let sums = sums.output().map_err(|error| Failure::because("cannot run md5sum", error))?;
    write(&control.join("md5sums"), sums.stdout)?;
    let settings: Vec<&String> = files.iter().filter(|name| name.starts_with("etc/")).collect();
    if !settings.is_empty() {
        let list: String = settings.iter().map(|name| format!("/{name}\n")).collect();
        write(&control.join("conffiles"), list)?;
    }
    if package.is_daemon() {
        for script in SCRIPTS {
            let text = read(&repo.path(format!("deploy/packages/deb/daemon.{script}")))?;
            write(&control.join(script), text.replace("@NAME@", package.name))?;
        }
    }
    Ok(())
}

/// As Debian's policy counts: each file's size rounded up, a directory as one.
fn installed_kib(root: &Path, files: &[String]) -> u64 {
    files
        .iter()
        .filter_map(|name| std::fs::metadata(root.join(name)).ok())
        .map(|file| file.len().div_ceil(1024))
        .sum()
}

fn fields(edition: &Edition, package: &Package, needs: &Needs, kib: u64) -> String {
    let mut text = String::new();
    let mut field = |name: &str, value: &str| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name}: {value}");
    };
    field("Package", package.name);
    field("Source", "railgauge");
    field("Version", &version(edition));
    field("Architecture", needs.machine.debian());
    field("Maintainer", MAINTAINER);
    field("Installed-Size", &kib.to_string());
    field("Depends", &depends(package, needs));
    field("Section", package.section);
    field("Priority", "optional");
    field("Description", &format!("{}\n{}", package.summary, folded(package.description)));
    text
}

fn depends(package: &Package, needs: &Needs) -> String {
    let (major, minor) = needs.glibc;
    let mut depends = vec![format!("libc6 (>= {major}.{minor})")];
    if needs.libraries.iter().any(|library| library.starts_with("libgcc_s")) {
        depends.push("libgcc-s1 (>= 4.2)".to_owned());
    }
    if package.is_daemon() {
        depends.push("systemd | systemd-standalone-sysusers | systemd-sysusers".to_owned());
        depends.push("systemd | systemd-standalone-tmpfiles | systemd-tmpfiles".to_owned());
    }
    depends.join(", ")
}

/// A description's further lines: indented by one, at most 79 characters.
fn folded(text: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.len() + word.len() < 79 => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(format!(" {word}")),
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::super::elf::Machine;
    use super::*;

    #[test]
    fn fields_are_as_policy_wants_them() {
        let edition = Edition {
            version: "1.2.3".into(),
            epoch: "0".into(),
            out: "out".into(),
            configuration: "",
            quick: false,
        };
        let needs = Needs {
            machine: Machine::Aarch64,
            glibc: (2, 34),
            libraries: vec!["libgcc_s.so.1".into()],
        };
        let daemon = super::super::PACKAGES.iter().find(|package| package.is_daemon()).unwrap();
        let text = fields(&edition, daemon, &needs, 7);
        assert!(text.contains("Version: 1.2.3-1\nArchitecture: arm64\n"), "{text}");
        assert!(text.contains("Depends: libc6 (>= 2.34), libgcc-s1 (>= 4.2), systemd |"), "{text}");
        let (_, description) = text.split_once("Description: ").unwrap();
        assert!(
            description.lines().skip(1).all(|line| line.starts_with(' ') && line.len() < 80),
            "{description}"
        );
        assert!(description.lines().next().unwrap().len() < 80);
    }

    #[test]
    fn dates_are_those_of_changelogs() {
        assert_eq!(debian_date("0").unwrap(), "Thu, 01 Jan 1970 00:00:00 +0000");
        assert!(debian_date("yesterday").is_err());
    }
}
