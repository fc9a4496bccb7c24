//! The spool on storage that fails and under kills, watched from outside by the preload shim.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use railgauge_agent::spool::{Limits, Spool};
use railgauge_testbed::ledger::{Ledger, records};
use railgauge_testbed::preload::Shim;
use tempfile::TempDir;

const DRIVER: &str = env!("CARGO_BIN_EXE_spool_driver");

struct Driver {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Driver {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut driver = Self { child, input, output: BufReader::new(output) };
        let opened = driver.answer().unwrap();
        assert!(opened.starts_with("opened "), "{opened}");
        driver
    }

    fn under(shim: &Shim, most_bytes: u64) -> Self {
        let most = most_bytes.to_string();
        Self::start(
            shim.under(Command::new(DRIVER).arg(&shim.directory).args(["--most-bytes", &most])),
        )
    }

    /// None once the process is dead.
    fn answer(&mut self) -> Option<String> {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.ends_with('\n').then_some(line)
    }

    fn ask(&mut self, command: &str) -> String {
        writeln!(self.input, "{command}").unwrap();
        self.answer().unwrap()
    }

    /// Appends a batch; whether it was recorded.
    fn append(&mut self, n: u64, octets: usize) -> bool {
        let answer = self.ask(&format!("append {n} {octets}"));
        assert!(answer.contains(&format!("recorded {n}")), "{answer}");
        answer.starts_with("recorded")
    }

    fn end(self) {
        let Self { mut child, input, output: _output } = self;
        drop(input);
        assert!(child.wait().unwrap().success());
    }
}

struct Scene {
    _scratch: TempDir,
    shim: Shim,
}

fn scene() -> Scene {
    let scratch = TempDir::new().unwrap();
    let shim = Shim::build(scratch.path(), &scratch.path().join("state")).unwrap();
    Scene { _scratch: scratch, shim }
}

fn sequences(ledger: &Ledger) -> BTreeSet<u64> {
    ledger.recorded.keys().map(|key| key.first_sequence).collect()
}

/// What the spool holds, its windows dropped, and its damage.
fn held(directory: &Path) -> (BTreeSet<u64>, u64, u64) {
    let (mut spool, _) = Spool::open(directory, Limits::default()).unwrap();
    let pending = spool.pending(None, usize::MAX).unwrap();
    let state = spool.state();
    let sequences = pending.iter().map(|batch| batch.key.first_sequence).collect();
    (sequences, state.windows_dropped, state.octets_damaged)
}

#[test]
fn the_ledger_sees_what_the_spool_records() {
    let Scene { shim, _scratch } = scene();
    let mut driver = Driver::under(&shim, 1 << 20);
    for n in 0..50 {
        assert!(driver.append(n, 1_000));
    }
    assert_eq!(driver.ask("acknowledge 7"), "forgotten 1\n");
    driver.end();
    // Nothing outside the directory is in it: the driver writes to a pipe as well.
    let octets = std::fs::read(&shim.ledger).unwrap();
    let ours = ["lock", "identity", "identity.new", "", "spool"];
    for record in records(&octets).0 {
        assert!(
            ours.contains(&record.name) || record.name.starts_with("spool/segment-"),
            "{record:?}"
        );
    }
    let ledger = Ledger::of(&octets);
    assert_eq!(sequences(&ledger), (0..50).collect());
    assert_eq!((ledger.octets_torn, ledger.possible.len()), (0, 50));
    for (key, message) in ledger.messages().unwrap() {
        assert_eq!((key.first_sequence, message.agent.len()), (message.first_sequence, 1_000));
    }
    let expected = (0..50).filter(|n| *n != 7).collect();
    assert_eq!(held(&shim.directory), (expected, 0, 0));
}

