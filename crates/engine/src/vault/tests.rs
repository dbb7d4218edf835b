#![expect(clippy::unwrap_used, reason = "tests")]

use std::{
    os::unix::fs::PermissionsExt,
    sync::atomic::{AtomicU8, Ordering},
};

use super::*;

/// Distinct bytes on every call.
struct Counter(AtomicU8);

impl Entropy for Counter {
    fn fill(&self, buffer: &mut [u8]) {
        buffer.iter_mut().for_each(|byte| *byte = self.0.fetch_add(1, Ordering::Relaxed));
    }
}

fn entropy() -> Counter {
    Counter(AtomicU8::new(0))
}

fn secret(vault: &Vault, name: &str, values: &[(&str, &[u8])]) -> Secret {
    let values = values.iter().map(|(k, v)| ((*k).to_owned(), Zeroizing::new(v.to_vec()))).collect();
    let key = NamespacedName::new("default", name);
    let purpose = SecretPurpose::ClusterPki { cluster: "demo".to_owned() };
    Secret::new(name, vault.seal(&key, purpose, &values, &entropy()).unwrap())
}

fn vault(byte: u8) -> Vault {
    Vault::from_key(Zeroizing::new([byte; KEY_BYTES]))
}

#[test]
fn what_was_sealed_opens_and_does_not_show() {
    let vault = vault(1);
    let plain = b"CANARY-private-key";
    let secret = secret(&vault, "demo-pki", &[("ca.key", plain), ("ca.crt", b"public")]);
    let opened = vault.open_secret(&secret).unwrap();
    assert_eq!(opened["ca.key"].as_slice(), plain);
    assert_eq!(opened["ca.crt"].as_slice(), b"public");
    let shown = format!("{secret:?} {}", serde_json::to_string(&secret).unwrap());
    let encoded = BASE64.encode(plain);
    assert!(!shown.contains("CANARY") && !shown.contains(&encoded[..16]), "{shown}");
}

#[test]
fn a_sealed_value_opens_nowhere_else() {
    let vault = vault(1);
    let original = secret(&vault, "demo-pki", &[("a", b"one"), ("b", b"two")]);
    let tampered = |secret: &Secret| matches!(vault.open_secret(secret), Err(VaultError::Tampered { .. }));

    let mut swapped = original.clone();
    swapped.spec.sealed.insert("a".to_owned(), original.spec.sealed["b"].clone());
    assert!(tampered(&swapped));

    let mut renamed = original.clone();
    renamed.metadata.name = "other-pki".to_owned();
    assert!(tampered(&renamed));

    let mut bytes = BASE64.decode(&original.spec.sealed["a"]).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    let mut flipped = original;
    flipped.spec.sealed.insert("a".to_owned(), BASE64.encode(bytes));
    assert!(tampered(&flipped));
}

#[test]
fn another_key_is_named_in_the_error() {
    let secret = secret(&vault(1), "demo-pki", &[("a", b"one")]);
    let error = vault(2).open_secret(&secret).unwrap_err();
    assert!(matches!(&error, VaultError::WrongKey { .. }));
    assert!(error.to_string().starts_with("wrong key"), "{error}");
}

#[test]
fn a_key_file_is_made_once_and_remembered() {
    let state = tempfile::tempdir().unwrap();
    let keys = tempfile::tempdir().unwrap();
    let path = keys.path().join("ashlar.key");
    assert!(KeyProvider::create_file(&path, state.path(), &entropy()).unwrap());
    assert!(!KeyProvider::create_file(&path, state.path(), &entropy()).unwrap());
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);

    let first = Vault::open(&KeyProvider::File(path.clone()), state.path(), &entropy()).unwrap();
    let again = Vault::open(&KeyProvider::File(path.clone()), state.path(), &entropy()).unwrap();
    assert_eq!(first.key_id(), again.key_id());

    std::fs::write(&path, [9; 32]).unwrap();
    let error = Vault::open(&KeyProvider::File(path), state.path(), &entropy()).unwrap_err();
    assert!(matches!(error, VaultError::WrongKey { .. }), "{error}");
}

