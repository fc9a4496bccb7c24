//! What has changed since an earlier sweep, for people.

use std::path::Path;

use railgauge_report::number::count;

use super::diff::{Change, Diff, Found};
use super::table::{kind, named, quantile};
use crate::columns::wrap;

/// Lines of each kind.
const LISTED: usize = 20;

/// The whole text.
pub(super) fn text(file: &Path, diff: &Diff) -> String {
    let mut text = String::new();
    let with = &diff.with;
    let file = file.display();
    if let Some(why) = &diff.refused {
        wrap(&mut text, "", &format!("not compared with sweep {} ({file}): {why}", with.id));
        return text;
    }
    let head = format!("compared with sweep {} of {} ({file})", with.id, with.started_at);
    wrap(&mut text, "", &head);
    let rule = format!("{}; {} compared", diff.rule, count(diff.compared));
    wrap(&mut text, "  rule     ", &rule);
    if diff.is_empty() {
        text += "  nothing has changed\n";
        return text;
    }
    let verdicts = diff.verdicts.iter();
    let verdicts =
        verdicts.map(|v| format!("{}: {} -> {}", v.what, v.before.as_str(), v.now.as_str()));
    lines(&mut text, "  verdict  ", &verdicts.collect::<Vec<_>>());
    let sentence = |what: &str, found: &Found| {
        format!("{what}: {}, {}", named(found.component_kind, &found.component), kind(found.kind))
    };
    let new = diff.findings_new.iter().map(|found| sentence("new", found));
    let gone = diff.findings_gone.iter().map(|found| sentence("gone", found));
    lines(&mut text, "  finding  ", &new.chain(gone).collect::<Vec<_>>());
    lines(&mut text, "  node     ", &names(&diff.nodes_new, &diff.nodes_missing));
    lines(&mut text, "  path     ", &names(&diff.paths_new, &diff.paths_missing));
    changes(&mut text, &diff.changes);
    text
}

fn names(new: &[String], missing: &[String]) -> Vec<String> {
    let new = new.iter().map(|name| format!("new: {name}"));
    new.chain(missing.iter().map(|name| format!("missing: {name}"))).collect()
}

/// The greatest first; those of one path in a row share its name.
fn changes(text: &mut String, changes: &[Change]) {
    let mut path = "";
    for change in changes.iter().take(LISTED) {
        if change.path != path {
            path = &change.path;
            wrap(text, "  ", path);
        }
        let (word, times) = if change.ratio > 1.0 {
            ("slower", change.ratio)
        } else {
            ("faster", 1.0 / change.ratio)
        };
        let digits = if times < 10.0 { 2 } else { 0 };
        let line = format!(
            "{word} {times:.digits$} x: {} {} {} -> {}",
            change.series,
            quantile(change.q),
            change.before.reading().full(),
            change.now.reading().full(),
        );
        wrap(text, "    ", &line);
    }
    let left = changes.len().saturating_sub(LISTED);
    if left > 0 {
        let left = count(left as u64);
        wrap(text, "  ", &format!("and {left} changes more: --output json has them"));
    }
}

fn lines(text: &mut String, prefix: &str, lines: &[String]) {
    for line in lines.iter().take(LISTED) {
        wrap(text, prefix, line);
    }
    let left = lines.len().saturating_sub(LISTED);
    if left > 0 {
        wrap(text, prefix, &format!("and {} more: --output json has them", count(left as u64)));
    }
}
