//! `secrets rotate` and `secrets status`.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Instant;

use ashlar_api::{Secret, SecretPurpose};
use ashlar_engine::vault::{KeyProvider, Prepared, Vault, seal_too};
use ashlar_store::{EngineLock, SqliteStore, Store as _};
use futures::executor::block_on;

use crate::harness::Place;
use crate::sealed::OsEntropy;
use crate::seed::{demo, stock};

fn place() -> Place {
    let place = Place::with(&[stock(), demo()].concat());
    place.put_pki("demo");
    place
}

/// Keys are drawn, and time goes by.
fn still(text: &str) -> String {
    let moment = regex::Regex::new(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ|\d{8}T\d{6}Z").unwrap();
    let text = moment.replace_all(text, "[MOMENT]");
    let key = regex::Regex::new(r"\b[0-9a-f]{16}\b").unwrap();
    let text = key.replace_all(&text, "[KEY]");
    let digest = regex::Regex::new(r"\b[0-9a-f]{64}\b").unwrap();
    digest.replace_all(&text, "[DIGEST]").into_owned()
}

/// Whether the secrets of the place open with what these flags say.
fn opens(place: &Place, flags: &[&str]) -> bool {
    let told = place.run(&[&["kubeconfig", "demo"], flags].concat());
    told.starts_with("exit 0\n") && told.contains("client-key-data")
}

#[test]
fn the_default_key_file_is_changed_and_the_old_one_kept() {
    let place = place();
    let backup = place.path().join("backup").display().to_string();
    let first = place.vault().key_id().to_owned();
    let mut told = vec![
        place.run(&["secrets", "status"]),
        place.run(&["store", "backup", &backup]),
        place.run(&["secrets", "rotate"]),
        place.run(&["secrets", "status"]),
        place.run(&["audit", "verify"]),
    ];
    assert!(opens(&place, &[]));
    // Again: the key is changed again.
    told.push(place.run(&["secrets", "rotate", "--data-keys"]));
    assert!(opens(&place, &[]));
    // What was copied before needs the old key, and opens with it.
    told.push(place.run(&["store", "restore", &backup, "--yes"]));
    let elsewhere = place.path().join("elsewhere").display().to_string();
    let old_key = format!("file:{}", place.default_key().with_extension(format!("was-{first}")).display());
    let there = ["--state-dir", elsewhere.as_str(), "--key", old_key.as_str()];
    let restored = place.run(&[&["store", "restore", &backup, "--yes"], &there[..]].concat());
    assert!(restored.starts_with("exit 0"), "{restored}");
    assert!(opens(&place, &there));
    insta::assert_snapshot!(still(&told.join("\n")));
}

#[test]
fn a_key_of_ones_own_takes_the_place_of_the_default() {
    let place = place();
    let (second, third) =
        (format!("file:{}", place.key_file("second")), format!("file:{}", place.key_file("third")));
    let told = [
        place.run(&["secrets", "rotate", "--new-key", &second]),
        place.run(&["kubeconfig", "demo"]),
        place.run(&["secrets", "rotate", "--new-key", &second]),
        place.run(&["secrets", "rotate", "--key", &second, "--data-keys"]),
        place.run(&["secrets", "rotate", "--key", &third, "--new-key", &third]),
        place.run(&["secrets", "rotate", "--key", &second, "--new-key", &third]),
        place.run(&["secrets", "status", "--key", &third]),
        place.run(&["audit", "verify", "--key", &third]),
    ];
    assert!(opens(&place, &["--key", &third]) && !opens(&place, &["--key", &second]));
    insta::assert_snapshot!(still(&told.join("\n")));
}

/// Cut off before the step to the new key: it is still the old one. After it: it is the new one. Both are finished.
#[test]
fn a_rotation_that_was_cut_off_is_finished_by_the_same_command() {
    let place = place();
    let file = place.key_file("second");
    let (flag, provider) = (format!("file:{file}"), KeyProvider::File(file.into()));
    let prepared = Prepared::new(&provider, &place.state(), &OsEntropy).unwrap();
    let prepared = prepared.after(&place.vault(), &OsEntropy).unwrap();
    let store = SqliteStore::open(place.state().join("store.db")).unwrap();
    block_on(seal_too(&store, &place.vault(), &prepared.vault, &OsEntropy)).unwrap();
    let before = place.run(&["secrets", "status"]);
    assert!(opens(&place, &[]) && !opens(&place, &["--key", &flag]), "the key is the old one");
    // Neither seal is shown.
    let shown = place.run(&["get", "secrets", "-o", "yaml"]);
    assert_eq!(shown.matches("sealedDataKey: (sealed)").count(), 2, "{shown}");
    prepared.install(&place.state()).unwrap();
    let after = place.run(&["secrets", "status", "--key", &flag]);
    // The command itself would have noted for both keys how long the audit log is.
    place.run(&["audit", "accept", "--yes", "--key", &flag]);
    assert!(!opens(&place, &[]) && opens(&place, &["--key", &flag]), "the key is the new one");
    let told = [
        before,
        after,
        place.run(&["secrets", "rotate", "--new-key", &flag]),
        place.run(&["secrets", "status", "--key", &flag]),
        place.run(&["audit", "verify", "--key", &flag]),
    ];
    assert!(opens(&place, &["--key", &flag]));
    insta::assert_snapshot!(still(&told.join("\n")));
}

/// The same of the default key file, whose successor lies beside it by then.
#[test]
fn a_default_key_file_that_was_left_behind_is_named_and_replaced() {
    let place = place();
    let old = place.vault();
    let new = place.default_key().with_extension("new");
    KeyProvider::create_file(&new, &place.state(), &OsEntropy).unwrap();
    let prepared = Prepared::new(&KeyProvider::File(new), &place.state(), &OsEntropy).unwrap();
    let store = SqliteStore::open(place.state().join("store.db")).unwrap();
    block_on(seal_too(&store, &old, &prepared.vault, &OsEntropy)).unwrap();
    prepared.install(&place.state()).unwrap();
    let told = [place.run(&["kubeconfig", "demo"]), place.run(&["secrets", "rotate"])];
    assert!(opens(&place, &[]));
    insta::assert_snapshot!(still(&told.join("\n")));
}

#[test]
fn what_cannot_be_is_refused_and_changes_nothing() {
    let place = place();
    let key = place.key_file("second");
    let file = format!("file:{key}");
    let beside = place.file("state/key", &"x".repeat(32));
    let short = place.file("keys/short", "hunter2");
    let own = format!("file:{}", place.default_key().display());
    let mut told = vec![
        place.run(&["secrets", "rotate", "--key", &own]),
        place.run(&[
            "secrets",
            "rotate",
            "--key",
            &file,
            "--new-key",
            &format!("file:{}", place.key_file("third")),
        ]),
        place.run(&["secrets", "rotate", "--new-key", "hunter2"]),
        place.run(&["secrets", "rotate", "--new-key", &format!("file:{beside}")]),
        place.run(&["secrets", "rotate", "--new-key", &format!("file:{short}")]),
        place.run(&["secrets", "rotate", "--new-key", "command:false"]),
        place.run(&["secrets", "rotate", "--new-key", "passphrase"]),
        place.run(&["secrets", "rotate", "--new-key", &own]),
    ];
    let lock = EngineLock::try_acquire(place.state(), "ashlar apply -f prod.yaml").unwrap();
    told.push(place.run(&["secrets", "rotate", "--new-key", &file, "--timeout", "300ms"]));
    drop(lock);
    assert!(opens(&place, &[]));
    let pid = regex::Regex::new(r"process \d+, since [^)]+").unwrap();
    insta::assert_snapshot!(pid.replace_all(&still(&told.join("\n")), "process [PID]"));
}

#[test]
fn a_new_passphrase_has_a_salt_of_its_own() {
    let place = place();
    let of = |text: &str| KeyProvider::Passphrase(zeroize::Zeroizing::new(text.to_owned()));
    let prepare = || Prepared::new(&of("correct horse"), &place.state(), &OsEntropy).unwrap();
    let (one, other) = (prepare(), prepare());
    assert_ne!(
        one.vault.key_id(),
        other.vault.key_id(),
        "two installations, or two rotations, share nothing"
    );
    one.install(&place.state()).unwrap();
    let open = |text: &str| Vault::open(&of(text), &place.state(), &OsEntropy).map(Arc::new);
    assert_eq!(open("correct horse").unwrap().key_id(), one.vault.key_id());
    assert!(open("wrong horse").is_err());
}

/// Killed at moments all over it: then all secrets open with the one key that is the installation's, and the same command
/// finishes it.
#[test]
fn a_rotation_that_is_killed_leaves_every_secret_openable_and_goes_on() {
    let place = place();
    let purpose = |n: usize| SecretPurpose::JoinToken { machine: format!("m{n}") };
    let value = |n: usize| [("token".to_owned(), zeroize::Zeroizing::new(vec![n as u8; 64]))].into();
    (0..SECRETS).for_each(|n| place.put_secret(&format!("s{n}"), purpose(n), &value(n)));
    let keys: Vec<String> = (0..=ROUNDS).map(|n| place.key_file(&format!("key-number-{n:02}"))).collect();
    let flag = |n: usize| format!("file:{}", keys[n]);
    let began = Instant::now();
    let first = place.run(&["secrets", "rotate", "--new-key", &flag(0)]);
    assert!(first.starts_with("exit 0"), "{first}");
    let whole = began.elapsed();
    let mut arrived = 0;
    for round in 0..ROUNDS {
        let args = ["secrets", "rotate", "--data-keys", "--key", &flag(round), "--new-key", &flag(round + 1)];
        let mut child = place.command(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(whole * (round as u32 + 1) / ROUNDS as u32);
        child.kill().unwrap();
        child.wait().unwrap();
        let open = |n: usize| {
            Vault::open(&KeyProvider::File(keys[n].clone().into()), &place.state(), &OsEntropy).ok()
        };
        let vaults = [open(round), open(round + 1)];
        let [vault] = vaults.iter().flatten().collect::<Vec<_>>()[..] else { panic!("round {round}") };
        assert_all_open(&place, vault);
        let is_new = vaults[1].is_some();
        arrived += usize::from(is_new);
        let verified = place.run(&["audit", "verify", "--key", &flag(round + usize::from(is_new))]);
        assert!(verified.starts_with("exit 0"), "round {round}: {verified}");
        let finished = place.run(&args);
        assert!(finished.starts_with("exit 0") || finished.contains("that is the key already"), "{finished}");
        assert_all_open(&place, &open(round + 1).unwrap());
        let status = place.run(&["secrets", "status", "--key", &flag(round + 1)]);
        assert!(!status.contains("warning"), "{status}");
    }
    println!("{ROUNDS} rotations of {whole:?} were killed: {arrived} had the new key by then");
}

const SECRETS: usize = 40;
const ROUNDS: usize = 16;

fn assert_all_open(place: &Place, vault: &Vault) {
    let store = SqliteStore::open_read_only(place.state().join("store.db")).unwrap();
    let all = block_on(store.list(Some("Secret"), None)).unwrap().items;
    assert_eq!(all.len(), SECRETS + 1);
    for item in all {
        let secret: Secret = serde_json::from_value(item.value).unwrap();
        vault.open_secret(&secret).unwrap();
    }
}
