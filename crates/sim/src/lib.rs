//! ashlar-sim
