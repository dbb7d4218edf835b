//! R7's judges notice: whatever can be done about a lost host without proof is done on purpose, and found.
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use ashlar_api::{HostFencing, Kind, Machine, ObjectRef};
use ashlar_engine::Goal;
use ashlar_engine::effects::{
    DialTarget, EtcdApi as _, EtcdTarget, FenceTarget, Fencer as _, HostTarget, KubeApi as _, KubeTarget,
    NodePatch,
};
use ashlar_sim::{CrashingStore, Simulation, executor, fixtures};
use ashlar_store::{Key, Precondition, Store as _, Transaction};
use common::{demo, must_run};
use jiff::SignedDuration;
use serde_json::{Value, json};
use zeroize::Zeroizing;

/// Three hosts with a control plane and a worker each, which have run for a while.
fn ready() -> Simulation {
    let simulation = Simulation::with_pool(1, 3).unwrap();
    simulation.apply(&fixtures::cluster("demo", 3, 3)).unwrap();
    must_run(&simulation, Goal::ClusterReady(demo()));
    simulation.world.state().advance(SignedDuration::from_mins(2));
    simulation
}

/// What the judges say after somebody did something.
fn judged(simulation: &Simulation, done: impl Future<Output = ()>) -> String {
    executor::run(&simulation.world, done);
    simulation.world.state().violations().join("\n")
}

fn machine(name: &str) -> ObjectRef {
    ObjectRef::new(Kind::Machine, "default", name)
}

fn key(name: &ObjectRef) -> Key {
    Key::new(name.kind.name(), &name.namespace, &name.name)
}

fn stored(simulation: &Simulation, name: &ObjectRef) -> Value {
    simulation.read(name).unwrap().unwrap()
}

/// The host of a machine, as it is recorded.
fn host_of(simulation: &Simulation, name: &str) -> String {
    stored(simulation, &machine(name)).pointer("/spec/host").unwrap().as_str().unwrap().to_owned()
}

/// What they say after an Ashlar that knows no rules committed it.
fn committed(simulation: &Simulation, transaction: Transaction) -> String {
    let store = CrashingStore::new(simulation.world.clone(), Arc::new(simulation.store().clone()));
    judged(simulation, async move {
        store.commit(transaction).await.unwrap();
    })
}

/// A machine as it is once it was given up.
fn given_up(simulation: &Simulation, name: &str, kind: &str) -> Value {
    let mut value = stored(simulation, &machine(name));
    let now = simulation.world.state().now;
    value["metadata"]["deletionTimestamp"] = json!(now);
    value["record"]["remediation"] = json!({"kind": kind, "message": "somebody says so"});
    value
}

fn put(name: &ObjectRef, value: Value) -> Transaction {
    Transaction::new().put(key(name), value, Precondition::Any)
}

fn record(simulation: &Simulation, name: &str, value: Value) {
    let store = simulation.store().clone();
    executor::run(&simulation.world, async {
        store.commit(put(&machine(name), value)).await.unwrap();
    });
}

/// It stands still, and nobody hears of it for longer than anybody looks.
fn freeze(simulation: &Simulation, host: &str) {
    let mut state = simulation.world.state();
    state.hosts.get_mut(host).unwrap().frozen = true;
    state.touched();
    state.advance(SignedDuration::from_mins(2));
}

#[test]
fn a_host_is_called_off_that_runs() {
    let simulation = ready();
    let host = ObjectRef::new(Kind::Host, "", "h2");
    let mut value = stored(&simulation, &host);
    value["record"]["fence"] = json!({"at": "2026-01-01T00:00:00Z", "confirmedBy": "nobody"});
    let said = committed(&simulation, put(&host, value.clone()));
    assert_eq!(said, "fencing: host h2 is called off, and runs");

    let simulation = ready();
    simulation.lose_host("h2").unwrap();
    simulation.edit(&host, "/record/fence", "null").unwrap();
    assert_eq!(committed(&simulation, put(&host, value)), "", "it is off");
    let losses = simulation.world.state().host_losses();
    assert_eq!((losses.proofs, losses.confirmed), (1, 1));
}

fn turned_off(silent: &[&str], host: &str) -> String {
    let simulation = ready();
    silent.iter().for_each(|host| freeze(&simulation, host));
    let fencing = HostFencing { ipmi: None, command: Vec::new(), after_s: None };
    let target = FenceTarget { host: host.to_owned(), uri: String::new(), fencing };
    let world = simulation.world.clone();
    judged(&simulation, async { world.power_off(&target).await.unwrap() })
}

