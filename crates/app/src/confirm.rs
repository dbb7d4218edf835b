//! Asking before something is destroyed.

use std::io::{self, BufRead, IsTerminal};

use crate::failure::{Exit, Failure, Result};
use crate::settings::Settings;

/// Says what will be destroyed, and asks. Without a terminal, only `--yes` is consent.
pub(crate) fn confirm(settings: &Settings, yes: bool, what: &[String]) -> Result<()> {
    if yes {
        return Ok(());
    }
    let lines = what.iter().map(|line| format!("  {line}"));
    ask(settings, &["This destroys:".to_owned()].into_iter().chain(lines).collect::<Vec<_>>().join("\n"))
}

/// Says what will be done, and asks. Without a terminal, nobody consents.
pub(crate) fn ask(settings: &Settings, what: &str) -> Result<()> {
    let printer = &settings.printer;
    printer.stderr(what);
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
