//! Text for terminals: columns as wide as their widest cell, wrapped sentences, and nothing that a terminal acts on.

use std::io::{self, Write};

/// No line of a fleet's results is longer.
pub(crate) const WIDTH: usize = 100;

/// Rows under a line of headings.
pub(crate) struct Columns {
    rows: Vec<Row>,
    right_from: usize,
}

enum Row {
    Cells(Vec<String>),
    Line(String),
}

impl Columns {
    pub(crate) fn new(heads: &[&str]) -> Self {
        let heads = heads.iter().map(|head| (*head).to_owned()).collect();
        Self { rows: vec![Row::Cells(heads)], right_from: usize::MAX }
    }

    /// Columns from this one on have their text at the right, as numbers should.
    pub(crate) fn right_from(mut self, column: usize) -> Self {
        self.right_from = column;
        self
    }

    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(Row::Cells(cells.iter().map(|cell| ascii(cell)).collect()));
    }

    /// A line that belongs to the row above, and widens no column.
    pub(crate) fn line(&mut self, prefix: &str, text: &str) {
        let mut lines = String::new();
        wrap(&mut lines, prefix, text);
        self.rows.push(Row::Line(lines));
    }

    pub(crate) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let widths = self.widths();
        for row in &self.rows {
            let cells = match row {
                Row::Cells(cells) => cells,
                Row::Line(lines) => {
                    out.write_all(lines.as_bytes())?;
                    continue;
                }
            };
            let mut line = String::new();
            for (index, (cell, width)) in cells.iter().zip(&widths).enumerate() {
                line += &if index < self.right_from {
                    format!("{cell:<width$}  ")
                } else {
                    format!("{cell:>width$}  ")
                };
            }
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }

    /// All of it.
    pub(crate) fn text(&self) -> String {
        let mut out = Vec::new();
        // Writing to memory cannot fail.
        let _ = self.write(&mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    fn widths(&self) -> Vec<usize> {
        let mut widths = Vec::new();
        for row in &self.rows {
            let Row::Cells(cells) = row else { continue };
            for (index, cell) in cells.iter().enumerate() {
                match widths.get_mut(index) {
                    Some(width) => *width = cell.len().max(*width),
                    None => widths.push(cell.len()),
                }
            }
        }
        widths
    }
}

/// The text with `?` for whatever a plain terminal might act on or not show: names are data.
pub(crate) fn ascii(text: &str) -> String {
    text.chars().map(|c| if c == ' ' || c.is_ascii_graphic() { c } else { '?' }).collect()
}

/// The text as [`ascii`], with `...` for what is beyond `most` characters.
pub(crate) fn cut(text: &str, most: usize) -> String {
    let text = ascii(text);
    match most.checked_sub(3).and_then(|kept| text.get(..kept)) {
        Some(kept) if text.len() > most => format!("{kept}..."),
        _ => text,
    }
}

/// Adds `prefix` and `text`, as [`ascii`], in lines of at most [`WIDTH`]; those after the first begin below the text.
pub(crate) fn wrap(out: &mut String, prefix: &str, text: &str) {
    let indent = prefix.len();
    let room = WIDTH.saturating_sub(indent).max(20);
    let text = ascii(text);
    let mut line = String::new();
    let mut lines = Vec::new();
    for mut word in text.split_whitespace() {
        if !line.is_empty() && line.len() + 1 + word.len() > room {
            lines.push(std::mem::take(&mut line));
        }
        // A name may be longer than a line.
        while word.len() > room {
            let (head, rest) = word.split_at(room);
            lines.push(head.to_owned());
            word = rest;
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line += word;
    }
    lines.push(line);
    for (number, line) in lines.iter().enumerate() {
        let lead = if number == 0 { prefix.to_owned() } else { " ".repeat(indent) };
        *out += format!("{lead}{line}").trim_end();
        out.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_wrap_below_themselves_and_no_line_is_too_long() {
        let mut out = String::new();
        wrap(&mut out, "next  ", &"word ".repeat(30));
        wrap(&mut out, "name  ", &"y".repeat(250));
        assert!(out.lines().all(|line| line.len() <= WIDTH), "{out}");
        assert!(out.lines().nth(1).unwrap().starts_with("      word"), "{out}");
        assert_eq!(out.matches('y').count(), 250);
    }

    #[test]
    fn nothing_reaches_the_terminal_that_it_acts_on() {
        let hostile = "a\u{1b}[2Jb\u{9b}31m\r\n\u{202e}c\0";
        assert_eq!(ascii(hostile), "a?[2Jb?31m????c?".replace("????c", "???c"));
        assert_eq!(cut("abcdefgh", 6), "abc...");
        assert_eq!(cut("abcdef", 6), "abcdef");
    }

    #[test]
    fn numbers_stand_at_the_right() {
        let mut columns = Columns::new(&["NAME", "N"]).right_from(1);
        columns.row(vec!["a".into(), "1".into()]);
        columns.line("  ", "more of a, which is long");
        columns.row(vec!["b".into(), "1,000".into()]);
        let lines = "NAME      N\na         1\n  more of a, which is long\nb     1,000\n";
        assert_eq!(columns.text(), lines);
    }
}
