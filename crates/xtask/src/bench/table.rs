//! Plain columns: the first to the left, the others to the right.

/// Rows of text.
#[derive(Debug, Default)]
pub(super) struct Table(Vec<Vec<String>>);

impl Table {
    pub(super) fn new(headings: &[&str]) -> Self {
        Table(vec![headings.iter().map(|heading| (*heading).to_owned()).collect()])
    }

    pub(super) fn push(&mut self, row: Vec<String>) {
        self.0.push(row);
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let columns = self.0.iter().map(Vec::len).max().unwrap_or_default();
        let width = |column: usize| {
            self.0
                .iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or_default()
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in &self.0 {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                let width = widths[column];
                if column == 0 {
                    line.push_str(&format!("{cell:<width$}"));
                } else {
                    line.push_str(&format!("  {cell:>width$}"));
                }
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Table;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(&["STAGE", "A", "RATIO"]);
        table.push(vec!["kernel".to_owned(), "12.5 s".to_owned(), "1.02".to_owned()]);
        table.push(vec!["Ready".to_owned(), "-".to_owned()]);
        assert_eq!(table.to_string(), "STAGE        A  RATIO\nkernel  12.5 s   1.02\nReady        -\n");
    }
}
