//! Names: their syntax, how machine names are built, and which known name an unknown one was meant to be.

/// Longest DNS label (RFC 1123).
pub const MAX_LABEL: usize = 63;
/// Digits that a machine's number may grow to; numbers are never used twice.
const NUMBER_DIGITS: usize = 5;
/// What stands between a cluster's name and the number of a control-plane machine.
pub const CONTROL_PLANE_GROUP: &str = "ctrl";
/// Longest name of a cluster: `<cluster>-ctrl-<n>` is a DNS label.
pub const MAX_CLUSTER_NAME: usize = MAX_LABEL - NUMBER_DIGITS - CONTROL_PLANE_GROUP.len() - 2;
/// Longest name of a WorkerGroup (`<cluster>-<group>`): `<cluster>-<group>-<n>` is a DNS label.
pub const MAX_WORKER_GROUP_NAME: usize = MAX_LABEL - NUMBER_DIGITS - 1;

/// Name of a cluster's n-th control-plane machine.
pub fn control_plane_machine(cluster: &str, number: u32) -> String {
    format!("{cluster}-{CONTROL_PLANE_GROUP}-{number}")
}

/// Name of the WorkerGroup object of a group that is written inline in a Cluster.
pub fn worker_group(cluster: &str, group: &str) -> String {
    format!("{cluster}-{group}")
}

/// Name of the n-th machine of a WorkerGroup object (`<cluster>-<group>`).
pub fn worker_machine(worker_group: &str, number: u32) -> String {
    format!("{worker_group}-{number}")
}

/// Says what is wrong with a DNS label (RFC 1123), or nothing.
pub fn label_problem(name: &str, longest: usize) -> Option<String> {
    if name.is_empty() {
        return Some("is empty".to_owned());
    }
    if name.len() > longest {
        return Some(format!("has {} characters; at most {longest} are possible", name.len()));
    }
    if let Some(bad) = name.chars().find(|c| !(c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '-')) {
        let hint = if bad.is_ascii_uppercase() { ": write it in lower case" } else { "" };
        return Some(format!("contains {bad:?}; only lower-case letters, digits and `-` are possible{hint}"));
    }
    if name.starts_with('-') || name.ends_with('-') {
        return Some("must begin and end with a letter or digit".to_owned());
    }
    None
}

/// Says what is wrong with a DNS name of one or more labels, or nothing.
pub fn dns_name_problem(name: &str) -> Option<String> {
    if name.len() > 253 {
        return Some(format!("has {} characters; at most 253 are possible", name.len()));
    }
    name.split('.').find_map(|label| label_problem(label, MAX_LABEL)).map(|problem| match problem.as_str() {
        "is empty" => "has an empty part between dots".to_owned(),
        _ => problem,
    })
}

/// The candidate that a misspelt word was probably meant to be.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    /// Longer words are not misspellings, and would make the comparison slow.
    const LONGEST: usize = 64;
    fn plain(word: &str) -> String {
        word.chars().filter(|c| !matches!(c, '_' | '-' | ' ')).flat_map(char::to_lowercase).collect()
    }
    if word.is_empty() || word.len() > LONGEST {
        return None;
    }
    let wanted = plain(word);
    candidates
        .into_iter()
        .filter(|candidate| candidate.len() <= LONGEST)
        .map(|candidate| (strsim::damerau_levenshtein(&wanted, &plain(candidate)), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.len().min(word.len()) / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// `: did you mean X?`, or nothing.
pub(crate) fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    nearest(word, candidates).map(|name| format!(": did you mean `{name}`?")).unwrap_or_default()
}

/// A short list for messages: `a, b, c and 4 more`.
pub(crate) fn some_of<T: std::fmt::Display>(items: impl IntoIterator<Item = T>) -> String {
    const SHOWN: usize = 5;
    let mut shown = Vec::new();
    let mut more = 0;
    for item in items {
        if shown.len() < SHOWN { shown.push(item.to_string()) } else { more += 1 }
    }
    match (shown.len(), more) {
        (0, _) => "none".to_owned(),
        (_, 0) => shown.join(", "),
        _ => format!("{} and {more} more", shown.join(", ")),
    }
}

/// A user's text in a message: control characters escaped, cut when long.
pub(crate) fn quoted(text: &str) -> String {
    const LONGEST: usize = 60;
    let mut out = String::from("`");
    for (index, c) in text.chars().enumerate() {
        if index == LONGEST {
            out.push('…');
            break;
        }
        if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out.push('`');
    out
}

/// Joins path segments: `spec` and `network` to `spec.network`.
pub(crate) fn join_path(path: &str, field: &str) -> String {
    if path.is_empty() { field.to_owned() } else { format!("{path}.{field}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machine_names_of_the_longest_clusters_and_groups_are_dns_labels() {
        let cluster = "c".repeat(MAX_CLUSTER_NAME);
        assert_eq!(control_plane_machine(&cluster, 99_999).len(), MAX_LABEL);
        let group = "g".repeat(MAX_WORKER_GROUP_NAME);
        assert_eq!(worker_machine(&group, 99_999).len(), MAX_LABEL);
    }

    #[test]
    fn nearest_finds_slips_and_other_spellings_but_nothing_far_off() {
        let fields = ["replicas", "class", "spread", "podCidr", "apiVersion"];
        assert_eq!(nearest("replica", fields), Some("replicas"));
        assert_eq!(nearest("pod_cidr", fields), Some("podCidr"));
        assert_eq!(nearest("APIVERSION", fields), Some("apiVersion"));
        assert_eq!(nearest("clsas", fields), Some("class"));
        assert_eq!(nearest("storage", fields), None);
        assert_eq!(nearest("", fields), None);
        assert_eq!(nearest(&"x".repeat(100_000), fields), None);
    }

    proptest::proptest! {
        #[test]
        fn every_label_of_the_rfc_passes(name in "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?") {
            proptest::prop_assert_eq!(label_problem(&name, MAX_LABEL), None);
        }

        #[test]
        fn what_passes_is_a_label_of_the_rfc(name in ".{0,70}") {
            if label_problem(&name, MAX_LABEL).is_none() {
                let bytes = name.as_bytes();
                let inner = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
                proptest::prop_assert!(bytes.len() <= 63 && inner(&bytes[0]) && inner(&bytes[bytes.len() - 1]));
                proptest::prop_assert!(bytes.iter().all(|byte| inner(byte) || *byte == b'-'));
            }
        }
    }
}
