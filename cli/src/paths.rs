//! `railgauge paths`: what continuous probing has measured over the last while, worst first.

use railgauge_core::finding::Verdict;
use railgauge_report::doc::Paths;
use railgauge_report::number::{count, counted};

use crate::args::{Output, PathsArgs};
use crate::columns::wrap;
use crate::path_table::{LEGEND, PathTable, worst_first};
use crate::remote::{Answer, Remote, RemoteError, refuse};
use crate::{Exit, number, output, sweep};

/// Rails that are printed at most.
const RAILS: usize = 32;

/// Runs the command.
pub(crate) fn run(args: &PathsArgs) -> Exit {
    match ask(args) {
        Ok((answer, url)) => {
            let exit = sweep::exit_of(verdict(&answer.document));
            match args.ask.output {
                Output::Json => output::result(&(answer.json + "\n"), exit),
                Output::Table => output::result(&table(&answer.document, args, &url), exit),
            }
        }
        Err(error) => refuse("paths", Paths::SCHEMA, args.ask.output, &error, Exit::from(&error)),
    }
}

/// The answer, and where it is from.
fn ask(args: &PathsArgs) -> Result<(Answer<Paths>, String), RemoteError> {
    let remote = Remote::asked(&args.ask)?;
    Ok((remote.paths(args.since, &args.nodes)?, remote.url().to_owned()))
}

/// The worst of all; without any path, unknown.
fn verdict(paths: &Paths) -> Verdict {
    let of_paths = paths.paths.iter().map(|path| path.verdict);
    let merged = paths.by_node.iter().chain(&paths.by_rail).chain(&paths.fleet);
    let worst = of_paths.chain(merged.map(|aggregate| aggregate.verdict)).max();
    if paths.paths.is_empty() { Verdict::Unknown } else { worst.unwrap_or_default() }
}

fn table(paths: &Paths, args: &PathsArgs, url: &str) -> String {
    let mut text = String::new();
    wrap(&mut text, "verdict ", &format!("{}: {}", verdict(paths).as_str(), extent(paths)));
    let about = format!(
        "the last {} to {}, {}; coordinator {} at {}",
        number::span(args.since),
        paths.at,
        counted(paths.nodes.len(), "node"),
        paths.coordinator_version,
        url
    );
    wrap(&mut text, "", &about);
    if let Some(error) = &paths.error {
        wrap(&mut text, "error ", error);
    }
    if paths.paths.is_empty() {
        wrap(&mut text, "", nothing(&args.nodes));
        return text;
    }
    let shown = usize::try_from(args.worst).unwrap_or(usize::MAX);
    let mut worst = PathTable::new("PATH");
    for path in worst_first(&paths.paths).into_iter().take(shown) {
        worst.add_path(path);
    }
    text = text + "\n" + &worst.text();
    let left_out = paths.paths.len().saturating_sub(shown);
    if left_out > 0 {
        text += &format!("{} not shown: --worst N shows more\n", counted(left_out, "path"));
    }
    let mut merged = PathTable::new("MERGED");
    for aggregate in paths.by_rail.iter().take(RAILS).chain(&paths.fleet) {
        let name = format!("{}, {}", aggregate.name, counted_u64(aggregate.paths, "path"));
        merged.add(&name, aggregate.verdict, &aggregate.measures);
    }
    text + "\n" + &merged.text() + "\n" + LEGEND + "\n"
}

/// What to do where there is no path: measurements come once a window is over, not as they are made.
const fn nothing(selector: &str) -> &'static str {
    if selector.is_empty() {
        "no measurements of that time are here: agents send them every 10 s, or as window says in the coordinator's \
         configuration; `railgauge nodes` shows who is there, --since looks further back"
    } else {
        "no measurements of such nodes and that time are here: `railgauge nodes` lists the nodes with their labels, --since \
         looks further back"
    }
}

fn counted_u64(number: u64, thing: &str) -> String {
    counted(usize::try_from(number).unwrap_or(usize::MAX), thing)
}

/// `12 paths, 2 failed, 1 unknown`.
fn extent(paths: &Paths) -> String {
    let mut text = counted(paths.paths.len(), "path");
    for verdict in [Verdict::Failed, Verdict::Degraded, Verdict::Unknown] {
        let number = paths.paths.iter().filter(|path| path.verdict == verdict).count();
        if number > 0 {
            text += &format!(", {} {}", count(number as u64), verdict.as_str());
        }
    }
    text
}
