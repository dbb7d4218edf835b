//! ashlar-plan
