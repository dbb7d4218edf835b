//! The file of seeds done: what all searches together have tried.

use std::io::Write as _;
use std::ops::Range;
use std::path::Path;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

/// What all searches so far have done.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Done {
    /// Ranges of seeds, in order and apart from each other.
    ranges: Vec<Range<u64>>,
    /// How many those are.
    pub(crate) seeds: u64,
    /// Virtual time of their worlds.
    pub(crate) virtual_s: u64,
    /// Time that it took, of one core each.
    pub(crate) core_s: f64,
    /// Seeds that broke a promise: they are tried again by every search that comes past them.
    pub(crate) broken: Vec<BrokenSeed>,
}

/// A seed that broke a promise.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct BrokenSeed {
    pub(crate) seed: u64,
    pub(crate) commit: String,
    pub(crate) what: String,
}

impl Done {
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        match std::fs::read_to_string(path) {
            Ok(text) => serde_json::from_str(&text).with_context(|| {
                format!("{} is no file of seeds done; remove it to begin anew", path.display())
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Done::default()),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// Written whole or not at all.
    pub(crate) fn write(&self, path: &Path) -> anyhow::Result<()> {
        let failed = || format!("cannot write {}; `--state` names another file", path.display());
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory).with_context(failed)?;
        }
        let new = path.with_extension("new");
        let mut file = std::fs::File::create(&new).with_context(failed)?;
        file.write_all(serde_json::to_string_pretty(self)?.as_bytes()).with_context(failed)?;
        file.sync_all().with_context(failed)?;
        std::fs::rename(&new, path).with_context(failed)
    }

    pub(crate) fn has(&self, seed: u64) -> bool {
        self.ranges.iter().any(|range| range.contains(&seed))
    }

    /// Adds one seed.
    pub(crate) fn add(&mut self, seed: u64) {
        if self.has(seed) {
            return;
        }
        self.seeds += 1;
        let at = self.ranges.partition_point(|range| range.start < seed);
        self.ranges.insert(at, seed..seed + 1);
        let mut merged: Vec<Range<u64>> = Vec::new();
        for range in self.ranges.drain(..) {
            match merged.last_mut() {
                Some(last) if last.end == range.start => last.end = range.end,
                _ => merged.push(range),
            }
        }
        self.ranges = merged;
        self.broken.retain(|broken| broken.seed != seed);
    }

    pub(crate) fn add_broken(&mut self, broken: BrokenSeed) {
        self.broken.retain(|other| other.seed != broken.seed);
        self.broken.push(broken);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_grow_together() {
        let mut done = Done::default();
        for seed in [3, 5, 4, 0, 4, 1] {
            done.add(seed);
        }
        assert_eq!(done.ranges, [0..2, 3..6]);
        assert_eq!(done.seeds, 5);
        assert!(done.has(5) && !done.has(2));
    }
}
