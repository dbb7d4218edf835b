//! From SQLite to etcd and back: what becomes of objects and of their revisions.

use ashlar_store::{
    Digest, EtcdElection, EtcdStore, Precondition, RecordState, Revision, Role, SqliteStore, Store,
    StoreError, StoreRecord, Tenure as _, Transaction, copy_into,
};
use serde_json::json;

use crate::members::{Cluster, Fsync};
use crate::suite::{key, numbered, put, run};

fn record(state: RecordState, base: u64) -> StoreRecord {
    StoreRecord {
        installation: "one".to_owned(),
        state,
        migration: "m".to_owned(),
        base,
        note: String::new(),
        files: Default::default(),
    }
}

fn candidate(name: &str, role: Role) -> ashlar_store::Candidate {
    ashlar_store::Candidate { name: name.to_owned(), role, doing: format!("{name} of the test") }
}

#[test]
#[ignore = "run inside a namespace by etcd_keeps_its_promises"]
fn what_was_read_before_fits_nothing_afterwards_and_goes_home_as_it_is() {
    let cluster = Cluster::start(1, Fsync::Off);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    let source = SqliteStore::open(&path).unwrap();
    // More revisions than this etcd has.
    for n in 0..300 {
        run(put(&source, &key(&format!("n{:03}", n % 150)), json!({"n": n, "text": "a \"b\" ü"})));
    }
    let before = run(source.list_raw(None, None)).unwrap();
    let target = cluster.store();
    let base = before.revision.0.saturating_sub(run(target.own_revision()).unwrap().0);
    assert!(base > 250);
    let filling = run(target.write_record(&record(RecordState::Filling, base), None)).unwrap();
    run(copy_into(&target.under(&filling), &before)).unwrap();
    let after = run(target.list_raw(None, None)).unwrap();
    assert_eq!(Digest::of(&after).unwrap(), Digest::of(&before).unwrap());
    assert!(
        after.items.iter().all(|item| item.revision > before.revision),
        "all are newer than any of before"
    );
    let current = run(target.write_record(&record(RecordState::Current, base), Some(&filling))).unwrap();
    // Another process, which learns how revisions are counted from the record.
    let store = cluster.store();
    assert_eq!(
        run(store.get(&key("n007"))).unwrap().unwrap().revision,
        run(target.get(&key("n007"))).unwrap().unwrap().revision
    );
    // Whatever is written, no revision that the old store gave out ever fits.
    for n in 0..400 {
        run(put(&store, &key("n007"), numbered(n)));
    }
    for old in
        before.items.iter().map(|item| item.revision).chain([before.revision, Revision(0), Revision(1)])
    {
        let write = Transaction::new().put(key("n007"), numbered(0), Precondition::Revision(old));
        assert!(
            matches!(run(store.commit(write)), Err(StoreError::Conflict { found: Some(_), .. })),
            "{old}"
        );
    }
    let seen = run(store.get(&key("n007"))).unwrap().unwrap().revision;
    let write = Transaction::new().put(key("n007"), numbered(1), Precondition::Revision(seen));
    assert!(run(store.commit(write)).unwrap() > seen);
    // The old one is given up only as it was copied, and then for good.
    run(put(&source, &key("late"), numbered(1)));
    assert!(SqliteStore::give_up(&path, before.revision).unwrap_err().to_string().contains("somebody wrote"));
    let head = run(source.list_raw(None, None)).unwrap().revision;
    SqliteStore::give_up(&path, head).unwrap();
    let error =
        run(source.commit(Transaction::new().put(key("x"), numbered(1), Precondition::Any))).unwrap_err();
    assert!(matches!(error, StoreError::Moved { .. }), "even by who had it open: {error}");
    for opened in [SqliteStore::open(&path), SqliteStore::open_read_only(&path)] {
        assert!(matches!(opened, Err(StoreError::Moved { .. })));
    }
    // Who writes under a record that has changed is refused.
    let guarded = store.under(&current);
    run(put(&guarded, &key("n001"), numbered(1)));
    run(store.write_record(&record(RecordState::Leaving, base), Some(&current))).unwrap();
    let write = || Transaction::new().put(key("n001"), numbered(2), Precondition::Any);
    assert!(matches!(run(guarded.commit(write())), Err(StoreError::Moved { .. })));
    let twice = run(store.write_record(&record(RecordState::Left, base), Some(&current)));
    assert!(matches!(twice, Err(StoreError::Moved { .. })));
    // Home: every object keeps its revision, and compare-and-set goes on with it.
    let home = dir.path().join("home.db");
    let listing = run(store.list_raw(None, None)).unwrap();
    SqliteStore::create_from(&listing, &home).unwrap();
    let home = SqliteStore::open(&home).unwrap();
    let there = run(home.list_raw(None, None)).unwrap();
    let revisions = |listing: &ashlar_store::RawListing| {
        listing.items.iter().map(|item| (item.key.clone(), item.revision)).collect::<Vec<_>>()
    };
    assert_eq!((there.revision, revisions(&there)), (listing.revision, revisions(&listing)));
    assert_eq!(Digest::of(&there).unwrap(), Digest::of(&listing).unwrap());
    let seen = run(home.get(&key("n007"))).unwrap().unwrap().revision;
    let write = Transaction::new().put(key("n007"), numbered(9), Precondition::Revision(seen));
    assert!(run(home.commit(write)).unwrap() > listing.revision);
    let old = run(home.watch(None, seen));
    assert!(matches!(old, Err(StoreError::Compacted { .. })), "what changed before is not known here");
}

