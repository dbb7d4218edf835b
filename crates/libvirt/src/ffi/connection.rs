//! Connections.

use std::collections::BTreeSet;
use std::ffi::{CStr, c_int, c_uint, c_ulong, c_void};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;
use uuid::Uuid;

use super::domain::{Domain, Standing};
use super::library::{Functions, functions};
use super::storage::Pool;
use super::{Handle, LibvirtError, Owned, c_string};

/// A connection to one host's libvirt.
pub(crate) struct Connection {
    owned: Owned,
    /// Whom libvirt calls when something happens to a domain.
    callback: Option<(c_int, Arc<Ears>)>,
}

/// Who hears what happens to domains.
struct Ears {
    stirred: Arc<Notify>,
    /// Something happened to them since they were asked about.
    touched: Mutex<BTreeSet<Uuid>>,
}

/// Called on the thread of libvirt's event loop.
unsafe extern "C" fn stirred(_: Handle, domain: Handle, event: c_int, _: c_int, user: *mut c_void) -> c_int {
    // SAFETY: it is what was registered, and lives until `release` was called.
    let ears = unsafe { &*user.cast::<Ears>() };
    let mut bytes = [0_u8; 16];
    // SAFETY: the domain lives through this call; a UUID has 16 bytes (`VIR_UUID_BUFLEN`).
    if let Ok(functions) = functions()
        && unsafe { (functions.virDomainGetUUID)(domain, bytes.as_mut_ptr()) } == 0
    {
        ears.touched.lock().unwrap_or_else(PoisonError::into_inner).insert(Uuid::from_bytes(bytes));
    }
    // Undefined, suspended, stopped, crashed (`virDomainEventType`): what begins was begun by somebody who looks.
    if matches!(event, 1 | 3 | 5 | 8) {
        ears.stirred.notify_one();
    }
    0
}

unsafe extern "C" fn release(user: *mut c_void) {
    // SAFETY: it came from `Arc::into_raw`, and libvirt calls this once.
    drop(unsafe { Arc::from_raw(user.cast_const().cast::<Ears>()) });
}

impl Connection {
    /// Opens one. It loads libvirt's library where this is the first.
    pub(crate) fn open(uri: &str) -> Result<Self, LibvirtError> {
        let functions = functions().map_err(LibvirtError::own)?;
        let uri = c_string(uri)?;
        // SAFETY: the URI is a NUL-terminated string that outlives the call.
        let pointer = unsafe { (functions.virConnectOpen)(uri.as_ptr()) };
        let owned = Owned::take(functions, pointer, functions.virConnectClose)?;
        Ok(Connection { owned, callback: None })
    }

    /// Has somebody told when a domain there ends, pauses or is undefined.
    pub(crate) fn tell_of_domains(&mut self, whom: &Arc<Notify>) -> Result<(), LibvirtError> {
        /// `VIR_DOMAIN_EVENT_ID_LIFECYCLE`.
        const LIFECYCLE: c_int = 0;
        let ears = Arc::new(Ears { stirred: Arc::clone(whom), touched: Mutex::default() });
        let user = Arc::into_raw(Arc::clone(&ears)).cast_mut().cast();
        // SAFETY: the connection is open; the callback has the type of this event's, and what it is given lives until
        // libvirt calls `release`. NULL stands for all domains.
        let result = unsafe {
            (self.functions().virConnectDomainEventRegisterAny)(
                self.owned.raw(),
                std::ptr::null_mut(),
                LIFECYCLE,
                stirred,
                user,
                Some(release),
            )
        };
        if result < 0 {
            // SAFETY: libvirt did not take it.
            unsafe { release(user) };
        }
        self.callback = Some((self.owned.check(result)?, ears));
        Ok(())
    }

    /// Whether it hears what happens to domains.
    pub(crate) fn listens(&self) -> bool {
        self.callback.is_some()
    }

    /// Domains to which something happened since this was asked.
    pub(crate) fn take_touched(&self) -> BTreeSet<Uuid> {
        self.callback.as_ref().map_or_else(BTreeSet::new, |(_, ears)| {
            std::mem::take(&mut *ears.touched.lock().unwrap_or_else(PoisonError::into_inner))
        })
    }

    /// Probes every `interval_s`, and closes the connection after `count` without an answer.
    pub(crate) fn set_keep_alive(&self, interval_s: c_int, count: c_uint) -> Result<(), LibvirtError> {
        // SAFETY: the connection is open.
        let result =
            unsafe { (self.functions().virConnectSetKeepAlive)(self.owned.raw(), interval_s, count) };
        self.owned.check(result).map(drop)
    }

    /// Whether it is still there, as far as this side knows.
    pub(crate) fn is_alive(&self) -> bool {
        // SAFETY: the connection was opened and not closed.
        unsafe { (self.functions().virConnectIsAlive)(self.owned.raw()) == 1 }
    }

