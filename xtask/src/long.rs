//! `cargo xtask long`: rows at their full counts, each recorded in `docs/runs/ROW.json` with what it takes to
//! repeat and to doubt it.

use crate::repo::Repo;
use crate::rows::{self, Outcome, ROWS, Row, Scale};
use crate::{Failure, checks, say, screen, tools};
use serde_json::{Value, json};
use std::path::PathBuf;

/// Where the table in docs/benchmarks.md starts and ends.
const TABLE_MARKS: [&str; 2] = ["<!-- recorded runs -->", "<!-- end of recorded runs -->"];
const TABLE_FILE: &str = "docs/benchmarks.md";

/// Runs the rows called `names` in full and records each; with no name, those whose record is missing or old, so
/// that an interrupted run is resumed by the same command. True when every bound held.
///
/// # Errors
/// When a name is unknown, the tree is dirty (unless `dirty`), a tool cannot be had or a record not be written.
pub fn run(repo: &Repo, names: &[String], dirty: bool) -> Result<bool, Failure> {
    if !dirty && repo.dirty()? {
        return Err(Failure::new(
            "the working tree differs from its commit, so a record would name the wrong code: commit first, \
             or pass --dirty and the record says so",
        ));
    }
    let mut chosen = Vec::new();
    for name in names {
        chosen.push(rows::named(name)?);
    }
    if names.is_empty() {
        for row in ROWS {
            if status_of(repo, row)? != Status::Recorded {
                chosen.push(row);
            }
        }
    }
    tools::prepare(repo)?;
    if !checks::release(repo)? {
        return Err(Failure::new("the release build failed, so there is nothing to measure"));
    }
    let mut all_held = true;
    for row in chosen {
        all_held &= run_one(repo, row)?;
    }
    write_table(repo)?;
    Ok(all_held)
}

fn run_one(repo: &Repo, row: &'static Row) -> Result<bool, Failure> {
    say!("== {}: {}", row.name, row.shows);
    // The state before the run: a commit made meanwhile is not what was measured.
    let (commit, dirty) = (repo.head()?, repo.dirty()?);
    let (outcome, commands) = rows::run(repo, row, Scale::Full).map_err(|failure| {
        Failure::because(format!("row {} could not be run", row.name), failure)
    })?;
    say!("{}", outcome.summary());
    for miss in &outcome.misses {
        say!("miss: {miss}");
    }
    let record = record(row, &outcome, &commands, &commit, dirty);
    let path = record_path(repo, row);
    let text = format!("{record:#}\n");
    std::fs::create_dir_all(repo.path("docs/runs"))
        .and_then(|()| std::fs::write(&path, text))
        .map_err(|error| Failure::because(format!("cannot write {}", path.display()), error))?;
    Ok(outcome.misses.is_empty())
}

fn record(row: &Row, outcome: &Outcome, commands: &[String], commit: &str, dirty: bool) -> Value {
    json!({
        "row": row.name,
        "commit": commit,
        "dirty": dirty,
        "date": jiff::Timestamp::now().strftime("%FT%TZ").to_string(),
        "machine": machine(),
        "seeds": outcome.seeds,
        "command": format!("cargo xtask long {}", row.name),
        "started": commands,
        "bound": row.bound,
        "verdict": if outcome.misses.is_empty() { "ok" } else { "miss" },
        "misses": outcome.misses,
        "figures": outcome.figures_json(),
        "raw": outcome.raw,
    })
}

/// What the figures depend on and may be known of the machine: no name, no address.
fn machine() -> Value {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo
        .lines()
        .find(|line| line.starts_with("model name") || line.starts_with("CPU part"))
        .and_then(|line| line.split_once(':'))
        .map_or("unknown", |(_, model)| model.trim());
    json!({
        "cpu": model,
        "virtual": cpuinfo.contains(" hypervisor"),
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
        "clocksource": read("/sys/devices/system/clocksource/clocksource0/current_clocksource").trim(),
    })
}

fn record_path(repo: &Repo, row: &Row) -> PathBuf {
    repo.path(format!("docs/runs/{}.json", row.name))
}

fn read_record(repo: &Repo, row: &Row) -> Option<Value> {
    let text = std::fs::read_to_string(record_path(repo, row)).ok()?;
    serde_json::from_str(&text).ok()
}

/// What the record of a row is worth today.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Status {
    /// Of the code as it stands.
    Recorded,
    /// Never run, or not readable.
    Missing,
    /// Run on a tree that no commit names.
    Dirty,
    /// Its commit is not in this history.
    Foreign,
    /// This many commits since have touched what it covers.
    Old(usize),
}

fn status_of(repo: &Repo, row: &Row) -> Result<Status, Failure> {
    let Some(record) = read_record(repo, row) else { return Ok(Status::Missing) };
    if record["dirty"].as_bool() != Some(false) {
        return Ok(Status::Dirty);
    }
    let commit = record["commit"].as_str().unwrap_or_default();
    if repo.git(&["merge-base", "--is-ancestor", commit, "HEAD"]).is_err() {
        return Ok(Status::Foreign);
    }
    let range = format!("{commit}..HEAD");
    let since = [&["log", "--oneline", &range, "--"], row.covers].concat();
    let touched = repo.git(&since)?.lines().count();
    Ok(if touched == 0 { Status::Recorded } else { Status::Old(touched) })
}

