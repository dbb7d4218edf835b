//! Objects as former versions of Ashlar wrote them into their stores: this one reads them, and what it would write instead is the
//! same, so that the former version can go on from there (`ashlar store check`) as long as nothing new is used.
//!
//! Each file of `tests/stores` is the store of a simulated installation, one object a line, from the commit in its name.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests read files")]

use std::collections::BTreeSet;
use std::path::Path;

use ashlar_api::{Kind, Object};
use serde_json::Value;

#[test]
fn what_former_versions_wrote_is_read_and_written_as_it_was() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stores");
    let (mut stores, mut objects, mut kinds) = (0, 0, BTreeSet::new());
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        stores += 1;
        for line in std::fs::read_to_string(&path).unwrap().lines() {
            let value: Value = serde_json::from_str(line).unwrap();
            let kind = value["kind"].as_str().unwrap();
            let kind = Kind::ALL.into_iter().find(|known| known.name() == kind).unwrap();
            let object = Object::from_value(kind, value.clone())
                .unwrap_or_else(|error| panic!("{}: {error}\n{line}", path.display()));
            let written = object.to_value().unwrap();
            assert_eq!(written, value, "{}", path.display());
            objects += 1;
            kinds.insert(kind.name());
        }
    }
    assert!(
        stores >= 1 && objects > 50 && kinds.len() >= 10,
        "{stores} stores, {objects} objects, {kinds:?}"
    );
}
