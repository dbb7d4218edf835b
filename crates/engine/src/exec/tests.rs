#![expect(clippy::unwrap_used, reason = "tests")]

use ashlar_api::{Kind, ObjectRef, SYSTEM_NAMESPACE};
use ashlar_plan::{DomainMark, DomainSeen, DomainState, StepState};
use ashlar_store::{MemoryStore, Store};
use futures::executor::block_on;

use super::*;
use crate::{Scope, testing::*};

fn take(engine: &Engine, action: Action) -> Outcome {
    take_beside(engine, action, &[])
}

/// While hosts were seen, and what is asked of them now is another matter.
fn take_beside(engine: &Engine, action: Action, seen: &[&str]) -> Outcome {
    block_on(async {
        let mut snapshot = engine.snapshot(&Scope::StoreOnly).await.unwrap();
        let empty = || ashlar_plan::HostSeen::Seen(Default::default());
        snapshot.observed.hosts = seen.iter().map(|host| ((*host).to_owned(), empty())).collect();
        let step = Step {
            object: ObjectRef::new(Kind::Host, "", "h1"),
            host: "h1".to_owned(),
            action: Some(action),
            state: StepState::Ready,
            why: String::new(),
        };
        let changed = step.action.iter().any(Action::changes_host);
        let hosts: Vec<_> = snapshot.hosts.values().filter(|_| changed).collect();
        engine.take_leases(&hosts).await.unwrap();
        Job::alone(engine, &snapshot, &step).run().await
    })
}

fn everything(directory: &str, image_content: &[u8]) -> Vec<Object> {
    vec![
        host("h1"),
        cluster(),
        machine(),
        etcd_volume(),
        seed_volume(),
        image_volume(image_content),
        image(directory),
    ]
}

fn stored(store: &MemoryStore, kind: Kind, namespace: &str, name: &str) -> serde_json::Value {
    block_on(store.get(&crate::objects::key_of(&ObjectRef::new(kind, namespace, name))))
        .unwrap()
        .unwrap()
        .value
}

fn image_name() -> NamespacedName {
    NamespacedName::new(SYSTEM_NAMESPACE, "image-kernel")
}

fn reason(outcome: Outcome) -> String {
    match outcome.unwrap_err() {
        Failure::Blocked { reason, message } => format!("{reason}: {message}"),
        Failure::NotNow(message) => format!("NotNow: {message}"),
        Failure::Effect(error) => format!("{:?}: {}", error.kind, error.message),
        Failure::Engine(error) => format!("Engine: {error}"),
    }
}

#[test]
fn an_image_file_is_filled_once_its_digest_is_right() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("vmlinuz"), b"kernel").unwrap();
    let fake = Fake::default();
    let (store, engine) = fake.engine();
    put(&engine, everything(directory.path().to_str().unwrap(), b"kernel"));
    let volume = image_name;
    let filled =
        || stored(&store, Kind::Volume, SYSTEM_NAMESPACE, "image-kernel")["record"]["filled"].clone();

    take(&engine, Action::CreateVolume { volume: volume() }).unwrap();
    fake.state().uploaded_digest = "damaged".to_owned();
    take(&engine, Action::FillVolume { volume: volume() }).unwrap();
    let told = reason(take(&engine, Action::VerifyVolume { volume: volume() }));
    assert!(told.starts_with("NotNow") && told.contains("arrived damaged"), "{told}");
    assert!(filled().is_null());

    let uploads = || fake.state().calls.iter().filter(|call| call.starts_with("upload ")).count();
    fake.state().uploaded_digest = crate::hex::encode(&<sha2::Sha256 as sha2::Digest>::digest(b"kernel"));
    take(&engine, Action::FillVolume { volume: volume() }).unwrap();
    assert_eq!(uploads(), 2, "what is damaged is sent again");
    take(&engine, Action::FillVolume { volume: volume() }).unwrap();
    assert_eq!(uploads(), 2, "what is there is not");
    assert!(filled().is_null(), "not before it was verified");
    take(&engine, Action::VerifyVolume { volume: volume() }).unwrap();
    assert_eq!(filled(), true);
}

#[test]
fn of_a_new_file_only_what_is_not_empty_is_sent_and_told_with_the_whole() {
    let directory = tempfile::tempdir().unwrap();
    let chunk = 1 << 20;
    let mut content = vec![0; 3 * chunk + 5];
    content[7] = 1;
    content[3 * chunk + 4] = 1;
    std::fs::write(directory.path().join("vmlinuz"), &content).unwrap();
    let fake = Fake::default();
    let (_, mut engine) = fake.engine();
    engine.settings.upload_chunk_bytes = chunk as u64;
    put(&engine, everything(directory.path().to_str().unwrap(), &content));
    take(&engine, Action::CreateVolume { volume: image_name() }).unwrap();
    take(&engine, Action::FillVolume { volume: image_name() }).unwrap();
    let state = fake.state();
    assert_eq!(state.calls.iter().filter(|call| call.starts_with("upload ")).count(), 2);
    let told: Vec<&String> = state.events.iter().filter(|event| event.contains("Transferred")).collect();
    assert_eq!(told.len(), 4);
    let last = told.last().unwrap();
    let (sent, all) = (chunk + 5, content.len());
    assert!(last.contains(&format!("sent_bytes: {sent}, size_bytes: {all}")), "{last}");
}

