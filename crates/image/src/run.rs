//! External programs: a deadline for each, output kept for the error, killed as a group.

use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::error::{Error, Result};

/// How many bytes of a program's stderr an error shows at most.
const TAIL_BYTES: usize = 4096;
/// How often a running child is looked at. Short against any stage, long against the cost of a look.
const POLL: Duration = Duration::from_millis(20);

/// One external program to run.
#[derive(Debug)]
pub(crate) struct Run<'a> {
    stage: &'a str,
    program: OsString,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    cwd: Option<PathBuf>,
    stdout_to: Option<std::fs::File>,
    deadline: Duration,
    cancel: &'a AtomicBool,
}

impl<'a> Run<'a> {
    pub(crate) fn new(
        stage: &'a str,
        program: impl AsRef<OsStr>,
        deadline_s: u64,
        cancel: &'a AtomicBool,
    ) -> Self {
        Self {
            stage,
            program: program.as_ref().to_owned(),
            args: Vec::new(),
            env: Vec::new(),
            cwd: None,
            stdout_to: None,
            deadline: Duration::from_secs(deadline_s),
            cancel,
        }
    }

    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    pub(crate) fn args<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(mut self, args: I) -> Self {
        self.args.extend(args.into_iter().map(|a| a.as_ref().to_owned()));
        self
    }

    pub(crate) fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((key.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    pub(crate) fn cwd(mut self, dir: &Path) -> Self {
        self.cwd = Some(dir.to_owned());
        self
    }

    pub(crate) fn stdout_to(mut self, file: std::fs::File) -> Self {
        self.stdout_to = Some(file);
        self
    }

    fn label(&self) -> String {
        let mut label = self.program.to_string_lossy().into_owned();
        for arg in self.args.iter().take(3) {
            label.push(' ');
            label.push_str(&arg.to_string_lossy());
        }
        label
    }

    /// Runs the program to its end and returns its stdout (empty where that went to a file).
    pub(crate) fn output(mut self) -> Result<String> {
        let label = self.label();
        let mut command = Command::new(&self.program);
        command.args(&self.args).envs(self.env.iter().map(|(k, v)| (k, v)));
        command.stdin(Stdio::null()).stderr(Stdio::piped()).process_group(0);
        command.stdout(match self.stdout_to.take() {
            Some(file) => Stdio::from(file),
            None => Stdio::piped(),
        });
        if let Some(dir) = &self.cwd {
            command.current_dir(dir);
        }
        let mut child = command.spawn().map_err(|source| self.spawn_error(source))?;
        let stdout = child.stdout.take().map(collect);
        let stderr = child.stderr.take().map(collect);
        let end = self.wait(&mut child);
        let stdout = stdout.map(join).unwrap_or_default();
        let stderr = stderr.map(join).unwrap_or_default();
        let shown = if stderr.trim().is_empty() { &stdout } else { &stderr };
        let stage = self.stage.to_owned();
        match end {
            End::Exited(status) if status.success() => Ok(stdout),
            End::Exited(status) => {
                Err(Error::Program { stage, program: label, status: status.to_string(), tail: tail(shown) })
            }
            End::Deadline => Err(Error::Deadline {
                stage,
                program: label,
                deadline_s: self.deadline.as_secs(),
                tail: tail(shown),
            }),
            End::Cancelled => Err(Error::Cancelled { stage }),
            End::Lost(source) => Err(Error::io(&stage, "wait for", PathBuf::from(&self.program))(source)),
        }
    }

    fn spawn_error(&self, source: std::io::Error) -> Error {
        if source.kind() == std::io::ErrorKind::NotFound && self.cwd.as_ref().is_none_or(|dir| dir.exists()) {
            let program = self.program.to_string_lossy().into_owned();
            let hint = install_hint(&program);
            return Error::MissingProgram { stage: self.stage.to_owned(), program, hint };
        }
        Error::io(self.stage, "start", PathBuf::from(&self.program))(source)
    }

    fn wait(&self, child: &mut Child) -> End {
        let started = Instant::now();
        loop {
            match child.try_wait() {
                Ok(Some(status)) => return End::Exited(status),
                Ok(None) => {}
                Err(source) => return End::Lost(source),
            }
            let end = if self.cancel.load(Ordering::Relaxed) {
                End::Cancelled
            } else if started.elapsed() > self.deadline {
                End::Deadline
            } else {
                std::thread::sleep(POLL);
                continue;
            };
            // The group, because build tools have children of their own.
            if let Ok(pid) = i32::try_from(child.id()) {
                let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
            }
            let _ = child.wait();
            return end;
        }
    }
}

enum End {
    Exited(std::process::ExitStatus),
    Deadline,
    Cancelled,
    Lost(std::io::Error),
}

fn collect<R: Read + Send + 'static>(mut from: R) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // A read error means that the child is gone; what came before is what there is.
        let _ = from.read_to_end(&mut bytes);
        bytes
    })
}

fn join(thread: std::thread::JoinHandle<Vec<u8>>) -> String {
    String::from_utf8_lossy(&thread.join().unwrap_or_default()).into_owned()
}

fn tail(text: &str) -> String {
    let text = text.trim_end();
    let mut start = text.len().saturating_sub(TAIL_BYTES);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    text[start..].to_owned()
}

/// Where a missing program comes from on Debian.
fn install_hint(program: &str) -> String {
    let package = match program {
        "go" => {
            return "install Go 1.26 or newer from https://go.dev/dl/ and put it on PATH".to_owned();
        }
        "mke2fs" => "e2fsprogs",
        "qemu-img" => "qemu-utils",
        "xz" => "xz-utils",
        "chroot" => "coreutils",
        "unshare" | "mount" => "util-linux",
        other => other,
    };
    format!("install it with `apt-get install {package}`")
}

#[cfg(test)]
mod tests {
    use super::*;

    static GO_ON: AtomicBool = AtomicBool::new(false);

    #[test]
    fn the_deadline_kills_the_whole_group_and_keeps_what_was_said() {
        let started = Instant::now();
        let script = "echo last words >&2; sleep 600 & wait";
        let error = Run::new("demo", "sh", 1, &GO_ON).args(["-c", script]).output().unwrap_err();
        assert!(started.elapsed() < Duration::from_secs(60));
        assert!(
            matches!(&error, Error::Deadline { deadline_s: 1, tail, .. } if tail == "last words"),
            "{error}"
        );
    }

    #[test]
    fn failure_shows_stderr_and_a_missing_program_its_package() {
        let error =
            Run::new("demo", "sh", 9, &GO_ON).args(["-c", "echo no space >&2; exit 3"]).output().unwrap_err();
        assert!(matches!(&error, Error::Program { tail, .. } if tail == "no space"), "{error}");
        let error = Run::new("demo", "no-such-mke2fs", 9, &GO_ON).output().unwrap_err();
        assert!(error.to_string().contains("apt-get install no-such-mke2fs"), "{error}");
    }

    #[test]
    fn a_request_to_stop_ends_the_program() {
        let stop = AtomicBool::new(true);
        let error = Run::new("demo", "sleep", 600, &stop).arg("600").output().unwrap_err();
        assert!(matches!(error, Error::Cancelled { .. }));
    }
}