#[test]
fn what_fails_is_not_recorded_and_the_rest_is() {
    for (seed, faults) in [
        (1, "open=100 write=50 short=100 io=50 sync=100"),
        (2, "sync=300"),
        (3, "write=500 short=500"),
        (4, "open=100 write=100 short=100 sync=200 truncate=300 unlink=300"),
    ] {
        let Scene { mut shim, _scratch } = scene();
        shim.seed = seed;
        let mut driver = Driver::under(&shim, 1 << 20);
        shim.begin_faults(faults).unwrap();
        let recorded: BTreeSet<u64> = (0..300).filter(|n| driver.append(*n, 700)).collect();
        shim.end_faults().unwrap();
        // The disk works again, and so does the spool.
        let later: BTreeSet<u64> = (300..320).filter(|n| driver.append(*n, 700)).collect();
        assert_eq!(later, (300..320).collect());
        driver.end();
        assert!(recorded.len() > 30 && recorded.len() < 290, "{faults}: {}", recorded.len());

        let all: BTreeSet<u64> = recorded.union(&later).copied().collect();
        let ledger = Ledger::read(&shim.ledger).unwrap();
        for kind in faults.split(' ').map(|word| word.split('=').next().unwrap()) {
            assert!(ledger.faults.contains_key(kind), "{faults}: never {kind}");
        }
        if !faults.contains("truncate") {
            assert_eq!(sequences(&ledger), all, "{faults}");
        }
        let (pending, dropped, damaged) = held(&shim.directory);
        assert_eq!((pending, dropped), (all, 0), "{faults}");
        // A segment that could neither be begun nor removed again is left with a part of its head, in which nothing was recorded.
        let most = if faults.contains("unlink") { 512 } else { 0 };
        assert!(damaged <= most, "{faults}: {damaged} octets damaged");
    }
}

#[test]
fn kills_at_any_time_lose_nothing_that_was_recorded() {
    // Small enough that dropping happens under the kills too.
    const MOST: u64 = 64 << 10;
    let Scene { shim, _scratch } = scene();
    let (mut next, mut said) = (0, BTreeSet::new());
    for round in 0..25 {
        let mut driver = Driver::under(&shim, MOST);
        // The kill comes from another thread of control while appends are under way: all are asked for at once.
        let commands: String = (next..next + 200).map(|n| format!("append {n} 900\n")).collect();
        next += 200;
        driver.input.write_all(commands.as_bytes()).unwrap();
        for _ in 0..round * 3 {
            let answer = driver.answer().unwrap();
            said.extend(answer.strip_prefix("recorded ").map(|n| n.trim().parse::<u64>().unwrap()));
        }
        driver.child.kill().unwrap();
        while let Some(answer) = driver.answer() {
            said.extend(answer.strip_prefix("recorded ").map(|n| n.trim().parse::<u64>().unwrap()));
        }
        driver.child.wait().unwrap();
    }
    let ledger = Ledger::read(&shim.ledger).unwrap();
    let recorded = sequences(&ledger);
    assert!(said.is_subset(&recorded) && said.len() > 300, "{} said", said.len());
    let (pending, dropped, _) = held(&shim.directory);
    let possible: BTreeSet<u64> = ledger.possible.keys().map(|key| key.first_sequence).collect();
    assert!(pending.is_subset(&possible));
    // Of what was recorded everything is pending but the oldest, and these are counted; a frame that a kill left without its
    // sync may count on either side.
    let oldest = *pending.first().unwrap();
    assert!(recorded.range(oldest..).all(|n| pending.contains(n)));
    let kept = u64::try_from(pending.len()).unwrap() + dropped;
    assert!(u64::try_from(recorded.len()).unwrap() <= kept, "{} > {kept}", recorded.len());
    assert!(kept <= u64::try_from(possible.len()).unwrap(), "{kept} > {}", possible.len());
    assert!(dropped > 100, "{dropped}");
}

#[test]
fn a_full_file_system_is_survived() {
    let scratch = TempDir::new().unwrap();
    // A file system of 256 KiB that only the driver sees; needs user namespaces, or root.
    let script = "mount -t tmpfs -o size=256k none \"$1\" && exec \"$2\" \"$1/state\"";
    let mut command = Command::new("unshare");
    command.args(["-rm", "sh", "-c", script, "sh"]).arg(scratch.path()).arg(DRIVER);
    let mut driver = Driver::start(&mut command);
    let mut n = 0;
    while driver.append(n, 10_000) {
        n += 1;
    }
    assert!(n > 10 && n < 26, "{n}");
    let answer = driver.ask("append 900 10000");
    assert!(answer.starts_with("unrecorded 900: cannot "), "{answer}");
    // Room again.
    for n in 0..n {
        assert_eq!(driver.ask(&format!("acknowledge {n}")), "forgotten 1\n");
    }
    assert!(driver.append(1_000, 10_000));
    driver.end();
}
