//! Stdout carries the result and nothing else; stderr carries the rest. A reader that went away ends us quietly.

use std::error::Error;
use std::io::{self, Write};

use serde::Serialize;

use crate::Exit;

/// Writes `text` to stdout. A closed pipe is no error: the reader has seen enough (`railgauge ping … | head -3`).
///
/// Returns `exit`, or what a result that nobody got comes to.
#[must_use]
pub fn result(text: &str, exit: Exit) -> Exit {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            say(&format!("the result is not all written: make room where stdout goes: {e}"));
            Exit::Unmeasured
        }
        _ => exit,
    }
}

/// Writes `value` to stdout as one JSON object; returns as [`result`].
#[must_use]
pub fn json(value: &impl Serialize, exit: Exit) -> Exit {
    match serde_json::to_string_pretty(value) {
        Ok(text) => result(&(harmless(&text) + "\n"), exit),
        Err(e) => {
            say(&format!("cannot write the result as JSON: {e}"));
            Exit::Unmeasured
        }
    }
}

/// JSON that means the same, without the control characters that JSON allows in strings and terminals act on.
#[must_use]
pub fn harmless(json: &str) -> String {
    let mut text = String::with_capacity(json.len() + 1);
    for c in json.chars() {
        match c {
            '\u{7f}'..='\u{9f}' => text += &format!("\\u{:04x}", u32::from(c)),
            c => text.push(c),
        }
    }
    text
}

/// Writes a line to stderr.
pub fn say(line: &str) {
    // Nobody is left to tell when stderr is gone.
    let _ = writeln!(io::stderr(), "{line}");
}

/// An error and its causes, in one line.
pub fn sentence(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_printed_as_they_came_and_do_not_steer_the_terminal() {
        let json = "{\"name\":\"a\u{9b}2Jb\u{7f}\u{e4}\"}";
        let text = harmless(json);
        assert_eq!(text, "{\"name\":\"a\\u009b2Jb\\u007f\u{e4}\"}");
        let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(value(&text), value(json));
    }
}
