//! `ashlar explain`: field docs of a kind, or why a machine is where it is.

use std::io::{self, Write};

use ashlar_api::schema::{FieldDoc, explain as explain_field, schema};
use ashlar_api::{Kind, Machine, Object};

use ashlar_engine::Scope;
use ashlar_plan::explain::{placement, placement_text};

use crate::cli::{ExplainArgs, OutputFormat};
use crate::commands::get::print_value;
use crate::failure::{Failure, Result};
use crate::objects::{Reader, object_ref, parse_kind};
use crate::output::Table;
use crate::settings::Settings;
use crate::wiring::Session;

/// Hosts whose verdicts are shown.
const HOSTS: usize = 20;
/// Width of descriptions.
const WIDTH: usize = 100;

/// Explains.
pub(crate) fn explain(settings: &Settings, args: &ExplainArgs) -> Result {
    match &args.name {
        Some(name) => explain_object(settings, &args.path, name),
        None => {
            let (kind, path) = args.path.split_once('.').unwrap_or((&args.path, ""));
            let kind = parse_kind(kind)?;
            if path.is_empty() && matches!(settings.output, OutputFormat::Json | OutputFormat::Yaml) {
                return print_value(settings, schema(kind));
            }
            let doc = explain_field(kind, path)?;
            settings.printer.data(|out| print(out, kind, &doc))
        }
    }
}

fn print(out: &mut dyn Write, kind: Kind, doc: &FieldDoc) -> io::Result<()> {
    writeln!(out, "KIND:     {kind} ({})", ashlar_api::API_VERSION)?;
    if doc.path.is_empty() {
        let mut names = vec![kind.plural()];
        names.extend(kind.short_names());
        writeln!(out, "NAMES:    {}", names.join(", "))?;
        if !kind.is_user_written() {
            writeln!(out, "WRITTEN:  by Ashlar, not by people")?;
        }
    } else {
        writeln!(out, "FIELD:    {} <{}>{}", doc.path, doc.type_name, flags(doc))?;
    }
    writeln!(out)?;
    for line in wrap(&doc.description, WIDTH) {
        writeln!(out, "{line}")?;
    }
    if let Some(default) = &doc.default {
        writeln!(out, "\nDefault: {default}")?;
    }
    if !doc.values.is_empty() {
        writeln!(out, "\nValues:")?;
        let mut table = Table::new(Vec::new());
        for value in &doc.values {
            table.push(vec![value.value.clone(), value.description.replace('\n', " ")]);
        }
        table.write(out, 2)?;
    }
    if !doc.children.is_empty() {
        writeln!(out, "\nFields:")?;
    }
    for child in &doc.children {
        writeln!(out, "  {} <{}>{}", child.name, child.type_name, flags(child))?;
        for line in wrap(&child.description, WIDTH - 6) {
            writeln!(out, "      {line}")?;
        }
    }
    Ok(())
}

fn flags(doc: &FieldDoc) -> String {
    let mut flags = String::new();
    if doc.required {
        flags.push_str(" required");
    }
    if doc.read_only {
        flags.push_str(" written by Ashlar");
    }
    if let Some(default) = &doc.default {
        flags.push_str(&format!(" default {default}"));
    }
    flags
}

/// Breaks a text into lines of at most `width` characters, at spaces.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for paragraph in text.split("\n\n") {
        let mut line = String::new();
        for word in paragraph.split_whitespace() {
            if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > width {
                lines.push(std::mem::take(&mut line));
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        lines.push(line);
    }
    lines
}

fn explain_object(settings: &Settings, kind: &str, name: &str) -> Result {
    let kind = parse_kind(kind)?;
    if kind != Kind::Machine {
        return Err(Failure::new(format!("only machines can be explained by name, not a {kind}")).hint(
            format!("`ashlar describe {} {name}` shows what is known", kind.name().to_ascii_lowercase()),
        ));
    }
    let reader = Reader::open(settings)?;
    let Object::Machine(machine) = reader.object(&object_ref(kind, name, &settings.namespace))? else {
        return Err(Failure::internal("a Machine in the store is not a Machine"));
    };
    let session = Session::open_offline(settings)?;
    let (snapshot, plan) = session.block_on(async { Ok(session.engine.plan(&Scope::StoreOnly).await?) })?;
    session.progress.finish();
    let placement = placement(&snapshot, &machine.key());
    settings.printer.data(|out| {
        match &placement {
            Some(placement) => out.write_all(placement_text(placement, HOSTS).as_bytes())?,
            None => writeln!(out, "machine {} is on host {}", machine.key(), machine.spec.host)?,
        }
        print_machine(out, &machine)?;
        print_health(out, &machine)?;
        let mut left = plan.steps.iter().filter(|step| step.object == machine.object_ref()).peekable();
        if left.peek().is_some() {
            writeln!(out, "left to do, as the store has it:")?;
        }
        left.try_for_each(|step| writeln!(out, "  {}", step.why))
    })
}

/// What it suffers from, and why it goes.
fn print_health(out: &mut dyn Write, machine: &Machine) -> io::Result<()> {
    if let Some(ailment) = &machine.record.ailment {
        let condition = machine.status.conditions.iter().find(|condition| condition.kind == "Healthy");
        let told = condition.map_or("", |condition| condition.message.as_str());
        writeln!(out, "health     {:?} since {}: {told}", ailment.kind, ailment.since)?;
    }
    if let Some(why) = &machine.record.remediation {
        writeln!(out, "replaced   because it was not well: {}", why.message)?;
    }
    Ok(())
}

fn print_machine(out: &mut dyn Write, machine: &Machine) -> io::Result<()> {
    let spec = &machine.spec;
    writeln!(out, "size       {} vCPUs, {} (class {})", spec.vcpus, spec.memory, spec.class)?;
    if let Some(nic) = spec.nics.first() {
        writeln!(
            out,
            "address    {} on network {} (bridge {}, MAC {})",
            nic.address, nic.network, nic.bridge, nic.mac
        )?;
    }
    writeln!(out, "image      {} ({})", spec.image.name, spec.image.kubernetes_version)?;
    writeln!(out, "runs by    {:?}, domain {} ({})", spec.accelerator, spec.domain.name, spec.domain.uuid)?;
    for volume in &spec.volumes {
        writeln!(out, "disk       {} (volume {})", volume.role.serial(), volume.name)?;
    }
    let phase = if spec_failed(machine) { "Failed" } else { &machine.status.phase };
    writeln!(out, "phase      {}", if phase.is_empty() { "Pending" } else { phase })?;
    if let Some(failure) = &machine.record.failure {
        writeln!(out, "failure    {}: {}", failure.phase, failure.message)?;
        for line in &failure.log_lines {
            writeln!(out, "           | {line}")?;
        }
    }
    Ok(())
}

fn spec_failed(machine: &Machine) -> bool {
    machine.record.failure.is_some()
}
