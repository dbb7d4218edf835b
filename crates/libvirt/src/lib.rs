//! ashlar-libvirt
