//! Pools, volumes and the streams that fill them.

use std::ffi::{CStr, c_int, c_uint};

use super::library::VirStorageVolInfo;
use super::{Connection, LibvirtError, Owned, c_string};

/// A storage pool.
pub(crate) struct Pool {
    owned: Owned,
}

/// A volume.
pub(crate) struct StoredVolume {
    owned: Owned,
}

/// An upload under way. Dropped without [`Upload::finish`], it is aborted.
pub(crate) struct Upload {
    owned: Owned,
    open: bool,
}

impl From<Owned> for Pool {
    fn from(owned: Owned) -> Self {
        Pool { owned }
    }
}

impl Pool {
    /// Whether it is active.
    pub(crate) fn is_active(&self) -> Result<bool, LibvirtError> {
        // SAFETY: the pool's handle is alive.
        let result = unsafe { (self.owned.functions.virStoragePoolIsActive)(self.owned.raw()) };
        Ok(self.owned.check(result)? == 1)
    }

    /// XML.
    pub(crate) fn xml(&self) -> Result<String, LibvirtError> {
        // SAFETY: the pool's handle is alive; the string is ours.
        let pointer = unsafe { (self.owned.functions.virStoragePoolGetXMLDesc)(self.owned.raw(), 0) };
        self.owned.string(pointer)
    }

    /// Its volumes.
    pub(crate) fn volumes(&self) -> Result<Vec<StoredVolume>, LibvirtError> {
        let functions = self.owned.functions;
        let mut array = std::ptr::null_mut();
        // SAFETY: the pool's handle is alive, and the pointer to the list lives through the call.
        let count = unsafe { (functions.virStoragePoolListAllVolumes)(self.owned.raw(), &mut array, 0) };
        let volumes = self.owned.list(count, array, functions.virStorageVolFree)?;
        Ok(volumes.into_iter().map(|owned| StoredVolume { owned }).collect())
    }

    /// A volume by file name.
    pub(crate) fn volume(&self, name: &str) -> Result<StoredVolume, LibvirtError> {
        let functions = self.owned.functions;
        let name = c_string(name)?;
        // SAFETY: the pool's handle is alive; the string outlives the call.
        let pointer = unsafe { (functions.virStorageVolLookupByName)(self.owned.raw(), name.as_ptr()) };
        Owned::take(functions, pointer, functions.virStorageVolFree).map(|owned| StoredVolume { owned })
    }

    /// Creates a volume; libvirt refuses a name or a file that exists.
    pub(crate) fn create_volume(&self, xml: &str) -> Result<StoredVolume, LibvirtError> {
        let functions = self.owned.functions;
        let xml = c_string(xml)?;
        // SAFETY: as above.
        let pointer = unsafe { (functions.virStorageVolCreateXML)(self.owned.raw(), xml.as_ptr(), 0) };
        Owned::take(functions, pointer, functions.virStorageVolFree).map(|owned| StoredVolume { owned })
    }
}

impl StoredVolume {
    /// File name.
    pub(crate) fn name(&self) -> Result<String, LibvirtError> {
        // SAFETY: the volume's handle is alive; the string belongs to it and is copied here.
        let pointer = unsafe { (self.owned.functions.virStorageVolGetName)(self.owned.raw()) };
        if pointer.is_null() {
            return Err(LibvirtError::last(self.owned.functions));
        }
        // SAFETY: it is not NULL, and NUL-terminated.
        Ok(unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned())
    }

    /// Capacity and allocation in bytes.
    pub(crate) fn sizes(&self) -> Result<(u64, u64), LibvirtError> {
        let mut info = VirStorageVolInfo::default();
        // SAFETY: the volume's handle is alive; the structure has libvirt's layout.
        let result = unsafe { (self.owned.functions.virStorageVolGetInfo)(self.owned.raw(), &mut info) };
        self.owned.check(result)?;
        Ok((info.capacity, info.allocation))
    }

    /// Begins an upload of `length` bytes to where `offset` is in the volume. What else it holds stays. (A stream with
    /// holes would not do: libvirt ends the file where a hole ends, and with it what comes after.)
    pub(crate) fn upload(
        &self,
        connection: &Connection,
        offset: u64,
        length: u64,
    ) -> Result<Upload, LibvirtError> {
        let functions = self.owned.functions;
        // SAFETY: the connection is open.
        let pointer = unsafe { (functions.virStreamNew)(connection.raw(), 0) };
        let owned = Owned::take(functions, pointer, functions.virStreamFree)?;
        // SAFETY: volume and stream are alive and of the same connection.
        let result =
            unsafe { (functions.virStorageVolUpload)(self.owned.raw(), owned.raw(), offset, length, 0) };
        owned.check(result)?;
        Ok(Upload { owned, open: true })
    }

    /// Overwrites it with zeros.
    pub(crate) fn wipe(&self) -> Result<(), LibvirtError> {
        self.flags(self.owned.functions.virStorageVolWipe)
    }

    /// Deletes it.
    pub(crate) fn delete(&self) -> Result<(), LibvirtError> {
        self.flags(self.owned.functions.virStorageVolDelete)
    }

    fn flags(&self, call: unsafe extern "C" fn(super::Handle, c_uint) -> c_int) -> Result<(), LibvirtError> {
        // SAFETY: the volume's handle is alive.
        let result = unsafe { call(self.owned.raw(), 0) };
        self.owned.check(result).map(drop)
    }
}

impl Upload {
    /// Sends all of the bytes.
    pub(crate) fn send(&mut self, mut bytes: &[u8]) -> Result<(), LibvirtError> {
        while !bytes.is_empty() {
            // SAFETY: the stream is open, and the bytes live through the call.
            let sent = unsafe {
                (self.owned.functions.virStreamSend)(self.owned.raw(), bytes.as_ptr().cast(), bytes.len())
            };
            let sent = usize::try_from(self.owned.check(sent)?).unwrap_or_default();
            if sent == 0 {
                return Err(LibvirtError::own("the stream takes no more bytes"));
            }
            bytes = &bytes[sent.min(bytes.len())..];
        }
        Ok(())
    }

    /// Ends the upload; the host has taken every byte when it returns.
    pub(crate) fn finish(mut self) -> Result<(), LibvirtError> {
        self.open = false;
        // SAFETY: the stream is open, and not used after this.
        let result: c_int = unsafe { (self.owned.functions.virStreamFinish)(self.owned.raw()) };
        self.owned.check(result).map(drop)
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if self.open {
            // SAFETY: the stream is open; a failure (connection lost) has no consequence.
            unsafe { (self.owned.functions.virStreamAbort)(self.owned.raw()) };
        }
    }
}
