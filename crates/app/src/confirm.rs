//! Asking before something is destroyed.

use std::io::{self, BufRead, IsTerminal};

use crate::failure::{Exit, Failure, Result};
use crate::settings::Settings;

/// Says what will be destroyed, and asks. Without a terminal, only `--yes` is consent.
pub(crate) fn confirm(settings: &Settings, yes: bool, what: &[String]) -> Result<()> {
    let printer = &settings.printer;
    if yes {
        return Ok(());
    }
    printer.stderr("This destroys:");
    for line in what {
        printer.stderr(&format!("  {line}"));
    }
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(Failure::new("not confirmed: there is no terminal to ask on").hint("add --yes to do it"));
    }
    printer.stderr("Type yes to go on:");
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    if answer.trim().eq_ignore_ascii_case("yes") {
        return Ok(());
    }
    Err(Failure { exit: Exit::Failure, ..Failure::new("not confirmed; nothing was done") })
}