    /// Version of the host's libvirt.
    pub(crate) fn libvirt_version(&self) -> Result<String, LibvirtError> {
        self.version(self.functions().virConnectGetLibVersion)
    }

    /// Version of the host's QEMU.
    pub(crate) fn qemu_version(&self) -> Result<String, LibvirtError> {
        self.version(self.functions().virConnectGetVersion)
    }

    /// Whether the host's QEMU is that version or a later one.
    pub(crate) fn qemu_at_least(&self, (major, minor): (u64, u64)) -> Result<bool, LibvirtError> {
        Ok(self.number(self.functions().virConnectGetVersion)? >= major * 1_000_000 + minor * 1000)
    }

    fn version(
        &self,
        get: unsafe extern "C" fn(super::Handle, *mut c_ulong) -> c_int,
    ) -> Result<String, LibvirtError> {
        let version = self.number(get)?;
        Ok(format!("{}.{}.{}", version / 1_000_000, version / 1000 % 1000, version % 1000))
    }

    fn number(
        &self,
        get: unsafe extern "C" fn(super::Handle, *mut c_ulong) -> c_int,
    ) -> Result<u64, LibvirtError> {
        let mut version: c_ulong = 0;
        // SAFETY: the connection is open, and the number lives through the call.
        let result = unsafe { get(self.owned.raw(), &mut version) };
        self.owned.check(result)?;
        Ok(version)
    }

    /// The host's own name.
    pub(crate) fn hostname(&self) -> Result<String, LibvirtError> {
        // SAFETY: the connection is open; the string is ours.
        let pointer = unsafe { (self.functions().virConnectGetHostname)(self.owned.raw()) };
        self.owned.string(pointer)
    }

    /// XML of the host's capabilities.
    pub(crate) fn capabilities(&self) -> Result<String, LibvirtError> {
        // SAFETY: the connection is open; the string is ours.
        let pointer = unsafe { (self.functions().virConnectGetCapabilities)(self.owned.raw()) };
        self.owned.string(pointer)
    }

    /// All domains with their states, in one call.
    pub(crate) fn domains(&self) -> Result<Vec<(Domain, Standing)>, LibvirtError> {
        /// `VIR_DOMAIN_STATS_STATE`.
        const STATE: c_uint = 1;
        /// `VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT`: a domain under a job (migration) does not hold us up.
        const NOWAIT: c_uint = 1 << 29;
        let functions = self.functions();
        let mut records = std::ptr::null_mut();
        // SAFETY: the connection is open, and the pointer to the list lives through the call.
        let count =
            unsafe { (functions.virConnectGetAllDomainStats)(self.owned.raw(), STATE, &mut records, NOWAIT) };
        let count = usize::try_from(self.owned.check(count)?).unwrap_or_default();
        let mut domains = Vec::with_capacity(count);
        for index in 0..count {
            // SAFETY: the list has `count` records and is alive.
            let Some(record) = (unsafe { (*records.add(index)).as_ref() }) else { continue };
            let int = |name: &CStr| {
                let mut value = 0;
                // SAFETY: the record's parameters are as many as it says; the name is NUL-terminated.
                unsafe {
                    (functions.virTypedParamsGetInt)(record.params, record.nparams, name.as_ptr(), &mut value)
                };
                value
            };
            let standing = Standing::new(int(c"state.state"), int(c"state.reason"));
            // SAFETY: the record's domain is alive; the list's own reference goes with the list, this one is ours.
            if unsafe { (functions.virDomainRef)(record.dom) } == 0 {
                domains.push((Domain::take(functions, record.dom)?, standing));
            }
        }
        // SAFETY: the list is libvirt's, and not used any more.
        unsafe { (functions.virDomainStatsRecordListFree)(records) };
        Ok(domains)
    }

    /// UUIDs of the domains whose definition is not kept, in one call: there are few.
    pub(crate) fn transient_domains(&self) -> Result<BTreeSet<Uuid>, LibvirtError> {
        /// `VIR_CONNECT_LIST_DOMAINS_TRANSIENT`.
        const TRANSIENT: c_uint = 8;
        let functions = self.functions();
        let mut array = std::ptr::null_mut();
        // SAFETY: the connection is open, and the pointer to the list lives through the call.
        let count = unsafe { (functions.virConnectListAllDomains)(self.owned.raw(), &mut array, TRANSIENT) };
        let domains = self.owned.list(count, array, functions.virDomainFree)?;
        domains.into_iter().map(|owned| Domain::from(owned).uuid()).collect()
    }

    /// A domain by UUID.
    pub(crate) fn domain_by_uuid(&self, uuid: Uuid) -> Result<Domain, LibvirtError> {
        let uuid = c_string(&uuid.to_string())?;
        // SAFETY: the connection is open; the string outlives the call.
        let pointer =
            unsafe { (self.functions().virDomainLookupByUUIDString)(self.owned.raw(), uuid.as_ptr()) };
        Domain::take(self.functions(), pointer)
    }

