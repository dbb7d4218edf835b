//! Which hosts are turned off because they give no answer: those of which it was said, that were silent for as long as it
//! says, and only while nearly all others answer. Where many are silent, it is Ashlar that is cut off.

use ashlar_api::*;
use jiff::{SignedDuration, Timestamp};

use crate::draft::{Draft, Unit};
use crate::machine::{Chain, block, wait};
use crate::patience::Count;
use crate::{Action, ClusterSeen, Guard, HostSeen, Snapshot, Step, fence, health};

/// Where a host's fencing stands, which gives no answer and is not known to be off.
pub(crate) enum Stand {
    /// Too many give no answer: nobody is turned off.
    TooMany(String),
    /// When it was turned off, another one fell silent.
    Doubted(String),
    /// Another host names the same BMC.
    Shared(String),
    /// What runs on it is seen to work.
    Alive(String),
    /// It is not silent for long enough.
    Silent(String),
    /// It is to be turned off.
    Due(String),
}

/// Records since when hosts give no answer that are turned off for it, and forgets it once they do; and that their power was
/// asked to be cut.
pub(crate) fn record(draft: &mut Draft<'_>) {
    let snapshot = draft.snapshot;
    let mut changed = Vec::new();
    for (name, host) in &snapshot.hosts {
        let before = host.record.silence.as_ref();
        let after_s = host.spec.fencing.as_ref().and_then(|fencing| fencing.after_s);
        let silence = match (snapshot.observed.hosts.get(name), after_s) {
            // Not asked.
            (None, Some(_)) => continue,
            (Some(HostSeen::Unreachable { .. }), Some(after_s)) => {
                Some(notice(before, snapshot.now, SignedDuration::from_secs(after_s.into())))
            }
            _ => None,
        };
        let cut = host.record.power_cut.as_ref().filter(|cut| {
            let is_silent = !fence::is_seen_to_answer(snapshot, name);
            cut.is_by(host.spec.fencing.as_ref()) && (is_silent || !cut.fell_silent.is_empty())
        });
        if before != silence.as_ref() || cut != host.record.power_cut.as_ref() {
            changed.push((name.clone(), silence, cut.cloned()));
        }
    }
    for (name, silence, cut) in changed {
        // A fact of this pass may have changed it already.
        let Some(mut host) = draft.hosts.get(&name).cloned() else { continue };
        (host.record.silence, host.record.power_cut) = (silence, cut);
        let mut unit = Unit::default();
        unit.update(host.clone());
        draft.hosts.insert(name, host);
        draft.commit(unit);
    }
}

/// The record of a silence that is noticed now.
fn notice(before: Option<&HostSilence>, now: Timestamp, after: SignedDuration) -> HostSilence {
    let Some(before) = before else {
        // People read it, and nothing is counted from it.
        let since = Timestamp::from_second(now.as_second()).unwrap_or(now);
        let Count { seen_at, sightings } = Count::first(now);
        return HostSilence { since, seen_at, sightings };
    };
    let count = Count { seen_at: before.seen_at, sightings: before.sightings };
    let Count { seen_at, sightings } = count.again(now, after);
    HostSilence { since: before.since, seen_at, sightings }
}

/// What is left to do about hosts that give no answer, from what is recorded of them.
pub(crate) fn steps(draft: &Draft<'_>) -> Vec<Step> {
    let snapshot = draft.snapshot;
    let mut steps = Vec::new();
    for (name, host) in &snapshot.hosts {
        let Some(stand) = stand(snapshot, host) else { continue };
        let mut chain = Chain::new(host.object_ref(), "");
        let by = host.spec.fencing.as_ref().map(ToString::to_string).unwrap_or_default();
        let why = match stand {
            Stand::Due(why) => why,
            Stand::TooMany(message) => {
                chain.hold(block("TooManyHostsSilent", message));
                format!("turn it off by {by}")
            }
            Stand::Doubted(message) => {
                chain.hold(block("AnotherHostFellSilent", message));
                format!("turn it off by {by}")
            }
            Stand::Shared(message) => {
                chain.hold(block("SharedBmc", message));
                format!("turn it off by {by}")
            }
            Stand::Alive(message) => {
                chain.hold(wait("MachinesAnswer", message));
                format!("turn it off by {by}")
            }
            Stand::Silent(message) => {
                chain.hold(wait("HostSilent", message));
                format!("turn it off by {by}")
            }
        };
        chain.push(Action::FenceHost { host: name.clone() }, why);
        steps.extend(chain.finish());
    }
    steps
}

