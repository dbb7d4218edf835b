//! What watching promises.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::Poll,
};

use ashlar_store::{Key, Precondition, Revision, Store, StoreError, Transaction};
use serde_json::json;

use super::{changes_up_to, delete, head, key, names, numbered, put, value_of};

pub(crate) async fn watch_sees_every_change_once_in_order(store: Arc<dyn Store>) {
    put(&*store, &key("before"), numbered(0)).await;
    let listing = store.list(None, None).await.expect("list");
    let mut watch = store.watch(None, listing.revision).await.expect("watch");
    let first = put(&*store, &key("a"), numbered(1)).await;
    let second = put(&*store, &key("a"), numbered(2)).await;
    let both = Transaction::new()
        .put(key("z"), numbered(3), Precondition::Absent)
        .check(key("before"), Precondition::Any)
        .delete(key("a"), Precondition::Any);
    let third = store.commit(both).await.expect("commit");
    let changes = changes_up_to(&mut watch, third).await;
    let seen: Vec<_> = changes.iter().map(|c| (c.revision, c.key.name.as_str(), c.value.clone())).collect();
    let expected = vec![
        (first, "a", Some(numbered(1))),
        (second, "a", Some(numbered(2))),
        (third, "z", Some(numbered(3))),
        (third, "a", None),
    ];
    assert_eq!(seen, expected);
}

pub(crate) async fn watch_of_a_kind_sees_only_it(store: Arc<dyn Store>) {
    let mut watch = store.watch(Some("Host"), Revision(0)).await.expect("watch");
    put(&*store, &key("a"), numbered(1)).await;
    let host = put(&*store, &Key::cluster_scoped("Host", "h"), numbered(1)).await;
    put(&*store, &Key::new("Hostess", "", "no"), numbered(1)).await;
    let last = delete(&*store, &Key::cluster_scoped("Host", "h")).await;
    let changes = changes_up_to(&mut watch, last).await;
    let seen: Vec<_> = changes.iter().map(|c| (c.revision, c.value.is_some())).collect();
    assert_eq!(seen, [(host, true), (last, false)]);
}

pub(crate) async fn watch_waits_for_the_next_change(store: Arc<dyn Store>) {
    let mut watch = store.watch(None, Revision(0)).await.expect("watch");
    let writer = Arc::clone(&store);
    let mut next = pin!(watch.next());
    // Nothing is there yet: the watch must register for a wake-up, and the commit must give it.
    let pending = poll_fn(|cx| Poll::Ready(next.as_mut().poll(cx).is_pending())).await;
    assert!(pending);
    let thread =
        std::thread::spawn(move || super::run(async { put(&*writer, &key("a"), numbered(1)).await }));
    let change = next.await.expect("change");
    assert_eq!(change.revision, thread.join().expect("writer"));
}

pub(crate) async fn watch_resumes_where_it_was(store: Arc<dyn Store>) {
    for n in 0..20 {
        put(&*store, &key(&format!("n{n:02}")), numbered(n)).await;
    }
    let last = head(&*store).await;
    let mut seen = Vec::new();
    let mut from = Revision(0);
    while from < last {
        let mut watch = store.watch(None, from).await.expect("watch");
        for _ in 0..3 {
            if watch.resume_from() < last {
                seen.push(watch.next().await.expect("change"));
            }
        }
        from = watch.resume_from();
    }
    let expected: Vec<_> = (0..20).map(|n| format!("n{n:02}")).collect();
    assert_eq!(names(&seen), expected);
}

pub(crate) async fn watch_never_splits_a_transaction(store: Arc<dyn Store>) {
    let before = put(&*store, &key("x"), numbered(0)).await;
    let pair = Transaction::new().put(key("a"), json!(1), Precondition::Any).put(
        key("b"),
        json!(1),
        Precondition::Any,
    );
    let both = store.commit(pair).await.expect("commit");
    put(&*store, &key("y"), numbered(0)).await;
    let mut watch = store.watch(None, before).await.expect("watch");
    assert_eq!(watch.next().await.expect("a").key, key("a"));
    assert_eq!(watch.resume_from(), before, "half of the transaction is still to come");
    let mut resumed = store.watch(None, watch.resume_from()).await.expect("watch");
    assert_eq!(resumed.next().await.expect("a").key, key("a"));
    assert_eq!(resumed.next().await.expect("b").key, key("b"));
    assert_eq!(resumed.resume_from(), both);
}

