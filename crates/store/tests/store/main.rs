//! The stores against their contract. One program, because all of it shares `suite`.

mod conformance;
mod copies;
mod processes;
mod sqlite_file;
mod suite;
