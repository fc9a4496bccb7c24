//! The one place that writes to the terminal. A reader who went away (`| head`) is no error.

use std::io::Write;

/// Writes one line to standard output and passes it on at once, so that CI logs keep the order of things.
pub fn line(text: std::fmt::Arguments<'_>) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// Writes a line to standard output, formatted like `format!`.
#[macro_export]
macro_rules! say {
    ($($argument:tt)*) => { $crate::screen::line(format_args!($($argument)*)) };
}

/// Longest line of an [`entry`].
const WIDTH: usize = 100;

/// A heading with its verdict, and under it paragraphs, indented and broken at blanks to fit a terminal.
pub fn entry(name: &str, verdict: &str, paragraphs: &[&str]) -> String {
    let mut text = format!("{name:<20}{verdict}\n");
    for paragraph in paragraphs {
        let mut line = String::from("   ");
        for word in paragraph.split_whitespace() {
            if line.len() + 1 + word.len() > WIDTH {
                text.push_str(&line);
                text.push('\n');
                line = String::from("     ");
            }
            line.push(' ');
            line.push_str(word);
        }
        text.push_str(&line);
        text.push('\n');
    }
    text
}

/// Rows of cells as aligned columns; the first row is the heading.
///
/// The last column is not padded, so that lines carry no trailing blanks.
pub fn columns(rows: &[Vec<String>]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<usize> = (0..count).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        for (cell, width) in row.iter().zip(&widths) {
            text.push_str(&format!("{cell:width$}  "));
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{WIDTH, columns, entry};

    #[test]
    fn entries_fit_a_terminal_and_lose_no_word() {
        let long = "word ".repeat(60);
        let text = entry("truth", "ok", &[&long, "a bound"]);
        assert!(text.lines().all(|line| line.len() <= WIDTH));
        assert_eq!(text.matches("word").count(), 60);
        assert!(
            text.starts_with("truth               ok\n    word") && text.ends_with("    a bound\n")
        );
    }

    #[test]
    fn columns_align_and_leave_no_trailing_blanks() {
        let cells = |row: &[&str]| row.iter().map(ToString::to_string).collect::<Vec<_>>();
        let table = columns(&[cells(&["row", "bound"]), cells(&["truth", "x"])]);
        assert_eq!(table, "row    bound\ntruth  x\n");
    }
}
