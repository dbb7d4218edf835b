//! Random transactions against a model: a map and a list of changes.

use std::{collections::BTreeMap, sync::Arc};

use ashlar_store::{Change, Key, Precondition, Revision, Store, StoreError, Stored, Transaction, Write};
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use serde_json::{Value, json};

use super::{changes_up_to, run};

/// Precondition of a generated write, in terms of what the model knows at that moment.
#[derive(Clone, Debug)]
enum Expect {
    Any,
    Absent,
    /// What is there now, or absence.
    Current,
    /// A revision that may or may not be the current one.
    Guess(u64),
}

#[derive(Clone, Debug)]
enum Kind {
    Put(Value),
    Delete,
    Check,
}

type Step = Vec<(Key, Kind, Expect)>;

#[derive(Default)]
struct Model {
    head: u64,
    objects: BTreeMap<Key, (u64, Value)>,
    changes: Vec<Change>,
}

impl Model {
    fn revision_of(&self, key: &Key) -> Option<Revision> {
        self.objects.get(key).map(|(revision, _)| Revision(*revision))
    }

    fn write(&self, (key, kind, expect): (Key, Kind, Expect)) -> Write {
        let expect = match expect {
            Expect::Any => Precondition::Any,
            Expect::Absent => Precondition::Absent,
            Expect::Current => self.revision_of(&key).map_or(Precondition::Absent, Precondition::Revision),
            Expect::Guess(back) => Precondition::Revision(Revision(self.head.saturating_sub(back))),
        };
        match kind {
            Kind::Put(value) => Write::Put { key, value, expect },
            Kind::Delete => Write::Delete { key, expect },
            Kind::Check => Write::Check { key, expect },
        }
    }

    /// What the store must answer: its revision, or the key that conflicts.
    fn apply(&mut self, writes: &[Write]) -> Result<Revision, (Key, Option<Revision>)> {
        for write in writes {
            let found = self.revision_of(write.key());
            let holds = match write.expect() {
                Precondition::Any => true,
                Precondition::Absent => found.is_none(),
                Precondition::Revision(revision) => found == Some(revision),
            };
            if !holds {
                return Err((write.key().clone(), found));
            }
        }
        let next = self.head + 1;
        for write in writes {
            let (key, value) = match write {
                Write::Put { key, value, .. } => {
                    self.objects.insert(key.clone(), (next, value.clone()));
                    (key, Some(value.clone()))
                }
                Write::Delete { key, .. } if self.objects.remove(key).is_some() => (key, None),
                Write::Delete { .. } | Write::Check { .. } => continue,
            };
            self.changes.push(Change { revision: Revision(next), key: key.clone(), value });
            self.head = next;
        }
        Ok(Revision(self.head))
    }

    fn listing(&self, kind: Option<&str>, namespace: Option<&str>) -> Vec<Stored> {
        let wanted =
            |key: &Key| kind.is_none_or(|k| key.kind == k) && namespace.is_none_or(|n| key.namespace == n);
        let objects = self.objects.iter().filter(|(key, _)| wanted(key));
        objects
            .map(|(key, (revision, value))| Stored {
                key: key.clone(),
                revision: Revision(*revision),
                value: value.clone(),
            })
            .collect()
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = (0..3_usize, 0..3_usize, 0..3_usize).prop_map(|(k, n, m)| {
        Key::new(["A", "AB", "B"][k], ["", "blue", "blue2"][n], ["x", "y", "é\u{301} z"][m])
    });
    let value = prop_oneof![
        any::<i64>().prop_map(|n| json!(n)),
        ".{0,12}".prop_map(|s| json!({ "text": s })),
        proptest::collection::vec(any::<bool>(), 0..4).prop_map(|v| json!({"b": v, "a": null})),
    ];
    let kind = prop_oneof![4 => value.prop_map(Kind::Put), 2 => Just(Kind::Delete), 1 => Just(Kind::Check)];
    let expect = prop_oneof![
        4 => Just(Expect::Any),
        6 => Just(Expect::Current),
        1 => Just(Expect::Absent),
        1 => (0..4_u64).prop_map(Expect::Guess),
    ];
    let step = proptest::collection::vec((key, kind, expect), 0..6);
    proptest::collection::vec(step, 1..25)
}

async fn check(store: &dyn Store, steps: Vec<Step>) -> Result<(), TestCaseError> {
    // Each case goes on where the last one ended: the model starts from what the store holds by then.
    let before = store.list(None, None).await.expect("list");
    let objects = before.items.into_iter().map(|item| (item.key, (item.revision.0, item.value))).collect();
    let mut model = Model { head: before.revision.0, objects, changes: Vec::new() };
    let mut watch = store.watch(None, before.revision).await.expect("watch");
    for step in steps {
        let mut written = std::collections::BTreeSet::new();
        let writes: Vec<Write> = step
            .into_iter()
            .map(|spec| model.write(spec))
            .filter(|w| matches!(w, Write::Check { .. }) || written.insert(w.key().clone()))
            .collect();
        let expected = model.apply(&writes);
        let found = match store.commit(Transaction { writes }).await {
            Ok(revision) => Ok(revision),
            Err(StoreError::Conflict { key, found }) => Err((key, found)),
            Err(other) => panic!("{other:?}"),
        };
        prop_assert_eq!(found, expected);
    }
    for (kind, namespace) in [(None, None), (Some("A"), None), (Some("AB"), Some("blue")), (None, Some(""))] {
        let listing = store.list(kind, namespace).await.expect("list");
        prop_assert_eq!(listing.revision, Revision(model.head));
        prop_assert_eq!(listing.items, model.listing(kind, namespace));
    }
    let changes = changes_up_to(&mut watch, Revision(model.head)).await;
    prop_assert_eq!(changes, model.changes);
    Ok(())
}

pub(crate) async fn random_transactions_match_the_model(store: Arc<dyn Store>) {
    let mut runner = TestRunner::new(Config { failure_persistence: None, cases: 64, ..Config::default() });
    runner.run(&steps(), |steps| run(check(&*store, steps))).unwrap_or_else(|error| panic!("{error}"));
}
