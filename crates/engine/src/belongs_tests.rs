#![expect(clippy::unwrap_used, reason = "tests")]

use ashlar_api::HostFence;
use ashlar_plan::StepState;
use futures::executor::block_on;
use jiff::Timestamp;

use super::*;
use crate::{Engine, testing::*};

/// Host `h1` is proved off, as the store says, and host `h2` is as it is.
fn fenced() -> (Engine, Fake) {
    let fake = Fake::default();
    let (_, engine) = fake.engine();
    let Object::Host(mut off) = host("h1") else { unreachable!("a host") };
    off.record.fence = Some(HostFence { at: Timestamp::UNIX_EPOCH, confirmed_by: "a person".to_owned() });
    put(&engine, vec![Object::Host(off), host("h2"), cluster()]);
    (engine, fake)
}

fn of(cluster: &str) -> Scope {
    Scope::Cluster(NamespacedName::new("default", cluster))
}

/// The host answers: whoever sees that takes the proof away, a run for a cluster that has nothing to do with it too; and what
/// others have to decide is not done along with it.
#[test]
fn a_proof_that_ended_is_taken_away_by_whoever_sees_it() {
    let (engine, _fake) = fenced();
    let snapshot = block_on(engine.snapshot(&Scope::Hosts)).unwrap();
    let plan = engine.make_plan(&snapshot).unwrap();
    for scope in [Scope::All, Scope::Hosts, of("demo"), of("another")] {
        let belongings = Belongings::new(&snapshot, &scope);
        let ends: Vec<_> = plan
            .decisions
            .iter()
            .filter(|commit| commit.iter().any(|decision| belongings.ends_fence(decision)))
            .collect();
        let [commit] = ends[..] else { panic!("{scope:?}: {:?}", plan.decisions) };
        assert_eq!(commit.len(), 1, "nothing else is in it: {commit:?}");
        assert!(belongings.has_commit(commit), "{scope:?}");
    }
    assert!(!Belongings::new(&snapshot, &Scope::StoreOnly).has_commit(&plan.decisions[0]), "it saw nobody");
    // Hosts are bumped by claims, too.
    let bumped = vec![Decision::Update(Object::from(snapshot.hosts["h1"].clone()))];
    assert!(!Belongings::new(&snapshot, &of("another")).has_commit(&bumped));
}

#[test]
fn nothing_is_begun_on_a_host_whose_proof_was_not_taken_away_yet() {
    let (engine, _fake) = fenced();
    let step = |host: &str, action| Step {
        object: ObjectRef::new(Kind::Machine, "default", "demo-ctrl-1"),
        host: host.to_owned(),
        action: Some(action),
        state: StepState::Ready,
        why: String::new(),
    };
    let start = || Action::StartDomain { machine: name("demo-ctrl-1") };
    let mut snapshot = block_on(engine.snapshot(&Scope::Hosts)).unwrap();
    let is_on_fenced = |snapshot: &Snapshot, step: &Step| {
        let scope = of("demo");
        Belongings::new(snapshot, &scope).is_on_fenced(step)
    };
    assert!(is_on_fenced(&snapshot, &step("h1", start())));
    assert!(!is_on_fenced(&snapshot, &step("h2", start())));
    assert!(!is_on_fenced(&snapshot, &step("", Action::DeleteNode { machine: name("demo-ctrl-1") })));
    snapshot.hosts.get_mut("h1").unwrap().record.fence = None;
    assert!(!is_on_fenced(&snapshot, &step("h1", start())));
}