/// Where a host's fencing stands; none where there is nothing to say: it answers, it is known to be off, it is never turned
/// off by itself, or no machine is there that waits for it.
pub(crate) fn stand(snapshot: &Snapshot, host: &Host) -> Option<Stand> {
    let name = &host.metadata.name;
    let fencing = host.spec.fencing.as_ref()?;
    let after_s = fencing.after_s?;
    let silence = host.record.silence.as_ref()?;
    let is_silent = matches!(snapshot.observed.hosts.get(name), Some(HostSeen::Unreachable { .. }));
    let has_machines = || snapshot.machines.values().any(|machine| machine.spec.host == *name);
    if !is_silent || host.record.fence.is_some() || !has_machines() {
        return None;
    }
    if let Some(cut) = host.record.power_cut.as_ref().filter(|cut| !cut.fell_silent.is_empty()) {
        return Some(Stand::Doubted(fencing_doubt(name, cut)));
    }
    if let Some(other) = shares_bmc(snapshot, host) {
        return Some(Stand::Shared(format!(
            "host {name} is not turned off: {fencing} is in spec.fencing of host {other} too, and can be the power of one of \
             them only. Correct the one that is wrong; if host {name} is off: `ashlar host fence {name} --confirm-powered-off`"
        )));
    }
    if let Some(message) = too_many(snapshot) {
        return Some(Stand::TooMany(message));
    }
    if let Some(node) = ready_node(snapshot, name) {
        return Some(Stand::Alive(format!(
            "host {name} gives no answer since {}, and node {node} on it is Ready: what runs there works, and it is the way \
             from here to the host that does not. If it is to be turned off all the same: `ashlar host fence {name}`",
            silence.since
        )));
    }
    if !silence.is_over() {
        return Some(Stand::Silent(format!(
            "host {name} gives no answer since {}; once that lasted {after_s} s, it is turned off by {fencing}",
            silence.since
        )));
    }
    Some(Stand::Due(format!(
        "host {name} gives no answer since {}: turn it off by {fencing}, so that its machines may be replaced",
        silence.since
    )))
}

/// Why a host is not proved off although its power was cut, as was said, and what a person does.
pub fn fencing_doubt(host: &str, cut: &PowerCut) -> String {
    let PowerCut { by, fell_silent, .. } = cut;
    let others = named(fell_silent);
    format!(
        "host {host} is not proved off: {others} answered before {by} was asked to cut its power, and gave no answer after that. It \
         may have been their power, and host {host} may run. Look at all of them. If {by} is another host's, correct \
         spec.fencing of host {host}. If it is not: if host {host} is off, `ashlar host fence {host} --confirm-powered-off`, and \
         once it answers, `ashlar host uncordon {host}`; until then it is not turned off again"
    )
}

/// Another host whose BMC has the same address.
fn shares_bmc<'s>(snapshot: &'s Snapshot, host: &Host) -> Option<&'s str> {
    let place = |host: &'s Host| {
        let ipmi = host.spec.fencing.as_ref()?.ipmi.as_ref()?;
        Some((ipmi.address.as_str(), ipmi.port))
    };
    let own = place(snapshot.hosts.get(&host.metadata.name)?)?;
    let mut others = snapshot.hosts.values().filter(|other| other.metadata.name != host.metadata.name);
    others.find(|other| place(other) == Some(own)).map(|other| other.metadata.name.as_str())
}

