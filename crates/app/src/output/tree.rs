//! A tree of lines, as `tree` draws it.

use std::io::{self, Write};

/// A line and what is below it.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    pub(crate) line: String,
    pub(crate) children: Vec<Tree>,
}

impl Tree {
    /// A line without children.
    pub(crate) fn new(line: impl Into<String>) -> Self {
        Tree { line: line.into(), children: Vec::new() }
    }

    /// Prints it.
    pub(crate) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{}", self.line)?;
        self.write_children(out, "")
    }

    fn write_children(&self, out: &mut dyn Write, indent: &str) -> io::Result<()> {
        for (index, child) in self.children.iter().enumerate() {
            let is_last = index + 1 == self.children.len();
            let (branch, below) = if is_last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
            writeln!(out, "{indent}{branch}{}", child.line)?;
            child.write_children(out, &format!("{indent}{below}"))?;
        }
        Ok(())
    }
}
