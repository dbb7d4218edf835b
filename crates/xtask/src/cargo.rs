//! Running cargo from a task.

use std::process::Command;

/// Cargo, as it is when it is called by hand: without what it told this process of the crate that this process is.
/// Build scripts watch that (ring's does), and half the workspace would be built anew whenever cargo is called by a task
/// and by hand in turn.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in std::env::vars_os() {
        let is_of_this_crate = name.to_str().is_some_and(|name| {
            ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_CRATE_", "CARGO_BIN_"]
                .iter()
                .any(|start| name.starts_with(start))
        });
        if is_of_this_crate {
            command.env_remove(name);
        }
    }
    command
}