#[test]
#[ignore = "run inside a namespace by etcd_keeps_its_promises"]
fn who_no_longer_leads_commits_nothing_and_names_are_taken_once() {
    let cluster = Cluster::start(1, Fsync::Off);
    let store: EtcdStore = cluster.store();
    let (a, b) = (
        EtcdElection::new(&store, candidate("a", Role::Daemon)),
        EtcdElection::new(&store, candidate("b", Role::Daemon)),
    );
    let first = run(a.lead()).unwrap().unwrap();
    assert!(
        run(a.lead()).unwrap().is_some_and(|again| again.number == first.number),
        "once elected, it stays so"
    );
    assert!(run(b.lead()).unwrap().is_none());
    assert_eq!(run(store.leader()).unwrap().unwrap().candidate.name, "a");
    assert_eq!(run(store.daemons()).unwrap().len(), 2);
    let twin = EtcdElection::new(&store, candidate("a", Role::Daemon));
    assert!(matches!(run(twin.lead()), Err(StoreError::NameTaken { .. })));
    let head = run(put(&first.store, &key("x"), numbered(1)));
    run(first.resign()).unwrap();
    let second = run(b.lead()).unwrap().unwrap();
    assert!(second.number > first.number);
    let write = |n| Transaction::new().put(key("x"), numbered(n), Precondition::Revision(head));
    assert!(matches!(run(first.store.commit(write(2))), Err(StoreError::Deposed)));
    // Told before any conflict, which would be a reason to try again.
    run(second.store.commit(write(3))).unwrap();
    assert!(matches!(run(first.store.commit(write(4))), Err(StoreError::Deposed)));
    let error = run(first.store.write_record(&record(RecordState::Current, 0), None)).unwrap_err();
    assert!(matches!(error, StoreError::Deposed));
    // A request, and its answer by whoever leads.
    let posted = run(store.post("do it".to_owned())).unwrap();
    let letters = run(second.store.letters()).unwrap();
    assert_eq!(letters.iter().map(|letter| letter.text.as_str()).collect::<Vec<_>>(), ["do it"]);
    run(first.store.answer(letters[0].id, "by the old one".to_owned())).unwrap();
    run(second.store.answer(letters[0].id, "done".to_owned())).unwrap();
    run(second.store.answer(letters[0].id, "done again".to_owned())).unwrap();
    assert_eq!(run(posted.answer()).unwrap(), "done");
    run(posted.withdraw()).unwrap();
    assert!(run(second.store.letters()).unwrap().is_empty());
}
