#![expect(clippy::unwrap_used, reason = "tests")]

use ashlar_api::{Kind, manifest};
use ashlar_store::{MemoryStore, Revision};
use futures::executor::block_on;

use super::*;
use crate::testing::Fake;

const FILE: &str = "
apiVersion: ashlar.dev/v1alpha1
kind: Network
metadata: {name: lab}
spec:
  attachment: {bridge: br0}
  cidrs: [10.0.0.0/24]
  gateway: 10.0.0.1
  ranges: [{first: 10.0.0.10, last: 10.0.0.99}]
---
apiVersion: ashlar.dev/v1alpha1
kind: MachineClass
metadata: {name: small}
spec: {vcpus: 2, memory: 2Gi, rootDisk: 10Gi}
";

fn apply_text(store: &MemoryStore, text: &str, dry_run: bool) -> Result<Declared, DeclareError> {
    let fake = Fake::default();
    block_on(apply(store, &fake, &fake, manifest::read(text, "test.yaml").unwrap(), dry_run))
}

fn revision(store: &MemoryStore) -> Revision {
    block_on(store.list_raw(None, None)).unwrap().revision
}

fn outcomes(declared: &Declared) -> Vec<Outcome> {
    declared.applied.iter().map(|applied| applied.outcome).collect()
}

#[test]
fn only_what_changed_is_written_and_only_a_changed_spec_counts() {
    let store = MemoryStore::new();
    assert_eq!(outcomes(&apply_text(&store, FILE, true).unwrap()), [Outcome::Created; 2]);
    assert_eq!(revision(&store), Revision(0), "a dry run writes nothing");
    apply_text(&store, FILE, false).unwrap();
    let written = revision(&store);
    assert_eq!(written, Revision(1), "one transaction");

    assert_eq!(outcomes(&apply_text(&store, FILE, false).unwrap()), [Outcome::Unchanged; 2]);
    assert_eq!(revision(&store), written);

    let labelled = FILE.replace("{name: small}", "{name: small, labels: {tier: a}}");
    let declared = apply_text(&store, &labelled, false).unwrap();
    assert_eq!(outcomes(&declared), [Outcome::Unchanged, Outcome::Configured]);
    assert_eq!(declared.applied[1].object.metadata().generation, 1);

    let bigger = labelled.replace("vcpus: 2", "vcpus: 4");
    let declared = apply_text(&store, &bigger, false).unwrap();
    let class = declared.applied[1].object.metadata();
    assert_eq!((class.generation, class.labels.len()), (2, 1));
    assert_eq!(declared.applied[1].changes.len(), 1);
}

#[test]
fn bad_objects_are_refused_as_a_whole() {
    let store = MemoryStore::new();
    let bad = FILE.replace("vcpus: 2", "vcpus: 0");
    assert!(matches!(apply_text(&store, &bad, false), Err(DeclareError::Invalid { .. })));
    assert_eq!(revision(&store), Revision(0));
}

#[test]
fn what_stands_for_nothing_goes_at_once_and_a_cluster_waits_for_its_end() {
    let store = MemoryStore::new();
    let fake = Fake::default();
    apply_text(&store, FILE, false).unwrap();
    let class = ObjectRef::new(Kind::MachineClass, "", "small");
    let deleted = block_on(delete(&store, &fake, std::slice::from_ref(&class))).unwrap();
    assert!(deleted[0].at_once);
    let again = block_on(delete(&store, &fake, &[class]));
    assert!(matches!(again, Err(DeclareError::NoSuchObject(_))));

    let (shared, engine) = fake.engine();
    crate::testing::put(&engine, vec![crate::testing::cluster()]);
    let demo = ObjectRef::new(Kind::Cluster, "default", "demo");
    for _ in 0..2 {
        let deleted = block_on(delete(&*shared, &fake, std::slice::from_ref(&demo))).unwrap();
        assert!(!deleted[0].at_once);
        let stored = block_on(shared.get(&objects::key_of(&demo))).unwrap().unwrap();
        assert!(stored.value["metadata"]["deletionTimestamp"].is_string());
        assert_eq!(stored.revision, Revision(2), "the intent is recorded once");
    }
}

/// That somebody has looked at it counts once it answers: before, the next proof would be of whatever power is off.
#[test]
fn uncordoning_a_host_that_answers_ends_the_doubt_in_its_fencing() {
    use ashlar_api::{HostSilence, HostSpec, Object, PowerCut};
    use jiff::Timestamp;
    let (store, engine) = Fake::default().engine();
    let Object::Host(mut host) = crate::testing::host("h1") else { unreachable!("a host") };
    host.spec.cordoned = true;
    host.record.power_cut = Some(PowerCut {
        at: Timestamp::UNIX_EPOCH,
        by: serde_json::from_value(serde_json::json!({"command": ["/bin/fence"]})).unwrap(),
        silent: Vec::new(),
        fell_silent: vec!["h2".to_owned()],
    });
    let name = host.object_ref();
    let doubted = || {
        block_on(uncordon_host(store.as_ref(), "h1")).unwrap();
        let stored = block_on(crate::objects::read::<HostSpec>(store.as_ref(), &name)).unwrap().unwrap();
        assert!(!stored.spec.cordoned);
        stored.record.power_cut.is_some()
    };
    let since = Timestamp::UNIX_EPOCH;
    host.record.silence = Some(HostSilence { since, seen_at: since, sightings: 4 });
    crate::testing::put(&engine, vec![Object::Host(host.clone())]);
    assert!(doubted());
    host.record.silence = None;
    crate::testing::put(&engine, vec![Object::Host(host)]);
    assert!(!doubted());
}
