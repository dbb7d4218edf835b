//! Which token a host refused is remembered until it answers, so that an old store does not climb over its hosts.
#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]

mod common;

use ashlar_api::*;
use ashlar_plan::*;
use common::*;

/// The token of the store.
const TOKEN: u64 = 7;

#[test]
fn a_refused_token_is_remembered_until_the_host_answers() {
    let mut world = World::new(one_plus_one(), 1);
    assert!(world.settle().is_empty());
    let answers = world.snapshot.observed.hosts["lab-1"].clone();
    let fenced =
        |store_is_behind| Some(HostSeen::Fenced { reason: "a newer one works".to_owned(), store_is_behind });
    let silent = Some(HostSeen::Unreachable { reason: "no answer".to_owned() });
    // What the host says, what was remembered, and what is remembered then.
    let table = [
        (fenced(true), None, Some(TOKEN)),
        (fenced(true), Some(TOKEN - 1), Some(TOKEN)),
        (fenced(true), Some(TOKEN), Some(TOKEN)),
        (fenced(false), None, None),
        (fenced(false), Some(TOKEN), Some(TOKEN)),
        (silent.clone(), None, None),
        (silent, Some(TOKEN), Some(TOKEN)),
        (None, Some(TOKEN), Some(TOKEN)),
        (Some(answers.clone()), None, None),
        (Some(answers), Some(TOKEN), None),
    ];
    for (seen, before, after) in table {
        let record = &mut world.snapshot.hosts.get_mut("lab-1").unwrap().record;
        (record.lease_token, record.lease_refused) = (TOKEN, before);
        let case = format!("{before:?} → {after:?}");
        match seen {
            Some(seen) => _ = world.snapshot.observed.hosts.insert("lab-1".to_owned(), seen),
            None => _ = world.snapshot.observed.hosts.remove("lab-1"),
        }
        let plan = world.plan();
        let written = plan.decisions.iter().flatten().find_map(|decision| match decision {
            Decision::Update(Object::Host(host)) if host.metadata.name == "lab-1" => Some(host),
            _ => None,
        });
        let remembered = written.map_or(before, |host| host.record.lease_refused);
        assert_eq!(remembered, after, "{case}");
        assert_eq!(written.map(|host| host.record.lease_token).unwrap_or(TOKEN), TOKEN, "{case}");
    }
}
