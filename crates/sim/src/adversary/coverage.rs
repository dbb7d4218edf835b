//! Which actions were tried with which faults. An action at which Ashlar was never killed is a hole.

use std::collections::BTreeMap;
use std::fmt;

use crate::CallFault;
use crate::fault::TAKEOVER;

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
const FROZEN: &str = "frozen before";
const CUT: &str = "cut";
/// Actions that carry data, which may arrive damaged, or in part.
const CARRIERS: [&str; 2] = ["create_volume", "upload_volume"];

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

    /// Faults that never met an action, as `action: fault, fault`.
    pub fn untried(&self) -> Vec<String> {
        let untried = |(action, row): (&String, &BTreeMap<&'static str, u64>)| {
            // The store is no call: it is written or is not. And damage is of what carries data.
            let applies = |column: &&'static str| match action.as_str() {
                name if name.starts_with("commit") => KILLED.contains(column) || *column == FROZEN,
                // What befell the daemon before.
                TAKEOVER => KILLED.contains(column) || [FROZEN, CUT].contains(column),
                name => *column != "damaged" || CARRIERS.contains(&name),
            };
            let columns = Coverage::columns().filter(applies).filter(|column| !row.contains_key(column));
            let columns: Vec<&str> = columns.collect();
            (!columns.is_empty()).then(|| format!("{action}: {}", columns.join(", ")))
        };
        self.rows.iter().filter_map(untried).collect()
    }

    fn columns() -> impl Iterator<Item = &'static str> {
        [MADE].into_iter().chain(KILLED).chain([FROZEN]).chain(CallFault::COLUMNS)
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
