//! The conformance suite, generic over the store.

pub(crate) mod concurrency;
pub(crate) mod model;
pub(crate) mod reads;
pub(crate) mod watches;
pub(crate) mod writes;

use std::{
    future::Future,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::{Duration, Instant},
};

use ashlar_store::{Change, Key, Precondition, Revision, Store, StoreError, Transaction, Watch};
use serde_json::{Value, json};

/// An empty place in which a store can live; dropped after the test.
pub(crate) trait Fixture: Sized {
    type Store: Store + 'static;
    fn create() -> Self;
    /// Called once for each fixture.
    fn open(&self) -> Self::Store;
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a future on this thread, without any async runtime (the simulation has none). Fails after a deadline.
pub(crate) fn run<T>(future: impl Future<Output = T>) -> T {
    const DEADLINE: Duration = Duration::from_secs(60);
    let start = Instant::now();
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return value;
        }
        let left = DEADLINE.checked_sub(start.elapsed());
        thread::park_timeout(left.unwrap_or_else(|| panic!("not finished within {DEADLINE:?}")));
    }
}

pub(crate) fn key(name: &str) -> Key {
    Key::new("Machine", "blue", name)
}

pub(crate) async fn put(store: &dyn Store, key: &Key, value: Value) -> Revision {
    let transaction = Transaction::new().put(key.clone(), value, Precondition::Any);
    store.commit(transaction).await.expect("put")
}

pub(crate) async fn delete(store: &dyn Store, key: &Key) -> Revision {
    store.commit(Transaction::new().delete(key.clone(), Precondition::Any)).await.expect("delete")
}

pub(crate) async fn value_of(store: &dyn Store, key: &Key) -> Option<Value> {
    store.get(key).await.expect("get").map(|stored| stored.value)
}

pub(crate) async fn head(store: &dyn Store) -> Revision {
    store.list(Some("NoSuchKind"), None).await.expect("list").revision
}

/// Everything the watch yields up to the revision `to`.
pub(crate) async fn changes_up_to(watch: &mut Watch, to: Revision) -> Vec<Change> {
    let mut changes = Vec::new();
    while watch.resume_from() < to {
        changes.push(watch.next().await.expect("change"));
    }
    changes
}

pub(crate) fn names(changes: &[Change]) -> Vec<&str> {
    changes.iter().map(|change| change.key.name.as_str()).collect()
}

pub(crate) fn assert_conflict(result: Result<Revision, StoreError>, key: &Key, found: Option<Revision>) {
    match result {
        Err(StoreError::Conflict { key: k, found: f }) => assert_eq!((&k, f), (key, found)),
        other => panic!("expected a conflict on {key}, got {other:?}"),
    }
}

pub(crate) fn numbered(n: u64) -> Value {
    json!({ "n": n })
}

/// Makes one `#[test]` of each promise for one implementation.
macro_rules! conformance {
    ($module:ident, $fixture:ty $(, #[$attribute:meta])?) => {
        mod $module {
            #[allow(unused_imports, reason = "a fixture may live in either place")]
            use super::*;
            $crate::suite::conformance!(@tests [$(#[$attribute])?] $fixture,
                reads: get_of_nothing, objects_keep_every_json_shape, listing_is_ordered_and_filtered,
                    changes_lead_from_one_listing_to_the_next, listing_is_a_snapshot, raw_listing_decodes;
                writes: revisions_grow_by_one_history, preconditions_hold, failed_transaction_writes_nothing,
                    conflict_names_the_first_key, preconditions_see_the_state_before,
                    checks_guard_without_changing, deleting_nothing_is_no_change, limits_are_enforced,
                    bad_keys_are_refused, empty_transaction_changes_nothing;
                watches: watch_sees_every_change_once_in_order, watch_of_a_kind_sees_only_it,
                    watch_waits_for_the_next_change, watch_resumes_where_it_was,
                    watch_never_splits_a_transaction, watch_from_compacted_revision_errors,
                    idle_watch_survives_compaction_of_what_it_saw, watch_of_the_future_is_refused,
                    compaction_keeps_objects, dropped_next_loses_nothing, long_history_comes_in_order;
                concurrency: one_of_many_cas_writers_wins, counters_lose_no_increment,
                    transfers_keep_the_sum, watchers_agree_under_load;
                model: random_transactions_match_the_model;
            );
        }
    };
    (@tests $attributes:tt $fixture:ty, $($topic:ident: $($name:ident),+;)+) => {
        $($(
            $crate::suite::conformance!(@test $attributes $fixture, $topic, $name);
        )+)+
    };
    (@test [$(#[$attribute:meta])?] $fixture:ty, $topic:ident, $name:ident) => {
            #[test]
            $(#[$attribute])?
            fn $name() {
                let fixture = <$fixture as $crate::suite::Fixture>::create();
                let store = $crate::suite::Fixture::open(&fixture);
                $crate::suite::run($crate::suite::$topic::$name(std::sync::Arc::new(store)));
            }
    };
}
pub(crate) use conformance;
