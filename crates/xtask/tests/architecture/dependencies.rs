//! Dependencies point one way: `api ← plan ← engine ← {libvirt, kubeapi, sim} ← app`, `api ← store ← engine`.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};

/// Which of our crates each crate may use. A new crate needs a line here and a reason in ARCHITECTURE.md.
const ALLOWED: [(&str, &[&str]); 11] = [
    ("api", &[]),
    ("plan", &["api"]),
    ("store", &["api"]),
    ("engine", &["api", "plan", "store"]),
    ("libvirt", &["api", "plan", "engine"]),
    ("kubeapi", &["api", "plan", "engine"]),
    ("sim", &["api", "plan", "store", "engine"]),
    ("lab", &["api"]),
    ("image", &["api"]),
    ("app", &["api", "plan", "store", "engine", "libvirt", "kubeapi", "lab", "image"]),
    // What a developer runs may use everything; nothing uses it.
    ("xtask", &["api", "plan", "store", "engine", "libvirt", "kubeapi", "sim", "lab", "image", "app"]),
];

/// Crates whose tests must not know more than they do: a test that needs more belongs further up.
const STRICT_IN_TESTS: [&str; 3] = ["api", "plan", "store"];

/// Never in the dependency tree of `api` and `plan`: async, entropy, logging, I/O.
const IMPURE: [&str; 23] = [
    "async-std",
    "async-trait",
    "fastrand",
    "futures",
    "futures-core",
    "futures-util",
    "getrandom",
    "hyper",
    "log",
    "mio",
    "nix",
    "rand",
    "rand_chacha",
    "rand_core",
    "reqwest",
    "rusqlite",
    "rustix",
    "smol",
    "socket2",
    "tempfile",
    "tokio",
    "tokio-util",
    "tracing",
];

fn metadata() -> Metadata {
    // Offline, and of this platform only: the test reads what the build has already fetched.
    let options = ["--offline", "--locked", "--filter-platform", "x86_64-unknown-linux-gnu"];
    MetadataCommand::new()
        .manifest_path(super::root().join("Cargo.toml"))
        .other_options(options.map(str::to_owned))
        .exec()
        .unwrap()
}

fn short(name: &str) -> Option<&str> {
    name.strip_prefix("ashlar-")
}

#[test]
fn crates_use_only_what_lies_below_them() {
    let metadata = metadata();
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED.into_iter().collect();
    let mut problems = Vec::new();
    for package in metadata.workspace_packages() {
        let Some(name) = short(&package.name) else {
            problems.push(format!("crate {} is not called ashlar-…", package.name));
            continue;
        };
        let Some(below) = allowed.get(name) else {
            problems.push(format!(
                "crate {name} has no line in ALLOWED: what may it use, and why is it a crate?"
            ));
            continue;
        };
        for dependency in &package.dependencies {
            let Some(used) = short(&dependency.name) else { continue };
            let is_allowed = match dependency.kind {
                DependencyKind::Development if used != "xtask" && !STRICT_IN_TESTS.contains(&name) => true,
                _ => below.contains(&used),
            };
            if !is_allowed {
                problems
                    .push(format!("{name} uses {used} ({:?}), and may use only {below:?}", dependency.kind));
            }
        }
    }
    assert_eq!(problems, Vec::<String>::new());
}

#[test]
fn the_table_has_no_line_too_many_and_no_cycle() {
    let metadata = metadata();
    let present: BTreeSet<&str> =
        metadata.workspace_packages().iter().filter_map(|package| short(&package.name)).collect();
    let listed: BTreeSet<&str> = ALLOWED.iter().map(|(name, _)| *name).collect();
    assert_eq!(present, listed);
    let mut done: BTreeSet<&str> = BTreeSet::new();
    while done.len() < ALLOWED.len() {
        let before = done.len();
        for (name, below) in ALLOWED {
            if below.iter().all(|used| done.contains(used)) {
                done.insert(name);
            }
        }
        assert!(done.len() > before, "a cycle among the others than {done:?}");
    }
}

#[test]
fn pure_crates_have_nothing_impure_in_their_whole_tree() {
    for name in ["ashlar-api", "ashlar-plan"] {
        let tree = tree_of(name);
        assert!(tree.contains("serde"), "{name}: the tree is not read: {tree:?}");
        let found: Vec<&str> = IMPURE.into_iter().filter(|impure| tree.contains(*impure)).collect();
        assert_eq!(
            found,
            Vec::<&str>::new(),
            "{name} brings them in: see `cargo tree -p {name} -e normal -i CRATE`"
        );
    }
    // The same reading finds what is there elsewhere.
    assert!(tree_of("ashlar-store").contains("tokio"));
}

/// The normal dependencies of a crate, direct and indirect, with the features that it has when built alone
/// (`cargo metadata` has those of the whole workspace).
fn tree_of(name: &str) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--locked", "--edges", "normal", "--prefix", "none", "--format", "{p}"])
        .args(["--package", name])
        .current_dir(super::root())
        .output()
        .unwrap();
    let messages = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{messages}");
    let packages = String::from_utf8_lossy(&output.stdout);
    packages.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

#[test]
fn every_crate_takes_the_lints_of_the_workspace() {
    let metadata = metadata();
    for package in metadata.workspace_packages() {
        let text = std::fs::read_to_string(&package.manifest_path).unwrap();
        let section = text.split("\n[").find_map(|section| section.strip_prefix("lints]"));
        let takes =
            section.is_some_and(|section| section.lines().any(|line| line.trim() == "workspace = true"));
        assert!(takes, "{} lacks `[lints] workspace = true`", package.name);
        assert!(package.publish.as_ref().is_some_and(Vec::is_empty), "{} could be published", package.name);
    }
}

/// Guards can be taken away in the tests of the simulated world, and nowhere else: no crate asks for that feature
/// otherwise, neither by itself nor by another one's feature.
#[test]
fn only_tests_of_the_simulation_can_take_guards_away() {
    const FEATURE: &str = "removable-guards";
    let metadata = metadata();
    let mut asking = Vec::new();
    for package in metadata.workspace_packages() {
        for dependency in &package.dependencies {
            if dependency.features.iter().any(|feature| feature == FEATURE) {
                asking.push((package.name.to_string(), dependency.kind));
            }
        }
        let mut own = package.features.iter().filter(|(_, enables)| {
            enables.iter().any(|enabled| enabled.ends_with(&format!("/{FEATURE}")) || enabled == FEATURE)
        });
        if let Some((feature, _)) = own.next() {
            panic!("feature {feature} of {} makes guards removable", package.name);
        }
    }
    assert_eq!(asking, [("ashlar-sim".to_owned(), DependencyKind::Development)]);
    let plan =
        metadata.workspace_packages().into_iter().find(|package| package.name == "ashlar-plan").unwrap();
    assert!(plan.features.contains_key(FEATURE), "the feature has another name now");
}
