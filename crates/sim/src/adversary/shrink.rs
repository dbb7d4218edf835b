//! Makes a broken story as short as it can be and still break the same promise.

use super::teller::{is_mend, tell};
use super::{Broken, Options};

/// Stories that are told at most on the way.
const ATTEMPTS: u32 = 400;

/// Drops lines, many at a time first, as long as the same invariant breaks. Lines that nothing happened by are gone
/// already.
pub fn shrink(broken: &Broken, options: &Options) -> Broken {
    let mut best = broken.clone();
    let mut attempts = 0;
    let mut size = best.script.len().div_ceil(2).max(1);
    loop {
        let mut at = 0;
        let mut dropped = false;
        while at < best.script.len() && attempts < ATTEMPTS {
            let end = (at + size).min(best.script.len());
            let rest: Vec<String> = best
                .script
                .iter()
                .enumerate()
                .filter(|(index, line)| !(at..end).contains(index) || is_fixed(line))
                .map(|(_, line)| line.clone())
                .collect();
            if rest.len() < best.script.len() {
                attempts += 1;
                if let Some(smaller) = still_broken(&best, &rest, options) {
                    best = smaller;
                    dropped = true;
                    continue;
                }
            }
            at = end;
        }
        if attempts >= ATTEMPTS || size == 1 && !dropped {
            return best;
        }
        if !dropped {
            size = size.div_ceil(2).max(1);
        }
    }
}

/// Lines that every story has.
fn is_fixed(line: &str) -> bool {
    is_mend(line) || line.starts_with("seed ") || line.starts_with("poll ")
}

fn still_broken(broken: &Broken, script: &[String], options: &Options) -> Option<Broken> {
    // What comes after the mending is what a person does, and is found anew.
    let until = script.iter().position(|line| is_mend(line)).map_or(script.len(), |at| at + 1);
    let again = tell(broken.seed, &script[..until], options).err()?;
    let is_shorter = again.script.len() < broken.script.len();
    (again.invariant() == broken.invariant() && is_shorter).then_some(*again)
}
