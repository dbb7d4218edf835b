//! Which actions were tried with which faults. An action at which Ashlar was never killed is a hole.

use std::collections::BTreeMap;
use std::fmt;

use crate::CallFault;

/// How often what went wrong with which action.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    rows: BTreeMap<String, BTreeMap<&'static str, u64>>,
}

impl From<BTreeMap<String, BTreeMap<&'static str, u64>>> for Coverage {
    fn from(rows: BTreeMap<String, BTreeMap<&'static str, u64>>) -> Self {
        Coverage { rows }
    }
}

const MADE: &str = "made";
const KILLED: [&str; 2] = ["killed before", "killed after"];

impl Coverage {
    /// Adds what another story tried.
    pub fn add(&mut self, other: &Coverage) {
        for (action, row) in &other.rows {
            let mine = self.rows.entry(action.clone()).or_default();
            for (fault, count) in row {
                *mine.entry(fault).or_default() += count;
            }
        }
    }

    /// Actions at which Ashlar was never killed, with the moment.
    pub fn holes(&self) -> Vec<String> {
        let hole = |(action, row): (&String, &BTreeMap<&'static str, u64>)| {
            let missing = KILLED.iter().filter(|moment| !row.contains_key(*moment));
            missing.map(|moment| format!("{action}: never {moment}")).collect::<Vec<_>>()
        };
        self.rows.iter().flat_map(hole).collect()
    }

    fn columns() -> impl Iterator<Item = &'static str> {
        [MADE].into_iter().chain(KILLED).chain(["frozen before"]).chain(CallFault::COLUMNS)
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<26}", "action")?;
        for column in Coverage::columns() {
            write!(f, " {:>13}", column)?;
        }
        writeln!(f)?;
        for (action, row) in &self.rows {
            write!(f, "{action:<26}")?;
            for column in Coverage::columns() {
                write!(f, " {:>13}", row.get(column).copied().unwrap_or_default())?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