    /// A domain by name.
    pub(crate) fn domain_by_name(&self, name: &str) -> Result<Domain, LibvirtError> {
        let name = c_string(name)?;
        // SAFETY: as above.
        let pointer = unsafe { (self.functions().virDomainLookupByName)(self.owned.raw(), name.as_ptr()) };
        Domain::take(self.functions(), pointer)
    }

    /// Defines a domain; the XML is checked against libvirt's schema.
    pub(crate) fn define_domain(&self, xml: &str) -> Result<Domain, LibvirtError> {
        /// `VIR_DOMAIN_DEFINE_VALIDATE`.
        const VALIDATE: c_uint = 1;
        let xml = c_string(xml)?;
        // SAFETY: as above.
        let pointer =
            unsafe { (self.functions().virDomainDefineXMLFlags)(self.owned.raw(), xml.as_ptr(), VALIDATE) };
        Domain::take(self.functions(), pointer)
    }

    /// Starts a domain that is not defined: nothing of it is left when it ends.
    pub(crate) fn start_transient(&self, xml: &str) -> Result<Domain, LibvirtError> {
        /// `VIR_DOMAIN_START_VALIDATE`.
        const VALIDATE: c_uint = 1 << 4;
        let xml = c_string(xml)?;
        // SAFETY: as above.
        let pointer =
            unsafe { (self.functions().virDomainCreateXML)(self.owned.raw(), xml.as_ptr(), VALIDATE) };
        Domain::take(self.functions(), pointer)
    }

    /// The active pools.
    pub(crate) fn active_pools(&self) -> Result<Vec<Pool>, LibvirtError> {
        /// `VIR_CONNECT_LIST_STORAGE_POOLS_ACTIVE`.
        const ACTIVE: c_uint = 2;
        let functions = self.functions();
        let mut array = std::ptr::null_mut();
        // SAFETY: the connection is open, and the pointer to the list lives through the call.
        let count =
            unsafe { (functions.virConnectListAllStoragePools)(self.owned.raw(), &mut array, ACTIVE) };
        let pools = self.owned.list(count, array, functions.virStoragePoolFree)?;
        Ok(pools.into_iter().map(Pool::from).collect())
    }

    /// A pool by UUID.
    pub(crate) fn pool_by_uuid(&self, uuid: Uuid) -> Result<Pool, LibvirtError> {
        let functions = self.functions();
        let uuid = c_string(&uuid.to_string())?;
        // SAFETY: the connection is open; the string outlives the call.
        let pointer =
            unsafe { (functions.virStoragePoolLookupByUUIDString)(self.owned.raw(), uuid.as_ptr()) };
        Owned::take(functions, pointer, functions.virStoragePoolFree).map(Pool::from)
    }

    /// A pool by name.
    pub(crate) fn pool_by_name(&self, name: &str) -> Result<Pool, LibvirtError> {
        let functions = self.functions();
        let name = c_string(name)?;
        // SAFETY: as above.
        let pointer = unsafe { (functions.virStoragePoolLookupByName)(self.owned.raw(), name.as_ptr()) };
        Owned::take(functions, pointer, functions.virStoragePoolFree).map(Pool::from)
    }

    /// UUID of the network filter of that name.
    pub(crate) fn filter_uuid(&self, name: &str) -> Result<String, LibvirtError> {
        /// `VIR_UUID_STRING_BUFLEN`.
        const LENGTH: usize = 37;
        let functions = self.functions();
        let name = c_string(name)?;
        // SAFETY: the connection is open; the string outlives the call.
        let pointer = unsafe { (functions.virNWFilterLookupByName)(self.owned.raw(), name.as_ptr()) };
        let filter = Owned::take(functions, pointer, functions.virNWFilterFree)?;
        let mut buffer = [0_u8; LENGTH];
        // SAFETY: the buffer has the length that the function writes at most.
        let result =
            unsafe { (functions.virNWFilterGetUUIDString)(filter.raw(), buffer.as_mut_ptr().cast()) };
        filter.check(result)?;
        Ok(String::from_utf8_lossy(&buffer[..LENGTH - 1]).into_owned())
    }

    /// Defines a network filter.
    pub(crate) fn define_filter(&self, xml: &str) -> Result<(), LibvirtError> {
        let functions = self.functions();
        let xml = c_string(xml)?;
        // SAFETY: as above.
        let pointer = unsafe { (functions.virNWFilterDefineXML)(self.owned.raw(), xml.as_ptr()) };
        Owned::take(functions, pointer, functions.virNWFilterFree).map(drop)
    }

    pub(super) fn functions(&self) -> &'static Functions {
        self.owned.functions
    }

    pub(super) fn raw(&self) -> super::Handle {
        self.owned.raw()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // A callback holds a reference: without this the connection would stay open.
        if let Some((callback, _)) = self.callback {
            // SAFETY: the connection is open, and the callback registered.
            unsafe { (self.functions().virConnectDomainEventDeregisterAny)(self.owned.raw(), callback) };
        }
    }
}
