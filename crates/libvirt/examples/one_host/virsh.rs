//! virsh in the host, on as many connections as wanted, each of which reads its commands from a pipe.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use ashlar_lab::Place;

use crate::rig::Rig;

/// A virsh that is connected.
struct Shell {
    child: Child,
    commands: ChildStdin,
    reader: std::thread::JoinHandle<String>,
}

fn connect(rig: &Rig) -> Shell {
    let mut command = Command::new("virsh");
    command.args(["-q", "-c", "qemu:///system"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = rig.lab.spawn(&Place::Host(rig.host().name.clone()), &mut command).unwrap();
    let mut commands = child.stdin.take().unwrap();
    // The first answer of the daemon: connected.
    commands.write_all(b"hostname\n").unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains(&rig.host().name) {
        line.clear();
        assert!(output.read_line(&mut line).unwrap() > 0, "virsh does not connect");
    }
    let mut errors = child.stderr.take().unwrap();
    let reader = std::thread::spawn(move || {
        let drain = std::thread::spawn(move || {
            let mut text = String::new();
            std::io::Read::read_to_string(&mut errors, &mut text).map(|_| text)
        });
        std::io::copy(&mut output, &mut std::io::sink()).unwrap();
        drain.join().unwrap().unwrap()
    });
    Shell { child, commands, reader }
}

/// How long the commands take, dealt out in turn to so many connections that stand already. One list of commands is one
/// machine's, and stays in order.
pub(crate) fn timed(rig: &Rig, connections: usize, lists: &[Vec<String>]) -> Duration {
    let mut shells: Vec<Shell> = (0..connections).map(|_| connect(rig)).collect();
    let mut scripts = vec![String::new(); connections];
    for (index, list) in lists.iter().enumerate() {
        for command in list {
            scripts[index % connections].push_str(&format!("{command}\n"));
        }
    }
    let begin = Instant::now();
    std::thread::scope(|scope| {
        for (shell, script) in shells.iter_mut().zip(&scripts) {
            scope.spawn(move || shell.commands.write_all(format!("{script}quit\n").as_bytes()).unwrap());
        }
    });
    let mut complaints = String::new();
    for shell in shells {
        let Shell { mut child, commands, reader } = shell;
        drop(commands);
        child.wait().unwrap();
        complaints.push_str(&reader.join().unwrap());
    }
    let elapsed = begin.elapsed();
    assert!(!complaints.contains("error:"), "virsh: {complaints}");
    elapsed
}

/// What one command of virsh prints.
pub(crate) fn output(rig: &Rig, arguments: &[&str]) -> String {
    let argv: Vec<&str> = ["virsh", "-q", "-c", "qemu:///system"].iter().chain(arguments).copied().collect();
    let place = Place::Host(rig.host().name.clone());
    let output = rig.lab.output(&place, &argv, Duration::from_secs(60)).unwrap();
    assert!(output.status.success(), "virsh {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