#[test]
fn a_host_is_turned_off_that_answers_or_while_many_are_silent() {
    assert_eq!(turned_off(&[], "h1"), "fencing: host h1 is turned off, and answers");
    assert_eq!(
        turned_off(&["h1", "h2"], "h1"),
        "fencing: host h1 is turned off while 2 of 3 hosts are silent"
    );
    assert_eq!(turned_off(&["h1"], "h1"), "");
}

#[test]
fn a_machine_is_given_up_for_its_host() {
    let give_up = |simulation: &Simulation| {
        let value = given_up(simulation, "demo-wkr-1", "HostOff");
        committed(simulation, put(&machine("demo-wkr-1"), value))
    };
    // Nobody said so, it runs, and its host answers.
    let simulation = ready();
    let host = host_of(&simulation, "demo-wkr-1");
    let said = give_up(&simulation);
    assert!(said.contains("of which nobody said that it is off"), "{said}");
    assert!(said.contains(&format!("is given up for its host, and runs on {host}")), "{said}");
    assert!(said.contains(&format!("is given up for its host {host}, which answers")), "{said}");

    // Somebody said so, and was wrong: what is recorded is no proof.
    let simulation = ready();
    freeze(&simulation, &host);
    let fence = r#"{"at": "2026-01-01T00:00:00Z", "confirmedBy": "nobody"}"#;
    simulation.edit(&ObjectRef::new(Kind::Host, "", &host), "/record/fence", fence).unwrap();
    let said = give_up(&simulation);
    assert_eq!(said, format!("fencing: demo-wkr-1 is given up for its host, and runs on {host}"));

    let simulation = ready();
    simulation.lose_host(&host).unwrap();
    assert_eq!(give_up(&simulation), "");
    assert_eq!(simulation.world.state().host_losses().given_up, 1);
}

#[test]
fn a_machine_is_given_up_for_its_health_while_nobody_hears_of_its_host() {
    for kind in ["NodeNotReady", "NodeMissing", "KubeletSilent", "GuestNotUp", "DiskLost"] {
        let give_up = |simulation: &Simulation| {
            let value = given_up(simulation, "demo-wkr-1", kind);
            committed(simulation, put(&machine("demo-wkr-1"), value))
        };
        let simulation = ready();
        assert_eq!(give_up(&simulation), "", "its host answers");
        let simulation = ready();
        let host = host_of(&simulation, "demo-wkr-1");
        freeze(&simulation, &host);
        let said = give_up(&simulation);
        let what = format!("demo-wkr-1 is given up ({kind}), and of its host {host} nobody has heard");
        assert!(said.contains(&what), "{said}");
    }
}

#[test]
fn a_machine_is_forgotten_that_runs_or_lies_where_nobody_looked() {
    let forget = |simulation: &Simulation| {
        let transaction = Transaction::new().delete(key(&machine("demo-wkr-1")), Precondition::Any);
        committed(simulation, transaction)
    };
    let power_off = |simulation: &Simulation, host: &str| {
        let mut state = simulation.world.state();
        let mut domains = state.hosts.get_mut(host).unwrap().domains.values_mut();
        domains.find(|domain| domain.name == "demo-wkr-1").unwrap().power_off();
    };
    let simulation = ready();
    let host = host_of(&simulation, "demo-wkr-1");
    let what = format!("fencing: machine demo-wkr-1 is forgotten, and its domain is on {host}");
    assert_eq!(forget(&simulation), what);

    let simulation = ready();
    power_off(&simulation, &host);
    freeze(&simulation, &host);
    assert_eq!(forget(&simulation), what);
}

/// How a caller that knows no rules dials a control plane.
fn dial(simulation: &Simulation, node: &str) -> DialTarget {
    let state = simulation.world.state();
    let via = state.hosts.iter().map(|(name, host)| {
        let (installation, lease_token, _) = host.lease.unwrap();
        HostTarget {
            name: name.clone(),
            uri: String::new(),
            ssh_host_key: host.ssh_host_key.clone(),
            ssh_key_path: None,
            installation,
            lease_token: Some(lease_token),
            host_uuid: Some(host.host_uuid),
        }
    });
    let members = &state.clusters[&demo()].etcd.members;
    let address = members.values().find(|member| member.name == node).unwrap().address;
    let (network, namespace) = ("lab".to_owned(), None);
    DialTarget { via: via.collect(), network, namespace, address, others: Vec::new(), port: 6443 }
}

