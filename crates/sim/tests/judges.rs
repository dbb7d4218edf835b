//! The judges notice: each invariant is broken on purpose, and found.
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::sync::Arc;

use ashlar_api::{DrainBy, Kind, NamespacedName, ObjectRef, VolumeFormat};
use ashlar_engine::effects::{
    DialTarget, EtcdApi as _, EtcdTarget, HostTarget, Hypervisor as _, VolumeCreate,
};
use ashlar_engine::{EngineEvent, Goal, declare};
use ashlar_plan::{DomainState, Note, NoteKind};
use ashlar_sim::{CrashingStore, SimDomain, Simulation, executor, fixtures};
use ashlar_store::{Key, Precondition, Store as _, Transaction};
use common::{demo, must_run};
use futures::executor::block_on;
use jiff::SignedDuration;
use uuid::Uuid;
use zeroize::Zeroizing;

fn ready() -> Simulation {
    let simulation = Simulation::with_pool(1, 1).unwrap();
    simulation.apply(&fixtures::cluster("demo", 1, 1)).unwrap();
    must_run(&simulation, Goal::ClusterReady(demo()));
    simulation
}

/// A caller that has the lease and knows no rules.
fn target(simulation: &Simulation) -> HostTarget {
    let state = simulation.world.state();
    let host = &state.hosts["h1"];
    let (installation, lease_token, _) = host.lease.unwrap();
    HostTarget {
        name: "h1".to_owned(),
        uri: String::new(),
        ssh_host_key: host.ssh_host_key.clone(),
        ssh_key_path: None,
        installation,
        lease_token: Some(lease_token),
        host_uuid: Some(host.host_uuid),
    }
}

fn domain(simulation: &Simulation, name: &str) -> Uuid {
    let state = simulation.world.state();
    *state.hosts["h1"].domains.iter().find(|(_, domain)| domain.name == name).unwrap().0
}

/// What the judges say after somebody did something.
fn judged(simulation: &Simulation, done: impl Future<Output = ()>) -> String {
    executor::run(&simulation.world, done);
    simulation.world.state().violations().join("\n")
}

/// What they say after the world was changed by hand.
fn judged_after(simulation: &Simulation, change: impl FnOnce(&mut ashlar_sim::State)) -> String {
    let mut state = simulation.world.state();
    change(&mut state);
    state.touched();
    state.advance(jiff::SignedDuration::from_secs(1));
    state.violations().join("\n")
}

#[test]
fn an_undisturbed_cluster_gives_no_cause() {
    let simulation = ready();
    assert_eq!(judged_after(&simulation, |_| ()), "");
}

#[test]
fn destroying_undefining_and_deleting_without_intent() {
    let simulation = ready();
    let (target, worker, world) =
        (target(&simulation), domain(&simulation, "demo-wkr-1"), simulation.world.clone());
    let said = judged(&simulation, async {
        world.destroy_domain(&target, worker).await.unwrap();
        world.undefine_domain(&target, worker).await.unwrap();
    });
    assert!(said.contains("intent: destroy_domain of demo-wkr-1 without recorded intent"), "{said}");

    let simulation = ready();
    let (pool, file) = {
        let state = simulation.world.state();
        let (uuid, pool) = state.hosts["h1"].pools.iter().next().unwrap();
        (*uuid, pool.volumes.keys().find(|file| file.contains("wkr-1-root")).unwrap().clone())
    };
    let world = simulation.world.clone();
    let said = judged(&simulation, async {
        world.delete_volume(&target, pool, &file).await.unwrap();
    });
    assert!(said.contains("is deleted without recorded intent"), "{said}");
    assert!(said.contains("is deleted while demo-wkr-1 has it"), "{said}");
    assert!(said.contains("runs without its file"), "{said}");
}

#[test]
fn making_a_file_that_is_not_recorded() {
    let simulation = ready();
    let (target, world) = (target(&simulation), simulation.world.clone());
    let pool = *world.state().hosts["h1"].pools.keys().next().unwrap();
    let volume = VolumeCreate {
        pool,
        file_name: "stray.raw".to_owned(),
        format: VolumeFormat::Raw,
        capacity_bytes: 1,
        preallocate: false,
        backing_path: None,
    };
    let said = judged(&simulation, async { world.create_volume(&target, &volume).await.unwrap() });
    assert!(said.contains("identity: file stray.raw is made and no Volume is recorded"), "{said}");
}

