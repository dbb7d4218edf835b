//! `up` and `down` killed in the middle; and what a process that runs in a lab gets. Needs root.
//!
//! `child_*` are no tests of their own: the tests run this program again with one of them, as another process.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ashlar_lab::{Lab, Place};
use common::{TestLab, Traces, stdout, wait_for};

fn run_again(child: &str, lab: &Lab) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", child, "--ignored", "--nocapture", "--quiet"])
        .env("ASHLAR_LAB_TEST", format!("{} {}", lab.name(), lab.state_dir().display()))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn lab_of_child() -> Lab {
    let text = std::env::var("ASHLAR_LAB_TEST").unwrap();
    let (name, dir) = text.split_once(' ').unwrap();
    Lab::with_state_dir(name, &PathBuf::from(dir)).unwrap()
}

#[test]
#[ignore = "run by the tests below"]
fn child_up() {
    lab_of_child().up(2, &|_| {}).unwrap();
}

#[test]
#[ignore = "run by the tests below"]
fn child_down() {
    lab_of_child().down(&|_| {}).unwrap();
}

#[test]
#[ignore = "run by the tests below"]
fn child_exec() {
    let script = "echo lab=$ASHLAR_LAB state=$ASHLAR_STATE_DIR pid=$$
        ip -o -4 addr show dev mgmt0 | tr -s ' ' | cut -d' ' -f4
        exit 7";
    let Err(error) = lab_of_child().exec(&Place::Control, &["sh", "-c", script]);
    panic!("{error}");
}

/// Kills the child after a while that grows from one call to the next; says whether it had ended before.
fn killed_after(mut child: Child, delay: Duration) -> bool {
    let end = Instant::now() + delay;
    while Instant::now() < end {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    !child.wait().unwrap().success()
}

#[test]
fn an_up_that_was_killed_is_completed_by_the_next_one_or_removed_by_down() {
    let mut killed = 0;
    for delay_ms in [5, 15, 30, 50, 75, 100, 130, 170, 220, 280, 350, 450, 600] {
        let test = TestLab::new("crash");
        killed +=
            usize::from(killed_after(run_again("child_up", &test.lab), Duration::from_millis(delay_ms)));
        if delay_ms % 2 == 0 {
            test.up(2);
            assert!(test.lab.status().unwrap().is_complete(), "killed after {delay_ms} ms");
            assert_eq!(test.up(2).changes, Vec::<String>::new());
            let traces = Traces::of(&test.lab);
            // And a `down` that is killed, followed by another.
            killed_after(run_again("child_down", &test.lab), Duration::from_millis(delay_ms / 2));
            test.lab.down(&|_| {}).unwrap();
            // What the killed one had killed may be ending still, out of all namespaces, where nobody finds it.
            wait_for("the end of the lab", Duration::from_secs(10), || traces.left().is_empty());
        } else {
            test.lab.down(&|_| {}).unwrap();
            assert!(!test.lab.state_dir().exists());
            assert!(test.lab.status().unwrap().namespaces.is_empty(), "killed after {delay_ms} ms");
        }
    }
    assert!(killed >= 4, "too few of the children were killed in the middle: {killed}");
}

#[test]
fn what_an_up_left_that_died_before_its_claim_is_removed_and_nothing_else() {
    let test = TestLab::new("claim");
    let dir = test.lab.state_dir();
    for left in [None, Some(".ashlar-lab")] {
        std::fs::create_dir(dir).unwrap();
        if let Some(name) = left {
            std::fs::write(dir.join(name), "").unwrap();
        }
        test.lab.down(&|_| {}).unwrap();
        assert!(!dir.exists(), "{left:?}");
    }
    std::fs::create_dir(dir).unwrap();
    std::fs::write(dir.join("somebody's"), "").unwrap();
    test.lab.down(&|_| {}).unwrap();
    assert!(dir.join("somebody's").exists());
}

#[test]
fn a_command_in_the_control_namespace_gets_the_process_and_its_exit_code() {
    let test = TestLab::new("exec");
    test.up(1);
    let child = run_again("child_exec", &test.lab);
    let pid = child.id();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(7));
    let state = test.lab.state_dir().join("ashlar");
    let expected = format!("lab={} state={} pid={pid}\n10.77.0.1/24", test.lab.name(), state.display());
    assert!(stdout(&output).ends_with(&expected), "{}", stdout(&output));
}
