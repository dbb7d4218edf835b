//! `cluster rotate-kubeconfig`: a new certificate in the old one's place.

use serde_json::Value;

use crate::harness::Place;
use crate::seed::{demo, stock};

/// Moments differ from run to run.
fn without_moments(text: &str) -> String {
    let moment = regex::Regex::new(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ").unwrap();
    moment.replace_all(text, "[MOMENT]").into_owned()
}

fn config(place: &Place) -> Value {
    let text = std::fs::read_to_string(place.path().join(".kube/config")).unwrap();
    serde_saphyr::from_str(&text).unwrap()
}

#[test]
fn only_key_and_certificate_of_the_user_change() {
    let place = Place::with(&[stock(), demo()].concat());
    place.put_pki("demo");
    let merged = place.run(&["kubeconfig", "demo", "--merge", "--server", "https://127.0.0.1:7443"]);
    let mut before = config(&place);
    // Somebody works in another context, and named a namespace in this one.
    before["current-context"] = "other".into();
    before["contexts"][0]["context"]["namespace"] = "web".into();
    place.file(".kube/config", &before.to_string());
    let rotated = place.run(&["cluster", "rotate-kubeconfig", "demo", "--valid-for", "8h"]);
    let again = place.run(&["cluster", "rotate-kubeconfig", "demo"]);
    let mut after = config(&place);
    for key in ["client-certificate-data", "client-key-data"] {
        let (old, new) = (&before["users"][0]["user"][key], &after["users"][0]["user"][key]);
        assert!(old.is_string() && new.is_string() && old != new, "{key}");
    }
    after["users"] = before["users"].clone();
    assert_eq!(after, before);
    let audit = place.run(&["audit", "list"]);
    assert!(audit.contains("hand out a kubeconfig of cluster demo"), "{audit}");
    assert_eq!(audit.matches("rotate-kubeconfig cluster demo").count(), 2, "{audit}");
    insta::assert_snapshot!(without_moments(&[merged, rotated, again].join("\n")));
}

#[test]
fn what_is_not_held_is_printed_and_what_is_anothers_is_left_alone() {
    let place = Place::with(&[stock(), demo()].concat());
    place.put_pki("demo");
    let printed = place.run(&["cluster", "rotate-kubeconfig", "demo"]);
    assert!(printed.contains("kind: Config\n") && printed.contains("client-key-data"), "{printed}");
    assert!(!place.path().join(".kube/config").exists(), "no file is made");
    place.run(&["kubeconfig", "demo", "--merge"]);
    // The cluster is made anew, with other certificates.
    place.put_pki("demo");
    let before = config(&place);
    let refused = place.run(&["cluster", "rotate-kubeconfig", "demo"]);
    assert_eq!(config(&place), before);
    place.file(".kube/config", "users: {client-key-data: CANARY");
    let unreadable = place.run(&["cluster", "rotate-kubeconfig", "demo"]);
    assert!(!unreadable.contains("CANARY"), "{unreadable}");
    let told = printed.split("--- stderr").nth(1).unwrap_or_default().to_owned();
    let all = [
        told,
        refused,
        unreadable,
        place.run(&["cluster", "rotate-kubeconfig", "nobody"]),
        place.run(&["cluster", "rotate-kubeconfig", "demo", "--valid-for", "3y"]),
        place.run(&["kubeconfig", "demo", "--valid-for", "400d"]),
    ];
    insta::assert_snapshot!(without_moments(&all.join("\n")));
}
