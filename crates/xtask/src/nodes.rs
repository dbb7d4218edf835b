//! Programs on the nodes of a cluster under test, over `ashlar ssh`.

use std::fs;
use std::path::PathBuf;

use anyhow::{Result, ensure};

use crate::e2e::context::Context;

/// The public key for a cluster's `sshAuthorizedKeys`.
pub(crate) fn public_key(context: &Context) -> Result<String> {
    Ok(fs::read_to_string(login_key(context)?.with_extension("pub"))?.trim().to_owned())
}

/// A program on a machine, as root there.
pub(crate) fn inside(context: &mut Context, machine: &str, program: &str) -> Result<String> {
    let key = login_key(context)?.to_string_lossy().into_owned();
    context.ok(context.command(&["ssh", "-i", &key, machine, "--", program]))
}

/// The key that logs in on nodes; it lies beside what the lab's Ashlar knows, and goes with it.
fn login_key(context: &Context) -> Result<PathBuf> {
    let key = context.state_dir()?.join("test-login-key");
    if !key.exists() {
        let mut make = std::process::Command::new("ssh-keygen");
        let made = make.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key).status()?;
        ensure!(made.success(), "ssh-keygen: {made}");
    }
    Ok(key)
}
