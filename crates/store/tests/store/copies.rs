//! Copies of a store, made while it is written to, and put back.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ashlar_store::{Key, Precondition, SqliteStore, Store as _, StoreError, Transaction};

use crate::suite::{key, numbered, put, run, value_of};

fn pair(n: u64) -> Transaction {
    let (left, right) = (key("left"), key("right"));
    Transaction::new().put(left, numbered(n), Precondition::Any).put(right, numbered(n), Precondition::Any)
}

#[test]
fn a_copy_is_one_moment_of_a_store_that_is_written_to() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Arc::new(SqliteStore::open(dir.path().join("store.db")).expect("a new store"));
    run(store.commit(pair(0))).expect("commit");
    let done = Arc::new(AtomicBool::new(false));
    let writer = std::thread::spawn({
        let (store, done) = (Arc::clone(&store), Arc::clone(&done));
        move || {
            let mut n = 0;
            while !done.load(Ordering::Relaxed) {
                n += 1;
                run(store.commit(pair(n))).expect("commit");
            }
        }
    });
    for round in 0..20 {
        let path = dir.path().join(format!("copy-{round}.db"));
        let revision = run(store.backup(&path)).expect("a copy");
        let copy = SqliteStore::open(&path).expect("the copy is a store");
        run(copy.verify()).expect("the copy is whole");
        let listing = run(copy.list(None, None)).expect("list");
        assert_eq!(listing.revision, revision);
        assert_eq!(listing.items[0].value, listing.items[1].value, "two that always change together");
        assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
    }
    done.store(true, Ordering::Relaxed);
    writer.join().expect("writer");
    let taken = run(store.backup(&dir.path().join("copy-0.db"))).expect_err("never over another copy");
    assert!(taken.to_string().contains("already"), "{taken}");
}

#[test]
fn a_copy_is_put_back_and_what_was_there_is_kept() {
    let dir = tempfile::tempdir().expect("a directory");
    let (path, copy) = (dir.path().join("store.db"), dir.path().join("copy.db"));
    let host = Key::cluster_scoped("Host", "h1");
    let store = SqliteStore::open(&path).expect("a new store");
    run(put(&store, &host, numbered(1)));
    let before = run(store.backup(&copy)).expect("a copy");
    run(put(&store, &host, numbered(2)));
    // Its last commits may still be in the log.
    drop(store);
    let restored = SqliteStore::restore(&copy, &path, ".before").expect("restored");
    assert_eq!(restored.revision, before);
    let store = SqliteStore::open(&path).expect("the store");
    assert_eq!(run(value_of(&store, &host)), Some(numbered(1)));
    let kept = SqliteStore::open(restored.kept.expect("kept")).expect("what was there is a store");
    assert_eq!(run(value_of(&kept, &host)), Some(numbered(2)));
    drop(store);
    // Where there is none, it is made; cut off after the old one was put aside, it is done again.
    std::fs::remove_file(&path).expect("removed");
    let restored = SqliteStore::restore(&copy, &path, ".before2").expect("restored");
    assert_eq!(restored.kept, None);
    assert_eq!(run(value_of(&SqliteStore::open(&path).expect("the store"), &host)), Some(numbered(1)));
}

#[test]
fn what_is_no_copy_changes_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("store.db");
    let store = SqliteStore::open(&path).expect("a new store");
    run(put(&store, &key("a"), numbered(1)));
    let text = dir.path().join("text");
    std::fs::write(&text, "no store").expect("written");
    let copy = dir.path().join("copy.db");
    run(store.backup(&copy)).expect("a copy");
    let whole = std::fs::read(&copy).expect("read");
    let torn = dir.path().join("torn.db");
    std::fs::write(&torn, &whole[..whole.len() / 2]).expect("written");
    for wrong in [&text, &torn, &dir.path().join("missing")] {
        let error = SqliteStore::restore(wrong, &path, ".before").expect_err("refused");
        let is_told = matches!(
            error,
            StoreError::Corrupt { .. } | StoreError::Missing { .. } | StoreError::Unavailable { .. }
        );
        assert!(is_told, "{}: {error:?}", wrong.display());
        assert_eq!(run(value_of(&store, &key("a"))), Some(numbered(1)));
    }
}
