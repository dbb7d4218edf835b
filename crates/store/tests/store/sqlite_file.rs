//! What only a store in a file can get wrong: its file, its other processes, its history's length.

use std::{fs, io::Write as _, os::unix::fs::PermissionsExt, path::Path, time::Duration};

use crate::suite::{head, key, numbered, put, run, value_of};
use ashlar_store::{Precondition, Revision, SqliteOptions, SqliteStore, Store, StoreError, Transaction};
use rusqlite::Connection;
use tempfile::TempDir;

fn place() -> (TempDir, std::path::PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("state/store.db");
    (directory, path)
}

/// A store with some objects in it, closed.
fn filled(path: &Path) {
    let store = SqliteStore::open(path).expect("a new store");
    for n in 0..200 {
        run(put(&store, &key(&format!("n{n}")), serde_json::json!({"text": "x".repeat(600)})));
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("metadata").permissions().mode() & 0o777
}

#[test]
fn everything_survives_closing() {
    let (_directory, path) = place();
    let store = SqliteStore::open(&path).expect("a new store");
    let revision = run(put(&store, &key("a"), numbered(1)));
    drop(store);
    let store = SqliteStore::open(&path).expect("opened again");
    assert_eq!(run(value_of(&store, &key("a"))), Some(numbered(1)));
    let mut watch = run(store.watch(None, Revision(0))).expect("history survives too");
    assert_eq!(run(watch.next()).expect("change").revision, revision);
    run(store.verify()).expect("whole");
    drop(store);
    let reader = SqliteStore::open_read_only(&path).expect("opened to read");
    assert_eq!(run(head(&reader)), revision);
    let error = run(reader.commit(Transaction::new())).expect_err("a reader does not write");
    assert!(matches!(error, StoreError::ReadOnly { .. }), "{error:?}");
}

#[test]
fn only_the_owner_can_read_it() {
    let (_directory, path) = place();
    let store = SqliteStore::open(&path).expect("a new store");
    run(put(&store, &key("a"), numbered(1)));
    assert_eq!(mode(path.parent().expect("parent")), 0o700);
    for suffix in ["", "-wal", "-shm"] {
        assert_eq!(mode(Path::new(&format!("{}{suffix}", path.display()))), 0o600, "{suffix}");
    }
    drop(store);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("a careless copy");
    drop(SqliteStore::open(&path).expect("opened again"));
    assert_eq!(mode(&path), 0o600);
}

#[test]
fn a_reader_makes_nothing() {
    let (directory, path) = place();
    let error = SqliteStore::open_read_only(&path).expect_err("nothing there");
    assert!(matches!(error, StoreError::Missing { .. }), "{error:?}");
    assert_eq!(fs::read_dir(directory.path()).expect("directory").count(), 0);
}

#[test]
fn what_is_not_a_store_is_refused_and_left_alone() {
    let (_directory, path) = place();
    fs::create_dir_all(path.parent().expect("parent")).expect("made");
    let foreign = |bytes: &[u8]| {
        fs::write(&path, bytes).expect("written");
        for result in [SqliteStore::open(&path), SqliteStore::open_read_only(&path)] {
            let error = result.expect_err("not a store");
            assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
        }
        assert_eq!(fs::read(&path).expect("still there"), bytes);
    };
    foreign(b"");
    foreign(b"not a database, but longer than the hundred bytes of a header: ".repeat(99).as_slice());
    fs::remove_file(&path).expect("removed");
    let other = Connection::open(&path).expect("somebody else's database");
    other.execute_batch("CREATE TABLE t (x)").expect("table");
    drop(other);
    foreign(&fs::read(&path).expect("read"));
}

#[test]
fn damage_is_found_and_left_alone() {
    let (_directory, path) = place();
    filled(&path);
    let whole = fs::read(&path).expect("read");
    // A file cut short, a file whose tables were overwritten, a file with a page of zeros in the middle.
    let cut = whole[..whole.len() / 2].to_vec();
    let mut scribbled = whole.clone();
    scribbled[8192..].fill(0x5a);
    let mut holed = whole.clone();
    let middle = whole.len() / 2 / 8192 * 8192;
    holed[middle..middle + 8192].fill(0);
    for (what, bytes) in [("cut", cut), ("scribbled", scribbled), ("holed", holed)] {
        fs::write(&path, &bytes).expect("damaged");
        let outcome = SqliteStore::open(&path).and_then(|store| {
            run(store.verify())?;
            run(store.list(None, None)).map(drop)
        });
        let error = outcome.expect_err(what);
        assert!(matches!(error, StoreError::Corrupt { .. }), "{what}: {error:?}");
        assert!(error.to_string().contains("restore it from a copy"), "{error}");
        assert_eq!(fs::read(&path).expect("still there"), bytes, "{what}");
    }
}

#[test]
fn a_value_that_is_not_json_names_its_object() {
    let (_directory, path) = place();
    filled(&path);
    let meddler = Connection::open(&path).expect("opened beside");
    meddler.execute("UPDATE objects SET value = '{' WHERE name = 'n7'", []).expect("meddled");
    let store = SqliteStore::open(&path).expect("opened");
    for error in
        [run(store.get(&key("n7"))).expect_err("damaged"), run(store.list(None, None)).expect_err("damaged")]
    {
        assert!(
            matches!(&error, StoreError::Corrupt { detail, .. } if detail.contains("Machine/blue/n7")),
            "{error}"
        );
    }
}

#[test]
fn a_lost_file_is_not_replaced_while_its_log_is_there() {
    let (_directory, path) = place();
    let store = SqliteStore::open(&path).expect("a new store");
    run(put(&store, &key("a"), numbered(1)));
    fs::remove_file(&path).expect("removed by somebody");
    let error = SqliteStore::open(&path).expect_err("not a new store");
    assert!(matches!(&error, StoreError::Corrupt { detail, .. } if detail.contains("log")), "{error}");
    assert!(!path.exists());
}

#[test]
fn a_newer_format_is_refused() {
    let (_directory, path) = place();
    filled(&path);
    let newer = Connection::open(&path).expect("opened beside");
    newer.pragma_update(None, "user_version", 99).expect("marked");
    drop(newer);
    for result in [SqliteStore::open(&path), SqliteStore::open_read_only(&path)] {
        let error = result.expect_err("newer");
        assert!(matches!(error, StoreError::NewerFormat { found: 99, .. }), "{error:?}");
        assert!(error.to_string().contains("written by a newer Ashlar"), "{error}");
    }
}

#[test]
fn two_processes_may_make_it_at_once() {
    let (_directory, path) = place();
    let threads: Vec<_> = (0..8)
        .map(|n| {
            let path = path.clone();
            std::thread::spawn(move || {
                let store = SqliteStore::open(&path).expect("made by one, opened by all");
                run(put(&store, &key(&format!("n{n}")), numbered(n)));
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("opener");
    }
    let store = SqliteStore::open_read_only(&path).expect("opened");
    assert_eq!(run(store.list(None, None)).expect("list").items.len(), 8);
    assert_eq!(run(head(&store)), Revision(8));
    let names: Vec<_> = fs::read_dir(path.parent().expect("parent"))
        .expect("directory")
        .map(|entry| entry.expect("entry").file_name().into_string().expect("name"))
        .filter(|name| name.contains("new"))
        .collect();
    assert!(names.is_empty(), "left behind: {names:?}");
}

#[test]
fn watches_see_what_other_connections_write() {
    let (_directory, path) = place();
    let watcher = SqliteStore::open(&path).expect("a new store");
    let other = SqliteStore::open(&path).expect("as another process would");
    let mut watch = run(watcher.watch(None, Revision(0))).expect("watch");
    for n in 0..3 {
        let revision = run(put(&other, &key("a"), numbered(n)));
        assert_eq!(run(watch.next()).expect("change").revision, revision);
    }
    // A watch outlives its store as long as the file does.
    drop(watcher);
    let revision = run(put(&other, &key("a"), numbered(3)));
    assert_eq!(run(watch.next()).expect("change").revision, revision);
}

#[test]
fn a_lock_held_too_long_is_an_error_in_time() {
    let (_directory, path) = place();
    let mut options = SqliteOptions::default();
    options.busy_timeout = Duration::from_millis(100);
    let store = SqliteStore::open_with(&path, options).expect("a new store");
    let holder = Connection::open(&path).expect("opened beside");
    holder.execute_batch("BEGIN IMMEDIATE").expect("locked");
    let error = run(store.commit(Transaction::new().put(key("a"), numbered(1), Precondition::Any)));
    let error = error.expect_err("locked");
    assert!(
        matches!(&error, StoreError::Unavailable { reason, .. } if reason.contains("locked")),
        "{error:?}"
    );
    assert_eq!(run(value_of(&store, &key("a"))), None, "readers are not held up");
    holder.execute_batch("ROLLBACK").expect("unlocked");
    run(put(&store, &key("a"), numbered(1)));
}

#[test]
fn scanning_shows_what_listing_lists() {
    let (_directory, path) = place();
    filled(&path);
    let store = SqliteStore::open_read_only(&path).expect("opened");
    let listing = run(store.list_raw(Some("Machine"), Some("blue"))).expect("list");
    let look = |row: ashlar_store::Row<'_>| {
        let key = ashlar_store::Key::new(row.kind, row.namespace, row.name);
        (key, row.revision, row.json.to_owned())
    };
    let (revision, seen) = run(store.scan(Some("Machine"), Some("blue"), look)).expect("scan");
    assert_eq!((revision, seen.len()), (listing.revision, 200));
    for (raw, (key, revision, json)) in listing.items.into_iter().zip(seen) {
        let parsed = raw.parse().expect("JSON");
        assert_eq!((parsed.key, parsed.revision, parsed.value.to_string()), (key, revision, json));
    }
    assert_eq!(run(store.scan(Some("Host"), None, |_| ())).expect("scan").1, []);
}

#[test]
fn history_is_bounded() {
    let (_directory, path) = place();
    let mut options = SqliteOptions::default();
    options.retained_revisions = 10;
    let store = SqliteStore::open_with(&path, options).expect("a new store");
    for n in 0..300 {
        run(put(&store, &key("a"), numbered(n)));
    }
    let error = run(store.watch(None, Revision(100))).expect_err("long gone");
    let StoreError::Compacted { oldest } = error else { panic!("{error:?}") };
    assert!(Revision(200) < oldest && oldest <= Revision(290), "{oldest}");
    let mut watch = run(store.watch(None, Revision(290))).expect("kept");
    assert_eq!(run(watch.next()).expect("change").revision, Revision(291));
}

#[test]
fn an_unreadable_parent_is_a_clear_error() {
    let (directory, _) = place();
    let file = directory.path().join("file");
    fs::File::create(&file).and_then(|mut f| f.write_all(b"x")).expect("written");
    let error = SqliteStore::open(file.join("store.db")).expect_err("not a directory");
    assert!(error.to_string().contains("store.db"), "{error}");
}
