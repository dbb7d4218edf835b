//! What transactions promise.

use std::sync::Arc;

use ashlar_store::{Key, MAX_OPERATIONS, Precondition, Revision, Store, StoreError, Transaction};
use serde_json::json;

use super::{assert_conflict, delete, head, key, numbered, put, value_of};

pub(crate) async fn revisions_grow_by_one_history(store: Arc<dyn Store>) {
    let first = put(&*store, &key("a"), numbered(1)).await;
    let second = put(&*store, &Key::cluster_scoped("Host", "h"), numbered(1)).await;
    let third = put(&*store, &key("a"), numbered(1)).await;
    assert!(Revision(0) < first && first < second && second < third);
    assert_eq!(head(&*store).await, third);
    let both = Transaction::new().put(key("b"), json!(1), Precondition::Absent).put(
        key("c"),
        json!(1),
        Precondition::Absent,
    );
    let fourth = store.commit(both).await.expect("commit");
    for name in ["b", "c"] {
        assert_eq!(store.get(&key(name)).await.expect("get").expect("exists").revision, fourth);
    }
    assert_eq!(store.get(&key("a")).await.expect("get").expect("exists").revision, third);
}

pub(crate) async fn preconditions_hold(store: Arc<dyn Store>) {
    let a = key("a");
    let absent = |n| Transaction::new().put(a.clone(), numbered(n), Precondition::Absent);
    let at = |n, revision| Transaction::new().put(a.clone(), numbered(n), Precondition::Revision(revision));
    assert_conflict(store.commit(at(0, Revision(1))).await, &a, None);
    let first = store.commit(absent(1)).await.expect("create");
    assert_conflict(store.commit(absent(2)).await, &a, Some(first));
    let second = store.commit(at(2, first)).await.expect("update");
    assert_conflict(store.commit(at(3, first)).await, &a, Some(second));
    assert_conflict(store.commit(at(3, Revision(second.0 + 1))).await, &a, Some(second));
    let stale = Transaction::new().delete(a.clone(), Precondition::Revision(first));
    assert_conflict(store.commit(stale).await, &a, Some(second));
    let fresh = Transaction::new().delete(a.clone(), Precondition::Revision(second));
    let third = store.commit(fresh).await.expect("delete");
    assert!(third > second);
    // An object made anew is another object: the revision of its former life does not match.
    let fourth = store.commit(absent(4)).await.expect("create again");
    assert_conflict(store.commit(at(5, second)).await, &a, Some(fourth));
}

pub(crate) async fn failed_transaction_writes_nothing(store: Arc<dyn Store>) {
    put(&*store, &key("guard"), numbered(1)).await;
    let before = store.list(None, None).await.expect("list");
    let doomed = Transaction::new()
        .put(key("new"), numbered(1), Precondition::Absent)
        .delete(key("guard"), Precondition::Any)
        .check(key("other"), Precondition::Revision(Revision(1)));
    assert_conflict(store.commit(doomed).await, &key("other"), None);
    assert_eq!(store.list(None, None).await.expect("list"), before);
}

pub(crate) async fn conflict_names_the_first_key(store: Arc<dyn Store>) {
    let revision = put(&*store, &key("second"), numbered(1)).await;
    let doomed = Transaction::new()
        .put(key("first"), json!(1), Precondition::Absent)
        .put(key("second"), json!(1), Precondition::Absent)
        .put(key("third"), json!(1), Precondition::Revision(revision));
    assert_conflict(store.commit(doomed).await, &key("second"), Some(revision));
}

pub(crate) async fn preconditions_see_the_state_before(store: Arc<dyn Store>) {
    // The check stands after the put in the transaction, and still sees the state before it.
    let transaction =
        Transaction::new().put(key("a"), json!(1), Precondition::Any).check(key("a"), Precondition::Absent);
    store.commit(transaction).await.expect("commit");
    assert_eq!(value_of(&*store, &key("a")).await, Some(json!(1)));
}

pub(crate) async fn checks_guard_without_changing(store: Arc<dyn Store>) {
    let ledger = put(&*store, &key("ledger"), numbered(1)).await;
    let only_check = || Transaction::new().check(key("ledger"), Precondition::Revision(ledger));
    assert_eq!(store.commit(only_check()).await.expect("check"), ledger);
    let revision =
        store.commit(only_check().put(key("a"), json!(1), Precondition::Absent)).await.expect("commit");
    assert_eq!(store.get(&key("ledger")).await.expect("get").expect("exists").revision, ledger);
    assert_eq!(head(&*store).await, revision);
    let moved = put(&*store, &key("ledger"), numbered(2)).await;
    assert_conflict(store.commit(only_check()).await, &key("ledger"), Some(moved));
}

pub(crate) async fn deleting_nothing_is_no_change(store: Arc<dyn Store>) {
    let revision = put(&*store, &key("a"), numbered(1)).await;
    assert_eq!(delete(&*store, &key("b")).await, revision);
    let absent = Transaction::new().delete(key("b"), Precondition::Absent);
    assert_eq!(store.commit(absent).await.expect("commit"), revision);
    let gone = delete(&*store, &key("a")).await;
    assert!(gone > revision);
    assert_eq!(value_of(&*store, &key("a")).await, None);
    assert_eq!(delete(&*store, &key("a")).await, gone);
}

pub(crate) async fn limits_are_enforced(store: Arc<dyn Store>) {
    let of = |count: usize| {
        (0..count).fold(Transaction::new(), |transaction, n| {
            transaction.put(key(&format!("n{n}")), numbered(n as u64), Precondition::Absent)
        })
    };
    let error = store.commit(of(MAX_OPERATIONS + 1)).await.expect_err("too many");
    assert!(matches!(error, StoreError::TooManyWrites { count: 101, limit: 100 }), "{error:?}");
    assert_eq!(head(&*store).await, Revision(0));
    store.commit(of(MAX_OPERATIONS)).await.expect("as many as allowed");
    assert_eq!(store.list(None, None).await.expect("list").items.len(), MAX_OPERATIONS);
}

pub(crate) async fn bad_keys_are_refused(store: Arc<dyn Store>) {
    let twice =
        Transaction::new().put(key("a"), json!(1), Precondition::Any).delete(key("a"), Precondition::Any);
    let error = store.commit(twice).await.expect_err("twice");
    assert!(matches!(&error, StoreError::DuplicateKey { key: k } if *k == key("a")), "{error:?}");
    for bad in
        [Key::new("", "n", "x"), Key::new("K", "n", ""), Key::new("K", "n/m", "x"), Key::new("K", "n", "\0")]
    {
        let transaction = Transaction::new().put(bad, json!(1), Precondition::Any);
        let error = store.commit(transaction).await.expect_err("bad key");
        assert!(matches!(error, StoreError::InvalidKey { .. }), "{error:?}");
    }
    assert_eq!(head(&*store).await, Revision(0));
}

pub(crate) async fn empty_transaction_changes_nothing(store: Arc<dyn Store>) {
    let revision = put(&*store, &key("a"), numbered(1)).await;
    assert_eq!(store.commit(Transaction::new()).await.expect("commit"), revision);
}