/// Why nobody is turned off now, from what was seen of all hosts.
fn too_many(snapshot: &Snapshot) -> Option<String> {
    let seen = |host: &&String| snapshot.observed.hosts.get(*host);
    let asked: Vec<&String> = snapshot.hosts.keys().filter(|host| seen(host).is_some()).collect();
    let is_silent = |host: &&&String| matches!(seen(host), Some(HostSeen::Unreachable { .. }));
    let silent: Vec<&str> = asked.iter().filter(is_silent).map(|host| host.as_str()).collect();
    too_many_silent(&silent, asked.len(), snapshot.fence_max_percent)
}

/// Names that are told; of more there is their number.
const TOLD: usize = 5;

/// Why nobody is turned off while so many of all hosts are silent: more than may be at a time, or those that answer are no
/// majority. Hosts that are known to be off count as silent, so that a pool is not turned off one after the other.
pub fn too_many_silent(silent: &[&str], all: usize, max_percent: u32) -> Option<String> {
    if !Guard::FewSilent.stands() {
        return None;
    }
    let allowed = (all * usize::try_from(max_percent).unwrap_or(100) / 100).max(1);
    let few = silent.len() <= allowed;
    if few && silent.len() * 2 < all {
        return None;
    }
    let names = named(silent);
    let why = if few {
        "those that answer are no majority".to_owned()
    } else {
        format!("no more than {allowed} may be at a time")
    };
    Some(format!(
        "{} of {all} hosts give no answer ({names}), and {why}: it may be Ashlar that is cut off, so that none of them is \
         turned off by itself. Look at the network from here to them; for those that are really off: `ashlar host fence NAME \
         --confirm-powered-off`",
        silent.len(),
    ))
}

/// The first of them, and how many more there are.
fn named<T: AsRef<str>>(hosts: &[T]) -> String {
    let told: Vec<&str> = hosts.iter().take(TOLD).map(AsRef::as_ref).collect();
    let more = hosts.len().saturating_sub(TOLD);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    format!("{}{more}", told.join(", "))
}

/// A node on the host that its cluster's API calls Ready: something there is heard by others.
fn ready_node<'s>(snapshot: &'s Snapshot, host: &str) -> Option<&'s str> {
    let mut there = snapshot.machines.values().filter(|machine| machine.spec.host == host);
    there.find_map(|machine| {
        let cluster = NamespacedName::new(&machine.metadata.namespace, &machine.spec.cluster);
        let Some(ClusterSeen::Seen(world)) = snapshot.observed.clusters.get(&cluster) else { return None };
        let node = world.nodes.get(&machine.spec.node.name)?;
        let is_heard = node.ready && health::silence(snapshot, world, node).is_none();
        (is_heard && node.provider_id == machine.spec.node.provider_id)
            .then_some(machine.spec.node.name.as_str())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_secs(second)
    }

    fn noticed_at(seconds: &[i64]) -> HostSilence {
        let mut silence = None;
        for second in seconds {
            silence = Some(notice(silence.as_ref(), at(*second), SignedDuration::from_secs(400)));
        }
        silence.unwrap_or_else(|| unreachable!("somebody looked"))
    }

    #[test]
    fn a_silence_is_over_after_it_was_noticed_all_the_time() {
        assert!(!noticed_at(&[0, 100, 200, 300, 399]).is_over());
        let over = noticed_at(&[0, 100, 200, 300, 400]);
        assert!(over.is_over());
        assert_eq!(over.since, at(0));
    }

    #[test]
    fn few_may_be_silent_at_a_time_and_most_must_answer() {
        let silent = |count: usize, all: usize| {
            let names = ["h1", "h2", "h3", "h4", "h5", "h6"];
            too_many_silent(&names[..count], all, 20).is_some()
        };
        assert!(silent(1, 1));
        assert!(silent(1, 2), "one of two is no majority");
        assert!(!silent(1, 3) && silent(2, 3));
        assert!(!silent(1, 9) && silent(2, 9));
        assert!(!silent(2, 10) && silent(3, 10));
        let text = too_many_silent(&["a", "b", "c", "d", "e", "f"], 10, 20).unwrap_or_default();
        assert!(text.contains("6 of 10") && text.contains("a, b, c, d, e and 1 more"), "{text}");
    }
}