fn ca(simulation: &Simulation) -> String {
    simulation.world.state().clusters[&demo()].certificates_pem().join("")
}

fn api(simulation: &Simulation, node: &str) -> KubeTarget {
    KubeTarget {
        cluster: demo(),
        dial: dial(simulation, node),
        server_name: String::new(),
        ca_pem: ca(simulation),
        client_certificate_pem: String::new(),
        client_key_pem: Zeroizing::new(String::new()),
    }
}

#[test]
fn a_member_is_taken_out_for_its_host_and_votes() {
    let remove = |simulation: &Simulation| {
        let id = {
            let state = simulation.world.state();
            let members = &state.clusters[&demo()].etcd.members;
            *members.iter().find(|(_, member)| member.name == "demo-ctrl-2").unwrap().0
        };
        let target = EtcdTarget {
            cluster: demo(),
            node: "demo-ctrl-1".to_owned(),
            dial: dial(simulation, "demo-ctrl-1"),
            server_name: String::new(),
            ca_pem: ca(simulation),
            client_certificate_pem: String::new(),
            client_key_pem: Zeroizing::new(String::new()),
        };
        let world = simulation.world.clone();
        judged(simulation, async { world.remove_member(&target, id).await.unwrap() })
    };
    let simulation = ready();
    let host = host_of(&simulation, "demo-ctrl-2");
    freeze(&simulation, &host);
    record(&simulation, "demo-ctrl-2", given_up(&simulation, "demo-ctrl-2", "HostOff"));
    let what = format!("fencing: etcd member demo-ctrl-2 is removed for its host, and runs on {host}");
    assert_eq!(remove(&simulation), what);

    let simulation = ready();
    simulation.lose_host(&host).unwrap();
    simulation.world.state().advance(SignedDuration::from_secs(5));
    record(&simulation, "demo-ctrl-2", given_up(&simulation, "demo-ctrl-2", "HostOff"));
    assert_eq!(remove(&simulation), "");
}

#[test]
fn a_node_is_deleted_or_out_of_service_and_runs() {
    let simulation = ready();
    let host = host_of(&simulation, "demo-wkr-1");
    freeze(&simulation, &host);
    record(&simulation, "demo-wkr-1", given_up(&simulation, "demo-wkr-1", "HostOff"));
    // Through an API server that goes on.
    let others = ["demo-ctrl-1", "demo-ctrl-2", "demo-ctrl-3"];
    let node = others.into_iter().find(|name| host_of(&simulation, name) != host).unwrap();
    let (target, world) = (api(&simulation, node), simulation.world.clone());
    let taints = Some(vec![json!(ashlar_plan::out_of_service())]);
    let patch = NodePatch { resource_version: String::new(), labels: BTreeMap::new(), taints };
    let said = judged(&simulation, async { world.patch_node(&target, "demo-wkr-1", &patch).await.unwrap() });
    assert_eq!(said, "fencing: node demo-wkr-1 of demo is said to be out of service, and runs");
    let said = judged(&simulation, async { world.delete_node(&target, "demo-wkr-1").await.unwrap() });
    let what = format!("fencing: node demo-wkr-1 of demo is deleted, and runs on {host}");
    assert!(said.contains(&what), "{said}");
}

#[test]
fn a_name_is_used_a_second_time() {
    let simulation = ready();
    let mut state = simulation.world.state();
    let host = state.hosts.get_mut("h1").unwrap();
    let one = host.domains.values().find(|domain| domain.name.contains("-wkr-")).unwrap();
    // A new machine: nothing but its name is that of the other.
    let (mut other, mut mark) = (one.clone(), one.mark.clone().unwrap());
    let mut machine = Machine::clone(mark.machine.as_deref().unwrap());
    let name = machine.metadata.name.clone();
    let uid = uuid::Uuid::from_u128(98);
    (machine.metadata.uid, mark.machine_uid) = (Some(uid), uid);
    machine.spec.nics.clear();
    mark.machine = Some(Arc::new(machine));
    (other.mark, other.spec, other.medium_path) = (Some(mark), None, None);
    other.disk_paths.clear();
    host.domains.insert(uid, other);
    state.touched();
    state.advance(SignedDuration::from_secs(1));
    let said = state.violations().join("\n");
    assert_eq!(said, format!("uniqueness: name {name} is held by {name} on h1 and {name} on h1"));
}
