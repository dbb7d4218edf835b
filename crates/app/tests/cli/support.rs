//! What is gathered for somebody who helps.

use std::io::Read as _;

use crate::harness::Place;
use crate::seed::stock;

const CLUSTER: &str = "\
apiVersion: ashlar.dev/v1alpha1
kind: Cluster
metadata: {name: prod, annotations: {note: 'join with abcdef.0123456789abcdef'}}
spec:
  kubernetesVersion: v1.37.2
  network: lan
  controlPlane: {replicas: 1, class: ctrl}
";

#[test]
fn a_bundle_has_what_there_is_names_what_is_missing_and_holds_no_secret() {
    let place = Place::with(&stock());
    let missing = place.run(&["support-bundle", "prod"]);
    assert!(missing.starts_with("exit 1") && missing.contains("prod"), "{missing}");
    let manifest = place.file("prod.yaml", CLUSTER);
    place.run(&["apply", "-f", &manifest, "--store-only"]);
    let file = place.path().join("prod.tar");
    let path = file.to_str().unwrap();
    let gathered =
        place.command_without_network(&["support-bundle", "prod", "--file", path]).output().unwrap();
    let said = place.shown(&gathered);
    assert!(said.starts_with("exit 0") && said.contains("kubernetes/nodes.txt"), "{said}");

    let mut files = std::collections::BTreeMap::new();
    for entry in tar::Archive::new(std::fs::File::open(&file).unwrap()).entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().into_owned();
        let name: std::path::PathBuf = path.components().skip(1).collect();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        files.insert(name.to_str().unwrap().to_owned(), text);
    }
    assert!(files["about.txt"].contains("cluster prod (v1.37.2)"), "{}", files["about.txt"]);
    assert!(files["about.txt"].contains("kubernetes/pods.txt: "), "{}", files["about.txt"]);
    assert!(files["status.txt"].contains("cluster prod"), "{}", files["status.txt"]);
    assert!(files["audit.txt"].contains("prod"), "{}", files["audit.txt"]);
    assert!(
        files["kubernetes/readyz.txt"].starts_with("not available: "),
        "{}",
        files["kubernetes/readyz.txt"]
    );
    assert!(files["objects.yaml"].contains("join with [redacted]"), "{}", files["objects.yaml"]);
    assert!(files.values().all(|text| !text.contains("0123456789abcdef")));

    let again = place.run(&["support-bundle", "prod", "--file", path]);
    assert!(again.starts_with("exit 1") && again.contains("prod.tar"), "a file that is there stays: {again}");
}
