//! RPM packages, by `rpmbuild` from `deploy/packages/railgauge.spec`, which builds nothing and packs what is staged.

use super::elf::needs;
use super::stage::{self, Stage};
use super::{Edition, Failure, PACKAGES, Packed, must, write};
use crate::repo::Repo;
use std::process::Command;

pub fn pack(repo: &Repo, edition: &Edition, stage: &Stage) -> Result<Vec<Packed>, Failure> {
    let machine = needs(repo, &repo.release(PACKAGES[0].program()))?.machine;
    for package in PACKAGES {
        let root = stage.fill(repo, edition, package, str::to_owned)?;
        let licence = root.join("usr/share/licenses").join(package.name);
        stage::make(&licence)?;
        std::fs::copy(repo.path("LICENSE"), licence.join("LICENSE"))
            .map_err(|error| Failure::because("cannot copy LICENSE", error))?;
        stage::set_modes(&root)?;
        write(&stage.path().join(format!("{}.files", package.name)), list(&stage::files(&root)?))?;
    }
    let mut build = Command::new(super::tool(repo, "rpmbuild")?);
    build.args(["-bb", "--quiet", "--target", &format!("{}-linux", machine.rpm())]);
    build.arg("--define").arg(format!("_topdir {}", stage.path().join("rpmbuild").display()));
    build.arg("--define").arg(format!("stage {}", stage.path().display()));
    build.arg("--define").arg(format!("version_of_workspace {}", edition.version));
    build.arg("--define").arg(format!("_rpmdir {}", edition.out.display()));
    let payload = if edition.quick { "w1.gzdio" } else { "w6.xzdio" };
    build.arg("--define").arg(format!("_binary_payload {payload}"));
    build.args(["--define", "_rpmfilename %%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm"]);
    build.arg(repo.path("deploy/packages/railgauge.spec")).env("SOURCE_DATE_EPOCH", &edition.epoch);
    must(build)?;
    let packed = PACKAGES.iter().map(|package| {
        let file = format!("{}-{}-1.{}.rpm", package.name, edition.version, machine.rpm());
        let file = edition.out.join(file);
        if file.is_file() {
            return Ok(Packed { name: package.name, file });
        }
        Err(Failure::new(format!("rpmbuild left no {}", file.display())))
    });
    packed.collect()
}

/// Directories that no other package has, so that they go with ours.
const OURS: &[&str] =
    &["railgauge/", "railgauge-agent/", "railgauge-coordinator/", "examples/", "prometheus/"];

/// The `%files` of a package: its files, what kind each is, and the directories that are its own.
fn list(files: &[String]) -> String {
    let mut list = "%defattr(-,root,root,-)\n".to_owned();
    for name in files {
        let kind = match name {
            name if name.ends_with('/') => {
                if !OURS.iter().any(|ours| name.ends_with(&format!("/{ours}"))) {
                    continue;
                }
                "%dir "
            }
            name if name.starts_with("etc/") => "%config(noreplace) ",
            name if name.starts_with("usr/share/doc/") || name.starts_with("usr/share/man/") => {
                "%doc "
            }
            name if name.starts_with("usr/share/licenses/") => "%license ",
            _ => "",
        };
        list.push_str(&format!("{kind}\"/{}\"\n", name.trim_end_matches('/')));
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configuration_is_kept_and_own_directories_go() {
        let names = [
            "etc/",
            "etc/railgauge/",
            "etc/railgauge/agent.toml",
            "usr/bin/",
            "usr/bin/railgauge-agent",
            "usr/share/doc/",
            "usr/share/doc/railgauge-agent/",
        ];
        let list = list(&names.map(str::to_owned));
        assert_eq!(
            list,
            "%defattr(-,root,root,-)\n%dir \"/etc/railgauge\"\n%config(noreplace) \"/etc/railgauge/agent.toml\"\n\
             \"/usr/bin/railgauge-agent\"\n%dir \"/usr/share/doc/railgauge-agent\"\n"
        );
    }
}