#[test]
fn a_corrupt_local_image_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("vmlinuz");
    std::fs::write(&path, b"rotten").unwrap();
    let fake = Fake::default();
    let (_, engine) = fake.engine();
    put(&engine, everything(directory.path().to_str().unwrap(), b"kernel"));
    take(&engine, Action::CreateVolume { volume: image_name() }).unwrap();
    take(&engine, Action::FillVolume { volume: image_name() }).unwrap();
    let told = reason(take(&engine, Action::VerifyVolume { volume: image_name() }));
    assert!(told.starts_with("ImageCorrupt") && told.contains(path.to_str().unwrap()), "{told}");
}

#[test]
fn a_local_image_that_is_short_or_gone_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("vmlinuz");
    let fake = Fake::default();
    let (_, engine) = fake.engine();
    put(&engine, everything(directory.path().to_str().unwrap(), b"kernel"));
    take(&engine, Action::CreateVolume { volume: image_name() }).unwrap();
    let told = || {
        let told = reason(take(&engine, Action::FillVolume { volume: image_name() }));
        told.replace(directory.path().to_str().unwrap(), "DIR")
    };
    assert_eq!(
        told(),
        "ImageMissing: DIR/vmlinuz is gone from the machine that runs Ashlar, and h1 has no copy yet: build that image again"
    );
    std::fs::write(&path, b"ker").unwrap();
    assert_eq!(
        told(),
        "ImageCorrupt: DIR/vmlinuz is corrupt: it has 3 bytes and should have 6; `ashlar image inspect --verify` says \
         more; build the image again"
    );
}

#[test]
fn a_volume_that_is_there_is_taken_as_made_unless_it_is_half_made() {
    let fake = Fake::default();
    let (store, engine) = fake.engine();
    put(&engine, everything("/images", b"kernel"));
    let create = || Action::CreateVolume { volume: name("demo-ctrl-1-etcd") };
    let file = "demo-ctrl-1-etcd.raw".to_owned();

    fake.state().volumes.insert(file.clone(), (4 << 20, String::new()));
    take(&engine, create()).unwrap();
    assert!(fake.state().calls.is_empty(), "{:?}", fake.state().calls);

    fake.state().volumes.insert(file.clone(), (17, String::new()));
    let told = reason(take(&engine, create()));
    assert!(told.contains("half made"), "{told}");
    // Not under the same name: the plan gives it another one. Whatever is late finds the old file, or none.
    assert!(fake.state().calls.is_empty(), "{:?}", fake.state().calls);
    let volume = stored(&store, Kind::Volume, "default", "demo-ctrl-1-etcd");
    assert_eq!(volume["record"], serde_json::json!({"halfMade": true}));

    // Once its machine was started it may hold data.
    let mut started = machine();
    if let Object::Machine(machine) = &mut started {
        machine.record.first_started_at = Some("2026-01-01T00:00:00Z".parse().unwrap());
    }
    put(&engine, vec![started]);
    fake.state().volumes.insert(file.clone(), (17, String::new()));
    let told = reason(take(&engine, create()));
    assert!(told.starts_with("VolumeSizeDiffers"), "{told}");
    assert!(fake.state().volumes.contains_key(&file));
}

fn foreign(uuid: uuid::Uuid, mark: Option<DomainMark>) -> DomainSeen {
    DomainSeen {
        uuid,
        name: "demo-ctrl-1".to_owned(),
        state: DomainState::Running,
        mark,
        disk_paths: Default::default(),
        medium_path: None,
        persistent: true,
        paused_by_migration: false,
        left_by_migration: false,
        definition: None,
        running: None,
    }
}

#[test]
fn foreign_domains_are_refused_by_name_and_never_touched() {
    let other_installation = DomainMark {
        installation: uuid::Uuid::from_u128(0xbad),
        machine_uid: uuid::Uuid::from_u128("demo-ctrl-1".len() as u128),
        generation: 1,
        machine: None,
    };
    for (domain, expected) in [
        (foreign(uuid::Uuid::from_u128(0xf0), None), "NameTaken"),
        (foreign(uuid::Uuid::from_u128(0xd0), None), "NotOurs"),
        (foreign(uuid::Uuid::from_u128(0xd0), Some(other_installation)), "NotOurs"),
    ] {
        let fake = Fake::default();
        let (_, engine) = fake.engine();
        put(&engine, everything("/images", b"kernel"));
        fake.state().volumes.insert("demo-ctrl-1-etcd.raw".to_owned(), (4 << 20, String::new()));
        fake.state().domains.insert(domain.uuid, domain.clone());
        let machine = || name("demo-ctrl-1");
        for action in [
            Action::DefineDomain { machine: machine() },
            Action::StartDomain { machine: machine() },
            Action::DestroyDomain { machine: machine() },
            Action::UndefineDomain { machine: machine() },
            Action::EjectSeed { machine: machine() },
            Action::ShutdownDomain { machine: machine() },
        ] {
            let told = reason(take(&engine, action));
            assert!(told.starts_with(expected) && told.contains("demo-ctrl-1"), "{told}");
        }
        assert!(fake.state().calls.is_empty());
        assert_eq!(fake.state().domains[&domain.uuid], domain);
    }
}

