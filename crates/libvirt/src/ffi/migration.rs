//! Live migration.

use std::ffi::{CStr, c_int, c_uint};

use ashlar_plan::Guard;

use super::library::{Functions, Handle};
use super::{Connection, Domain, LibvirtError, c_string};

/// What libvirt is told of a migration.
pub(crate) struct Migration<'a> {
    /// XML of what arrives.
    pub(crate) xml: &'a str,
    /// XML of the definition that is kept there.
    pub(crate) persistent_xml: &'a str,
    /// Address at which the target's QEMU listens, and the source's connects.
    pub(crate) address: std::net::Ipv4Addr,
}

/// `virDomainMigrateFlags`: alive, with the disks' own layers, kept there and not here; an error of a disk ends it.
const FLAGS: c_uint = LIVE | PERSIST_DEST | UNDEFINE_SOURCE | NON_SHARED_INC | ABORT_ON_ERROR;

/// It stays paused there ([`Guard::PausedArrival`]), because libvirt lets a guest go on at both hosts otherwise: it starts it at the target, and where the answer
/// to that gets lost, it takes it for failed and lets it go on at the source too ("the lock manager should take care", says
/// a comment of its own; there is none for files of two hosts).
const PAUSED: c_uint = 1 << 5;
const LIVE: c_uint = 1;
const PERSIST_DEST: c_uint = 1 << 3;
const UNDEFINE_SOURCE: c_uint = 1 << 4;
const NON_SHARED_INC: c_uint = 1 << 7;
const ABORT_ON_ERROR: c_uint = 1 << 12;

/// Typed parameters, as libvirt allocates them.
struct Parameters {
    functions: &'static Functions,
    list: Handle,
    count: c_int,
    room: c_int,
}

impl Parameters {
    fn add(&mut self, name: &CStr, value: &str) -> Result<(), LibvirtError> {
        let value = c_string(value)?;
        // SAFETY: the list is libvirt's own or NULL, with its count and room; both strings outlive the call, which
        // copies them.
        let result = unsafe {
            (self.functions.virTypedParamsAddString)(
                &mut self.list,
                &mut self.count,
                &mut self.room,
                name.as_ptr(),
                value.as_ptr(),
            )
        };
        if result < 0 { Err(LibvirtError::last(self.functions)) } else { Ok(()) }
    }
}

impl Drop for Parameters {
    fn drop(&mut self) {
        // SAFETY: the list is libvirt's own or NULL, and not used any more.
        unsafe { (self.functions.virTypedParamsFree)(self.list, self.count) };
    }
}

impl Domain {
    /// Moves it to another host, where it is paused then. Both connections are used by the calling thread, for as long
    /// as that takes; the hosts need not know each other.
    pub(crate) fn migrate(
        &self,
        target: &Connection,
        migration: &Migration<'_>,
    ) -> Result<Domain, LibvirtError> {
        let functions = self.owned.functions;
        let mut parameters = Parameters { functions, list: std::ptr::null_mut(), count: 0, room: 0 };
        parameters.add(c"destination_xml", migration.xml)?;
        parameters.add(c"persistent_xml", migration.persistent_xml)?;
        parameters.add(c"migrate_uri", &format!("tcp://{}", migration.address))?;
        parameters.add(c"listen_address", &migration.address.to_string())?;
        let count = c_uint::try_from(parameters.count).unwrap_or_default();
        let flags = if Guard::PausedArrival.stands() { FLAGS | PAUSED } else { FLAGS };
        // SAFETY: the domain's handle and the other connection are alive, and the parameters are as many as it says.
        let pointer = unsafe {
            (functions.virDomainMigrate3)(self.owned.raw(), target.raw(), parameters.list, count, flags)
        };
        Domain::take(functions, pointer)
    }

    /// Ends the job under way, a migration.
    pub(crate) fn abort_job(&self) -> Result<(), LibvirtError> {
        // SAFETY: the domain's handle is alive.
        let result = unsafe { (self.owned.functions.virDomainAbortJob)(self.owned.raw()) };
        self.owned.check(result).map(drop)
    }
}
