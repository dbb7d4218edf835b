//! What the observing script says.

use std::collections::{BTreeMap, BTreeSet};

use ashlar_plan::network::HostNetwork;
use ashlar_plan::{NetworkSeen, NetworksSeen};
use uuid::Uuid;

/// A mark: installation and network.
fn parse_mark(text: &str) -> Option<(Uuid, Uuid)> {
    let (installation, network) = text.trim().strip_prefix("ashlar ")?.split_once(' ')?;
    Some((installation.parse().ok()?, network.parse().ok()?))
}

/// The digits at the end of a name.
fn id_of(name: &str) -> &str {
    name.len().checked_sub(10).and_then(|at| name.get(at..)).unwrap_or(name)
}

pub(super) fn read(text: &str, installation: Uuid) -> NetworksSeen {
    let mut marks: BTreeMap<&str, (Uuid, Uuid)> = BTreeMap::new();
    let mut applied: BTreeMap<&str, &str> = BTreeMap::new();
    let mut intact: BTreeSet<&str> = BTreeSet::new();
    let mut bridgeless: BTreeSet<&str> = BTreeSet::new();
    // Part → its own mark, if it can carry one and does.
    let mut parts: BTreeMap<&str, Option<(Uuid, Uuid)>> = BTreeMap::new();
    let mut hostname = String::new();
    for line in text.lines() {
        let (what, rest) = line.split_once(' ').unwrap_or((line, ""));
        let (name, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        match what {
            "hostname" => name.clone_into(&mut hostname),
            "file" => {
                if let Some(mark) = parse_mark(rest) {
                    marks.insert(name, mark);
                }
            }
            "applied" => _ = applied.insert(name, rest),
            "intact" => _ = intact.insert(name),
            "bridgeless" => _ = bridgeless.insert(name),
            "link" => {
                _ = parts.insert(name, parse_mark(rest).or((!rest.trim().is_empty()).then_some(FOREIGN)))
            }
            "namespace" | "table" => _ = parts.entry(name).or_insert(None),
            _ => {}
        }
    }
    for (name, mark) in &parts {
        if let Some(mark) = mark.filter(|mark| *mark != FOREIGN) {
            marks.entry(id_of(name)).or_insert(mark);
        }
    }
    let mut networks = BTreeMap::new();
    for (id, (_, network)) in marks.iter().filter(|(_, (owner, _))| *owner == installation) {
        let applied = applied.get(id).and_then(|json| serde_json::from_str(json).ok()).map(Box::new);
        let applied: Option<Box<HostNetwork>> = applied;
        // One that Ashlar makes is not intact without its bridge, and is made anew.
        let is_theirs = applied.as_ref().is_some_and(|applied| applied.made.is_none());
        let bridge_gone = is_theirs && bridgeless.contains(id);
        networks.insert(*network, NetworkSeen { applied, intact: intact.contains(id), bridge_gone });
    }
    let is_foreign = |name: &str, own: &Option<(Uuid, Uuid)>| match (own, marks.get(id_of(name))) {
        (_, None) => true,
        (Some(own), Some(mark)) => own != mark || mark.0 != installation,
        (None, Some(mark)) => mark.0 != installation,
    };
    let foreign = parts
        .iter()
        .filter(|(name, own)| is_foreign(name, own))
        .map(|(name, _)| (*name).to_owned())
        .collect();
    NetworksSeen::Seen { networks, foreign, hostname }
}

/// An alias that is no mark.
const FOREIGN: (Uuid, Uuid) = (Uuid::nil(), Uuid::nil());

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const OURS: Uuid = Uuid::from_u128(1);
    const NETWORK: Uuid = Uuid::from_u128(0x11_2233_4455);

    fn read_parts(text: &str) -> (BTreeMap<Uuid, NetworkSeen>, Vec<String>) {
        match read(text, OURS) {
            NetworksSeen::Seen { networks, foreign, .. } => (networks, foreign.into_iter().collect()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_carries_our_mark_is_ours_and_the_rest_is_not() {
        let mark = super::super::nft::mark(OURS, NETWORK);
        let text = format!(
            "file 1122334455 {mark}\nlink asbr-1122334455 {mark}\nlink asvx-1122334455 \nnamespace ashlar-1122334455\n\
             link asbr-aaaaaaaaaa \nlink asbr-bbbbbbbbbb somebody's\ntable ashlar_cccccccccc\n"
        );
        let (networks, foreign) = read_parts(&text);
        assert_eq!(networks, BTreeMap::from([(NETWORK, NetworkSeen::default())]));
        assert_eq!(foreign, ["asbr-aaaaaaaaaa", "asbr-bbbbbbbbbb", "ashlar_cccccccccc"]);
    }

    #[test]
    fn a_host_says_what_it_calls_itself() {
        let NetworksSeen::Seen { hostname, .. } = read("hostname db-17\n", OURS) else { panic!() };
        assert_eq!(hostname, "db-17");
    }

    #[test]
    fn another_installations_network_is_foreign() {
        let mark = super::super::nft::mark(Uuid::from_u128(2), NETWORK);
        let (networks, foreign) =
            read_parts(&format!("file 1122334455 {mark}\nlink asbr-1122334455 {mark}\n"));
        assert!(networks.is_empty());
        assert_eq!(foreign, ["asbr-1122334455"]);
    }

    #[test]
    fn an_interface_that_took_a_name_of_ours_is_foreign() {
        let mark = super::super::nft::mark(OURS, NETWORK);
        let (networks, foreign) =
            read_parts(&format!("file 1122334455 {mark}\nlink asbr-1122334455 theirs\n"));
        assert_eq!(networks.len(), 1);
        assert_eq!(foreign, ["asbr-1122334455"]);
    }
}
