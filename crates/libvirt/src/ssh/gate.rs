//! The command line of a gated session.

use ashlar_engine::effects::HostTarget;

const SCRIPT: &str = include_str!("gate.sh");

/// Exit codes of the gate, told from a command's own by the line that goes with them.
pub(super) mod code {
    /// Another installation has the host.
    pub(crate) const FOREIGN: i32 = 80;
    /// A newer token has the host.
    pub(crate) const FENCED: i32 = 81;
    /// The lock is taken, or an old session does not end.
    pub(crate) const BUSY: i32 = 82;
    /// A program is missing.
    pub(crate) const MISSING: i32 = 83;
    /// The lease is there and cannot be read.
    pub(crate) const UNREADABLE: i32 = 84;
    /// The lease cannot be written.
    pub(crate) const UNWRITABLE: i32 = 85;
}

/// What the gate's messages begin with.
pub(super) const PREFIX: &str = "ashlar-gate: ";

/// One command line for the host's login shell, whichever that is: the gate, then the program. The script's own
/// comments stay here.
pub(super) fn command_line(target: &HostTarget, as_root: bool, argv: &[&str]) -> String {
    let script: Vec<&str> = SCRIPT.lines().filter(|line| !line.trim_start().starts_with('#')).collect();
    let script = script.join("\n");
    let installation = target.installation.to_string();
    let token = target.lease_token.map_or_else(|| "visitor".to_owned(), |token| token.to_string());
    let caller = caller();
    let mut words: Vec<&str> = if as_root { vec!["exec"] } else { vec!["exec", "sudo", "-n", "--"] };
    words.extend(["/bin/sh", "-c", &script, "ashlar-gate", &installation, &token, &caller]);
    words.extend(argv);
    words.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" ")
}

/// Who asks, for whoever is refused because of it.
fn caller() -> String {
    let machine = nix::unistd::gethostname().unwrap_or_default();
    format!("process {} on {}", std::process::id(), machine.to_string_lossy())
}

/// Single quotes: the one form that every shell reads alike.
fn quote(word: &str) -> String {
    if !word.is_empty() && word.bytes().all(|c| c.is_ascii_alphanumeric() || b"/._-=".contains(&c)) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn words_reach_the_host_as_they_are() {
        for word in ["plain", "", "two words", "it's", "$(reboot)", "a\nb", "`x`", "\\", "*"] {
            let output = std::process::Command::new("sh")
                .arg("-c")
                .arg(format!("printf %s {}", quote(word)))
                .output()
                .unwrap();
            assert_eq!(String::from_utf8_lossy(&output.stdout), word);
        }
    }

    #[test]
    fn the_script_is_posix_shell() {
        for shell in ["sh", "bash"] {
            let status = std::process::Command::new(shell).args(["-n", "-c", SCRIPT]).status().unwrap();
            assert!(status.success(), "{shell}");
        }
    }
}
