//! What commands are wired to: keys, the real world, the engine.

mod hosts;
mod installation;
mod keys;
mod session;
mod world;

pub(crate) use hosts::{Reach, real_world};
pub(crate) use installation::installation;
pub(crate) use keys::{node_login_key, open_vault};
pub(crate) use session::Session;
pub(crate) use world::{OsEntropy, SystemClock};
