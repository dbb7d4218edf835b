//! Three members, of which some go away.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use ashlar_store::{Precondition, Revision, Store, StoreError, Transaction, Watch};
use nix::sys::signal::Signal;
use serde_json::json;

use crate::members::{Cluster, Fsync};
use crate::suite::{changes_up_to, key, numbered, put, run};

const DEADLINE: Duration = Duration::from_secs(60);

/// Puts until it is done; says how long the longest pause was. A commit whose outcome is unknown is read back.
fn put_surely(store: &dyn Store, name: &str, n: u64) -> (Revision, Duration) {
    let began = Instant::now();
    loop {
        let transaction = Transaction::new().put(key(name), numbered(n), Precondition::Absent);
        match run(store.commit(transaction)) {
            Ok(revision) => return (revision, began.elapsed()),
            Err(StoreError::Conflict { found: Some(found), .. }) => return (found, began.elapsed()),
            Err(error) => assert!(began.elapsed() < DEADLINE, "{error}"),
        }
    }
}

/// The revisions that a watch sees, until it has seen the last.
fn follow(mut watch: Watch, last: &Receiver<Revision>) -> Vec<Revision> {
    let (mut seen, mut end) = (Vec::new(), None);
    while end.is_none_or(|end| watch.resume_from() < end) {
        match run(watch.next()) {
            Ok(change) => seen.push(change.revision),
            // Told when no member answered for long; asked again it goes on.
            Err(StoreError::Unavailable { .. }) => {}
            Err(error) => panic!("{error}"),
        }
        end = end.or_else(|| last.try_recv().ok());
    }
    seen
}

#[test]
#[ignore = "run inside a namespace by etcd_keeps_its_promises"]
fn a_member_that_is_killed_or_frozen_loses_nothing_and_watches_go_on() {
    let mut cluster = Cluster::start(3, Fsync::On);
    let store = Arc::new(cluster.store());
    let watch = run(store.watch(None, Revision(0))).unwrap();
    let (last_known, last_told) = channel();
    let watcher = std::thread::spawn(move || follow(watch, &last_told));
    let done = Arc::new(AtomicBool::new(false));
    let writer = std::thread::spawn({
        let (store, done) = (Arc::clone(&store), Arc::clone(&done));
        move || {
            let (mut revisions, mut longest) = (Vec::new(), Duration::ZERO);
            for n in 0.. {
                let (revision, took) = put_surely(&*store, &format!("n{n:05}"), n);
                revisions.push(revision);
                longest = longest.max(took);
                if done.load(Ordering::Relaxed) {
                    break;
                }
            }
            (revisions, longest)
        }
    });
    let settle = |seconds| std::thread::sleep(Duration::from_secs(seconds));
    for member in 1..=3 {
        settle(2);
        cluster.kill(member);
        settle(4);
        cluster.start_again(member);
        settle(4);
        cluster.signal(member, Signal::SIGSTOP);
        settle(8);
        cluster.signal(member, Signal::SIGCONT);
        settle(2);
    }
    done.store(true, Ordering::Relaxed);
    let (revisions, longest) = writer.join().unwrap();
    let last = *revisions.last().unwrap();
    // Every write that was acknowledged is there, once and in order, and the watch saw just those.
    let listing = run(store.list(None, None)).unwrap();
    let listed: Vec<_> = listing.items.iter().map(|item| item.revision).collect();
    assert_eq!(listed, revisions);
    last_known.send(last).unwrap();
    // One more, so that a watch that has seen them all comes round once more.
    let (extra, _) = put_surely(&*store, "extra", 0);
    let mut seen = watcher.join().unwrap();
    seen.retain(|revision| *revision != extra);
    assert_eq!(seen, revisions);
    println!("{} writes over kills and pauses of each member; longest pause {longest:?}", revisions.len());
    assert!(longest < Duration::from_secs(30), "{longest:?}");
}

#[test]
#[ignore = "run inside a namespace by etcd_keeps_its_promises"]
fn without_a_majority_nothing_is_read_or_written_and_with_it_all_goes_on() {
    let mut cluster = Cluster::start(3, Fsync::On);
    let store = cluster.store();
    let before = run(put(&store, &key("a"), numbered(1)));
    cluster.kill(2);
    cluster.kill(3);
    let began = Instant::now();
    let error = run(store.list(None, None)).unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
    let error =
        run(store.commit(Transaction::new().put(key("a"), numbered(2), Precondition::Any))).unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
    assert!(began.elapsed() < Duration::from_secs(45), "a deadline for each member: {:?}", began.elapsed());
    cluster.start_again(2);
    let (after, _) = put_surely(&store, "b", 3);
    assert!(after > before);
    let mut watch = run(store.watch(None, before)).unwrap();
    let changes = run(changes_up_to(&mut watch, after));
    assert_eq!(changes.last().unwrap().key, key("b"));
}

#[test]
#[ignore = "run inside a namespace by etcd_keeps_its_promises"]
fn strangers_are_not_let_in_and_tenants_do_not_meet() {
    let cluster = Cluster::start(1, Fsync::Off);
    let error = run(cluster.stranger().list(None, None)).unwrap_err().to_string();
    assert!(error.contains("etcd at https://127."), "{error}");
    // What lies beside the prefix is nobody's here, and moves the revision.
    let store = cluster.store();
    let options = ashlar_store::EtcdOptions { prefix: "/ashlar2".to_owned(), ..cluster.options() };
    let other = ashlar_store::EtcdStore::open(&options).unwrap();
    let first = run(put(&store, &key("a"), json!({"of": "one"})));
    run(put(&other, &key("a"), json!({"of": "two"})));
    let second = run(put(&store, &key("b"), json!({"of": "one"})));
    assert_eq!(second.0, first.0 + 2);
    let mut watch = run(store.watch(None, Revision(0))).unwrap();
    let seen: Vec<_> =
        run(changes_up_to(&mut watch, second)).into_iter().map(|change| change.revision).collect();
    assert_eq!(seen, [first, second]);
    assert_eq!(run(other.list(None, None)).unwrap().items.len(), 1);
    let far = cluster.options();
    for (endpoint, said) in [("http://127.0.0.1:2379", "write https://"), ("nothing", "write https://")] {
        let options = ashlar_store::EtcdOptions { endpoints: vec![endpoint.to_owned()], ..far.clone() };
        let error = ashlar_store::EtcdStore::open(&options).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
    let nobody = ashlar_store::EtcdOptions { endpoints: vec!["https://127.8.255.1:2379".to_owned()], ..far };
    let error =
        run(ashlar_store::EtcdStore::open(&nobody).unwrap().list(None, None)).unwrap_err().to_string();
    assert!(error.contains("127.8.255.1") && error.contains("refused"), "{error}");
}
