//! The daemon, and commands beside it. Needs root, for a network namespace in which no host answers.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::Place;
use crate::seed::{demo, stock};

const DEADLINE: Duration = Duration::from_secs(60);

const CLUSTER: &str = "apiVersion: ashlar.dev/v1alpha1\nkind: Cluster\nmetadata: {name: prod}\nspec:\n  \
                       kubernetesVersion: v1.37.2\n  network: lan\n  controlPlane: {replicas: 1, class: ctrl}\n";

/// A daemon, and what it logs.
struct Daemon<'a> {
    place: &'a Place,
    child: Child,
    lines: Receiver<String>,
    said: Vec<String>,
}

impl<'a> Daemon<'a> {
    fn start(place: &'a Place, args: &[&str]) -> Self {
        let mut command = place.command_without_network(&[&["serve"], args].concat());
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        let mut daemon = Daemon { place, child, lines, said: Vec::new() };
        daemon.wait_for("serving");
        daemon
    }

    /// Waits for a line with the text, from here on.
    fn wait_for(&mut self, text: &str) -> String {
        let ends = Instant::now() + DEADLINE;
        loop {
            match self.lines.recv_timeout(ends.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.said.push(line.clone());
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    panic!("it did not say `{text}`:\n{}", self.said.join("\n"))
                }
            }
        }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    /// Ends it; its exit code and all that it said.
    fn end(mut self, signal: Signal) -> (Option<i32>, Vec<String>) {
        self.signal(signal);
        let status = self.child.wait().unwrap();
        self.said.extend(self.lines.iter());
        (status.code(), self.said.clone())
    }

    fn get(&self, path: &str) -> (u16, String) {
        let mut stream = UnixStream::connect(self.place.state().join("run/daemon.sock")).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: ashlar\r\nconnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let status = text.split(' ').nth(1).unwrap().parse().unwrap();
        (status, text.split_once("\r\n\r\n").unwrap().1.to_owned())
    }

    /// What a command said, without the daemon's process id.
    fn shown(&self, args: &[&str]) -> String {
        self.place.run(args).replace(&format!("process {}", self.child.id()), "process [PID]")
    }
}

/// Without what is told as it comes, of hosts that do not answer.
fn end_of(text: &str) -> String {
    let told = |line: &&str| !line.starts_with('[') && !line.starts_with("warning:");
    text.lines().filter(told).collect::<Vec<_>>().join("\n")
}

#[test]
fn commands_declare_and_watch_while_a_daemon_works() {
    let place = Place::with(&stock());
    let file = place.file("prod.yaml", CLUSTER);
    place.run(&["store", "backup", "copy"]);
    let mut daemon = Daemon::start(&place, &[]);
    daemon.wait_for("the first pass is over");
    let all = [
        // A store has one.
        daemon.shown(&["serve"]),
        daemon.shown(&["store", "restore", "copy", "--yes"]),
        // It is declared, and the daemon says why it does not come about.
        end_of(&daemon.shown(&["apply", "-f", &file, "--timeout", "4s"])),
        end_of(&daemon.shown(&["cluster", "create", "prod", "-f", &file, "--timeout", "4s"])),
        end_of(&daemon.shown(&["cluster", "stop", "prod", "--timeout", "30s"])),
        end_of(&daemon.shown(&["cluster", "start", "prod", "--timeout", "4s"])),
        end_of(&daemon.shown(&["delete", "cluster", "prod", "--yes"])),
        end_of(&daemon.shown(&["host", "remove", "h1", "--yes"])),
        daemon.shown(&["get", "clusters,hosts", "-o", "name"]),
    ];
    let (code, _) = daemon.end(Signal::SIGTERM);
    assert_eq!(code, Some(0));
    insta::assert_snapshot!(all.join("\n"));
}

#[test]
fn probes_and_figures_are_answered_and_sigterm_ends_it_well() {
    let place = Place::with(&stock());
    let mut daemon = Daemon::start(&place, &["--log-format", "json"]);
    daemon.wait_for("the first pass is over");
    let (status, text) = daemon.get("/healthz");
    assert_eq!((status, text.starts_with("ok: the last pass ended")), (200, true), "{text}");
    assert_eq!(daemon.get("/readyz").0, 200, "hosts that do not answer are no fault of the daemon's");
    let (status, figures) = daemon.get("/metrics");
    assert_eq!(status, 200);
    for line in ["ashlar_host_reachable{host=\"h1\"} 0", "ashlar_steps{state=\"ready\"} 0", "# EOF"] {
        assert!(figures.lines().any(|found| found == line), "{line} is not in:\n{figures}");
    }
    assert_eq!(daemon.get("/other").0, 404);
    let (code, said) = daemon.end(Signal::SIGTERM);
    assert_eq!(code, Some(0));
    // At its first start it says that it made a key.
    for line in said.iter().filter(|line| !line.starts_with("note: made ")) {
        let json: serde_json::Value =
            serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"));
        assert!(json["timestamp"].is_string() && json["level"].is_string(), "{line}");
    }
    assert!(said.iter().any(|line| line.contains("host unreachable") && line.contains("\"host\":\"h1\"")));
    assert!(said.last().is_some_and(|line| line.contains("\"stopped\"")), "{said:?}");
    // The lock is free again: a command works by itself.
    let alone = place.command_without_network(&["apply", "-f", "-", "--no-wait"]).output().unwrap();
    let alone = String::from_utf8_lossy(&alone.stderr).into_owned();
    assert!(!alone.contains("works here") && !alone.contains("already"), "{alone}");
}

