//! Running another program in the open: its command line is printed, its output passed on and kept.

use crate::{Failure, say};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Command;

/// What a program said and how it ended.
#[derive(Debug)]
pub struct Finished {
    /// Standard output and standard error, in the order they came.
    pub output: String,
    /// Whether it ended with status 0.
    pub success: bool,
}

/// Runs `command` to its end, printing its command line and then its output as it comes.
///
/// # Errors
/// When the program cannot be started or its output cannot be read; a failing program is no error.
pub fn run(mut command: Command) -> Result<Finished, Failure> {
    let shown = shown(&command);
    say!("$ {shown}");
    let cannot = |error| Failure::because(format!("cannot run `{shown}`"), error);
    let (reader, writer) = std::io::pipe().map_err(cannot)?;
    command.stdout(writer.try_clone().map_err(cannot)?).stderr(writer);
    let mut child = command.spawn().map_err(cannot)?;
    // The command holds the writing ends; while it lives the reader would never see the end.
    drop(command);
    let mut output = String::new();
    for line in BufReader::new(reader).split(b'\n') {
        let line = String::from_utf8_lossy(&line.map_err(cannot)?).into_owned();
        say!("{line}");
        output.push_str(&line);
        output.push('\n');
    }
    let status = child.wait().map_err(cannot)?;
    Ok(Finished { output, success: status.success() })
}

/// As [`run`], but a failing program is an error that quotes its last line.
///
/// # Errors
/// When the program cannot be started or does not end with status 0.
pub fn must(command: Command) -> Result<String, Failure> {
    let shown = shown(&command);
    let finished = run(command)?;
    if finished.success {
        return Ok(finished.output);
    }
    let last = finished.output.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("");
    Err(Failure::because(format!("`{shown}` failed"), last))
}

/// The command line as a person would type it: the program by its name, arguments with blanks quoted.
pub fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let program = program.file_name().unwrap_or(program.as_os_str());
    let words = std::iter::once(program).chain(command.get_args());
    let quoted = words.map(|word| {
        let word = word.to_string_lossy();
        if word.contains(char::is_whitespace) { format!("'{word}'") } else { word.into_owned() }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn both_streams_are_kept() {
        let finished = run(shell("echo out; echo err >&2")).unwrap();
        assert_eq!(finished.output, "out\nerr\n");
        assert!(finished.success);
    }

    #[test]
    fn a_failing_program_is_quoted() {
        let failure = must(shell("echo first; echo the cause; exit 3")).unwrap_err();
        assert_eq!(
            failure.to_string(),
            "`sh -c 'echo first; echo the cause; exit 3'` failed: the cause"
        );
    }
}
