//! A state directory of its own for each test, and the binary run in it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use ashlar_store::{Key, Precondition, SqliteStore, Store, Transaction};
use futures::executor::block_on;
use serde_json::Value;
use tempfile::TempDir;

/// A home and a state directory that end with the test.
pub(crate) struct Place {
    dir: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Place { dir: tempfile::tempdir().unwrap() }
    }

    /// With objects in the store.
    pub(crate) fn with(objects: &[Value]) -> Self {
        let place = Place::new();
        place.put(objects);
        place
    }

    /// Writes objects into the store, as the engine would have.
    pub(crate) fn put(&self, objects: &[Value]) {
        let store = SqliteStore::open(self.state().join("store.db")).unwrap();
        for chunk in objects.chunks(100) {
            let mut transaction = Transaction::new();
            for object in chunk {
                let text =
                    |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
                let key = Key::new(text("/kind"), text("/metadata/namespace"), text("/metadata/name"));
                transaction = transaction.put(key, object.clone(), Precondition::Any);
            }
            block_on(store.commit(transaction)).unwrap();
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// A file for `-f`.
    pub(crate) fn file(&self, name: &str, text: &str) -> String {
        let path = self.dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    /// The binary, cut off from whatever the machine has.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ashlar"));
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ASHLAR_"))
        {
            command.env_remove(name);
        }
        command
            .args(args)
            .current_dir(self.dir.path())
            .env("ASHLAR_STATE_DIR", self.state())
            .env("ASHLAR_CACHE_DIR", self.dir.path().join("cache"))
            .env("HOME", self.dir.path())
            .env("COLUMNS", "100")
            .env_remove("KUBECONFIG")
            .env_remove("XDG_CONFIG_HOME")
            .stdin(Stdio::null());
        command
    }

    /// The binary where there is no network at all: no host answers, and none is asked.
    pub(crate) fn command_without_network(&self, args: &[&str]) -> Command {
        let inner = self.command(args);
        let mut command = Command::new("unshare");
        command.arg("--net").arg(inner.get_program()).args(inner.get_args()).current_dir(self.dir.path());
        for (name, value) in inner.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.stdin(Stdio::null());
        command
    }

    /// Runs it; what it said, as a snapshot.
    pub(crate) fn run(&self, args: &[&str]) -> String {
        self.shown(&self.command(args).output().unwrap())
    }

    /// Runs it where there is no network at all, with more in its environment. Needs root.
    pub(crate) fn run_offline(&self, args: &[&str], env: &[(&str, &str)]) -> String {
        let inside = self.command(args);
        let mut command = Command::new("/usr/bin/unshare");
        command.arg("--net").arg(inside.get_program()).args(inside.get_args());
        for (name, value) in inside.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        for name in ["all_proxy", "https_proxy", "http_proxy", "no_proxy"] {
            command.env_remove(name).env_remove(name.to_uppercase());
        }
        command.envs(env.iter().copied()).current_dir(self.dir.path()).stdin(Stdio::null());
        self.shown(&command.output().unwrap())
    }

    /// Runs it with something on stdin.
    pub(crate) fn run_with(&self, args: &[&str], input: &str) -> String {
        let mut command = self.command(args);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        self.shown(&child.wait_with_output().unwrap())
    }

    pub(crate) fn shown(&self, output: &Output) -> String {
        let mut text = format!("exit {}\n", output.status.code().unwrap_or(-1));
        for (name, bytes) in [("stdout", &output.stdout), ("stderr", &output.stderr)] {
            if !bytes.is_empty() {
                text.push_str(&format!("--- {name}\n{}", String::from_utf8_lossy(bytes)));
            }
        }
        filtered(&text.replace(&self.dir.path().display().to_string(), "[DIR]"))
    }
}

/// Times and random ids change from run to run.
fn filtered(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
        let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if let Some(unit) = [" ms", " s"].iter().find(|unit| is_number(word) && ends_word(after, unit)) {
            out.push_str("[TIME]");
            rest = &after[unit.len()..];
            continue;
        }
        out.push_str(&word_filtered(word));
        let gap = after.find(is_word).unwrap_or(after.len());
        out.push_str(&after[..gap]);
        rest = &after[gap..];
    }
    out
}

fn is_number(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_digit()) && word.parse::<f64>().is_ok()
}

fn ends_word(text: &str, unit: &str) -> bool {
    text.strip_prefix(unit).is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_alphanumeric()))
}

fn word_filtered(word: &str) -> String {
    let age = word
        .strip_suffix('d')
        .is_some_and(|days| days.len() >= 3 && days.bytes().all(|b| b.is_ascii_digit()));
    if age {
        return "[AGE]".to_owned();
    }
    // A UUID may stand alone, or at the end of a file's name.
    let parts: Vec<&str> = word.splitn(2, '.').collect();
    let stem = parts[0];
    let is_uuid = |text: &str| {
        text.len() == 36
            && text.bytes().enumerate().all(|(at, b)| match at {
                8 | 13 | 18 | 23 => b == b'-',
                _ => b.is_ascii_hexdigit(),
            })
    };
    match stem.len().checked_sub(36).and_then(|at| stem.get(at..).map(|end| (at, end))) {
        Some((at, end)) if is_uuid(end) => {
            let ending = parts.get(1).map_or(String::new(), |ending| format!(".{ending}"));
            format!("{}[UUID]{ending}", &stem[..at])
        }
        _ => word.to_owned(),
    }
}
