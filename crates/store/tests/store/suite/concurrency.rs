//! What holds when many writers work at once.

use std::{sync::Arc, thread};

use ashlar_store::{Precondition, Revision, Store, StoreError, Transaction};
use serde_json::json;

use super::{changes_up_to, head, key, numbered, put, run};

const WRITERS: u64 = 8;

/// Runs `work(writer)` on as many threads as there are writers, and returns their results.
fn in_parallel<T: Send + 'static>(work: impl Fn(u64) -> T + Send + Sync + 'static) -> Vec<T> {
    let work = Arc::new(work);
    let threads: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let work = Arc::clone(&work);
            thread::spawn(move || work(writer))
        })
        .collect();
    threads.into_iter().map(|thread| thread.join().expect("writer")).collect()
}

pub(crate) async fn one_of_many_cas_writers_wins(store: Arc<dyn Store>) {
    let mut expect = Precondition::Absent;
    for round in 0..20 {
        let shared = Arc::clone(&store);
        let results = in_parallel(move |writer| {
            let transaction = Transaction::new().put(key("prize"), json!([round, writer]), expect);
            (writer, run(shared.commit(transaction)))
        });
        let winners: Vec<_> = results.iter().filter(|(_, result)| result.is_ok()).collect();
        assert_eq!(winners.len(), 1, "round {round}: {results:?}");
        let (winner, Ok(revision)) = winners[0] else { panic!("no winner") };
        for (_, result) in results.iter().filter(|(writer, _)| writer != winner) {
            let lost = matches!(result, Err(StoreError::Conflict { found: Some(f), .. }) if f == revision);
            assert!(lost, "{result:?}");
        }
        let stored = store.get(&key("prize")).await.expect("get").expect("exists");
        assert_eq!((stored.revision, stored.value), (*revision, json!([round, winner])));
        expect = Precondition::Revision(*revision);
    }
}

pub(crate) async fn counters_lose_no_increment(store: Arc<dyn Store>) {
    const EACH: u64 = 25;
    put(&*store, &key("counter"), numbered(0)).await;
    let shared = Arc::clone(&store);
    in_parallel(move |_| {
        run(async {
            let mut done = 0;
            while done < EACH {
                let stored = shared.get(&key("counter")).await.expect("get").expect("exists");
                let next = numbered(stored.value["n"].as_u64().expect("n") + 1);
                let transaction =
                    Transaction::new().put(stored.key, next, Precondition::Revision(stored.revision));
                match shared.commit(transaction).await {
                    Ok(_) => done += 1,
                    Err(error) => assert!(error.is_conflict(), "{error:?}"),
                }
            }
        });
    });
    let stored = store.get(&key("counter")).await.expect("get").expect("exists");
    assert_eq!(stored.value, numbered(WRITERS * EACH));
    // The counter's first put, then exactly one revision for each increment: conflicts used none up.
    assert_eq!(head(&*store).await, Revision(1 + WRITERS * EACH));
}

pub(crate) async fn transfers_keep_the_sum(store: Arc<dyn Store>) {
    // Accounts that only ever change in pairs: any lost or half-done transaction changes the sum.
    const ACCOUNTS: u64 = 5;
    const START: u64 = 1000;
    let name = |n: u64| key(&format!("account{}", n % ACCOUNTS));
    for n in 0..ACCOUNTS {
        put(&*store, &name(n), numbered(START)).await;
    }
    let shared = Arc::clone(&store);
    in_parallel(move |writer| {
        run(async {
            for step in 0..30 {
                let (from, to) = (name(writer + step), name(writer + 2 * step + 1));
                if from == to {
                    continue;
                }
                let read = async |key| shared.get(key).await.expect("get").expect("exists");
                let (a, b) = (read(&from).await, read(&to).await);
                let n = |stored: &ashlar_store::Stored| stored.value["n"].as_u64().expect("n");
                let (less, more) = (numbered(n(&a) - 1), numbered(n(&b) + 1));
                let transaction = Transaction::new().put(from, less, Precondition::Revision(a.revision)).put(
                    to,
                    more,
                    Precondition::Revision(b.revision),
                );
                if let Err(error) = shared.commit(transaction).await {
                    assert!(error.is_conflict(), "{error:?}");
                }
            }
        });
    });
    let listing = store.list(Some("Machine"), None).await.expect("list");
    let sum: u64 = listing.items.iter().map(|item| item.value["n"].as_u64().expect("n")).sum();
    assert_eq!(sum, ACCOUNTS * START);
}

pub(crate) async fn watchers_agree_under_load(store: Arc<dyn Store>) {
    const EACH: u64 = 40;
    let watchers: Vec<_> = (0..3)
        .map(|_| {
            let store = Arc::clone(&store);
            thread::spawn(move || {
                run(async {
                    let mut watch = store.watch(None, Revision(0)).await.expect("watch");
                    changes_up_to(&mut watch, Revision(WRITERS * EACH)).await
                })
            })
        })
        .collect();
    let shared = Arc::clone(&store);
    in_parallel(move |writer| {
        run(async {
            for n in 0..EACH {
                put(&*shared, &key(&format!("w{writer}")), numbered(n)).await;
            }
        });
    });
    for watcher in watchers {
        let changes = watcher.join().expect("watcher");
        let revisions: Vec<_> = changes.iter().map(|c| c.revision.0).collect();
        assert_eq!(revisions, (1..=WRITERS * EACH).collect::<Vec<_>>());
        for writer in 0..WRITERS {
            let own = changes.iter().filter(|c| c.key == key(&format!("w{writer}")));
            let values: Vec<_> = own.map(|c| c.value.clone().expect("value")).collect();
            assert_eq!(values, (0..EACH).map(numbered).collect::<Vec<_>>());
        }
    }
}
