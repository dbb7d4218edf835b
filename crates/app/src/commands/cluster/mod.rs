//! `ashlar cluster`

mod create;
mod status;

pub(crate) use status::status;