#[test]
fn sighup_reads_the_config_anew_and_commands_that_watch_go_on() {
    // Nobody can tell whether the cluster is off: its hosts do not answer.
    let place = Place::with(&[stock(), demo()].concat());
    let config = place.file("serve.yaml", "period: 7s\n");
    let mut daemon = Daemon::start(&place, &["--config", &config]);
    daemon.wait_for("the first pass is over");
    let mut command = place.command(&["cluster", "stop", "demo", "--timeout", "12s"]);
    let watching = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let ends = Instant::now() + DEADLINE;
    while !daemon.get("/metrics").1.contains("ashlar_commands_waiting 1") {
        assert!(Instant::now() < ends, "the command does not wait");
        std::thread::sleep(Duration::from_millis(50));
    }
    place.file("serve.yaml", "period: 9s\nlog: warn,ashlar=debug\n");
    daemon.signal(Signal::SIGHUP);
    let line = daemon.wait_for("reloaded");
    assert!(line.contains("period: 9s"), "{line}");
    // Debug is logged from now on.
    daemon.wait_for("pass elapsed_ms");
    place.file("serve.yaml", "period: never\n");
    daemon.signal(Signal::SIGHUP);
    let line = daemon.wait_for("not reloaded");
    assert!(line.contains("`never` is not a time"), "{line}");
    daemon.wait_for("pass elapsed_ms");
    // Two reloads later the command's time is up, by the new engine's word.
    let output = watching.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("not done within"), "{said}");
    assert_eq!(daemon.end(Signal::SIGINT).0, Some(0));
}

#[test]
fn a_killed_daemon_leaves_nothing_in_the_way_and_a_watcher_is_told() {
    // Nobody can tell whether the cluster is off: its hosts do not answer.
    let place = Place::with(&[stock(), demo()].concat());
    let mut daemon = Daemon::start(&place, &[]);
    daemon.wait_for("the first pass is over");
    let mut command = place.command(&["cluster", "stop", "demo"]);
    let watching = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let ends = Instant::now() + DEADLINE;
    while !daemon.get("/metrics").1.contains("ashlar_commands_waiting 1") {
        assert!(Instant::now() < ends, "the command does not wait");
        std::thread::sleep(Duration::from_millis(50));
    }
    let pid = daemon.child.id();
    daemon.end(Signal::SIGKILL);
    let said = end_of(&place.shown(&watching.wait_with_output().unwrap()));
    let said = said[said.find("error:").unwrap()..].replace(&format!("process {pid}"), "process [PID]");
    insta::assert_snapshot!(said, @r"
    error: the daemon (process [PID]) ended before this was done
    hint: what was declared is recorded: it is done when the daemon is started again
    hint: the same command again waits for it, or does it where no daemon runs
    ");
    let mut next = Daemon::start(&place, &[]);
    next.wait_for("the first pass is over");
    assert_eq!(next.get("/readyz").0, 200);
    next.end(Signal::SIGTERM);
}

#[test]
fn a_daemon_that_cannot_work_says_why_and_ends() {
    let place = Place::with(&stock());
    let wrong = place.file("wrong.yaml", "period: 30s\nperiods: 40s\n");
    let loud = place.file("loud.yaml", "log: ashlar=loud\n");
    let long = place.path().join("d".repeat(120)).display().to_string();
    let all = [
        place.run(&["serve", "--listen", "0.0.0.0:9477"]),
        place.run(&["serve", "--listen", "9477"]),
        place.run(&["serve", "--config", "missing.yaml"]),
        place.run(&["serve", "--config", &wrong]),
        place.run(&["serve", "--config", &loud]),
        place.run(&["serve", "--key", "file:/nonexistent/key"]),
        place.run(&["serve", "--key", "passphrase"]),
        place.run(&["serve", "--lab", "nosuchlab"]),
        end_of(&place.run(&["serve", "--socket", &long])).replace(&"d".repeat(120), "[LONG]"),
    ];
    insta::assert_snapshot!(all.join("\n"));
    std::fs::write(place.state().join("store.db"), "no store").unwrap();
    insta::assert_snapshot!(place.run(&["serve"]), @r"
    exit 1
    --- stderr
    error: the store [DIR]/state/store.db is damaged: it is not a store file; it was left as it is: restore it from a copy
      caused by: file is not a database
      caused by: Error code 26: file is not a database
    ");
}