#[test]
fn a_disk_an_address_and_a_machine_used_twice() {
    let simulation = ready();
    let said = judged_after(&simulation, |state| {
        let host = state.hosts.get_mut("h1").unwrap();
        let mut copy = host.domains.values().find(|domain| domain.name == "demo-wkr-1").unwrap().clone();
        copy.name = "copy".to_owned();
        host.domains.insert(Uuid::from_u128(99), copy);
    });
    assert!(said.contains("disks: /var/lib/libvirt/images/ashlar-demo-wkr-1-root"), "{said}");
    assert!(said.contains("disks: one machine runs twice"), "{said}");
    assert!(said.contains("uniqueness: MAC"), "{said}");
    assert!(said.contains("uniqueness: address"), "{said}");
}

#[test]
fn more_than_a_host_has() {
    let simulation = ready();
    let said = judged_after(&simulation, |state| {
        for domain in state.hosts.get_mut("h1").unwrap().domains.values_mut() {
            domain.spec.as_mut().unwrap().memory_mib = 400 << 10;
            domain.spec.as_mut().unwrap().vcpus = 200;
        }
    });
    assert!(said.contains("MiB are more than"), "{said}");
    assert!(said.contains("vCPUs are more than"), "{said}");
}

#[test]
fn touching_what_is_not_ours() {
    let simulation = ready();
    let foreign = Uuid::from_u128(77);
    simulation.world.state().add_foreign_domain(
        "h1",
        foreign,
        SimDomain::foreign("theirs", "/srv/theirs.img"),
    );
    let (target, world) = (target(&simulation), simulation.world.clone());
    let said = judged(&simulation, async { world.destroy_domain(&target, foreign).await.unwrap() });
    assert!(said.contains("identity: destroy_domain of the foreign domain theirs"), "{said}");
    assert!(said.contains("the foreign domain theirs on h1 was touched"), "{said}");
}

#[test]
fn taking_the_majority_away() {
    let simulation = Simulation::with_pool(1, 3).unwrap();
    simulation.apply(&fixtures::cluster("demo", 3, 1)).unwrap();
    must_run(&simulation, Goal::ClusterReady(demo()));
    // One of three is down already; recorded intent for another one does not make it right.
    let second = {
        let mut state = simulation.world.state();
        let domains = state.hosts.values_mut().flat_map(|host| &mut host.domains);
        let mut planes = domains.filter(|(_, domain)| domain.name.contains("-ctrl-"));
        let (_, first) = planes.next().unwrap();
        first.state = DomainState::ShutOff;
        let (uuid, second) = planes.next().unwrap();
        (*uuid, second.name.clone())
    };
    let host = {
        let state = simulation.world.state();
        state.hosts.iter().find(|(_, host)| host.domains.contains_key(&second.0)).unwrap().0.clone()
    };
    let target = HostTarget { name: host.clone(), ..target(&simulation) };
    let key = simulation.world.state().hosts[&host].ssh_host_key.clone();
    let lease = simulation.world.state().hosts[&host].lease.unwrap();
    let host_uuid = Some(simulation.world.state().hosts[&host].host_uuid);
    let target = HostTarget { ssh_host_key: key, lease_token: Some(lease.1), host_uuid, ..target };
    let world = simulation.world.clone();
    let said = judged(&simulation, async { world.destroy_domain(&target, second.0).await.unwrap() });
    assert!(said.contains("quorum: destroy_domain of"), "{said}");
}

#[test]
fn a_planted_leak_is_found_and_nothing_else() {
    let simulation = ready();
    assert!(simulation.search_store_for_secrets() >= 7, "CAs, service accounts, host keys, a join token");
    assert_eq!(simulation.world.state().violations().len(), 0);
    let secret = {
        let stored = simulation.stored().unwrap();
        let sealed = stored.iter().find(|(key, _)| key == "Secret/default/demo-pki").unwrap().1.clone();
        let secret = serde_json::from_value(sealed).unwrap();
        simulation.vault().open_secret(&secret).unwrap()["ca.key"].clone()
    };
    let pem = String::from_utf8(secret.to_vec()).unwrap();
    let object = ObjectRef::new(Kind::Cluster, "default", "demo");
    let note =
        Note { object, kind: NoteKind::Notice, reason: "Leak".to_owned(), message: format!("key: {pem}") };
    simulation.sink().event(&EngineEvent::Notice(note));
    let mut state = simulation.world.state();
    state.search_for_secrets();
    assert_eq!(state.violations(), ["secrets: a private key stands in an event"]);
}