/// Prints what each row's record is worth; true when every row is recorded for the code as it stands.
///
/// # Errors
/// When git cannot tell.
pub fn status(repo: &Repo) -> Result<bool, Failure> {
    let mut all_recorded = true;
    let mut table = vec![["row", "record", "verdict"].map(str::to_owned).to_vec()];
    for row in ROWS {
        let status = status_of(repo, row)?;
        all_recorded &= status == Status::Recorded;
        let worth = match status {
            Status::Recorded => "current".to_owned(),
            Status::Missing => "missing".to_owned(),
            Status::Dirty => "from a dirty tree".to_owned(),
            Status::Foreign => "of a commit not in this history".to_owned(),
            Status::Old(commits) => format!("older than {commits} commits to what it covers"),
        };
        let verdict = read_record(repo, row)
            .and_then(|record| record["verdict"].as_str().map(str::to_owned))
            .unwrap_or_else(|| "-".to_owned());
        table.push(vec![row.name.to_owned(), worth, verdict]);
    }
    say!("{}", screen::columns(&table).trim_end());
    Ok(all_recorded)
}

/// Writes the table of recorded runs into docs/benchmarks.md, between its marks.
///
/// # Errors
/// When the file cannot be read or written or has lost its marks.
pub fn write_table(repo: &Repo) -> Result<(), Failure> {
    let path = repo.path(TABLE_FILE);
    let cannot = |error| Failure::because(format!("cannot read or write {TABLE_FILE}"), error);
    let text = std::fs::read_to_string(&path).map_err(cannot)?;
    std::fs::write(&path, with_table(&text, &table(repo))?).map_err(cannot)
}

/// The table as Markdown, one line a row.
fn table(repo: &Repo) -> String {
    let mut table =
        String::from("| row | bound | measured | verdict | commit | date | machine |\n");
    table.push_str("|---|---|---|---|---|---|---|\n");
    for row in ROWS {
        let record = read_record(repo, row);
        table.push_str(&table_line(row, record.as_ref()));
    }
    table
}

fn table_line(row: &Row, record: Option<&Value>) -> String {
    let Some(record) = record else {
        return format!("| {} | {} | - | not recorded | | | |\n", row.name, row.bound);
    };
    let text = |key: &str| record[key].as_str().unwrap_or_default().to_owned();
    let mut outcome = Outcome::default();
    for figure in record["figures"].as_array().into_iter().flatten() {
        let unit = figure["unit"].as_str().unwrap_or_default();
        let name = figure["name"].as_str().unwrap_or_default();
        outcome.figure(name, figure["value"].as_f64().unwrap_or(f64::NAN), unit);
    }
    let machine = &record["machine"];
    let dirty = if record["dirty"].as_bool() == Some(true) { " (dirty)" } else { "" };
    format!(
        "| {} | {} | {} | {} | {}{dirty} | {} | {}, {} cores{}, Linux {} |\n",
        row.name,
        row.bound,
        outcome.summary(),
        text("verdict"),
        text("commit").chars().take(12).collect::<String>(),
        text("date").chars().take(10).collect::<String>(),
        machine["cpu"].as_str().unwrap_or_default(),
        machine["cores"],
        if machine["virtual"].as_bool() == Some(true) { " (virtual)" } else { "" },
        machine["kernel"].as_str().unwrap_or_default(),
    )
}

/// `text` with what stands between the marks replaced by `table`.
fn with_table(text: &str, table: &str) -> Result<String, Failure> {
    let [start, end] = TABLE_MARKS;
    let parts = text
        .split_once(start)
        .and_then(|(before, rest)| rest.split_once(end).map(|(_, after)| (before, after)));
    let (before, after) = parts.ok_or_else(|| {
        Failure::new(format!(
            "{TABLE_FILE} has no place for the table: write `{start}` and `{end}`"
        ))
    })?;
    Ok(format!("{before}{start}\n{table}{end}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_goes_between_its_marks() {
        let [start, end] = TABLE_MARKS;
        let text = format!("head\n{start}\nold\n{end}\ntail\n");
        let written = with_table(&text, "new\n").unwrap();
        assert_eq!(written, format!("head\n{start}\nnew\n{end}\ntail\n"));
        assert_eq!(with_table(&written, "new\n").unwrap(), written);
        assert!(with_table("no marks", "new\n").is_err());
    }

    #[test]
    fn a_record_names_its_code_and_no_host() {
        let mut outcome = Outcome::default();
        outcome.figure("ratio", 1.5, "");
        outcome.expect(false, || "too much".to_owned());
        let record = record(&ROWS[0], &outcome, &["railgauge ping".to_owned()], "abc", false);
        assert_eq!(record["verdict"], "miss");
        assert_eq!(record["commit"], "abc");
        let host = nix::sys::utsname::uname().unwrap();
        let host = host.nodename().to_string_lossy().into_owned();
        assert!(!record["machine"].to_string().contains(&format!("\"{host}\"")));
        assert!(table_line(&ROWS[0], Some(&record)).contains("| ratio 1.500 | miss | abc |"));
        assert!(table_line(&ROWS[0], None).contains("not recorded"));
    }
}
