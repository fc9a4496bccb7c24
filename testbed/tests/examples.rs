//! The configurations that packages install: what they say is accepted, and what they only mention is there to be said.

use std::path::Path;

use railgauge_agent::daemon::config as agent;
use railgauge_coordinator::config as coordinator;

fn example(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/etc").join(name);
    std::fs::read_to_string(path).unwrap()
}

/// With everything in force that is commented out, but what is set already, and TLS: it wants files.
fn in_full(text: &str) -> String {
    let is_setting = |line: &str| {
        let key = line.split(" = ").next().unwrap_or_default();
        let named = !key.is_empty() && key.chars().all(|c| c.is_ascii_lowercase() || c == '_');
        line.contains(" = ") && named || line.starts_with('[')
    };
    let mut keys: Vec<String> = text
        .lines()
        .filter(|line| is_setting(line))
        .filter_map(|line| Some(line.split_once(" = ")?.0.to_owned()))
        .collect();
    keys.extend(["ca", "cert", "key"].map(str::to_owned));
    let mut full = String::new();
    for line in text.lines() {
        let line = line.strip_prefix("# ").filter(|rest| is_setting(rest)).unwrap_or(line);
        if text.contains(&format!("# {line}"))
            && line.split_once(" = ").is_some_and(|(key, _)| keys.iter().any(|k| k == key))
        {
            continue;
        }
        full.push_str(line);
        full.push('\n');
    }
    full
}

#[test]
fn the_agents_example_is_accepted() {
    let read = |text: &str| {
        agent::parse("agent.toml", text, &agent::Flags::default(), Some("gpu-07".to_owned()))
    };
    let text = example("agent.toml");
    let shipped = read(&text).unwrap();
    assert!(shipped.endpoint.is_empty() && shipped.labels.is_empty());
    let full = read(&in_full(&text)).unwrap();
    assert_eq!((full.endpoint.len(), full.labels.len(), full.cpu), (1, 1, Some(2)));
    // Beside the examples, what is commented out is the default.
    assert_eq!(
        (full.state_dir, full.spool_bytes, full.budget),
        (shipped.state_dir, shipped.spool_bytes, shipped.budget)
    );
}

#[test]
fn the_coordinators_example_is_accepted_and_names_every_default() {
    let read =
        |text: &str| coordinator::parse("coordinator.toml", text, &coordinator::Layer::default());
    let text = example("coordinator.toml");
    let shipped = read(&text).unwrap();
    shipped.check_exposure().unwrap();
    let full = in_full(&text);
    assert_eq!(read(&full).unwrap(), shipped);
    for line in shipped.to_toml().lines() {
        let key = line.split(" = ").next().unwrap_or_default();
        assert!(
            full.lines().any(|line| line.starts_with(&format!("{key} = "))),
            "{key} is not mentioned"
        );
    }
}
