//! What those who weave something into a story look for in it.

use super::script::CLUSTERS;

/// Places of its runs: what is put there happens before them.
pub(super) fn runs_of(lines: &[String]) -> Vec<usize> {
    (0..lines.len()).filter(|place| lines[*place].starts_with("run until")).collect()
}

/// Clusters that it asks for.
pub(super) fn clusters_of(lines: &[String]) -> Vec<&'static str> {
    let asked_for = |name: &&str| {
        let line = format!("cluster {name} control-planes");
        lines.iter().any(|text| text.starts_with(&line))
    };
    CLUSTERS.into_iter().filter(asked_for).collect()
}
