//! `ashlar audit`: the record of who changed what.

use std::sync::Arc;

use ashlar_engine::audit::{Deed, Line, accept, doubt, lines, verify};
use ashlar_engine::effects::Clock as _;

use crate::cli::{AuditAcceptArgs, AuditCommand, AuditListArgs, OutputFormat};
use crate::confirm::ask;
use crate::failure::{Exit, Failure, Result};
use crate::output::{Table, plural};
use crate::settings::Settings;
use crate::wiring::place::Place;
use crate::wiring::{OsEntropy, SystemClock, audit_path, author, open_vault};

/// Runs an audit command.
pub(crate) fn audit(settings: &Settings, command: &AuditCommand) -> Result {
    // The path first: it says when a lab is not there.
    settings.store_path()?;
    match command {
        AuditCommand::List(args) => list(settings, args),
        AuditCommand::Verify => check(settings),
        AuditCommand::Accept(args) => accept_it(settings, args),
    }
}

fn accept_it(settings: &Settings, args: &AuditAcceptArgs) -> Result {
    let path = audit_path(settings);
    // Another machine may have changed the key, which a store that they share says.
    if let Err(failure) = Place::find(settings) {
        settings.printer.warn(format!(
            "whether the key was changed meanwhile is not known: {}",
            failure.chain.join(": ")
        ));
    }
    let vault = open_vault(settings)?;
    let Some(found) = doubt(&path, Arc::clone(&vault), Arc::new(OsEntropy))? else {
        settings.printer.note(format!("{}: there is nothing to accept", path.display()));
        return Ok(Exit::Success);
    };
    if !args.yes {
        ask(settings, &format!("The audit log {} is gone on with although {found}.", path.display()))?;
    }
    // It may have been accepted while this was asked.
    if let Some(found) = accept(&path, author(), vault, Arc::new(OsEntropy), SystemClock.now())? {
        settings.printer.note(format!("recorded in {}: accepted although {found}", path.display()));
    }
    Ok(Exit::Success)
}

fn check(settings: &Settings) -> Result {
    let path = audit_path(settings);
    // Another machine may have changed the key, which a store that they share says.
    if let Err(failure) = Place::find(settings) {
        let why = failure.chain.join(": ");
        settings.printer.warn(format!("whether the key was changed on another machine is not known: {why}"));
    }
    let vault = open_vault(settings)?;
    match verify(&path, &vault)? {
        Ok(whole) => {
            settings.printer.line(format!(
                "{}: whole, {}, the last has the digest {}",
                path.display(),
                plural(usize::try_from(whole.lines).unwrap_or(usize::MAX), "line"),
                whole.digest
            ))?;
            if let Some(key) = whole.noted_before {
                settings.printer.note(format!(
                    "how long it is was noted by key {key}, which was the installation's before: the next command that changes \
                     something notes it by the present one"
                ));
            }
            Ok(Exit::Success)
        }
        Err(broken) => {
            let at = broken.line.map(|line| format!(":{line}")).unwrap_or_default();
            Err(Failure::new(format!("the audit log {}{at} is not whole: {}", path.display(), broken.why))
                .hint("compare it with a backup; what lies before that line is as it was written")
                .hint("where only the end is in doubt, `ashlar audit accept` goes on from what is there"))
        }
    }
}

fn list(settings: &Settings, args: &AuditListArgs) -> Result {
    let mut all = lines(&audit_path(settings))?;
    if let Some(object) = &args.object {
        all.retain(|line| line.deed.objects().iter().any(|named| names(named, object)));
    }
    let first = args.last.map_or(0, |last| all.len().saturating_sub(last));
    let shown = &all[first..];
    match settings.output {
        // One object a line, as it is stored: there may be millions.
        OutputFormat::Json => settings.printer.data(|out| {
            for line in shown {
                serde_json::to_writer(&mut *out, line)?;
                out.write_all(b"\n")?;
            }
            Ok(())
        }),
        OutputFormat::Yaml => super::get::print_value(settings, &serde_json::to_value(shown)?),
        _ => table(settings, shown),
    }
}

fn table(settings: &Settings, lines: &[Line]) -> Result {
    if lines.is_empty() {
        settings.printer.note("nothing is recorded");
        return Ok(Exit::Success);
    }
    let mut table = Table::new(vec!["TIME", "WHO", "DEED", "WHAT", "WHY"]);
    for line in lines {
        let (deed, what, why) = told(&line.deed);
        table.push(vec![line.time.to_string(), line.who.clone(), deed.to_owned(), what, why]);
    }
    settings.printer.data(|out| table.write(out, 0))
}

/// Objects stand in the record as `machine default/m1`; people write `machine/m1`, `machine/default/m1` or `m1`.
fn names(recorded: &str, wanted: &str) -> bool {
    let recorded = recorded.replace(' ', "/");
    match (
        recorded.split('/').collect::<Vec<_>>().as_slice(),
        wanted.split('/').collect::<Vec<_>>().as_slice(),
    ) {
        ([.., name], [wanted]) => name == wanted,
        ([kind, .., name], [wanted_kind, wanted]) => kind == wanted_kind && name == wanted,
        _ => recorded == wanted,
    }
}

fn told(deed: &Deed) -> (&'static str, String, String) {
    let nothing = String::new;
    match deed {
        Deed::Began { command, version } => ("began", command.clone(), format!("ashlar {version}")),
        Deed::Accepted { doubt } => ("accepted", "this record as it was".to_owned(), doubt.clone()),
        Deed::Declared { verb, objects } => ("declared", format!("{verb} {}", objects.join(", ")), nothing()),
        Deed::Decided { writes, .. } => ("decided", writes.join(", "), nothing()),
        Deed::Conflicted { .. } => ("conflicted", "nothing was written".to_owned(), nothing()),
        Deed::Started { action, object, host, why, .. } => {
            let place = if host.is_empty() { nothing() } else { format!(" on {host}") };
            ("started", format!("{action} {object}{place}"), why.clone())
        }
        Deed::Done { action, object } => ("done", format!("{action} {object}"), nothing()),
        Deed::Failed { action, object, error } => ("failed", format!("{action} {object}"), error.clone()),
    }
}
