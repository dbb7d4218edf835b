//! Which Kubernetes versions may follow each other: the project's own rules of version skew.

use crate::validate::parse_version;

/// kubelets may be so many minors older than API servers.
const KUBELET_SKEW: u32 = 3;

/// The release of a version (`v1.38.0`) or as Kubernetes itself writes it (`1.38`): major and minor; none if it is neither.
pub fn release_of(text: &str) -> Option<(u32, u32)> {
    let (major, minor, _) = parse_version(text).or_else(|| parse_version(&format!("v{text}.0")))?;
    Some((major, minor))
}

/// Why a cluster whose nodes run these versions cannot go to another one; none if it can.
pub fn upgrade_problem<'v>(
    control_planes: impl IntoIterator<Item = &'v str>,
    workers: impl IntoIterator<Item = &'v str>,
    to: &str,
) -> Option<String> {
    let wanted = parse_version(to)?;
    let parse = |version: &'v str| Some((parse_version(version)?, version));
    let servers: Vec<_> = control_planes.into_iter().filter_map(parse).collect();
    let kubelets: Vec<_> = workers.into_iter().filter_map(parse).collect();
    let (oldest, newest) = (servers.iter().min()?, servers.iter().max()?);
    let newest = newest.max(kubelets.iter().max().unwrap_or(newest));
    if newest.0 > wanted {
        return Some(format!(
            "{to} is older than {}, which its nodes run: Kubernetes cannot go back (what etcd holds may be in a form that {to} \
             does not know); stay, or make a new cluster",
            newest.1
        ));
    }
    let ((major, minor, _), (to_major, to_minor, _)) = (oldest.0, wanted);
    if major != to_major {
        return Some(format!("from {} to {to} is another major version; make a new cluster", oldest.1));
    }
    if to_minor > minor + 1 {
        return Some(format!(
            "from {} to {to} skips a minor version, and API servers can only be one apart: go to v{major}.{} first",
            oldest.1,
            minor + 1
        ));
    }
    let behind = kubelets.iter().min().filter(|((_, kubelet, _), _)| kubelet + KUBELET_SKEW < to_minor)?;
    Some(format!(
        "a worker runs {}, and API servers of {to} talk to kubelets that are at most {KUBELET_SKEW} minor versions older: \
         let its group be replaced first",
        behind.1
    ))
}

#[cfg(test)]
mod tests {
    use super::{release_of, upgrade_problem};

    fn problem(control_planes: &[&str], workers: &[&str], to: &str) -> Option<String> {
        upgrade_problem(control_planes.iter().copied(), workers.iter().copied(), to)
    }

    #[test]
    fn one_minor_forward_or_a_patch() {
        assert_eq!(problem(&["v1.36.3"], &["v1.36.3"], "v1.37.2"), None);
        assert_eq!(problem(&["v1.36.3"], &["v1.36.3"], "v1.36.4"), None);
        assert_eq!(problem(&["v1.36.3", "v1.37.2"], &["v1.36.3"], "v1.37.2"), None, "in the middle of it");
        assert_eq!(problem(&[], &[], "v1.37.2"), None, "no machine yet");
    }

    #[test]
    fn releases_are_read_however_they_are_written() {
        assert_eq!(release_of("v1.38.0"), Some((1, 38)));
        assert_eq!(release_of("1.38"), Some((1, 38)));
        for none in ["", "1", "v1.38", "1.x", "1.-8", ".", "1.38.0"] {
            assert_eq!(release_of(none), None, "{none}");
        }
    }

    #[test]
    fn not_back_not_two_at_once_not_away_from_kubelets() {
        assert!(problem(&["v1.37.2"], &[], "v1.36.3").is_some_and(|text| text.contains("cannot go back")));
        assert!(problem(&["v1.37.2"], &[], "v1.37.1").is_some());
        assert!(problem(&["v1.36.3"], &["v1.37.2"], "v1.37.1").is_some_and(|text| text.contains("v1.37.2")));
        let skipped = problem(&["v1.35.1", "v1.36.3"], &[], "v1.37.2").expect("refused");
        assert!(skipped.contains("go to v1.36 first"), "{skipped}");
        assert!(problem(&["v1.37.2"], &[], "v2.0.0").is_some_and(|text| text.contains("major")));
        assert!(problem(&["v1.36.0"], &["v1.33.9"], "v1.37.2").is_some_and(|text| text.contains("v1.33.9")));
    }
}
