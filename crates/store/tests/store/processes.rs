//! What needs a second process: being killed in the middle, full and read-only file systems, the engine lock.
//!
//! The second process is this test program itself, started with the name of one of the `child_*` tests; run by
//! themselves these do nothing.

use std::{
    env,
    io::{BufRead, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
};

use crate::suite::{key, put, run, value_of};
use ashlar_store::{EngineLock, LockError, Precondition, SqliteStore, Store, StoreError, Transaction};
use serde_json::json;

const PLACE: &str = "ASHLAR_STORE_TEST_PLACE";

fn child(name: &str, place: &Path, launcher: &[&str]) -> Command {
    let program = env::current_exe().expect("this program");
    let mut words = launcher.iter().map(|word| (*word).to_owned()).chain([program.display().to_string()]);
    let mut command = Command::new(words.next().expect("a program"));
    command
        .args(words)
        .args(["--exact", &format!("processes::{name}"), "--nocapture", "--test-threads=1"])
        .env(PLACE, place);
    command
}

fn place_of_child() -> Option<PathBuf> {
    env::var_os(PLACE).map(PathBuf::from)
}

/// Tells the parent something; one write, so that lines of several threads do not mix.
fn say(line: String) {
    std::io::stdout().write_all(format!("\n@{line}\n").as_bytes()).expect("stdout");
}

/// What the child says, line by line.
fn heard(child: &mut Child) -> impl Iterator<Item = String> + use<> {
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    lines.map_while(Result::ok).filter_map(|line| line.strip_prefix('@').map(str::to_owned))
}

const WRITERS: u64 = 4;
const PARTS: u64 = 7;

/// Commits for ever: each writer puts its round number under several keys at once, and says when it is done.
#[test]
fn child_commits_until_killed() {
    let Some(place) = place_of_child() else { return };
    let store = Arc::new(SqliteStore::open(place).expect("store"));
    let threads: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let store = Arc::clone(&store);
            thread::spawn(move || {
                let part = |n| key(&format!("w{writer}-{n}"));
                let start =
                    run(value_of(&*store, &part(0))).map_or(0, |v| v["round"].as_u64().expect("round"));
                for round in start + 1.. {
                    let transaction = (0..PARTS).fold(Transaction::new(), |transaction, n| {
                        let value = json!({"round": round, "text": "x".repeat(500)});
                        transaction.put(part(n), value, Precondition::Any)
                    });
                    let revision = run(store.commit(transaction)).expect("commit");
                    say(format!("{writer} {round} {revision}"));
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("writer");
    }
}

#[test]
fn what_was_acknowledged_survives_being_killed() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("store.db");
    for kill in 0..8_usize {
        let mut process =
            child("child_commits_until_killed", &path, &[]).stdout(Stdio::piped()).spawn().expect("child");
        // Killed after a number of commits that differs each time, in the middle of whatever comes next.
        let mut lines = heard(&mut process);
        let mut acknowledged: Vec<String> = lines.by_ref().take(3 + kill * 29).collect();
        process.kill().expect("SIGKILL");
        process.wait().expect("reaped");
        acknowledged.extend(lines);

        let mut rounds = [0; WRITERS as usize];
        let mut newest = 0;
        for line in &acknowledged {
            // The last line may be cut short by the kill.
            let numbers: Vec<u64> = line.split(' ').map_while(|word| word.parse().ok()).collect();
            if let [writer, round, revision] = numbers[..] {
                rounds[writer as usize] = round;
                newest = newest.max(revision);
            }
        }
        assert!(newest > 0, "{acknowledged:?}");
        let store = SqliteStore::open(&path).expect("opened after the kill");
        run(store.verify()).expect("whole");
        let listing = run(store.list(None, None)).expect("list");
        assert!(listing.revision.0 >= newest, "{} after {newest} was acknowledged", listing.revision);
        for (writer, round) in rounds.into_iter().enumerate() {
            let prefix = format!("w{writer}-");
            let parts: Vec<_> =
                listing.items.iter().filter(|item| item.key.name.starts_with(&prefix)).collect();
            assert!(
                parts.len() as u64 == PARTS || (parts.is_empty() && round == 0),
                "{writer}: {}",
                parts.len()
            );
            for part in &parts {
                assert_eq!(part.revision, parts[0].revision, "half a commit of writer {writer}");
                assert_eq!(part.value["round"], parts[0].value["round"]);
                assert!(
                    part.value["round"].as_u64() >= Some(round),
                    "round {round} of {writer} was acknowledged"
                );
            }
        }
    }
}

/// Runs in a mount namespace of its own, in which `place` is a file system of one megabyte.
#[test]
fn child_fills_its_file_system() {
    let Some(place) = place_of_child() else { return };
    let path = place.join("store.db");
    let store = SqliteStore::open(&path).expect("store");
    let ballast = place.join("ballast");
    std::fs::write(&ballast, vec![7; 200_000]).expect("ballast");
    let mut stored = 0_u64;
    let error = loop {
        let value = json!({"text": "x".repeat(5000)});
        let transaction = Transaction::new().put(key(&format!("n{stored}")), value, Precondition::Absent);
        match run(store.commit(transaction)) {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
        assert!(stored < 1000, "the file system was never full");
    };
    assert!(matches!(error, StoreError::Full { .. }), "{error:?}");
    assert!(error.to_string().contains("no space left"), "{error}");
    let listing = run(store.list(None, None)).expect("reading goes on");
    assert_eq!((listing.items.len() as u64, listing.revision.0), (stored, stored));
    std::fs::remove_file(&ballast).expect("space again");
    run(put(&store, &key("after"), json!(1)));
    run(store.verify()).expect("whole");
    drop(store);
    say(format!("filled after {stored}"));

    remount(&place, "ro");
    for (what, result) in
        [("open", SqliteStore::open(&path)), ("new", SqliteStore::open(place.join("new.db")))]
    {
        let error = result.expect_err(what);
        assert!(matches!(error, StoreError::ReadOnly { .. }), "{what}: {error:?}");
        assert!(error.to_string().contains("read-only"), "{error}");
    }
    say("refused to write".to_owned());
}

fn remount(place: &Path, option: &str) {
    let status = Command::new("mount").args(["-o", &format!("remount,{option}")]).arg(place).status();
    assert!(status.expect("mount").success());
}

#[test]
fn full_and_read_only_file_systems_are_clear_errors() {
    let directory = tempfile::tempdir().expect("directory");
    let script = "mount -t tmpfs -o size=1m tmpfs \"$1\" && shift && exec \"$@\"";
    let place = directory.path().display().to_string();
    // As root a mount namespace is enough; anybody else needs a user namespace with it.
    let namespaces = if nix::unistd::geteuid().is_root() { "-m" } else { "-Urm" };
    let launcher = ["unshare", namespaces, "sh", "-c", script, "sh", &place];
    let output = child("child_fills_its_file_system", directory.path(), &launcher).output().expect("child");
    let text = String::from_utf8_lossy(&output.stdout);
    let said: Vec<_> = text.lines().filter(|line| line.starts_with('@')).collect();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(
        matches!(said[..], [filled, "@refused to write"] if filled.starts_with("@filled after ")),
        "{said:?}"
    );
}

/// Holds the lock until its standard input ends, or it is killed.
#[test]
fn child_holds_the_lock() {
    let Some(place) = place_of_child() else { return };
    let lock = EngineLock::try_acquire(place, "ashlar serve").expect("free");
    say("held".to_owned());
    std::io::stdin().lines().for_each(drop);
    drop(lock);
    say("released".to_owned());
    // Still alive, and no longer the holder: the parent checks, then kills.
    loop {
        thread::park();
    }
}

#[test]
fn the_engine_lock_is_one_across_processes_and_ends_with_them() {
    let directory = tempfile::tempdir().expect("directory");
    for release in [true, false] {
        let mut holder = child("child_holds_the_lock", directory.path(), &[])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("child");
        let mut lines = heard(&mut holder);
        assert_eq!(lines.next().as_deref(), Some("held"));
        let error = EngineLock::try_acquire(directory.path(), "ashlar apply").expect_err("held");
        let LockError::Held { pid, command, .. } = &error else { panic!("{error:?}") };
        assert_eq!((*pid, command.as_str()), (holder.id(), "ashlar serve"));
        assert!(error.to_string().contains("`ashlar serve`"), "{error}");
        if release {
            drop(holder.stdin.take());
            assert_eq!(lines.next().as_deref(), Some("released"));
            drop(EngineLock::try_acquire(directory.path(), "ashlar apply").expect("released, holder alive"));
        }
        holder.kill().expect("SIGKILL");
        holder.wait().expect("reaped");
        drop(
            EngineLock::try_acquire(directory.path(), "ashlar apply").expect("free after the holder's death"),
        );
    }
}
