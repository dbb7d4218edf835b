//! ashlar-image
