//! Columns of text, as kubectl prints them: no frames, so that awk and eyes can both read it.

use std::io::{self, Write};

/// Spaces between columns.
const GAP: usize = 3;

/// Rows of text in columns.
#[derive(Debug, Default)]
pub(crate) struct Table {
    headers: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings; none prints none.
    pub(crate) fn new(headers: Vec<&'static str>) -> Self {
        Table { headers, rows: Vec::new() }
    }

    /// Adds a row.
    pub(crate) fn push(&mut self, row: Vec<String>) {
        self.rows.push(row);
    }

    /// Whether it has rows.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Prints it, each line after `indent` spaces.
    pub(crate) fn write(&self, out: &mut dyn Write, indent: usize) -> io::Result<()> {
        let columns = self.rows.iter().map(Vec::len).chain([self.headers.len()]).max().unwrap_or(0);
        let mut widths = vec![0; columns];
        let headers: Vec<String> = self.headers.iter().map(|&header| header.to_owned()).collect();
        for row in std::iter::once(&headers).chain(&self.rows) {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut line = String::new();
        let head = (!headers.is_empty()).then_some(&headers);
        for row in head.into_iter().chain(&self.rows) {
            line.clear();
            line.extend(std::iter::repeat_n(' ', indent));
            for (index, cell) in row.iter().enumerate() {
                line.push_str(cell);
                if index + 1 < row.len() {
                    let used = cell.chars().count();
                    let width = widths.get(index).copied().unwrap_or(used);
                    line.extend(std::iter::repeat_n(' ', width - used + GAP));
                }
            }
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}
