//! ashlar-lab