#[test]
fn a_domain_that_went_to_another_host_since_all_were_looked_at_is_not_made_or_started_again() {
    let mark = DomainMark {
        installation: INSTALLATION,
        machine_uid: uuid::Uuid::from_u128("demo-ctrl-1".len() as u128),
        generation: 1,
        machine: None,
    };
    let uuid = uuid::Uuid::from_u128(0xd0);
    let fake = Fake::default();
    let (_, engine) = fake.engine();
    put(&engine, everything("/images", b"kernel"));
    put(&engine, vec![host("h2")]);
    let mut started = machine();
    if let Object::Machine(machine) = &mut started {
        machine.record.first_started_at = Some("2026-01-01T00:00:00Z".parse().unwrap());
    }
    put(&engine, vec![started]);
    let there = foreign(uuid, Some(mark));
    fake.state().domains_on.insert(("h2".to_owned(), uuid), there.clone());
    let define = || Action::DefineDomain { machine: name("demo-ctrl-1") };
    let told = reason(take_beside(&engine, define(), &["h1", "h2"]));
    assert!(told.starts_with("NotNow") && told.contains("is on h2"), "{told}");
    // It left its definition.
    let left = DomainSeen { state: DomainState::ShutOff, left_by_migration: true, ..there };
    fake.state().domains_on.insert(("h1".to_owned(), uuid), left);
    let start = Action::StartDomain { machine: name("demo-ctrl-1") };
    let told = reason(take_beside(&engine, start, &["h1", "h2"]));
    assert!(told.starts_with("NotNow") && told.contains("went to another host"), "{told}");
    assert!(fake.state().calls.is_empty());
    // It is nowhere.
    fake.state().domains_on.clear();
    let made = take_beside(&engine, define(), &["h1", "h2"]);
    assert!(!fake.state().calls.is_empty(), "{made:?}");
}

#[test]
fn the_lease_is_taken_once_and_shown_from_the_first_change_on() {
    let fake = Fake::default();
    let (store, engine) = fake.engine();
    put(&engine, everything("/images", b"kernel"));
    block_on(async {
        let snapshot = engine.snapshot(&Scope::StoreOnly).await.unwrap();
        let hosts = [&snapshot.hosts["h1"]; 3];
        let targets = futures::future::join_all(hosts.map(|host| engine.leased(host))).await;
        assert!(targets.into_iter().all(|target| target.unwrap().lease_token == Some(5)));
    });
    assert_eq!(stored(&store, Kind::Host, "", "h1")["record"]["leaseToken"], 5);
}

#[test]
fn nothing_secret_shows() {
    let fake = Fake::default();
    let (store, engine) = fake.engine();
    put(&engine, everything("/images", b"kernel"));
    let mut shown = String::new();
    for action in [
        Action::CreateClusterPki { cluster: name("demo") },
        Action::CreateSshHostKey { machine: name("demo-ctrl-1") },
        Action::CreateJoinToken { machine: name("demo-ctrl-1") },
        Action::CreateVolume { volume: name("demo-ctrl-1-seed") },
        Action::FillVolume { volume: name("demo-ctrl-1-seed") },
    ] {
        shown += &format!("{action:?}{:?}", take(&engine, action.clone()).unwrap());
    }
    let mut canaries = Vec::new();
    block_on(async {
        let snapshot = engine.snapshot(&Scope::StoreOnly).await.unwrap();
        shown += &format!("{snapshot:?}");
        for item in store.list(None, None).await.unwrap().items {
            shown += &item.value.to_string();
            if item.key.kind == "Secret" {
                let secret: ashlar_api::Secret = serde_json::from_value(item.value).unwrap();
                for (value, bytes) in engine.vault.open_secret(&secret).unwrap() {
                    if value.ends_with(".key") || value == "token" || value == "ssh_host_ed25519_key" {
                        canaries.push(String::from_utf8(bytes.to_vec()).unwrap());
                    }
                }
                shown += &format!("{secret:?}");
            }
        }
    });
    shown += &fake.state().events.join("\n");
    shown += &fake.state().calls.join("\n");
    assert_eq!(canaries.len(), 6);
    for canary in &canaries {
        // The body of a PEM, or the secret half of a token: the part that only the secret has.
        let core = match canary.lines().nth(1) {
            Some(line) => line,
            None => canary.split_once('.').unwrap().1,
        };
        let base64 = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, canary);
        for form in [core, &base64[..24], &crate::hex::encode(core.as_bytes())] {
            assert!(!shown.contains(form));
        }
    }
    // The search itself works: a control plane's seed holds its keys in plain text.
    let seed = String::from_utf8_lossy(&fake.state().seed).into_owned();
    assert_eq!(
        canaries.iter().filter(|canary| seed.contains(canary.trim())).count(),
        5,
        "all but the join token"
    );
}