#[test]
fn what_belongs_to_nothing() {
    let simulation = ready();
    let orphans = |simulation: &Simulation| {
        let orphans = simulation.world.state().orphans();
        orphans.into_iter().map(|(cluster, what)| format!("{cluster}: {what}")).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(orphans(&simulation), "");
    simulation.lose_objects(Kind::Machine, Some(&NamespacedName::new("default", "demo-wkr-1"))).unwrap();
    assert_eq!(orphans(&simulation), "demo: domain demo-wkr-1 on h1");
    let root = ObjectRef::new(Kind::Volume, "default", "demo-wkr-1-root");
    simulation.edit(&root, "/metadata/deletionTimestamp", "\"2026-01-01T00:00:00Z\"").unwrap();
    let found = orphans(&simulation);
    assert!(found.contains("demo: file ashlar-demo-wkr-1-root-"), "{found}");
}

#[test]
fn a_seed_that_was_not_wiped() {
    let simulation = Simulation::with_pool(1, 1).unwrap();
    simulation.apply(&fixtures::cluster("demo", 1, 1)).unwrap();
    simulation.world.state().hanging_boots.insert("demo-ctrl-1".to_owned());
    simulation.run(
        &ashlar_engine::Scope::All,
        &Goal::ClusterReady(demo()),
        std::time::Duration::from_secs(60),
    );
    let (pool, file) = {
        let state = simulation.world.state();
        let (uuid, pool) = state.hosts["h1"].pools.iter().next().unwrap();
        (*uuid, pool.volumes.keys().find(|file| file.contains("ctrl-1-seed")).unwrap().clone())
    };
    assert!(!simulation.world.state().leftover_secrets(&demo()).is_empty());
    let (target, world) = (target(&simulation), simulation.world.clone());
    let said = judged(&simulation, async { world.delete_volume(&target, pool, &file).await.unwrap() });
    assert!(said.contains("secrets: the seed") && said.contains("was not wiped"), "{said}");
}

/// How a caller that knows no rules reaches a member of the cluster's etcd.
fn member(simulation: &Simulation, node: &str) -> (EtcdTarget, u64) {
    let via = vec![target(simulation)];
    let state = simulation.world.state();
    let (id, member) =
        state.clusters[&demo()].etcd.members.iter().find(|(_, member)| member.name == node).unwrap();
    let certificate = state.clusters[&demo()].certificates_pem().pop().unwrap();
    let target = EtcdTarget {
        cluster: demo(),
        node: node.to_owned(),
        dial: DialTarget {
            via,
            network: "lab".to_owned(),
            namespace: None,
            address: member.address,
            others: Vec::new(),
            port: 2379,
        },
        server_name: member.address.to_string(),
        ca_pem: certificate,
        client_certificate_pem: String::new(),
        client_key_pem: Zeroizing::new(String::new()),
    };
    (target, *id)
}

#[test]
fn a_member_that_nobody_wants_gone_does_not_go_and_the_majority_stays() {
    let simulation = Simulation::with_pool(1, 1).unwrap();
    simulation.apply(&fixtures::cluster("demo", 3, 1)).unwrap();
    must_run(&simulation, Goal::ClusterReady(demo()));
    let (target, _) = member(&simulation, "demo-ctrl-1");
    let (_, second) = member(&simulation, "demo-ctrl-2");
    // One of the others is dead already: without the next one a majority of the two that are left is lost.
    let dead = domain(&simulation, "demo-ctrl-3");
    let said = judged_after(&simulation, |state| {
        state.hosts.get_mut("h1").unwrap().domains.get_mut(&dead).unwrap().state = DomainState::ShutOff;
    });
    assert_eq!(said, "");
    let world = simulation.world.clone();
    let said = judged(&simulation, async {
        world.remove_member(&target, second).await.unwrap();
    });
    assert!(said.contains("intent: etcd member demo-ctrl-2"), "{said}");
    assert!(said.contains("quorum: the removal of demo-ctrl-2 leaves 1 living of 2 voters"), "{said}");
}

/// A machine whose move ended unheard, and that went on where it was until its host lost its power for a moment: the half of it on h2
/// is old.
fn half_moved() -> (Simulation, HostTarget, Uuid) {
    let simulation = Simulation::with_pool(1, 2).unwrap();
    simulation.apply(&fixtures::cluster("demo", 1, 0)).unwrap();
    must_run(&simulation, Goal::ClusterReady(demo()));
    let uuid = domain(&simulation, "demo-ctrl-1");
    block_on(declare::drain_host(simulation.store(), "h1", DrainBy::Migration)).unwrap();
    let minute = std::time::Duration::from_secs(60);
    simulation.world.state().silencing_moves = Some((1, 10 * minute));
    simulation.run(&ashlar_engine::Scope::All, &Goal::Settled, 2 * minute);
    {
        let mut state = simulation.world.state();
        assert_eq!(state.violations(), &[] as &[String]);
        assert_eq!(state.hosts["h1"].domains[&uuid].state, DomainState::Running);
        assert_eq!(state.hosts["h2"].domains[&uuid].state, DomainState::Paused);
        for on in [false, true] {
            state.power("h1", on).unwrap();
        }
        state.hosts.get_mut("h2").unwrap().reachable = true;
    }
    let other = {
        let state = simulation.world.state();
        let host = &state.hosts["h2"];
        let (installation, token, _) = host.lease.unwrap();
        HostTarget {
            name: "h2".to_owned(),
            uri: String::new(),
            ssh_host_key: host.ssh_host_key.clone(),
            ssh_key_path: None,
            installation,
            lease_token: Some(token),
            host_uuid: Some(host.host_uuid),
        }
    };
    (simulation, other, uuid)
}

#[test]
fn going_on_with_what_is_older_than_what_ran_elsewhere() {
    let (simulation, other, uuid) = half_moved();
    let world = simulation.world.clone();
    let said = judged(&simulation, async { world.resume_domain(&other, uuid).await.unwrap() });
    assert!(said.contains("goes on at h2") && said.contains("was newer elsewhere"), "{said}");

    // With both off, and started.
    let (simulation, other, uuid) = half_moved();
    {
        let mut state = simulation.world.state();
        for on in [false, true] {
            state.power("h2", on).unwrap();
        }
    }
    let world = simulation.world.clone();
    let said = judged(&simulation, async { world.start_domain(&other, uuid).await.unwrap() });
    assert!(said.contains("goes on at h2") && said.contains("was newer elsewhere"), "{said}");

    // Where it was newest it may be started, and then goes on as such.
    let (simulation, _, uuid) = half_moved();
    let (here, world) = (target(&simulation), simulation.world.clone());
    let said = judged(&simulation, async { world.start_domain(&here, uuid).await.unwrap() });
    assert!(!said.contains("newer elsewhere"), "{said}");
}

#[test]
fn taking_the_newest_disk_of_a_machine_away() {
    let (simulation, other, _) = half_moved();
    let file = |host: &str| {
        let state = simulation.world.state();
        let (pool, found) = state.hosts[host].pools.iter().next().unwrap();
        let names = found.volumes.keys();
        (*pool, names.into_iter().find(|file| file.contains("ctrl-1-root")).unwrap().clone())
    };
    let ((old_pool, old), (pool, newest)) = (file("h2"), file("h1"));
    let (here, world) = (target(&simulation), simulation.world.clone());
    let said = judged(&simulation, async { world.delete_volume(&other, old_pool, &old).await.unwrap() });
    assert!(!said.contains("is the newest"), "{said}");
    let said = judged(&simulation, async { world.delete_volume(&here, pool, &newest).await.unwrap() });
    assert!(said.contains(&format!("{newest} is taken away, and is the newest that there is")), "{said}");
}

/// Somebody who knows no rules records that a machine is given up for its health; what the judges say.
fn given_up(simulation: &Simulation, machine: &str, kind: &str) -> String {
    let mut stored = simulation.read(&ObjectRef::new(Kind::Machine, "default", machine)).unwrap().unwrap();
    stored["metadata"]["deletionTimestamp"] = "2026-01-01T01:00:00Z".into();
    stored["record"]["remediation"] = serde_json::json!({"kind": kind, "message": "a test"});
    let store = CrashingStore::new(simulation.world.clone(), Arc::new(simulation.store().clone()));
    let key = Key::new(Kind::Machine.name(), "default", machine);
    let transaction = Transaction::new().put(key, stored, Precondition::Any);
    judged(simulation, async { _ = store.commit(transaction).await.unwrap() })
}

/// A cluster with three workers, of which the first falls ill so many seconds before it is given up.
fn ill_for(seconds: i64) -> Simulation {
    let simulation = Simulation::with_pool(1, 1).unwrap();
    simulation.apply(&fixtures::cluster("demo", 1, 3)).unwrap();
    must_run(&simulation, Goal::ClusterReady(demo()));
    let mut state = simulation.world.state();
    state.advance(SignedDuration::from_mins(20));
    state.dead_kubelets.insert("demo-wkr-1".to_owned());
    state.touched();
    state.advance(SignedDuration::from_secs(seconds));
    drop(state);
    simulation
}

#[test]
fn a_machine_that_was_not_ill_for_long_is_given_up() {
    // A quarter of its patience is 75 s.
    assert_eq!(given_up(&ill_for(80), "demo-wkr-1", "NodeNotReady"), "");
    let said = given_up(&ill_for(40), "demo-wkr-1", "NodeNotReady");
    assert!(said.contains("remediation: demo-wkr-1 is given up") && said.contains("worked 4"), "{said}");
    // What it had before it was well again is no part of it.
    let well_between = ill_for(200);
    {
        let mut state = well_between.world.state();
        state.dead_kubelets.clear();
        state.touched();
        state.advance(SignedDuration::from_hours(2));
        state.dead_kubelets.insert("demo-wkr-1".to_owned());
        state.touched();
        state.advance(SignedDuration::from_secs(3));
    }
    let said = given_up(&well_between, "demo-wkr-1", "KubeletSilent");
    assert!(said.contains("its node worked"), "{said}");
    let said = given_up(&ill_for(80), "demo-wkr-2", "NodeNotReady");
    assert!(said.contains("its node works for"), "{said}");
}

#[test]
fn a_machine_is_given_up_right_after_it_was_started() {
    let started = || {
        let simulation = ill_for(1000);
        let worker = domain(&simulation, "demo-wkr-1");
        let mut state = simulation.world.state();
        state.hosts.get_mut("h1").unwrap().domains.get_mut(&worker).unwrap().power_off();
        state.touched();
        drop(state);
        let deadline = std::time::Duration::from_secs(30);
        simulation.run(&ashlar_engine::Scope::All, &Goal::Settled, deadline);
        simulation
    };
    let said = given_up(&started(), "demo-wkr-1", "GuestNotUp");
    assert!(said.contains("(GuestNotUp), and its VM was started"), "{said}");
    let simulation = started();
    simulation.world.state().advance(SignedDuration::from_secs(160));
    assert_eq!(given_up(&simulation, "demo-wkr-1", "GuestNotUp"), "");
    // One that panics again and again is always just started.
    let simulation = started();
    let panics = ("kernel".to_owned(), "panics".to_owned());
    simulation.world.state().failing_boots.insert("demo-wkr-1".to_owned(), panics);
    assert_eq!(given_up(&simulation, "demo-wkr-1", "GuestNotUp"), "");
}

#[test]
fn a_machine_is_given_up_although_its_cluster_rests() {
    let simulation = ill_for(400);
    simulation.set_paused(&demo(), true).unwrap();
    let said = given_up(&simulation, "demo-wkr-1", "NodeNotReady");
    assert!(said.contains("its cluster wants that of nobody"), "{said}");
    let simulation = ill_for(400);
    simulation.edit(&common::cluster_ref(), "/spec/health", r#"{"remediate":false}"#).unwrap();
    let said = given_up(&simulation, "demo-wkr-1", "NodeNotReady");
    assert!(said.contains("its cluster wants that of nobody"), "{said}");
}
