//! ashlar-api