pub(crate) async fn watch_from_compacted_revision_errors(store: Arc<dyn Store>) {
    let mut revisions = Vec::new();
    for n in 0..5 {
        revisions.push(put(&*store, &key("a"), numbered(n)).await);
    }
    let mut late = store.watch(None, Revision(0)).await.expect("not compacted yet");
    store.compact(revisions[3]).await.expect("compact");
    store.compact(revisions[1]).await.expect("compacting to an earlier point does nothing");
    let oldest = revisions[2];
    for from in [Revision(0), revisions[0], revisions[1]] {
        let error = store.watch(None, from).await.expect_err("compacted");
        assert!(matches!(error, StoreError::Compacted { oldest: o } if o == oldest), "{from}: {error:?}");
    }
    let error = late.next().await.expect_err("fell behind");
    assert!(matches!(error, StoreError::Compacted { .. }), "{error:?}");
    let mut watch = store.watch(None, oldest).await.expect("the oldest that is kept");
    let changes = changes_up_to(&mut watch, revisions[4]).await;
    assert_eq!(changes.iter().map(|c| c.revision).collect::<Vec<_>>(), revisions[3..]);
    // Compacting everything, and beyond what exists, leaves a store to watch from now on.
    store.compact(Revision(revisions[4].0 + 1000)).await.expect("compact");
    let mut watch = store.watch(None, revisions[4]).await.expect("from now");
    let next = put(&*store, &key("a"), numbered(9)).await;
    assert_eq!(watch.next().await.expect("change").revision, next);
}

pub(crate) async fn idle_watch_survives_compaction_of_what_it_saw(store: Arc<dyn Store>) {
    let mut watch = store.watch(Some("Host"), Revision(0)).await.expect("watch");
    let mut last = Revision(0);
    for n in 0..10 {
        last = put(&*store, &key("a"), numbered(n)).await;
    }
    {
        // The watch waits for a Host; meanwhile it must take note that ten other changes went by. How many
        // polls that takes is the store's affair, so poll until it has moved.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while watch.resume_from() < last {
            assert!(std::time::Instant::now() < deadline, "the watch stands at {}", watch.resume_from());
            let mut next = pin!(watch.next());
            for _ in 0..1000 {
                let pending = poll_fn(|cx| Poll::Ready(next.as_mut().poll(cx).is_pending())).await;
                assert!(pending, "no Host was changed");
                std::thread::yield_now();
            }
        }
    }
    store.compact(Revision(last.0 + 1)).await.expect("compact");
    let host = put(&*store, &Key::cluster_scoped("Host", "h"), numbered(1)).await;
    assert_eq!(watch.next().await.expect("host").revision, host);
}

pub(crate) async fn watch_of_the_future_is_refused(store: Arc<dyn Store>) {
    let newest = put(&*store, &key("a"), numbered(1)).await;
    let requested = Revision(newest.0 + 1);
    let error = store.watch(None, requested).await.expect_err("future");
    let expected = |e: &StoreError| matches!(e, StoreError::FutureRevision { requested: r, newest: n } if (*r, *n) == (requested, newest));
    assert!(expected(&error), "{error:?}");
}

pub(crate) async fn compaction_keeps_objects(store: Arc<dyn Store>) {
    let a = put(&*store, &key("a"), numbered(1)).await;
    let b = put(&*store, &key("b"), numbered(2)).await;
    let before = store.list(None, None).await.expect("list");
    store.compact(Revision(b.0 + 1)).await.expect("compact");
    assert_eq!(store.list(None, None).await.expect("list"), before);
    let update = Transaction::new().put(key("a"), numbered(3), Precondition::Revision(a));
    assert!(store.commit(update).await.expect("old revisions still compare") > b);
    assert_eq!(value_of(&*store, &key("a")).await, Some(numbered(3)));
}

pub(crate) async fn dropped_next_loses_nothing(store: Arc<dyn Store>) {
    let mut watch = store.watch(None, Revision(0)).await.expect("watch");
    for n in 0..50 {
        put(&*store, &key(&format!("n{n:02}")), numbered(n)).await;
    }
    let mut seen = Vec::new();
    while seen.len() < 50 {
        // Poll each `next` once and drop it if it is not ready, as a `select!` does.
        let mut next = Box::pin(watch.next());
        let polled = poll_fn(|cx| Poll::Ready(next.as_mut().poll(cx))).await;
        drop(next);
        match polled {
            Poll::Ready(change) => seen.push(change.expect("change")),
            Poll::Pending => seen.push(watch.next().await.expect("change")),
        }
    }
    let expected: Vec<_> = (0..50).map(|n| format!("n{n:02}")).collect();
    assert_eq!(names(&seen), expected);
}

pub(crate) async fn long_history_comes_in_order(store: Arc<dyn Store>) {
    // More changes than any batch holds, in transactions of uneven size.
    let mut expected = Vec::new();
    for n in 0..60_u64 {
        let size = 1 + (n * 37) % 99;
        let transaction = (0..size).fold(Transaction::new(), |transaction, m| {
            expected.push((n, m));
            transaction.put(key(&format!("k{m}")), json!([n, m]), Precondition::Any)
        });
        store.commit(transaction).await.expect("commit");
    }
    let last = head(&*store).await;
    let mut watch = store.watch(Some("Machine"), Revision(0)).await.expect("watch");
    let changes = changes_up_to(&mut watch, last).await;
    let seen: Vec<_> = changes
        .iter()
        .map(|c| c.value.as_ref().expect("value"))
        .map(|v| (v[0].as_u64().expect("n"), v[1].as_u64().expect("m")))
        .collect();
    assert_eq!(seen, expected);
}
