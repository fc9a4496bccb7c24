//! Which crate may know which: the arrows of docs/ARCHITECTURE.md.

use super::complaint::Complaint;
use serde_json::Value;

/// Each crate of the workspace and the ones it may depend on (but for tests).
///
/// `testbed` uses everything; `xtask` takes from `cli` the definition of its commands, from `metrics` that of the metrics.
const ARROWS: &[(&str, &[&str])] = &[
    ("railgauge-core", &[]),
    ("railgauge-proto", &["railgauge-core"]),
    ("railgauge-access", &["railgauge-core"]),
    ("railgauge-kernels", &[]),
    ("railgauge-fabric", &["railgauge-core", "railgauge-kernels"]),
    ("railgauge-metrics", &["railgauge-core"]),
    (
        "railgauge-agent",
        &[
            "railgauge-access",
            "railgauge-core",
            "railgauge-proto",
            "railgauge-fabric",
            "railgauge-metrics",
        ],
    ),
    ("railgauge-report", &["railgauge-core"]),
    (
        "railgauge-coordinator",
        &[
            "railgauge-access",
            "railgauge-core",
            "railgauge-proto",
            "railgauge-report",
            "railgauge-metrics",
        ],
    ),
    (
        "railgauge-cli",
        &[
            "railgauge-access",
            "railgauge-core",
            "railgauge-proto",
            "railgauge-report",
            "railgauge-agent",
        ],
    ),
    (
        "railgauge-testbed",
        &[
            "railgauge-access",
            "railgauge-core",
            "railgauge-proto",
            "railgauge-kernels",
            "railgauge-fabric",
            "railgauge-metrics",
            "railgauge-report",
            "railgauge-agent",
            "railgauge-coordinator",
            "railgauge-cli",
        ],
    ),
    ("xtask", &["railgauge-cli", "railgauge-metrics"]),
];

/// What would bring a clock, a socket, a file or a driver into core.
const NOT_IN_CORE: &[&str] = &[
    "async-std",
    "crossbeam",
    "cudarc",
    "getrandom",
    "hyper",
    "libc",
    "libloading",
    "mio",
    "nix",
    "rand",
    "rdma-sys",
    "rustix",
    "smol",
    "socket2",
    "tokio",
    "tonic",
    "tracing-subscriber",
];

/// Complaints about the workspace's own dependencies; `read` gives the text of a manifest, to find the line.
pub fn check(metadata: &Value, read: impl Fn(&str) -> String) -> Vec<Complaint> {
    let root = metadata["workspace_root"].as_str().unwrap_or_default();
    let packages: Vec<&Value> = packages(metadata).filter(|p| p["source"].is_null()).collect();
    let own: Vec<&str> = packages.iter().map(|package| name(package)).collect();
    let mut complaints = Vec::new();
    for package in &packages {
        let manifest = package["manifest_path"].as_str().unwrap_or_default();
        let text = read(manifest);
        let path = manifest.strip_prefix(root).unwrap_or(manifest).trim_start_matches('/');
        for dependency in dependencies(package) {
            if let Some((wrong, instead)) = judge(name(package), dependency, &own) {
                complaints.push(Complaint::at(path, line_of(&text, dependency), wrong, instead));
            }
        }
        if !ARROWS.iter().any(|(known, _)| *known == name(package)) {
            let wrong = format!("crate `{}` has no place in the house", name(package));
            let instead = "add it to ARROWS in xtask/src/tidy/dependencies.rs and to the drawing";
            complaints.push(Complaint::at(path, 0, wrong, instead));
        }
    }
    complaints
}

/// All packages of `metadata`.
pub fn packages(metadata: &Value) -> impl Iterator<Item = &Value> {
    metadata["packages"].as_array().into_iter().flatten()
}

/// The name of a package or dependency.
pub fn name(package: &Value) -> &str {
    package["name"].as_str().unwrap_or_default()
}

/// What a package needs to be built and run; what only its tests need is free.
fn dependencies(package: &Value) -> impl Iterator<Item = &str> {
    let listed = package["dependencies"].as_array().into_iter().flatten();
    listed.filter(|dependency| dependency["kind"].as_str() != Some("dev")).map(name)
}

fn judge(from: &str, to: &str, own: &[&str]) -> Option<(String, String)> {
    if from == "railgauge-core" && NOT_IN_CORE.contains(&to) {
        let instead = "take time and bytes as arguments and keep the driver in fabric or agent";
        return Some((format!("core depends on `{to}`"), instead.to_owned()));
    }
    let allowed = ARROWS.iter().find(|(name, _)| *name == from).map_or(&[][..], |(_, to)| to);
    if !own.contains(&to) || allowed.contains(&to) {
        return None;
    }
    let instead = format!("it may know {allowed:?}; move what is needed down, or turn the arrow");
    Some((format!("{from} depends on {to}"), instead))
}

fn line_of(manifest: &str, dependency: &str) -> usize {
    let names_it = |line: &str| {
        let rest = line.trim_start().strip_prefix(dependency);
        rest.is_some_and(|rest| rest.starts_with(['.', ' ', '=']))
    };
    manifest.lines().position(names_it).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn found(packages: Value) -> Vec<String> {
        let metadata = json!({"workspace_root": "/r", "packages": packages});
        check(&metadata, |_| {
            "[dependencies]\ntokio = \"1\"\nrailgauge-agent.workspace = true\n".into()
        })
        .iter()
        .map(ToString::to_string)
        .collect()
    }

    fn package(name: &str, dependency: &str, kind: Value) -> Value {
        json!({"name": name, "source": null, "manifest_path": "/r/x/Cargo.toml",
               "dependencies": [{"name": dependency, "kind": kind}]})
    }

    #[test]
    fn arrows_point_one_way() {
        let agent = package("railgauge-agent", "railgauge-core", Value::Null);
        assert!(found(json!([agent, package("railgauge-core", "serde", Value::Null)])).is_empty());
        let turned = package("railgauge-fabric", "railgauge-agent", Value::Null);
        let complaints = found(json!([agent, turned]));
        assert_eq!(complaints.len(), 1);
        assert!(
            complaints[0]
                .starts_with("x/Cargo.toml:3: railgauge-fabric depends on railgauge-agent; ")
        );
    }

    #[test]
    fn core_takes_no_driver_but_its_tests_may() {
        assert_eq!(found(json!([package("railgauge-core", "tokio", Value::Null)])).len(), 1);
        assert_eq!(found(json!([package("railgauge-core", "tokio", json!("build"))])).len(), 1);
        assert!(found(json!([package("railgauge-core", "tokio", json!("dev"))])).is_empty());
    }

    #[test]
    fn a_new_crate_needs_a_place() {
        assert_eq!(found(json!([package("railgauge-utils", "serde", Value::Null)])).len(), 1);
    }
}
