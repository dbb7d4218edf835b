//! `ashlar serve`, and what commands say to it.
//!
//! The daemon is one engine that works for ever ([`run`]), told of by logs ([`logs`]), figures ([`metrics`]) and health
//! ([`health`]). Commands reach it over a unix socket ([`client`], [`server`]): HTTP, whose answers are lines of JSON
//! ([`protocol`]) that end with the outcome. What they declare they write into the store themselves. Of several daemons on one store in
//! etcd one leads ([`lead`]); to it go requests from all machines.

mod client;
mod config;
mod copies;
mod health;
mod lead;
mod listener;
mod logs;
mod metrics;
mod process;
mod protocol;
mod run;
mod s3;
mod server;
mod telling;
mod upkeep;

pub(crate) use client::Client;
pub(crate) use copies::{KeptCopy, Part, Shelf};
pub(crate) use protocol::{Done, ErrorReport};
pub(crate) use run::serve;
