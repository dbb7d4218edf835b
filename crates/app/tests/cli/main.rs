//! The built binary, run as a person runs it: whole stdout, stderr and exit code, with times and ids filtered.
//!
//! `INSTA_UPDATE=always cargo test -p ashlar-app --test cli` rewrites the snapshots.

mod clusters;
mod errors;
mod harness;
mod help;
mod hosts;
mod images;
mod interrupt;
mod objects;
mod seed;
