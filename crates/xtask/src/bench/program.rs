//! The `ashlar` under test.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

/// The binary.
#[derive(Clone, Debug)]
pub(super) struct Program {
    path: PathBuf,
    environment: Vec<(String, String)>,
}

impl Program {
    /// The given binary, or the release build of this tree, which is built now.
    pub(super) fn find(given: Option<&Path>) -> Result<Self> {
        let path = match given {
            Some(path) => path.to_owned(),
            None => {
                cargo(&["build", "--quiet", "--release", "--package", "ashlar-app"])?;
                target_dir()?.join("release/ashlar")
            }
        };
        let path =
            std::fs::canonicalize(&path).with_context(|| format!("{} is not there", path.display()))?;
        Ok(Program { path, environment: Vec::new() })
    }

    /// The same, with a variable set for all its commands.
    pub(super) fn with_env(&self, name: &str, value: &str) -> Self {
        let mut program = self.clone();
        program.environment.push((name.to_owned(), value.to_owned()));
        program
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// A command of it, without input.
    pub(super) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.path);
        command.args(arguments).stdin(Stdio::null());
        // Options of the caller's shell must not change what is measured.
        for variable in ["ASHLAR_LAB", "ASHLAR_STATE_DIR", "ASHLAR_KEY"] {
            command.env_remove(variable);
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs a command that must work; its stdout.
    pub(super) fn ok(&self, arguments: &[&str]) -> Result<String> {
        output_of(&mut self.command(arguments))
    }

    /// `… -o json`.
    pub(super) fn json(&self, arguments: &[&str]) -> Result<Value> {
        let mut all = arguments.to_vec();
        all.extend(["-o", "json"]);
        let text = self.ok(&all)?;
        serde_json::from_str(&text).with_context(|| format!("ashlar {} printed no JSON", arguments.join(" ")))
    }
}

/// Runs a command that must work; its stdout.
pub(super) fn output_of(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("could not run {command:?}"))?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    let shown: Vec<&str> = stderr.lines().rev().take(20).collect::<Vec<_>>().into_iter().rev().collect();
    ensure!(output.status.success(), "{command:?}: {}\n{}", output.status, shown.join("\n"));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs cargo in this workspace.
pub(super) fn cargo(arguments: &[&str]) -> Result<String> {
    output_of(crate::cargo::cargo().args(arguments).current_dir(root()))
}

/// The workspace's root.
pub(super) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Where cargo builds.
pub(super) fn target_dir() -> Result<PathBuf> {
    let metadata = cargo_metadata::MetadataCommand::new().current_dir(root()).no_deps().exec()?;
    Ok(metadata.target_directory.into_std_path_buf())
}
