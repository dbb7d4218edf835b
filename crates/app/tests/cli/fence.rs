//! Saying that a host is off. Needs root, for a network namespace without network.

use crate::harness::Place;
use crate::seed::stock;

#[test]
fn a_host_is_off_when_somebody_says_so_and_it_does_not_answer() {
    let place = Place::with(&stock());
    let here = nix::unistd::gethostname().unwrap().to_string_lossy().into_owned();
    let run = |args: &[&str]| {
        let text = place.shown(&place.command_without_network(args).output().unwrap());
        let text = text.replace(&format!(" on {here}"), " on [HERE]");
        // That the other hosts do not answer is told in any order.
        let lines =
            text.lines().filter(|line| !line.starts_with("warning: host") && !line.starts_with("note:"));
        let lines: Vec<String> = lines.map(without_time).collect();
        format!("$ ashlar {}\n{}\n", args.join(" "), lines.join("\n"))
    };
    let all = [
        run(&["host", "fence", "h1"]),
        run(&["host", "fence", "h7", "--confirm-powered-off"]),
        run(&["host", "fence", "h1", "--confirm-powered-off"]),
        run(&["host", "uncordon", "h1"]),
        run(&["host", "fence", "h1", "--confirm-powered-off"]),
    ];
    insta::assert_snapshot!(all.join("\n"));
}

fn without_time(line: &str) -> String {
    match line.split_once(" confirmed at ").and_then(|(before, rest)| Some((before, rest.split_once(' ')?.1)))
    {
        Some((before, after)) => format!("{before} confirmed at [TIME] {after}"),
        None => line.to_owned(),
    }
}

/// What turns hosts off: one that works, and one that does not know.
const SCRIPTS: [(&str, &str); 2] = [
    ("works", "case $1 in status) [ -e off ] && exit 2; exit 0;; off) touch off;; esac"),
    ("fails", "echo 'PDU 3: login failed' >&2; exit 1"),
];

#[test]
fn a_host_is_turned_off_by_what_its_spec_names_and_only_then_recorded() {
    let scripts = tempfile::TempDir::new().unwrap();
    let mut objects = stock();
    for (object, (name, text)) in objects.iter_mut().zip(SCRIPTS) {
        let path = scripts.path().join(name);
        std::fs::write(&path, format!("cd {}\n{text}\n", scripts.path().display())).unwrap();
        object["spec"]["fencing"] =
            serde_json::json!({"command": ["/bin/sh", path.display().to_string()], "afterS": 300});
    }
    let place = Place::with(&objects);
    let run = |args: &[&str]| {
        let text = place.shown(&place.command_without_network(args).output().unwrap());
        let text = text.replace(&scripts.path().display().to_string(), "[SCRIPTS]");
        let lines =
            text.lines().filter(|line| !line.starts_with("warning: host") && !line.starts_with("note:"));
        let lines: Vec<String> = lines.map(without_time).collect();
        format!("$ ashlar {}\n{}\n", args.join(" "), lines.join("\n"))
    };
    let all = [
        run(&["host", "list", "-o", "wide"]),
        run(&["host", "check", "h1", "h2"]),
        run(&["host", "fence", "h1"]),
        run(&["host", "fence", "h1", "--yes"]),
        run(&["host", "uncordon", "h1"]),
        run(&["host", "check", "h1"]),
        run(&["host", "fence", "h2", "--yes"]),
        run(&["host", "list"]),
    ];
    assert!(scripts.path().join("off").exists());
    insta::assert_snapshot!(all.join("\n"));
}
