//! libvirt's C library, opened on first use: the CLI starts without its sixty shared libraries, and runs on machines
//! that have none. Every function that is used is declared here, once.

use std::ffi::{c_char, c_int, c_uchar, c_uint, c_ulong, c_ulonglong, c_void};
use std::sync::OnceLock;

use libloading::Library;

/// Any of libvirt's handles. They are opaque: only libvirt looks inside.
pub(super) type Handle = *mut c_void;

/// `virError`, from `libvirt/virterror.h`. Its layout is part of libvirt's ABI.
#[repr(C)]
pub(super) struct VirError {
    pub(super) code: c_int,
    pub(super) domain: c_int,
    pub(super) message: *mut c_char,
    pub(super) level: c_int,
    pub(super) conn: Handle,
    pub(super) dom: Handle,
    pub(super) str1: *mut c_char,
    pub(super) str2: *mut c_char,
    pub(super) str3: *mut c_char,
    pub(super) int1: c_int,
    pub(super) int2: c_int,
    pub(super) net: Handle,
}

/// `virDomainStatsRecord`, from `libvirt/libvirt-domain.h`.
#[repr(C)]
pub(super) struct VirDomainStatsRecord {
    pub(super) dom: Handle,
    pub(super) params: Handle,
    pub(super) nparams: c_int,
}

/// `virStorageVolInfo`, from `libvirt/libvirt-storage.h`.
#[repr(C)]
#[derive(Default)]
pub(super) struct VirStorageVolInfo {
    pub(super) kind: c_int,
    pub(super) capacity: c_ulonglong,
    pub(super) allocation: c_ulonglong,
}

/// `virErrorFunc`.
pub(super) type ErrorFunc = unsafe extern "C" fn(user: *mut c_void, error: *mut VirError);

/// `virConnectDomainEventCallback`: connection, domain, event, detail, and what was registered.
pub(super) type LifecycleFunc = unsafe extern "C" fn(
    conn: Handle,
    domain: Handle,
    event: c_int,
    detail: c_int,
    user: *mut c_void,
) -> c_int;

macro_rules! functions {
    ($($name:ident($($argument:ident: $kind:ty),*) $(-> $result:ty)?;)*) => {
        /// The functions, by libvirt's own names.
        #[expect(non_snake_case, reason = "libvirt's names")]
        pub(super) struct Functions {
            $(pub(super) $name: unsafe extern "C" fn($($argument: $kind),*) $(-> $result)?,)*
            pub(super) free: unsafe extern "C" fn(pointer: *mut c_void),
            _library: Library,
        }

        impl Functions {
            fn load() -> Result<Self, String> {
                // SAFETY: libvirt.so.0 has no initialization routines with conditions of their own.
                let library = unsafe { Library::new("libvirt.so.0") }.map_err(|error| {
                    format!(
                        "libvirt's client library cannot be loaded ({error}): install it on the machine that runs \
                         Ashlar (Debian: libvirt0; Fedora, RHEL: libvirt-libs)"
                    )
                })?;
                // SAFETY: each symbol has, since before libvirt 9.0, exactly the type that is written here. The
                // pointers stay valid because the library is kept in the same struct, which is never dropped.
                unsafe {
                    Ok(Functions {
                        $($name: *library.get(concat!(stringify!($name), "\0").as_bytes())
                            .map_err(|error| format!("libvirt's client library is too old: {error}"))?,)*
                        // libvirt hands out memory of the C library's allocator.
                        free: *library.get(b"free\0").map_err(|error| error.to_string())?,
                        _library: library,
                    })
                }
            }
        }
    };
}

