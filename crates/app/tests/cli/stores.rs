//! Copies of the store.

use crate::harness::Place;
use crate::seed::{host, stock};

const CLUSTER: &str = "apiVersion: ashlar.dev/v1alpha1\nkind: Cluster\nmetadata: {name: prod}\nspec:\n  \
                       kubernetesVersion: v1.37.2\n  network: lan\n  controlPlane: {replicas: 1, class: ctrl}\n";

/// Times of restores differ.
fn stamped(text: &str) -> String {
    let Some((before, rest)) = text.split_once(".before-restore-") else { return text.to_owned() };
    let end = rest.find('Z').map_or(0, |at| at + 1);
    format!("{before}.before-restore-[STAMP]{}", stamped(&rest[end..]))
}

/// The fencing token of a host.
fn token(place: &Place) -> String {
    let text = place.run(&["get", "host", "h1", "-o", "yaml"]);
    text.lines().find(|line| line.contains("leaseToken")).unwrap_or_default().trim().to_owned()
}

#[test]
fn a_store_is_copied_and_put_back() {
    let place = Place::with(&stock());
    let file = place.file("prod.yaml", CLUSTER);
    let all = [
        place.run(&["store", "backup", "copy"]),
        place.run(&["store", "backup", "copy"]),
        place.run(&["apply", "--store-only", "-f", &file]),
        place.run(&["get", "clusters", "-o", "name"]),
        place.run(&["store", "restore", "copy"]),
        // Meanwhile the host was taken a few times.
        {
            let mut host = host("h1", 1);
            host["record"]["leaseToken"] = 7.into();
            place.put(&[host]);
            token(&place)
        },
        stamped(&place.run(&["store", "restore", "copy", "--yes"])),
        place.run(&["get", "clusters", "-o", "name"]),
        token(&place),
        place.run(&["audit", "verify"]).lines().take(1).collect::<String>(),
        place.run(&["store", "restore", "missing", "--yes"]),
    ];
    insta::assert_snapshot!(all.join("\n"));
}

#[test]
fn a_copy_goes_to_an_empty_place_and_never_into_another_installation() {
    let place = Place::with(&stock());
    let file = place.file("prod.yaml", CLUSTER);
    // The first command that writes makes identity and vault.
    place.run(&["apply", "--store-only", "-f", &file]);
    place.run(&["store", "backup", "copy"]);
    let state = place.path().join("elsewhere");
    let elsewhere = state.display().to_string();
    let to = |args: &[&str]| place.run(&[args, &["--state-dir", &elsewhere]].concat());
    let restored = to(&["store", "restore", "copy", "--yes"]);
    assert!(restored.starts_with("exit 0") && restored.contains("of 3 hosts it is not known"), "{restored}");
    let taken = to(&["store", "restore", "copy", "--yes"]);
    assert!(taken.starts_with("exit 0") && !taken.contains("warning"), "the store in place knows: {taken}");
    std::fs::remove_file(state.join("store.db")).unwrap();
    for log in ["store.db-wal", "store.db-shm"] {
        std::fs::remove_file(state.join(log)).ok();
    }
    let taken = to(&["store", "restore", "copy", "--take-hosts", "--yes"]);
    assert!(taken.starts_with("exit 0") && !taken.contains("warning"), "{taken}");
    assert!(to(&["get", "host", "h1", "-o", "yaml"]).contains("leaseToken: 16777217"));
    assert!(to(&["get", "clusters", "-o", "name"]).contains("cluster/prod"));
    let same =
        |name: &str| std::fs::read(place.state().join(name)).ok() == std::fs::read(state.join(name)).ok();
    assert!(same("vault.json") && same("installation"));
    let other = Place::with(&stock());
    other.run(&["apply", "--store-only", "-f", &file]);
    let copy = place.path().join("copy").display().to_string();
    let refused = other.run(&["store", "restore", &copy, "--yes"]).replace(&copy, "[COPY]");
    insta::assert_snapshot!(refused, @r"
    exit 1
    --- stderr
    error: the secrets in [COPY] are sealed with another key than this installation's: it was changed since (`ashlar secrets rotate`), or the copy is another installation's
    hint: --state-dir DIR names an empty directory to put it into, to be used with the key of then
    ");
    std::fs::write(place.path().join("copy/store.db"), "no store").unwrap();
    let damaged = place.run(&["store", "restore", "copy", "--yes"]);
    assert!(damaged.starts_with("exit 1") && damaged.contains("damaged"), "{damaged}");
    assert!(place.run(&["get", "clusters", "-o", "name"]).contains("cluster/prod"));
}

/// An older Ashlar in the place of a newer one: it says what it cannot read, and touches nothing.
#[test]
fn what_a_newer_version_wrote_is_named() {
    let place = Place::with(&stock());
    let whole = place.run(&["store", "check"]);
    place.run(&["store", "backup", "copy"]);
    let mut newer = host("h1", 1);
    newer["record"]["fromTheFuture"] = true.into();
    let mut kind = host("f1", 1);
    kind["kind"] = "Flavour".into();
    place.put(&[newer, kind]);
    let file = place.file("prod.yaml", CLUSTER);
    let all = [
        whole,
        place.run(&["store", "check"]),
        place.run(&["apply", "--store-only", "-f", &file]),
        place.run(&["plan", "--offline"]),
        place.run(&["store", "check", "copy"]),
        place.run(&["store", "check", "nowhere"]),
    ];
    insta::assert_snapshot!(all.join("\n"));
}
