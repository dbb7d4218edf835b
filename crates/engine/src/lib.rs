//! The engine: watch → snapshot → plan → check → apply → status, and the traits that it needs from the world.
//!
//! The engine decides nothing about clusters (that is `ashlar-plan`) and knows no libvirt, HTTP or terminal.
//! What it needs from outside stands in [`effects`], implemented for real hosts by `ashlar-libvirt` and
//! `ashlar-kubeapi`, and by `ashlar-sim` in memory. No method there spans more than one external call: ordering,
//! retries and recovery are in this crate, so that the simulated world proves something.

pub mod effects;
