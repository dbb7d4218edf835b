//! What an `ssh` that failed means.

use ashlar_engine::effects::{EffectError, EffectErrorKind};

use super::Ssh;
use super::gate::{PREFIX, code};

/// The error of a session that ended with this exit code (none: by a signal) and these words.
pub(crate) fn failure(ssh: &Ssh, exit: Option<i32>, stderr: &str, doing: &str) -> EffectError {
    let host = &ssh.target.name;
    let address = &ssh.address;
    let said = said(stderr);
    if let Some(line) = stderr.lines().find_map(|line| line.strip_prefix(PREFIX)) {
        let (kind, advice) = match exit {
            Some(code::FOREIGN | code::UNREADABLE) => (EffectErrorKind::NotOurs, ""),
            Some(code::FENCED) => (EffectErrorKind::Fenced, ""),
            Some(code::BUSY) => (EffectErrorKind::Busy, ""),
            Some(code::MISSING | code::UNWRITABLE) | Some(_) => (EffectErrorKind::Refused, ""),
            None => (EffectErrorKind::Unreachable, ""),
        };
        return EffectError::new(kind, format!("host {host}: {line}{advice}"));
    }
    let has = |text: &str| stderr.contains(text);
    if has("HOST IDENTIFICATION HAS CHANGED")
        || has("Host key verification failed")
        || has("host key is known")
    {
        return EffectError::new(
            EffectErrorKind::NotOurs,
            format!(
                "host {host} ({address}) shows another SSH host key than the one that was pinned when it was added: \
                 it was installed anew, or something else answers at its address. Ashlar does not connect. If the \
                 new key is right, set it as spec.sshHostKey (ssh-keyscan -t ed25519 {})",
                address.host
            ),
        );
    }
    if has("Permission denied") {
        return EffectError::new(
            EffectErrorKind::Refused,
            format!(
                "host {host} ({address}) refuses our SSH key{}: put its public half into {}'s authorized_keys there",
                ssh.target.ssh_key_path.as_ref().map(|path| format!(" {path}")).unwrap_or_default(),
                address.user,
            ),
        );
    }
    if has("sudo:") {
        return EffectError::new(
            EffectErrorKind::Refused,
            format!("host {host}: user {} may not use sudo without a password: {said}", address.user),
        );
    }
    match exit {
        Some(127) => EffectError::new(
            EffectErrorKind::Refused,
            format!(
                "host {host} lacks a program to {doing} ({said}): install libvirt's daemon package there (Debian: \
                 libvirt-daemon-system)"
            ),
        ),
        Some(255) | None => EffectError::new(
            EffectErrorKind::Unreachable,
            format!("host {host} ({address}) is not reached over SSH to {doing}: {said}"),
        ),
        Some(exit) => EffectError::new(
            EffectErrorKind::Refused,
            format!("host {host}: the command to {doing} ended with exit code {exit}: {said}"),
        ),
    }
}

/// The last words, on one line.
fn said(stderr: &str) -> String {
    let lines: Vec<&str> = stderr.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    match lines.len() {
        0 => "no message".to_owned(),
        count => lines[count.saturating_sub(3)..].join("; "),
    }
}
