//! Hosts that do not answer, and Ctrl-C while they are waited for. Needs root, for a network namespace without network.

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::Place;
use crate::seed::stock;

const CLUSTER: &str = "apiVersion: ashlar.dev/v1alpha1\nkind: Cluster\nmetadata: {name: prod}\nspec:\n  \
                       kubernetesVersion: v1.37.2\n  network: lan\n  controlPlane: {replicas: 1, class: ctrl}\n";

/// The failure, without what was said before it: that is told as it comes.
fn failure(text: &str) -> String {
    let exit = text.lines().next().unwrap_or_default();
    let at = text.find("error:").unwrap_or(text.len());
    format!("{exit}\n{}", &text[at..])
}

#[test]
fn hosts_that_do_not_answer_are_named() {
    let place = Place::with(&stock());
    let file = place.file("prod.yaml", CLUSTER);
    let run = |args: &[&str]| {
        let text = place.shown(&place.command_without_network(args).output().unwrap());
        failure(&text)
    };
    let add = ["host", "add", "h9", "--uri", "qemu+ssh://root@10.0.0.9/system"];
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAMLtGz+RFDcRysO96Ul/gvkexRG6lG671M1O48MsEdD";
    let all = [
        run(&["apply", "-f", &file, "--timeout", "5s"]),
        run(&add),
        {
            place.put(&[crate::seed::test_image(place.path())]);
            run(&[&add[..], &["--ssh-host-key", key]].concat())
        },
        run(&["host", "check", "h1"]),
        run(&["host", "remove", "h1", "--yes"]),
    ];
    insta::assert_snapshot!(all.join("\n"));
}

#[test]
fn ctrl_c_says_what_was_done_and_what_to_run_next() {
    let place = Place::with(&stock());
    let file = place.file("prod.yaml", CLUSTER);
    let mut command = place.command_without_network(&["apply", "-f", &file, "--timeout", "120s"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    // It works on it once it has found out that the hosts do not answer.
    while !said.contains("host h1: ") {
        let read = stderr.read_line(&mut said).unwrap();
        assert!(read > 0, "it ended before Ctrl-C: {said}");
    }
    kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    stderr.read_to_string(&mut said).unwrap();
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(130), "{said}");
    let said = said.replace(&place.path().display().to_string(), "[DIR]");
    insta::assert_snapshot!(&said[said.find("error:").unwrap()..], @r"
    error: stopped by Ctrl-C
    hint: what was done is recorded, and stays
    hint: to go on from here, the same command again: ashlar apply -f [DIR]/prod.yaml --timeout 120s
    hint: `ashlar plan` shows what is left to do
    ");
    // What was declared is there, and the command that was named says what is left.
    let plan = place.shown(&place.command(&["plan", "--offline"]).output().unwrap());
    assert!(plan.starts_with("exit 0") && plan.contains("prod-ctrl-1"), "{plan}");
}
