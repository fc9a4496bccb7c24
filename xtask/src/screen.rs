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
    use super::columns;

    #[test]
    fn columns_align_and_leave_no_trailing_blanks() {
        let cells = |row: &[&str]| row.iter().map(ToString::to_string).collect::<Vec<_>>();
        let table = columns(&[cells(&["row", "bound"]), cells(&["truth", "x"])]);
        assert_eq!(table, "row    bound\ntruth  x\n");
    }
}
