//! What goes wrong with an Ashlar and with its calls: kills, freezes, and calls that are lost, late or made twice.

mod call;
mod process;

pub use call::CallFault;
pub(crate) use call::{Late, visitor};
pub use process::{CrashPoint, Moment};
pub(crate) use process::{Fate, Process, Processes, TAKEOVER};
