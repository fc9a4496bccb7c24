//! The configurations that packages install: what they say is accepted, and what they only mention is there to be said.

use std::collections::BTreeSet;
use std::path::Path;

use railgauge_agent::daemon::config as agent;
use railgauge_coordinator::config as coordinator;
use serde::Serialize;
use serde_json::Value;

fn example(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/etc").join(name);
    std::fs::read_to_string(path).unwrap()
}

/// The keys of a configuration that are always printed.
fn keys(config: &impl Serialize) -> BTreeSet<String> {
    match serde_json::to_value(config).unwrap() {
        Value::Object(keys) => keys.into_iter().map(|(key, _)| key).collect(),
        other => panic!("a configuration is an object, not {other}"),
    }
}

/// The key that a line sets, if it does.
fn key(line: &str) -> Option<&str> {
    let key = line.split_once(" = ")?.0;
    key.chars().all(|c| c.is_ascii_lowercase() || c == '_').then_some(key)
}

/// With everything in force that is commented out, but for what is set already.
fn in_full(text: &str) -> String {
    let set: BTreeSet<&str> = text.lines().filter_map(key).collect();
    let mut full = String::new();
    for line in text.lines() {
        let mentioned =
            line.strip_prefix("# ").filter(|rest| key(rest).is_some() || rest.starts_with('['));
        match mentioned {
            Some(rest) if key(rest).is_some_and(|key| set.contains(key)) => {}
            Some(rest) => full.push_str(rest),
            None => full.push_str(line),
        }
        full.push('\n');
    }
    full
}

fn mentions_all(full: &str, known: &BTreeSet<String>) {
    for wanted in known {
        let table = [format!("[{wanted}]"), format!("[[{wanted}]]")];
        let there =
            full.lines().any(|line| key(line) == Some(wanted) || table.iter().any(|t| t == line));
        assert!(there, "{wanted} is not mentioned");
    }
}

#[test]
fn the_agents_example_is_accepted_and_mentions_every_key() {
    let read = |text: &str| {
        agent::parse("agent.toml", text, &agent::Flags::default(), Some("gpu-07".to_owned()))
    };
    let text = example("agent.toml");
    let shipped = read(&text).unwrap();
    assert!(shipped.endpoint.is_empty() && shipped.labels.is_empty());
    let full = in_full(&text);
    let read = read(&full).unwrap();
    assert_eq!((read.endpoint.len(), read.labels.len(), read.cpu), (1, 1, Some(2)));
    mentions_all(&full, &keys(&read));
    // Beside the examples, what is commented out is the default.
    let examples = agent::Config {
        labels: read.labels.clone(),
        endpoint: read.endpoint.clone(),
        cpu: read.cpu,
        ..shipped
    };
    assert_eq!(read, examples);
}

#[test]
fn the_coordinators_example_is_accepted_and_mentions_every_key_with_its_default() {
    let read =
        |text: &str| coordinator::parse("coordinator.toml", text, &coordinator::Layer::default());
    let text = example("coordinator.toml");
    let shipped = read(&text).unwrap();
    shipped.check_exposure().unwrap();
    let full = in_full(&text);
    assert_eq!(read(&full).unwrap(), shipped);
    mentions_all(&full, &keys(&shipped));
}
