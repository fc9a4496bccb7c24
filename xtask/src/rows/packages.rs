//! The packages, from an empty machine to an empty machine: installed, upgraded over an edited configuration, removed, purged, with
//! every file accounted for.

mod account;
mod lives;

use super::outcome::float;
use super::{Judged, Outcome, Row, Scale};
use crate::Failure;
use crate::harness::Bench;
use crate::package::{self, Edition, Packed};
use std::process::Command;

pub const ROW: Row = Row {
    name: "packages",
    shows: "deb and rpm: the same octets twice; install, start, upgrade keeping configuration, remove, purge on machines of their own",
    bound: "nothing left but configuration and data, each file accounted for; nothing enabled or started unasked; lintian without errors",
    covers: &["deploy", "xtask/src/package.rs", "xtask/src/package", "testbed/machine"],
    judged: Judged::AtEveryScale,
    run,
};

/// One above ours: what it is called does not matter.
const NEXT: &str = "99.0.0";
/// What the next version does to each configuration file.
const CHANGE: &str = "# Changed by its packager.\n";

/// The packages of two versions.
pub struct Editions {
    /// This tree's.
    pub ours: Vec<Packed>,
    /// The same programs as a later version.
    pub next: Vec<Packed>,
}

fn run(bench: &Bench<'_>, scale: Scale) -> Result<Outcome, Failure> {
    let mut outcome = Outcome::default();
    let edition = Edition::of(bench.repo())?.below(bench.scratch().join("ours"));
    let next = edition.next(NEXT, CHANGE).quick().below(bench.scratch().join("next"));
    let debs = both(&edition, &next, |edition| package::debs(bench.repo(), edition))?;
    let rpms = both(&edition, &next, |edition| package::rpms(bench.repo(), edition))?;
    for packed in debs.ours.iter().chain(&rpms.ours) {
        let octets = std::fs::metadata(&packed.file).map_or(0, |file| file.len());
        outcome.figure(file_name(packed), float(usize::try_from(octets >> 10).unwrap_or(0)), "KiB");
    }
    // In miniature with less compression, twice: what could differ is what is compressed.
    let same = match scale {
        Scale::Full => edition.clone(),
        Scale::Miniature => edition.quick().below(bench.scratch().join("once")),
    };
    again(bench, &same, &mut outcome)?;
    lintian(bench, &debs.ours, &mut outcome)?;
    lives::debs_in_an_image(bench, &debs, &mut outcome)?;
    lives::debs_into_a_root(bench, &debs, &mut outcome)?;
    lives::rpms_in_an_image(bench, &rpms, &mut outcome)?;
    lives::debs_with_a_service_manager(bench, &debs, &mut outcome)?;
    lives::rpms_with_a_service_manager(bench, &rpms, &mut outcome)?;
    Ok(outcome)
}

fn both(
    ours: &Edition,
    next: &Edition,
    pack: impl Fn(&Edition) -> Result<Vec<Packed>, Failure>,
) -> Result<Editions, Failure> {
    Ok(Editions { ours: pack(ours)?, next: pack(next)? })
}

fn file_name(packed: &Packed) -> String {
    packed.file.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Packed twice, in different places and at different times, they are the same octets.
fn again(bench: &Bench<'_>, edition: &Edition, outcome: &mut Outcome) -> Result<(), Failure> {
    let pack = |edition: &Edition| -> Result<Vec<Packed>, Failure> {
        Ok([package::debs(bench.repo(), edition)?, package::rpms(bench.repo(), edition)?].concat())
    };
    let (once, again) = (pack(edition)?, pack(&edition.below(bench.scratch().join("again")))?);
    for (first, second) in once.iter().zip(&again) {
        let octets = [first, second].map(|packed| std::fs::read(&packed.file).unwrap_or_default());
        outcome.expect(!octets[0].is_empty() && octets[0] == octets[1], || {
            format!("{} is not the same when it is packed again", file_name(first))
        });
    }
    Ok(())
}

fn lintian(bench: &Bench<'_>, debs: &[Packed], outcome: &mut Outcome) -> Result<(), Failure> {
    let mut lintian = Command::new(crate::tools::program(bench.repo(), "lintian")?);
    lintian.args(["--fail-on", "error", "--tag-display-limit", "0", "--allow-root"]);
    lintian.args(debs.iter().map(|packed| &packed.file));
    let said = crate::command::run(lintian)?;
    let tags = |kind: &str| said.output.lines().filter(|line| line.starts_with(kind)).count();
    outcome.figure("lintian errors", float(tags("E: ")), "");
    outcome.figure("lintian warnings", float(tags("W: ")), "");
    for error in said.output.lines().filter(|line| line.starts_with("E: ")) {
        outcome.misses.push(format!("lintian: {error}"));
    }
    outcome.expect(said.success, || "lintian does not end well".to_owned());
    Ok(())
}
