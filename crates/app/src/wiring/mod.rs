//! What commands are wired to: keys, the real world, the engine.

mod audit;
mod hosts;
mod installation;
mod keys;
pub(crate) mod place;
mod session;
mod turn;
mod worker;
mod world;

pub(crate) use audit::{Opened, audit_path, author, open_audit, person, record_wish};
pub(crate) use hosts::{Reach, real_world};
pub(crate) use installation::{FILE as INSTALLATION_FILE, installation};
pub(crate) use keys::{
    DefaultKey, key_origin, new_provider, node_login_key, open_vault, open_vault_as, use_vault,
};
pub(crate) use place::open_store;
pub(crate) use session::{Session, engine_settings, own_command};
pub(crate) use turn::{lock_alone, lock_as_daemon, lock_now};
pub(crate) use worker::Worker;
pub(crate) use world::{OsEntropy, SystemClock};
