//! The record of who changed what.

use crate::harness::Place;
use crate::seed::stock;

const CLUSTER: &str = "\
apiVersion: ashlar.dev/v1alpha1
kind: Cluster
metadata: {name: prod}
spec:
  kubernetesVersion: v1.37.2
  network: lan
  controlPlane: {replicas: 1, class: ctrl}
";

#[test]
fn what_was_done_is_recorded_and_changes_of_the_record_are_noticed() {
    let place = Place::with(&stock());
    assert!(place.run(&["audit", "list"]).contains("nothing is recorded"));
    assert!(place.run(&["audit", "verify"]).starts_with("exit 0"));
    let file = place.file("prod.yaml", CLUSTER);
    let ran = place.command_without_network(&["apply", "-f", &file, "--timeout", "5s"]).output().unwrap();
    assert!(!ran.status.success());
    let told = place.run(&["audit", "list", "-o", "json"]);
    let deeds: Vec<serde_json::Value> = told
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let of = |deed: &str| deeds.iter().filter(|line| line["deed"] == deed).collect::<Vec<_>>();
    assert!(of("began")[0]["command"].as_str().unwrap().contains("apply -f"), "{told}");
    assert!(of("declared")[0]["objects"][0].as_str().unwrap().contains("prod"), "{told}");
    assert!(place.run(&["audit", "verify"]).starts_with("exit 0"));

    let record = place.state().join("audit.jsonl");
    let whole = std::fs::read_to_string(&record).unwrap();
    std::fs::write(&record, whole.replacen("apply", "aplly", 1)).unwrap();
    let changed = place.run(&["audit", "verify"]);
    assert!(changed.starts_with("exit 1") && changed.contains("audit.jsonl:1 is not whole"), "{changed}");
    let (_, rest) = whole.split_once('\n').unwrap();
    std::fs::write(&record, rest).unwrap();
    let removed = place.run(&["audit", "verify"]);
    assert!(removed.starts_with("exit 1") && removed.contains("line 2"), "{removed}");
    let kept = whole.trim_end().rsplit_once('\n').unwrap().0;
    std::fs::write(&record, format!("{kept}\n")).unwrap();
    let shortened = place.run(&["audit", "verify"]);
    assert!(shortened.starts_with("exit 1") && shortened.contains("removed at the end"), "{shortened}");
    // A record that was shortened is not gone on with, and nothing is done without one.
    let class = "apiVersion: ashlar.dev/v1alpha1\nkind: MachineClass\nmetadata: {name: new}\nspec: {vcpus: 1, memory: 1Gi, rootDisk: 4Gi}\n";
    let class = place.file("class.yaml", class);
    let apply = || place.run(&["apply", "--store-only", "-f", &class]);
    for _ in 0..2 {
        let refused = apply();
        assert!(refused.starts_with("exit 1") && refused.contains("lines once and has"), "{refused}");
        assert!(refused.contains("ashlar audit accept"), "{refused}");
    }
    assert!(!place.run(&["get", "machineclasses", "-o", "name"]).contains("/new"));
    std::fs::write(&record, &whole).unwrap();
    assert!(place.run(&["audit", "verify"]).starts_with("exit 0"));
    assert!(place.run(&["audit", "accept", "--yes"]).contains("there is nothing to accept"));

    // Nor is one without a note, as after an upgrade. A person looks, says so, and it goes on.
    std::fs::remove_file(place.state().join("audit.head")).unwrap();
    for _ in 0..2 {
        let refused = apply();
        assert!(refused.starts_with("exit 1") && refused.contains("audit.head"), "{refused}");
    }
    let asked = place.run(&["audit", "accept"]);
    assert!(asked.starts_with("exit 1") && asked.contains("add --yes"), "{asked}");
    assert!(apply().starts_with("exit 1"));
    let accepted = place.run(&["audit", "accept", "--yes"]);
    assert!(accepted.starts_with("exit 0") && accepted.contains("audit.head"), "{accepted}");
    assert!(apply().starts_with("exit 0"));
    assert!(place.run(&["audit", "verify"]).starts_with("exit 0"));
    let listed = place.run(&["audit", "list", "--last", "4"]);
    assert!(listed.contains("accepted"), "{listed}");
}