#[test]
fn bad_key_files_are_refused() {
    let state = tempfile::tempdir().unwrap();
    let beside = state.path().join("key");
    let refused = KeyProvider::create_file(&beside, state.path(), &entropy()).unwrap_err();
    assert!(matches!(refused, VaultError::BesideStore { .. }), "{refused}");

    // A link from outside to a file inside is the same thing.
    std::fs::write(&beside, [7; 32]).unwrap();
    let keys = tempfile::tempdir().unwrap();
    let link = keys.path().join("link");
    std::os::unix::fs::symlink(&beside, &link).unwrap();
    let open =
        |path: &std::path::Path| Vault::open(&KeyProvider::File(path.to_owned()), state.path(), &entropy());
    assert!(matches!(open(&link).unwrap_err(), VaultError::BesideStore { .. }));

    let short = keys.path().join("short");
    std::fs::write(&short, b"hunter2").unwrap();
    std::fs::set_permissions(&short, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(open(&short).unwrap_err(), VaultError::TooOpen { .. }));
    std::fs::set_permissions(&short, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert!(matches!(open(&short).unwrap_err(), VaultError::TooShort { .. }));
}

#[test]
fn a_key_command_gives_the_key_and_its_arguments_stay_hidden() {
    let state = tempfile::tempdir().unwrap();
    let command =
        |script: &str| KeyProvider::Command(vec!["sh".to_owned(), "-c".to_owned(), script.to_owned()]);
    let good = command("printf 0123456789abcdef0123456789abcdef");
    Vault::open(&good, state.path(), &entropy()).unwrap();
    let bad = command("echo CANARY; exit 3");
    let error = Vault::open(&bad, state.path(), &entropy()).unwrap_err();
    assert!(error.to_string().contains("exit status: 3"), "{error}");
    assert!(!format!("{error} {error:?} {bad:?}").contains("CANARY"));
}

#[test]
fn a_passphrase_is_stretched_with_the_stored_salt() {
    let state = tempfile::tempdir().unwrap();
    let passphrase = |text: &str| KeyProvider::Passphrase(Zeroizing::new(text.to_owned()));
    let first = Vault::open(&passphrase("correct horse"), state.path(), &entropy()).unwrap();
    let again = Vault::open(&passphrase("correct horse"), state.path(), &entropy()).unwrap();
    assert_eq!(first.key_id(), again.key_id());
    let wrong = Vault::open(&passphrase("wrong horse"), state.path(), &entropy()).unwrap_err();
    assert!(matches!(wrong, VaultError::WrongKey { .. }));
    assert!(!format!("{:?}", passphrase("correct horse")).contains("horse"));
}

#[test]
fn what_a_vault_says_of_itself_and_the_key_open_it_again_elsewhere() {
    let state = tempfile::tempdir().unwrap();
    let nowhere = tempfile::tempdir().unwrap().path().join("gone");
    let passphrase = |text: &str| KeyProvider::Passphrase(Zeroizing::new(text.to_owned()));
    let first = Vault::open(&passphrase("correct horse"), state.path(), &entropy()).unwrap();
    let secret = secret(&first, "demo-pki", &[("a", b"one")]);
    let again = Vault::open_as(&passphrase("correct horse"), &first.state(), &nowhere).unwrap();
    assert_eq!(again.open_secret(&secret).unwrap()["a"].as_slice(), b"one");
    assert_eq!(again.state(), first.state());
    let wrong = Vault::open_as(&passphrase("wrong horse"), &first.state(), &nowhere).unwrap_err();
    assert!(matches!(&wrong, VaultError::WrongKey { expected, .. } if expected == first.key_id()), "{wrong}");
    let other = VaultState { salt: "AAAA".to_owned(), ..first.state() };
    assert!(Vault::open_as(&passphrase("correct horse"), &other, &nowhere).is_err());
    assert!(!nowhere.exists(), "nothing is written");
}
