//! `ashlar apply`
use ashlar_api::Object;
use ashlar_store::SqliteStore;
use crate::failure::Result;
use crate::settings::Settings;
pub(crate) fn declare(_: &Settings, _: &SqliteStore, _: Vec<Object>, _: bool) -> Result<()> { Ok(()) }
