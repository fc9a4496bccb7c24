//! Who is woken by an alert finds what to do: every alert has a section in the runbook, points to it, and was tried out; every section of
//! an alert belongs to one; every kind of finding has its section.

use super::Complaint;
use crate::Failure;

const RULES: &str = "deploy/prometheus/rules.yml";
const TESTS: &str = "deploy/prometheus/rules_test.yml";
const RUNBOOK: &str = "docs/runbook.md";
const FINDINGS: &str = "core/src/finding.rs";
const PREFIX: &str = "Railgauge";

/// All complaints; `read` gives a file's text.
pub fn check(read: impl Fn(&str) -> Result<String, Failure>) -> Result<Vec<Complaint>, Failure> {
    let (rules, tests) = (read(RULES)?, read(TESTS)?);
    let runbook = read(RUNBOOK)?;
    let mut complaints = alerts(&rules, &tests, &runbook);
    complaints.extend(findings(&read(FINDINGS)?, &runbook));
    Ok(complaints)
}

fn alerts(rules: &str, tests: &str, runbook: &str) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    let mut names = Vec::new();
    let lines: Vec<&str> = rules.lines().collect();
    for (at, line) in lines.iter().enumerate() {
        let Some(name) = line.trim().strip_prefix("- alert: ") else { continue };
        let mut complain = |wrong: String, instead: &str| {
            complaints.push(Complaint::at(RULES, at, wrong, instead));
        };
        if !has_section(runbook, name) {
            complain(format!("alert {name} has no section"), "write `### NAME` in docs/runbook.md");
        }
        let own = lines[at..].iter().skip(1).take_while(|line| !line.contains("- alert: "));
        let anchor = format!("#{}'", name.to_lowercase());
        if !own.clone().any(|line| line.contains("runbook_url:") && line.ends_with(&anchor)) {
            complain(
                format!("alert {name} does not lead to its section"),
                "end runbook_url with its anchor",
            );
        }
        let (fires, silent) = tried(tests, name);
        if !(fires && silent) {
            complain(
                format!("alert {name} was not tried out"),
                "let it fire and stay silent in rules_test.yml",
            );
        }
        names.push(name);
    }
    for (at, line) in runbook.lines().enumerate() {
        let heading = line.strip_prefix("### ").filter(|name| name.starts_with(PREFIX));
        if let Some(name) = heading.filter(|name| !names.contains(name)) {
            let wrong = format!("a section for {name}, which is no alert");
            complaints.push(Complaint::at(RUNBOOK, at, wrong, "take it out, or write the rule"));
        }
    }
    complaints
}

fn has_section(runbook: &str, name: &str) -> bool {
    runbook.lines().any(|line| line.strip_prefix("### ") == Some(name))
}

/// Whether the tests have the alert fire, and stay silent.
fn tried(tests: &str, name: &str) -> (bool, bool) {
    let cases = tests.split("- alertname: ").skip(1);
    let own = cases.filter(|case| case.lines().next().map(str::trim) == Some(name));
    own.fold((false, false), |(fires, silent), case| {
        let case = case.split("- interval:").next().unwrap_or(case);
        let alerts = case.contains("exp_alerts:");
        (fires | alerts, silent | !alerts)
    })
}

/// The kinds of findings, in the words that are printed, as the source names them.
fn findings(source: &str, runbook: &str) -> Vec<Complaint> {
    let kinds = source.split_once("pub enum FindingKind {").map_or("", |(_, rest)| rest);
    let kinds = kinds.split_once('}').map_or("", |(variants, _)| variants);
    let kinds = kinds.lines().map(str::trim).filter_map(|line| line.strip_suffix(','));
    let without = kinds.map(kebab).filter(|kind| !has_section(runbook, kind));
    without
        .map(|kind| {
            let wrong = format!("findings of kind {kind} have no section");
            Complaint::at(RUNBOOK, 0, wrong, "write `### KIND` in docs/runbook.md")
        })
        .collect()
}

/// `HostDelay` as `host-delay`.
fn kebab(name: &str) -> String {
    let mut out = String::new();
    for (at, c) in name.chars().enumerate() {
        if c.is_uppercase() && at > 0 {
            out.push('-');
        }
        out.extend(c.to_lowercase());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: &str = "      - alert: RailgaugeX\n        expr: 'up'\n          runbook_url: 'file:///r.md.gz#railgaugex'\n";
    const TRIED: &str = "- alertname: RailgaugeX\n  exp_alerts:\n  - interval: 1m\n- alertname: RailgaugeX\n  eval_time: 1m\n";

    fn wrong(rules: &str, tests: &str, runbook: &str) -> Vec<String> {
        alerts(rules, tests, runbook).into_iter().map(|complaint| complaint.wrong).collect()
    }

    #[test]
    fn an_alert_needs_a_section_a_link_and_tests() {
        assert!(wrong(RULE, TRIED, "### RailgaugeX\n").is_empty());
        assert_eq!(wrong(RULE, TRIED, "## RailgaugeX\n").len(), 1);
        assert_eq!(
            wrong(&RULE.replace("#railgaugex", "#other"), TRIED, "### RailgaugeX\n").len(),
            1
        );
        assert_eq!(
            wrong(RULE, "- alertname: RailgaugeX\n  exp_alerts:\n", "### RailgaugeX\n").len(),
            1
        );
        assert_eq!(wrong("", "", "### RailgaugeX\n### Others\n").len(), 1);
    }

    #[test]
    fn every_kind_of_finding_needs_a_section() {
        let source = "pub enum FindingKind {\n    /// Slow.\n    HostDelay,\n    Loss,\n}\n";
        assert!(findings(source, "### host-delay\n### loss\n").is_empty());
        assert_eq!(
            findings(source, "### loss\n")[0].wrong,
            "findings of kind host-delay have no section"
        );
    }
}
