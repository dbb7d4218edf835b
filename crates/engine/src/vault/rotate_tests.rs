#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use ashlar_api::{NamespacedName, SecretPurpose};
use ashlar_store::{
    Key, Listing, MemoryStore, Precondition, RawListing, Revision, StoreError, Stored, Transaction, Watch,
};
use async_trait::async_trait;
use futures::executor::block_on;
use zeroize::Zeroizing;

use super::super::SecretValues;
use super::*;

struct Counter(AtomicU8);

impl Entropy for Counter {
    fn fill(&self, buffer: &mut [u8]) {
        buffer.iter_mut().for_each(|byte| *byte = self.0.fetch_add(1, Ordering::Relaxed));
    }
}

/// A store in which a commit fails, before it is made or after.
struct Failing {
    store: MemoryStore,
    left: AtomicUsize,
    after: bool,
}

impl Failing {
    fn at(store: &MemoryStore, commit: usize, after: bool) -> Self {
        Failing { store: store.clone(), left: AtomicUsize::new(commit), after }
    }
}

#[async_trait]
impl Store for Failing {
    async fn get(&self, key: &Key) -> Result<Option<Stored>, StoreError> {
        self.store.get(key).await
    }
    async fn list_raw(&self, kind: Option<&str>, namespace: Option<&str>) -> Result<RawListing, StoreError> {
        self.store.list_raw(kind, namespace).await
    }
    async fn list(&self, kind: Option<&str>, namespace: Option<&str>) -> Result<Listing, StoreError> {
        self.store.list(kind, namespace).await
    }
    async fn commit(&self, transaction: Transaction) -> Result<Revision, StoreError> {
        let dies = self.left.load(Ordering::Relaxed) == 0;
        if dies && !self.after {
            return Err(StoreError::unavailable("killed before".to_owned()));
        }
        self.left.fetch_sub(usize::from(!dies), Ordering::Relaxed);
        let done = self.store.commit(transaction).await;
        if dies { Err(StoreError::unavailable("killed after".to_owned())) } else { done }
    }
    async fn watch(&self, kind: Option<&str>, from: Revision) -> Result<Watch, StoreError> {
        self.store.watch(kind, from).await
    }
    async fn compact(&self, before: Revision) -> Result<(), StoreError> {
        self.store.compact(before).await
    }
}

const SECRETS: usize = 3;
const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

fn vault(byte: u8) -> Vault {
    Vault::from_key(Zeroizing::new([byte; 32]))
}

fn entropy() -> Counter {
    Counter(AtomicU8::new(0))
}

fn values(number: usize) -> SecretValues {
    [("ca.key".to_owned(), Zeroizing::new(format!("CANARY-{number}").into_bytes()))].into()
}

fn store(vault: &Vault) -> MemoryStore {
    let store = MemoryStore::new();
    (0..SECRETS).for_each(|number| add(&store, vault, number));
    store
}

fn add(store: &MemoryStore, vault: &Vault, number: usize) {
    let name = NamespacedName::new("default", format!("s{number}"));
    let purpose = SecretPurpose::ClusterPki { cluster: "demo".to_owned() };
    let mut secret =
        Secret::new(&name.name, vault.seal(&name, purpose, &values(number), &entropy()).unwrap());
    secret.metadata.namespace = "default".to_owned();
    let value = objects::to_stored(Object::from(secret)).unwrap();
    let key = Key::new("Secret", "default", &name.name);
    block_on(store.commit(Transaction::new().put(key, value, Precondition::Any))).unwrap();
}

fn opens(store: &MemoryStore, vault: &Vault, secrets: usize) -> bool {
    let all = block_on(super::secrets(store)).unwrap();
    assert_eq!(all.len(), secrets);
    all.iter()
        .enumerate()
        .all(|(number, secret)| vault.open_secret(secret).is_ok_and(|opened| opened == values(number)))
}

/// Until the key is another one, cut off or not.
fn first_half(store: &dyn Store, old: &Vault, new: &Vault) -> Result<usize, EngineError> {
    block_on(seal_too(store, old, new, &entropy()))
}

fn second_half(store: &dyn Store, new: &Vault, data_keys: bool) -> Result<usize, EngineError> {
    block_on(seal_only(store, new, data_keys, &entropy(), NOW))
}

