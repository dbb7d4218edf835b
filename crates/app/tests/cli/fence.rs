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
