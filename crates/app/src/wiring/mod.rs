//! What commands are wired to: keys, the real world, the engine.

mod installation;
mod keys;
mod world;

pub(crate) use installation::installation;
pub(crate) use keys::{node_login_key, open_vault};