functions! {
    virGetLastError() -> *mut VirError;
    virResetLastError();
    virSetErrorFunc(user: *mut c_void, handler: Option<ErrorFunc>);
    virInitialize() -> c_int;
    virEventRegisterDefaultImpl() -> c_int;
    virEventRunDefaultImpl() -> c_int;
    virConnectOpen(uri: *const c_char) -> Handle;
    virConnectClose(conn: Handle) -> c_int;
    virConnectIsAlive(conn: Handle) -> c_int;
    virConnectSetKeepAlive(conn: Handle, interval: c_int, count: c_uint) -> c_int;
    virConnectDomainEventRegisterAny(
        conn: Handle, domain: Handle, event: c_int, callback: LifecycleFunc, user: *mut c_void,
        release: Option<unsafe extern "C" fn(*mut c_void)>
    ) -> c_int;
    virConnectDomainEventDeregisterAny(conn: Handle, callback: c_int) -> c_int;
    virConnectGetLibVersion(conn: Handle, version: *mut c_ulong) -> c_int;
    virConnectGetVersion(conn: Handle, version: *mut c_ulong) -> c_int;
    virConnectGetHostname(conn: Handle) -> *mut c_char;
    virConnectGetCapabilities(conn: Handle) -> *mut c_char;
    virConnectGetAllDomainStats(
        conn: Handle, stats: c_uint, records: *mut *mut *mut VirDomainStatsRecord, flags: c_uint
    ) -> c_int;
    virDomainStatsRecordListFree(records: *mut *mut VirDomainStatsRecord);
    virTypedParamsGetInt(params: Handle, count: c_int, name: *const c_char, value: *mut c_int) -> c_int;
    virTypedParamsAddString(
        params: *mut Handle, count: *mut c_int, room: *mut c_int, name: *const c_char, value: *const c_char
    ) -> c_int;
    virTypedParamsFree(params: Handle, count: c_int);
    virConnectListAllDomains(conn: Handle, domains: *mut *mut Handle, flags: c_uint) -> c_int;
    virDomainRef(domain: Handle) -> c_int;
    virDomainFree(domain: Handle) -> c_int;
    virDomainLookupByUUIDString(conn: Handle, uuid: *const c_char) -> Handle;
    virDomainLookupByName(conn: Handle, name: *const c_char) -> Handle;
    virDomainGetXMLDesc(domain: Handle, flags: c_uint) -> *mut c_char;
    virDomainGetState(domain: Handle, state: *mut c_int, reason: *mut c_int, flags: c_uint) -> c_int;
    virDomainGetUUID(domain: Handle, uuid: *mut c_uchar) -> c_int;
    virDomainIsPersistent(domain: Handle) -> c_int;
    virDomainDefineXMLFlags(conn: Handle, xml: *const c_char, flags: c_uint) -> Handle;
    virDomainCreateXML(conn: Handle, xml: *const c_char, flags: c_uint) -> Handle;
    virDomainCreateWithFlags(domain: Handle, flags: c_uint) -> c_int;
    virDomainResume(domain: Handle) -> c_int;
    virDomainMigrate3(domain: Handle, target: Handle, params: Handle, count: c_uint, flags: c_uint) -> Handle;
    virDomainAbortJob(domain: Handle) -> c_int;
    virDomainShutdownFlags(domain: Handle, flags: c_uint) -> c_int;
    virDomainDestroyFlags(domain: Handle, flags: c_uint) -> c_int;
    virDomainUndefineFlags(domain: Handle, flags: c_uint) -> c_int;
    virDomainUpdateDeviceFlags(domain: Handle, xml: *const c_char, flags: c_uint) -> c_int;
    virConnectListAllStoragePools(conn: Handle, pools: *mut *mut Handle, flags: c_uint) -> c_int;
    virStoragePoolLookupByUUIDString(conn: Handle, uuid: *const c_char) -> Handle;
    virStoragePoolLookupByName(conn: Handle, name: *const c_char) -> Handle;
    virStoragePoolIsActive(pool: Handle) -> c_int;
    virStoragePoolGetXMLDesc(pool: Handle, flags: c_uint) -> *mut c_char;
    virStoragePoolListAllVolumes(pool: Handle, volumes: *mut *mut Handle, flags: c_uint) -> c_int;
    virStoragePoolFree(pool: Handle) -> c_int;
    virStorageVolLookupByName(pool: Handle, name: *const c_char) -> Handle;
    virStorageVolGetName(volume: Handle) -> *const c_char;
    virStorageVolGetInfo(volume: Handle, info: *mut VirStorageVolInfo) -> c_int;
    virStorageVolCreateXML(pool: Handle, xml: *const c_char, flags: c_uint) -> Handle;
    virStorageVolUpload(
        volume: Handle, stream: Handle, offset: c_ulonglong, length: c_ulonglong, flags: c_uint
    ) -> c_int;
    virStorageVolWipe(volume: Handle, flags: c_uint) -> c_int;
    virStorageVolDelete(volume: Handle, flags: c_uint) -> c_int;
    virStorageVolFree(volume: Handle) -> c_int;
    virStreamNew(conn: Handle, flags: c_uint) -> Handle;
    virStreamSend(stream: Handle, data: *const c_char, length: usize) -> c_int;
    virStreamFinish(stream: Handle) -> c_int;
    virStreamAbort(stream: Handle) -> c_int;
    virStreamFree(stream: Handle) -> c_int;
    virNWFilterLookupByName(conn: Handle, name: *const c_char) -> Handle;
    virNWFilterGetUUIDString(filter: Handle, buffer: *mut c_char) -> c_int;
    virNWFilterDefineXML(conn: Handle, xml: *const c_char) -> Handle;
    virNWFilterFree(filter: Handle) -> c_int;
}

/// The library, loaded and initialized, with its event loop running.
pub(super) fn functions() -> Result<&'static Functions, String> {
    static FUNCTIONS: OnceLock<Result<Functions, String>> = OnceLock::new();
    static READY: OnceLock<Result<(), String>> = OnceLock::new();
    let functions = FUNCTIONS.get_or_init(Functions::load).as_ref().map_err(Clone::clone)?;
    READY.get_or_init(|| initialize(functions)).clone()?;
    Ok(functions)
}

unsafe extern "C" fn silent(_: *mut c_void, _: *mut VirError) {}

fn initialize(functions: &'static Functions) -> Result<(), String> {
    // SAFETY: the handler has the type that libvirt calls, and ignores its arguments. Without one, libvirt prints
    // every error to our standard error.
    unsafe { (functions.virSetErrorFunc)(std::ptr::null_mut(), Some(silent)) };
    // SAFETY: both may be called at any time; the event loop has to be registered before the first connection.
    let failed = unsafe { (functions.virInitialize)() < 0 || (functions.virEventRegisterDefaultImpl)() < 0 };
    if failed {
        return Err("libvirt's client library does not initialize".to_owned());
    }
    // Answers keepalive: a connection whose loop is not run is closed by the daemon. The thread lives as long as the
    // process.
    std::thread::Builder::new()
        .name("libvirt-events".to_owned())
        .spawn(|| {
            loop {
                // SAFETY: the default implementation was registered, and this is the only thread that runs it.
                if unsafe { (functions.virEventRunDefaultImpl)() } < 0 {
                    std::thread::sleep(std::time::Duration::from_millis(100));
                }
            }
        })
        .map(drop)
        .map_err(|error| format!("the thread for libvirt's events does not start: {error}"))
}
