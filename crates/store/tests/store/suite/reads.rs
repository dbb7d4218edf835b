//! What reading promises.

use std::collections::BTreeMap;
use std::sync::Arc;

use ashlar_store::{Key, Precondition, RawChange, Revision, Store, Stored, Transaction};
use serde::Deserialize;
use serde_json::json;

use super::{delete, key, numbered, put, value_of};

pub(crate) async fn get_of_nothing(store: Arc<dyn Store>) {
    assert!(store.get(&key("absent")).await.expect("get").is_none());
    let listing = store.list(None, None).await.expect("list");
    assert_eq!((listing.revision.0, listing.items.len()), (0, 0));
}

pub(crate) async fn objects_keep_every_json_shape(store: Arc<dyn Store>) {
    let value = json!({
        "z first": null, "a second": [1, -2, u64::MAX, i64::MIN, 0.5, 1e300, true, false],
        "text": "quote \" backslash \\ NUL \u{0} snowman \u{2603} emoji \u{1F600}", "nested": {"empty": {}, "list": []},
    });
    let revision = put(&*store, &key("shape"), value.clone()).await;
    let stored = store.get(&key("shape")).await.expect("get").expect("exists");
    assert_eq!((stored.key, stored.revision, &stored.value), (key("shape"), revision, &value));
    // The order of fields is kept: output that people read must not be shuffled by storing it.
    assert_eq!(stored.value.to_string(), value.to_string());
    for scalar in [json!(null), json!("text"), json!(7), json!([])] {
        put(&*store, &key("scalar"), scalar.clone()).await;
        assert_eq!(value_of(&*store, &key("scalar")).await, Some(scalar));
    }
}

pub(crate) async fn listing_is_ordered_and_filtered(store: Arc<dyn Store>) {
    let keys = [
        Key::cluster_scoped("Host", "h2"),
        Key::cluster_scoped("Host", "h10"),
        Key::new("Machine", "blue", "b"),
        Key::new("Machine", "blue", "a"),
        Key::new("Machine", "azure", "z"),
        Key::new("MachineClass", "", "small"),
        Key::new("Machine", "", "stray"),
        Key::new("Volume", "blue", "a"),
    ];
    for (n, key) in keys.iter().enumerate() {
        put(&*store, key, numbered(n as u64)).await;
    }
    let listed = async |kind: Option<&str>, namespace: Option<&str>| {
        let listing = store.list(kind, namespace).await.expect("list");
        listing.items.iter().map(|item| item.key.to_string()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(
        listed(None, None).await,
        "Host/h10 Host/h2 Machine/stray Machine/azure/z Machine/blue/a Machine/blue/b MachineClass/small Volume/blue/a"
    );
    assert_eq!(
        listed(Some("Machine"), None).await,
        "Machine/stray Machine/azure/z Machine/blue/a Machine/blue/b"
    );
    assert_eq!(listed(Some("Machine"), Some("blue")).await, "Machine/blue/a Machine/blue/b");
    assert_eq!(listed(Some("Machine"), Some("")).await, "Machine/stray");
    assert_eq!(listed(None, Some("blue")).await, "Machine/blue/a Machine/blue/b Volume/blue/a");
    assert_eq!(listed(Some("Mach"), None).await, "");
    assert_eq!(listed(Some("Machine"), Some("red")).await, "");
}

pub(crate) async fn listing_is_a_snapshot(store: Arc<dyn Store>) {
    // Two objects always change together; no listing may ever show them apart.
    let pair = |n| {
        Transaction::new().put(key("left"), numbered(n), Precondition::Any).put(
            key("right"),
            numbered(n),
            Precondition::Any,
        )
    };
    store.commit(pair(0)).await.expect("commit");
    let writer = Arc::clone(&store);
    let thread = std::thread::spawn(move || {
        super::run(async {
            for n in 1..200 {
                writer.commit(pair(n)).await.expect("commit");
            }
        });
    });
    let mut seen = 0;
    while seen != 199 {
        let listing = store.list(Some("Machine"), None).await.expect("list");
        let values: Vec<_> = listing.items.iter().map(|item| item.value["n"].as_u64().expect("n")).collect();
        assert_eq!(values[0], values[1]);
        assert_eq!(listing.items[0].revision, listing.items[1].revision);
        assert_eq!(listing.revision, listing.items[0].revision);
        seen = values[0];
    }
    thread.join().expect("writer");
}

pub(crate) async fn raw_listing_decodes(store: Arc<dyn Store>) {
    #[derive(Deserialize)]
    struct Brief<'a> {
        phase: &'a str,
    }
    put(&*store, &key("a"), json!({"phase": "Ready", "more": {"ignored": [1, 2, 3]}})).await;
    let raw = store.list_raw(Some("Machine"), Some("blue")).await.expect("list");
    let brief: Brief<'_> = raw.items[0].value.decode().expect("decode");
    assert_eq!(brief.phase, "Ready");
    assert!(raw.items[0].value.decode::<Vec<u64>>().is_err());
    let parsed = raw.items[0].clone().parse().expect("parse");
    assert_eq!(Some(parsed), store.get(&key("a")).await.expect("get"));
    assert_eq!(raw.revision, super::head(&*store).await);
}

/// Who reads on from a revision has what a new listing has, or is told to list anew.
pub(crate) async fn changes_lead_from_one_listing_to_the_next(store: Arc<dyn Store>) {
    for name in ["kept", "changed", "removed", "made anew"] {
        put(&*store, &key(name), numbered(1)).await;
    }
    let before = store.list(None, None).await.expect("list");
    let nothing = store.changes(before.revision).await.expect("changes");
    assert!(nothing.is_none_or(|nothing| nothing.items.is_empty() && nothing.revision == before.revision));
    for number in 2..5 {
        put(&*store, &key("changed"), numbered(number)).await;
    }
    for name in ["removed", "made anew", "short-lived"] {
        put(&*store, &key(name), numbered(5)).await;
        delete(&*store, &key(name)).await;
    }
    put(&*store, &key("made anew"), numbered(6)).await;
    put(&*store, &key("new"), numbered(7)).await;
    let after = store.list(None, None).await.expect("list");
    let Some(changes) = store.changes(before.revision).await.expect("changes") else { return };
    assert_eq!(changes.revision, after.revision);
    let names: Vec<&str> = changes.items.iter().map(|change| change.key.name.as_str()).collect();
    assert_eq!(names, ["changed", "made anew", "new", "removed", "short-lived"], "each once, in order");
    let mut objects: BTreeMap<Key, Stored> =
        before.items.into_iter().map(|stored| (stored.key.clone(), stored)).collect();
    for RawChange { key, revision, value } in changes.items {
        match value {
            None => drop(objects.remove(&key)),
            Some(value) => {
                let value = value.into_value().expect("JSON");
                objects.insert(key.clone(), Stored { key, revision, value });
            }
        }
    }
    assert_eq!(objects.into_values().collect::<Vec<_>>(), after.items);
    // What it does not know, it does not answer.
    store.compact(after.revision).await.expect("compact");
    assert!(store.changes(before.revision).await.expect("changes").is_none());
    let future = Revision(after.revision.0 + 1);
    assert!(store.changes(future).await.expect("changes").is_none());
}
