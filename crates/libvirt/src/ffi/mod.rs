//! The thin layer over libvirt's C library: the only place with `unsafe`.
//!
//! Handles free themselves. They are neither `Send` nor `Sync`: each lives on the worker thread of its connection,
//! where the error of a failed call is copied right after it. Every function here blocks.

#![expect(unsafe_code, reason = "calls into libvirt's C library; each block says why it is sound")]

mod connection;
mod domain;
mod error;
mod library;
mod migration;
mod storage;

use std::ffi::{CStr, CString, c_char, c_int};
use std::ptr::NonNull;

pub(crate) use connection::Connection;
pub(crate) use domain::{Domain, Standing, state};
pub(crate) use error::{LibvirtError, code};
pub(crate) use migration::Migration;
pub(crate) use storage::{Pool, StoredVolume};

use library::{Functions, Handle};

/// A handle with the function that gives it back.
struct Owned {
    functions: &'static Functions,
    pointer: NonNull<std::ffi::c_void>,
    release: unsafe extern "C" fn(Handle) -> c_int,
}

impl Owned {
    /// Takes what a call returned, NULL being its error.
    fn take(
        functions: &'static Functions,
        pointer: Handle,
        release: unsafe extern "C" fn(Handle) -> c_int,
    ) -> Result<Self, LibvirtError> {
        match NonNull::new(pointer) {
            Some(pointer) => Ok(Owned { functions, pointer, release }),
            None => Err(LibvirtError::last(functions)),
        }
    }

    fn raw(&self) -> Handle {
        self.pointer.as_ptr()
    }

    /// The error of a call that returned a negative number.
    fn check(&self, result: c_int) -> Result<c_int, LibvirtError> {
        if result < 0 { Err(LibvirtError::last(self.functions)) } else { Ok(result) }
    }

    /// A string that libvirt allocated for us.
    fn string(&self, pointer: *mut c_char) -> Result<String, LibvirtError> {
        let Some(start) = NonNull::new(pointer) else { return Err(LibvirtError::last(self.functions)) };
        // SAFETY: libvirt returned a NUL-terminated string that is ours.
        let text = unsafe { CStr::from_ptr(start.as_ptr()) }.to_string_lossy().into_owned();
        // SAFETY: it came from the C library's malloc, and is not used any more.
        unsafe { (self.functions.free)(start.as_ptr().cast()) };
        Ok(text)
    }

    /// Takes over a list of handles that libvirt allocated.
    fn list(
        &self,
        count: c_int,
        array: *mut Handle,
        release: unsafe extern "C" fn(Handle) -> c_int,
    ) -> Result<Vec<Owned>, LibvirtError> {
        let count = usize::try_from(self.check(count)?).unwrap_or_default();
        let mut owned = Vec::with_capacity(count);
        for index in 0..count {
            // SAFETY: the array has `count` elements.
            let pointer = unsafe { *array.add(index) };
            owned.extend(Owned::take(self.functions, pointer, release).ok());
        }
        // SAFETY: the array itself is ours too, and free(NULL) does nothing.
        unsafe { (self.functions.free)(array.cast()) };
        Ok(owned)
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: the handle is ours, and nobody uses it after this. A failure (connection lost) has no consequence.
        unsafe { (self.release)(self.raw()) };
        // SAFETY: clears the calling thread's error, which must not be taken for the next call's.
        unsafe { (self.functions.virResetLastError)() };
    }
}

/// A string for C. Names and XML of ours never hold a NUL; what does was never libvirt's.
fn c_string(text: &str) -> Result<CString, LibvirtError> {
    CString::new(text).map_err(|_| LibvirtError::own(format!("{text:?} holds a NUL character")))
}
