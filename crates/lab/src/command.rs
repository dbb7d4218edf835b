//! Runs other programs, each with a deadline.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::LabError;

/// Search path of everything that a lab starts. Root's own may lack the sbin directories.
pub(crate) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How often a child is asked whether it has ended.
const POLL: Duration = Duration::from_millis(2);

/// Looks a program up in [`PATH`].
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    PATH.split(':').map(|dir| Path::new(dir).join(name)).find(|path| path.is_file())
}

/// A command of a lab: full path, and an environment that does not depend on who runs the lab.
pub(crate) fn command(program: &str) -> Command {
    let mut command = Command::new(find_program(program).unwrap_or_else(|| PathBuf::from(program)));
    command.env_clear().env("PATH", PATH).env("LC_ALL", "C").env("HOME", "/root").current_dir("/");
    command
}

/// Runs a command and collects what it prints. It is killed at the deadline.
pub(crate) fn output(command: &mut Command, deadline: Duration) -> Result<Output, LabError> {
    command.stdin(Stdio::null());
    collect(command, deadline, spawn)
}

/// Starts a command as it is.
pub(crate) fn spawn(command: &mut Command) -> Result<Child, LabError> {
    command.spawn().map_err(|source| LabError::Spawn { program: line_of(command), source })
}

/// The same, started by the caller's function: somewhere else, as a rule.
pub(crate) fn collect(
    command: &mut Command,
    deadline: Duration,
    start: impl FnOnce(&mut Command) -> Result<Child, LabError>,
) -> Result<Output, LabError> {
    let line = line_of(command);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = start(command)?;
    let stdout = child.stdout.take();
    let stderr = child.stderr.take();
    let out = thread::spawn(move || drain(stdout));
    let err = thread::spawn(move || drain(stderr));
    let end = Instant::now() + deadline;
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() < end => thread::sleep(POLL),
            Ok(None) => {
                // Fails only if the child has just ended, which is as good.
                let _ = child.kill();
                let _ = child.wait();
                return Err(LabError::CommandTimeout { command: line, after: deadline });
            }
            Err(source) => return Err(LabError::Spawn { program: line, source }),
        }
    };
    Ok(Output { status, stdout: out.join().unwrap_or_default(), stderr: err.join().unwrap_or_default() })
}

/// Runs a command; an exit code other than zero is an error.
pub(crate) fn checked(command: &mut Command, deadline: Duration) -> Result<String, LabError> {
    let output = output(command, deadline)?;
    succeeded(command, output)
}

/// What a command printed, if it ended well.
pub(crate) fn succeeded(command: &Command, output: Output) -> Result<String, LabError> {
    if !output.status.success() {
        return Err(failure(command, output.status, &output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The error for a command that ended badly.
pub(crate) fn failure(command: &Command, status: ExitStatus, stderr: &[u8]) -> LabError {
    let text = String::from_utf8_lossy(stderr);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let tail = lines[lines.len().saturating_sub(5)..].join("; ");
    LabError::Command { command: line_of(command), status, stderr: tail }
}

fn line_of(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let mut words = vec![program.file_name().unwrap_or(program.as_os_str()).to_string_lossy()];
    words.extend(command.get_args().map(|arg| arg.to_string_lossy()));
    words.join(" ")
}

fn drain(pipe: Option<impl Read>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(mut pipe) = pipe {
        // What was read before an error is kept: it is for messages.
        let _ = pipe.read_to_end(&mut bytes);
    }
    bytes
}

/// Waits until `ready` says so, asking often.
pub(crate) fn wait_until(
    deadline: Duration,
    mut ready: impl FnMut() -> Result<bool, LabError>,
) -> Result<bool, LabError> {
    let end = Instant::now() + deadline;
    loop {
        if ready()? {
            return Ok(true);
        }
        if Instant::now() >= end {
            return Ok(false);
        }
        thread::sleep(Duration::from_millis(10));
    }
}
