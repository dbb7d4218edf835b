//! What a node's serial console says about how far it is. Both sides are read by the same eyes.

use std::time::Duration;

/// The machine that a mark is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Node {
    ControlPlane,
    Worker,
}

impl Node {
    pub(super) const ALL: [Node; 2] = [Node::ControlPlane, Node::Worker];

    /// The node that a domain, volume or console of this name belongs to. Both sides use the same names.
    pub(super) fn of(name: &str) -> Option<Node> {
        Node::ALL.into_iter().find(|node| name.contains(node.infix()))
    }

    /// What is in the names of its things.
    pub(super) fn infix(self) -> &'static str {
        match self {
            Node::ControlPlane => "-ctrl-1",
            Node::Worker => "-wkr-1",
        }
    }

    pub(super) fn title(self) -> &'static str {
        match self {
            Node::ControlPlane => "control plane",
            Node::Worker => "worker",
        }
    }
}

/// A stage began, so long after the command was started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) stage: String,
    pub(super) at: Duration,
}

/// The stage that a console line begins, if it begins one. The image's own lines are the same on both sides; Ashlar's
/// first boot says `ASHLAR-PHASE NAME start`, the script's `PHASE NAME start`.
pub(super) fn stage_of(line: &str) -> Option<String> {
    if line.contains("Linux version") {
        return Some("kernel".to_owned());
    }
    if let Some((_, stage)) = line.split_once("ASHLAR-BOOT ") {
        return stage.split_whitespace().next().map(|stage| format!("boot: {stage}"));
    }
    let (_, rest) = line.split_once("PHASE ")?;
    let mut words = rest.split_whitespace();
    match (words.next()?, words.next()?) {
        ("ready", "ok") => Some("first boot is done".to_owned()),
        (name, "start") => Some(match name.strip_prefix("kubeadm-") {
            Some(phase) => format!("kubeadm {phase}"),
            None => name.to_owned(),
        }),
        _ => None,
    }
}

/// All stages of two runs in one order: that of the first, with what only the second has where it comes there.
pub(super) fn merged<'a>(first: &'a [Mark], second: &'a [Mark]) -> Vec<&'a str> {
    let mut order: Vec<&str> = first.iter().map(|mark| mark.stage.as_str()).collect();
    let mut after = 0;
    for mark in second {
        match order.iter().position(|stage| *stage == mark.stage) {
            Some(at) => after = at + 1,
            None => {
                order.insert(after, &mark.stage);
                after += 1;
            }
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_both_first_boots_are_understood() {
        let stage = |line: &str| stage_of(line).unwrap_or_default();
        assert_eq!(stage("[    0.000000] Linux version 6.12.57+deb13-cloud-amd64"), "kernel");
        assert_eq!(stage("ASHLAR-BOOT initrd"), "boot: initrd");
        assert_eq!(stage("ASHLAR-PHASE kubeadm-certs start"), "kubeadm certs");
        assert_eq!(stage("PHASE kubeadm-certs start"), "kubeadm certs");
        assert_eq!(stage("[ 1.0] noise ASHLAR-PHASE images start"), "images");
        assert_eq!(stage("PHASE ready ok 93"), "first boot is done");
        assert_eq!(stage("ASHLAR-PHASE kubeadm-certs ok"), "");
        assert_eq!(stage("ASHLAR-PHASE kubeadm-certs retry 2/3"), "");
        assert_eq!(stage("[  OK  ] Reached target"), "");
    }

    #[test]
    fn names_of_both_sides_tell_the_node() {
        assert_eq!(Node::of("side-a-ctrl-1-6f2c0e1a.console.log"), Some(Node::ControlPlane));
        assert_eq!(Node::of("ashlar-side-a-wkr-1-root-6f2c.qcow2"), Some(Node::Worker));
        assert_eq!(Node::of("ashlar-4b0f8e6d0c3c-disk-6f2c.qcow2"), None);
    }

    #[test]
    fn stages_of_one_side_stand_where_they_came() {
        let marks = |stages: &[&str]| -> Vec<Mark> {
            stages.iter().map(|stage| Mark { stage: (*stage).to_owned(), at: Duration::ZERO }).collect()
        };
        let first = marks(&["kernel", "endpoint", "kubeadm preflight", "seed gone"]);
        let second = marks(&["disks", "kernel", "kubeadm preflight", "finish"]);
        assert_eq!(
            merged(&first, &second),
            ["disks", "kernel", "endpoint", "kubeadm preflight", "finish", "seed gone"]
        );
    }
}
