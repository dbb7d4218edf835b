//! Downloads: deadlines on silence, checksums always verified, broken transfers taken up where they broke.

mod checksum;
mod client;
mod fetcher;
mod place;

pub(crate) use checksum::{Algorithm, Checksum};
pub(crate) use client::{Client, Timing, Trouble};
pub(crate) use fetcher::{Authorizer, Fetcher, Wanted};
pub(crate) use place::Place;
