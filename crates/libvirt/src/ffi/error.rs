//! libvirt's errors.

use std::ffi::CStr;

use super::library::Functions;

/// An error of libvirt, copied right after the call that failed: libvirt keeps one per thread.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct LibvirtError {
    /// `virErrorNumber`.
    pub(crate) code: i32,
    /// `virErrorDomain`: which part of libvirt.
    pub(crate) domain: i32,
    /// For system errors, errno.
    pub(crate) errno: i32,
    /// libvirt's own words.
    pub(crate) message: String,
}

impl LibvirtError {
    /// An error of ours that is no answer of libvirt's.
    pub(crate) fn own(message: impl Into<String>) -> Self {
        LibvirtError { code: code::INVALID_ARG, domain: 0, errno: 0, message: message.into() }
    }

    /// The calling thread's last error.
    pub(super) fn last(functions: &Functions) -> Self {
        // SAFETY: returns the thread's own error or NULL; it stays valid until the thread's next libvirt call.
        let error = unsafe { (functions.virGetLastError)().as_ref() };
        let copied = match error {
            Some(error) => LibvirtError {
                code: error.code,
                domain: error.domain,
                errno: if error.code == code::SYSTEM_ERROR { error.int1 } else { 0 },
                // SAFETY: NULL or a string that libvirt keeps until the thread's next call.
                message: match unsafe { error.message.as_ref().map(|start| CStr::from_ptr(start)) } {
                    Some(message) => message.to_string_lossy().trim().to_owned(),
                    None => format!("libvirt error {}", error.code),
                },
            },
            None => LibvirtError {
                code: code::INTERNAL_ERROR,
                domain: 0,
                errno: 0,
                message: "libvirt failed without saying why".to_owned(),
            },
        };
        // SAFETY: clears the calling thread's error.
        unsafe { (functions.virResetLastError)() };
        copied
    }
}

/// `virErrorNumber`, as far as a difference is made.
pub(crate) mod code {
    pub(crate) const INTERNAL_ERROR: i32 = 1;
    pub(crate) const NO_MEMORY: i32 = 2;
    pub(crate) const NO_SUPPORT: i32 = 3;
    pub(crate) const INVALID_CONN: i32 = 6;
    pub(crate) const INVALID_ARG: i32 = 8;
    pub(crate) const DOM_EXIST: i32 = 28;
    pub(crate) const SYSTEM_ERROR: i32 = 38;
    pub(crate) const RPC: i32 = 39;
    pub(crate) const NO_DOMAIN: i32 = 42;
    pub(crate) const NO_STORAGE_POOL: i32 = 49;
    pub(crate) const NO_STORAGE_VOL: i32 = 50;
    pub(crate) const OPERATION_INVALID: i32 = 55;
    pub(crate) const NO_NWFILTER: i32 = 62;
    pub(crate) const OPERATION_ABORTED: i32 = 78;
    pub(crate) const OPERATION_TIMEOUT: i32 = 68;
    pub(crate) const AGENT_UNRESPONSIVE: i32 = 86;
    pub(crate) const RESOURCE_BUSY: i32 = 87;
    pub(crate) const STORAGE_VOL_EXIST: i32 = 90;
    /// `VIR_FROM_RPC`, an error domain.
    pub(crate) const FROM_RPC: i32 = 7;
    /// `VIR_FROM_REMOTE`, an error domain.
    pub(crate) const FROM_REMOTE: i32 = 13;
    pub(crate) const ENOENT: i32 = 2;
    pub(crate) const ENOMEM: i32 = 12;
    pub(crate) const EEXIST: i32 = 17;
    pub(crate) const ENOSPC: i32 = 28;
    pub(crate) const EDQUOT: i32 = 122;
}
