//! What stages say about their results.

use std::collections::VecDeque;

/// Lines of a failed stage that are told once more at the end, where somebody who has only the end of the log sees them.
const TOLD_AGAIN: usize = 30;

#[derive(Default)]
pub(super) struct Tally {
    pub(super) passed: u64,
    pub(super) failed: u64,
    /// The latest lines of the stage, and before them those that say what failed.
    telling: VecDeque<String>,
    last: VecDeque<String>,
}

impl Tally {
    /// Reads what `cargo test` and `cargo xtask e2e` say about their results.
    pub(super) fn read(&mut self, line: &str) {
        if let Some(rest) = line.strip_prefix("test result: ") {
            let number_before = |word: &str| -> u64 {
                let words: Vec<&str> = rest.split([' ', ';']).filter(|word| !word.is_empty()).collect();
                let at = words.iter().position(|other| *other == word);
                at.and_then(|at| words.get(at.checked_sub(1)?)?.parse().ok()).unwrap_or(0)
            };
            self.passed += number_before("passed");
            self.failed += number_before("failed");
        } else if let Some(rest) = line.strip_prefix("e2e ") {
            if rest.contains(": ok (") {
                self.passed += 1;
            } else if rest.contains(": FAILED (") {
                self.failed += 1;
            }
        }
        keep(if tells_failure(line) { &mut self.telling } else { &mut self.last }, line);
    }

    /// What the stage said that ended badly.
    pub(super) fn told(&self) -> impl Iterator<Item = &str> {
        self.telling.iter().chain(&self.last).map(String::as_str)
    }
}

fn keep(lines: &mut VecDeque<String>, line: &str) {
    if lines.len() == TOLD_AGAIN {
        lines.pop_front();
    }
    lines.push_back(line.to_owned());
}

fn tells_failure(line: &str) -> bool {
    ["error", "Error", "E:", "FAILED", "panicked", "fatal", "... failed"]
        .iter()
        .any(|word| line.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_counted() {
        let mut tally = Tally::default();
        for line in [
            "running 3 tests",
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s",
            "test result: FAILED. 10 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s",
            "e2e create: a cluster comes up",
            "e2e create: ok (310.2 s)",
            "e2e canary: FAILED (1.0 s): found",
        ] {
            tally.read(line);
        }
        assert_eq!((tally.passed, tally.failed), (14, 3));
    }
}
