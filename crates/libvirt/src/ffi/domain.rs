//! Domains.

use std::ffi::{c_int, c_uint};

use uuid::Uuid;

use super::library::{Functions, Handle};
use super::{LibvirtError, Owned, c_string};

/// A domain.
pub(crate) struct Domain {
    pub(super) owned: Owned,
}

/// `virDomainState`.
pub(crate) mod state {
    pub(crate) const RUNNING: i32 = 1;
    pub(crate) const BLOCKED: i32 = 2;
    pub(crate) const PAUSED: i32 = 3;
    pub(crate) const SHUTDOWN: i32 = 4;
    pub(crate) const SHUTOFF: i32 = 5;
    pub(crate) const CRASHED: i32 = 6;
    pub(crate) const PMSUSPENDED: i32 = 7;
}

/// A state with what its reason tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    /// One of [`state`]. QEMU starts paused, and libvirt lets it go once it is set up: who asks in between is told of a
    /// domain that runs.
    pub(crate) state: c_int,
    /// It is that moment.
    pub(crate) starts: bool,
    /// Paused because it arrives from another host, or has gone to one.
    pub(crate) by_migration: bool,
    /// Off because its guest went on at another host.
    pub(crate) migrated_away: bool,
}

impl Standing {
    pub(super) fn new(state: c_int, reason: c_int) -> Self {
        /// `VIR_DOMAIN_PAUSED_MIGRATION`.
        const MIGRATION: c_int = 2;
        /// `VIR_DOMAIN_PAUSED_STARTING_UP`.
        const STARTING_UP: c_int = 11;
        /// `VIR_DOMAIN_SHUTOFF_MIGRATED`.
        const MIGRATED: c_int = 4;
        let paused = state == self::state::PAUSED;
        let starts = paused && reason == STARTING_UP;
        Standing {
            state: if starts { self::state::RUNNING } else { state },
            starts,
            by_migration: paused && reason == MIGRATION,
            migrated_away: state == self::state::SHUTOFF && reason == MIGRATED,
        }
    }
}

/// `VIR_DOMAIN_XML_INACTIVE`.
const XML_INACTIVE: c_uint = 2;
/// `VIR_DOMAIN_XML_MIGRATABLE`.
const XML_MIGRATABLE: c_uint = 8;

impl From<Owned> for Domain {
    fn from(owned: Owned) -> Self {
        Domain { owned }
    }
}

impl Domain {
    pub(super) fn take(functions: &'static Functions, pointer: Handle) -> Result<Self, LibvirtError> {
        Owned::take(functions, pointer, functions.virDomainFree).map(|owned| Domain { owned })
    }

    /// Its state, one of [`state`].
    pub(crate) fn state(&self) -> Result<c_int, LibvirtError> {
        self.standing().map(|standing| standing.state)
    }

    /// Its state with what the reason tells.
    pub(crate) fn standing(&self) -> Result<Standing, LibvirtError> {
        let (mut state, mut reason) = (0, 0);
        // SAFETY: the domain's handle is alive, and both numbers live through the call.
        let result =
            unsafe { (self.owned.functions.virDomainGetState)(self.owned.raw(), &mut state, &mut reason, 0) };
        self.owned.check(result)?;
        Ok(Standing::new(state, reason))
    }

    /// Its UUID, which every handle knows: the host is not asked.
    pub(crate) fn uuid(&self) -> Result<Uuid, LibvirtError> {
        let mut bytes = [0_u8; 16];
        // SAFETY: the domain's handle is alive; a UUID has 16 bytes (`VIR_UUID_BUFLEN`).
        let result = unsafe { (self.owned.functions.virDomainGetUUID)(self.owned.raw(), bytes.as_mut_ptr()) };
        self.owned.check(result)?;
        Ok(Uuid::from_bytes(bytes))
    }

    /// Whether its definition is kept when it ends.
    pub(crate) fn is_persistent(&self) -> Result<bool, LibvirtError> {
        // SAFETY: the domain's handle is alive.
        let result = unsafe { (self.owned.functions.virDomainIsPersistent)(self.owned.raw()) };
        Ok(self.owned.check(result)? == 1)
    }

    /// XML: as it runs, or as it is defined.
    pub(crate) fn xml(&self, as_defined: bool) -> Result<String, LibvirtError> {
        self.xml_with(if as_defined { XML_INACTIVE } else { 0 })
    }

    /// XML of what runs, as another host's libvirt may read it.
    pub(crate) fn migratable_xml(&self) -> Result<String, LibvirtError> {
        self.xml_with(XML_MIGRATABLE)
    }

    fn xml_with(&self, flags: c_uint) -> Result<String, LibvirtError> {
        // SAFETY: the domain's handle is alive; the string is ours.
        let pointer = unsafe { (self.owned.functions.virDomainGetXMLDesc)(self.owned.raw(), flags) };
        self.owned.string(pointer)
    }

    /// Starts it.
    pub(crate) fn start(&self) -> Result<(), LibvirtError> {
        self.flags(self.owned.functions.virDomainCreateWithFlags, 0)
    }

    /// Lets it go on.
    pub(crate) fn resume(&self) -> Result<(), LibvirtError> {
        // SAFETY: the domain's handle is alive.
        let result = unsafe { (self.owned.functions.virDomainResume)(self.owned.raw()) };
        self.owned.check(result).map(drop)
    }

    /// Presses the guest's power button.
    pub(crate) fn shutdown(&self) -> Result<(), LibvirtError> {
        /// `VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN`: unlike the guest agent, it never waits for the guest.
        const ACPI: c_uint = 1;
        self.flags(self.owned.functions.virDomainShutdownFlags, ACPI)
    }

    /// Ends its process.
    pub(crate) fn destroy(&self) -> Result<(), LibvirtError> {
        self.flags(self.owned.functions.virDomainDestroyFlags, 0)
    }

    /// Removes its definition with all that hangs on it.
    pub(crate) fn undefine(&self) -> Result<(), LibvirtError> {
        /// `VIR_DOMAIN_UNDEFINE_MANAGED_SAVE`, `_SNAPSHOTS_METADATA`, `_NVRAM`, `_CHECKPOINTS_METADATA`.
        const ALL: c_uint = 1 | 2 | 4 | 16;
        self.flags(self.owned.functions.virDomainUndefineFlags, ALL)
    }

    /// Changes a device in the definition, and live where it runs.
    pub(crate) fn update_device(&self, xml: &str, live: bool) -> Result<(), LibvirtError> {
        /// `VIR_DOMAIN_AFFECT_CONFIG`.
        const CONFIG: c_uint = 2;
        /// `VIR_DOMAIN_AFFECT_LIVE`.
        const LIVE: c_uint = 1;
        /// `VIR_DOMAIN_DEVICE_MODIFY_FORCE`: a drive that the guest has locked opens all the same.
        const FORCE: c_uint = 4;
        let flags = CONFIG | if live { LIVE | FORCE } else { 0 };
        let xml = c_string(xml)?;
        // SAFETY: the domain's handle is alive; the string outlives the call.
        let result = unsafe {
            (self.owned.functions.virDomainUpdateDeviceFlags)(self.owned.raw(), xml.as_ptr(), flags)
        };
        self.owned.check(result).map(drop)
    }

    fn flags(
        &self,
        call: unsafe extern "C" fn(Handle, c_uint) -> c_int,
        flags: c_uint,
    ) -> Result<(), LibvirtError> {
        // SAFETY: the domain's handle is alive.
        let result = unsafe { call(self.owned.raw(), flags) };
        self.owned.check(result).map(drop)
    }
}
