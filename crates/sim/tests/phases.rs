//! A first boot that fails in each of its phases: it is told which one, and once the cause is gone a cluster comes of it.
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::sync::Mutex;

use common::each;

/// The real script: a phase that is added there is tried here.
const SCRIPT: &str = include_str!("../../plan/src/bootstrap/assets/bootstrap.sh");

/// Phases in lines of the script, in order.
fn phases<'s>(lines: impl Iterator<Item = &'s str>, has_control_plane: bool) -> Vec<String> {
    let is_for_it = |line: &&str| has_control_plane || !line.contains("$ROLE");
    let named = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let at = words.iter().position(|word| matches!(*word, "phase" | "run_kubeadm"))?;
        let name = words.get(at + 1)?;
        let is_name = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
        is_name.then(|| if words[at] == "phase" { (*name).to_owned() } else { format!("kubeadm-{name}") })
    };
    let mut found: Vec<String> = Vec::new();
    for phase in lines.filter(is_for_it).filter_map(named) {
        if !found.contains(&phase) {
            found.push(phase);
        }
    }
    found
}

/// The phases of a function of the script, with those that every boot has.
fn of(function: &str, is_control_plane: bool) -> Vec<String> {
    let begin = format!("{function}() {{");
    let body = SCRIPT.lines().skip_while(|line| *line != begin).take_while(|line| *line != "}");
    let common =
        SCRIPT.lines().filter(|line| line.starts_with("phase ") || line.starts_with("if [ \"$ROLE\" "));
    let mut all = phases(body, true);
    assert!(all.len() > 2, "{function}: {all:?}");
    all.extend(phases(common, is_control_plane));
    all
}

const WORLD: &str = "host h1\nhost h2\nhost h3\nimage v1.37.2\nstandard objects\ntrace off\n";

/// What a person does about it: the cause is removed, the machine that failed is deleted.
fn story(kind: &str, phase: &str) -> String {
    match kind {
        "init" => format!(
            "{WORLD}fail boot demo-ctrl-1 {phase} kubeadm\ncluster demo control-planes 1 workers 1\n\
             run until cluster demo ready within 40m\nexpect error {phase}\nmend boot demo-ctrl-1\n\
             delete cluster demo\nrun until cluster demo gone\nexpect gone cluster demo\n\
             cluster demo control-planes 1 workers 1\nrun until cluster demo ready\nexpect ready cluster demo\nexpect idle\n"
        ),
        "join" => format!(
            "{WORLD}fail boot demo-wkr-1 {phase} kubeadm\ncluster demo control-planes 1 workers 1\n\
             run until cluster demo ready within 40m\nexpect error {phase}\nmend boot demo-wkr-1\n\
             delete machine demo-wkr-1\nrun until cluster demo ready\nexpect ready cluster demo\nexpect domains h1 2\nexpect idle\n"
        )
        .replace("host h2\nhost h3\n", ""),
        // A join that fails is replaced without a person.
        _ => format!(
            "{WORLD}cluster demo control-planes 1 workers 0\nrun until cluster demo ready\n\
             fail boot demo-ctrl-2 {phase} kubeadm\ncluster demo control-planes 3 workers 0\n\
             run until cluster demo ready within 60m\nexpect voters demo 3\nexpect ready cluster demo\nexpect idle\n"
        ),
    }
}

#[test]
fn a_first_boot_may_fail_in_each_of_its_phases() {
    let mut cases: Vec<(&str, String)> = Vec::new();
    for (kind, function, is_control_plane) in [
        ("init", "init_control_plane", true),
        ("join", "join_worker", false),
        ("join a control plane", "join_control_plane", true),
    ] {
        cases.extend(of(function, is_control_plane).into_iter().map(|phase| (kind, phase)));
    }
    assert!(cases.len() >= 40, "{cases:?}");
    let failed: Mutex<Vec<String>> = Mutex::default();
    each(&cases, |(kind, phase)| {
        if let Err(error) = ashlar_sim::scenario::run(&story(kind, phase)) {
            failed.lock().unwrap().push(format!("--- {kind}, {phase}\n{error}"));
        }
    });
    let mut failed = failed.into_inner().unwrap();
    failed.sort();
    assert!(failed.is_empty(), "{} of {} cases:\n{}", failed.len(), cases.len(), failed.join("\n"));
    println!(
        "first boot failed in {} phases of three kinds of boot, and each time a cluster came of it",
        cases.len()
    );
}