#[test]
fn whatever_write_it_dies_at_all_secrets_open_and_the_same_again_finishes() {
    let (old, new) = (vault(1), vault(2));
    for after in [false, true] {
        for commit in 0..SECRETS {
            let truth = store(&old);
            assert!(first_half(&Failing::at(&truth, commit, after), &old, &new).is_err());
            assert!(opens(&truth, &old, SECRETS), "{commit} {after}: the key is still the old one");
            // Somebody works in between, and makes a secret.
            add(&truth, &old, SECRETS);
            assert_eq!(first_half(&truth, &old, &new).unwrap(), SECRETS + 1);
            for vault in [&old, &new] {
                assert!(opens(&truth, vault, SECRETS + 1), "{commit} {after}: either opens all");
            }
            // Now the key is the new one.
            for data_keys in [false, true] {
                let truth = truth_of(&truth);
                assert!(second_half(&Failing::at(&truth, commit, after), &new, data_keys).is_err());
                assert!(opens(&truth, &new, SECRETS + 1), "{commit} {after}");
                second_half(&truth, &new, data_keys).unwrap();
                assert!(opens(&truth, &new, SECRETS + 1));
                let all = block_on(super::secrets(&truth)).unwrap();
                assert!(
                    all.iter().all(|secret| old.open_secret(secret).is_err()),
                    "nothing of the old key is left"
                );
                let standing = block_on(standing(&truth, &new)).unwrap();
                let whole = Standing { secrets: SECRETS + 1, rotated_at: Some(NOW), ..Standing::default() };
                assert_eq!(standing, whole);
                assert_eq!(second_half(&truth, &new, data_keys).unwrap(), 0, "once");
            }
        }
    }
}

fn truth_of(store: &MemoryStore) -> MemoryStore {
    let copy = MemoryStore::new();
    for item in block_on(store.list(None, None)).unwrap().items {
        block_on(copy.commit(Transaction::new().put(item.key, item.value, Precondition::Any))).unwrap();
    }
    copy
}

#[test]
fn data_keys_are_others_afterwards_only_where_that_is_asked_for() {
    let (old, new) = (vault(1), vault(2));
    let sealed = |store: &MemoryStore| {
        block_on(super::secrets(store))
            .unwrap()
            .iter()
            .map(|secret| secret.spec.sealed.clone())
            .collect::<Vec<_>>()
    };
    let truth = store(&old);
    let before = sealed(&truth);
    first_half(&truth, &old, &new).unwrap();
    second_half(&truth, &new, false).unwrap();
    assert_eq!(sealed(&truth), before, "values are sealed by the data keys, which stay");
    block_on(renew_data_keys(&truth, &new, &Counter(AtomicU8::new(99)), NOW)).unwrap();
    assert!(sealed(&truth).iter().zip(&before).all(|(now, before)| now != before));
    assert!(opens(&truth, &new, SECRETS));
}

/// One that was begun with another new key, and never finished.
#[test]
fn a_third_key_takes_the_place_of_one_that_never_came_into_use() {
    let (old, never, new) = (vault(1), vault(2), vault(3));
    let truth = store(&old);
    first_half(&truth, &old, &never).unwrap();
    first_half(&truth, &old, &new).unwrap();
    second_half(&truth, &new, false).unwrap();
    assert!(opens(&truth, &new, SECRETS));
    let all = block_on(super::secrets(&truth)).unwrap();
    assert!(all.iter().all(|secret| never.open_secret(secret).is_err()));
}

#[test]
fn a_key_that_opens_nothing_changes_nothing() {
    let (old, new, wrong) = (vault(1), vault(2), vault(4));
    let truth = store(&old);
    let before = block_on(truth.list(None, None)).unwrap();
    let error = first_half(&truth, &wrong, &new).unwrap_err();
    assert!(matches!(error, EngineError::Vault(VaultError::WrongKey { .. })), "{error:?}");
    assert!(second_half(&truth, &new, false).is_err(), "before its turn");
    assert_eq!(block_on(truth.list(None, None)).unwrap().items.len(), before.items.len());
    assert!(opens(&truth, &old, SECRETS));
}
