//! `ashlar secrets`: the key that seals them.

mod rotate;

use ashlar_engine::vault::standing;
use futures::executor::block_on;
use serde_json::json;

use crate::cli::{OutputFormat, SecretsCommand};
use crate::commands::get::print_value;
use crate::failure::Result;
use crate::output::plural;
use crate::settings::Settings;
use crate::wiring::{key_origin, open_store, open_vault};

/// Runs a secrets command.
pub(crate) fn secrets(settings: &Settings, command: &SecretsCommand) -> Result {
    match command {
        SecretsCommand::Rotate(args) => rotate::rotate(settings, args),
        SecretsCommand::Status => status(settings),
    }
}

fn status(settings: &Settings) -> Result {
    let store = open_store(settings)?;
    let vault = open_vault(settings)?;
    let found = block_on(standing(store.as_ref(), &vault))?;
    let origin = key_origin(settings)?;
    let rotated = found.rotated_at.map(|at| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
    if matches!(settings.output, OutputFormat::Json | OutputFormat::Yaml) {
        return print_value(
            settings,
            &json!({"keyId": vault.key_id(), "provider": origin, "secrets": found.secrets,
                "unfinished": found.unfinished, "foreign": found.foreign, "rotatedAt": rotated}),
        );
    }
    let printer = &settings.printer;
    printer.line(format!("key          {}, from {origin}", vault.key_id()))?;
    printer.line(format!("secrets      {}", found.secrets))?;
    printer.line(format!("last rotated {}", rotated.as_deref().unwrap_or("never")))?;
    if found.foreign > 0 {
        printer.warn(format!(
            "{} cannot be opened by this key: restore the store from a copy",
            plural(found.foreign, "secret")
        ));
    } else if found.unfinished > 0 {
        printer.warn(format!(
            "{} with another key's seal too: a rotation was not finished, and the same command again finishes it",
            plural(found.unfinished, "secret")
        ));
    }
    Ok(crate::failure::Exit::Success)
}
