//! ashlar-kubeapi
