//! Columns of text, as kubectl prints them: no frames, so that awk and eyes can both read it.

use std::io::{self, Write};

/// Spaces between columns.
const GAP: usize = 3;

/// A row's cells in one piece of memory: for tables of thousands of rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cells {
    text: String,
    /// Where each cell ends in the text.
    ends: Vec<usize>,
}

impl Cells {
    /// Adds a cell.
    pub(crate) fn push(&mut self, cell: &str) {
        self.text.push_str(cell);
        self.ends.push(self.text.len());
    }

    fn len(&self) -> usize {
        self.ends.len()
    }

    fn iter(&self) -> impl Iterator<Item = &str> {
        let starts = std::iter::once(&0).chain(&self.ends);
        starts.zip(&self.ends).filter_map(|(&start, &end)| self.text.get(start..end))
    }
}

impl<S: AsRef<str>> From<Vec<S>> for Cells {
    fn from(cells: Vec<S>) -> Self {
        let mut out = Cells::default();
        cells.iter().for_each(|cell| out.push(cell.as_ref()));
        out
    }
}

/// Rows of text in columns.
#[derive(Debug, Default)]
pub(crate) struct Table {
    /// None: no heading is printed.
    headers: Option<Cells>,
    rows: Vec<Cells>,
}

impl Table {
    /// A table with these headings; none prints none.
    pub(crate) fn new(headers: Vec<&'static str>) -> Self {
        Table { headers: (!headers.is_empty()).then(|| headers.into()), rows: Vec::new() }
    }

    /// Adds a row.
    pub(crate) fn push(&mut self, row: impl Into<Cells>) {
        self.rows.push(row.into());
    }

    /// Whether it has rows.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Prints it, each line after `indent` spaces.
    pub(crate) fn write(&self, out: &mut dyn Write, indent: usize) -> io::Result<()> {
        let lines = || self.headers.iter().chain(&self.rows);
        let mut widths = vec![0; lines().map(Cells::len).max().unwrap_or(0)];
        for row in lines() {
            for (width, cell) in widths.iter_mut().zip(row.iter()) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut line = String::new();
        for row in lines() {
            line.clear();
            line.extend(std::iter::repeat_n(' ', indent));
            for (index, (cell, width)) in row.iter().zip(&widths).enumerate() {
                line.push_str(cell);
                if index + 1 < row.len() {
                    line.extend(std::iter::repeat_n(' ', width - cell.chars().count() + GAP));
                }
            }
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}
