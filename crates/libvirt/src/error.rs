//! What libvirt's errors mean to the engine.

use ashlar_engine::effects::EffectErrorKind;

use crate::ffi::{LibvirtError, code};

/// The class of an error. `alive` says whether the connection it came over still stands.
pub(crate) fn classify(error: &LibvirtError, alive: bool) -> EffectErrorKind {
    use EffectErrorKind as Kind;
    let says = |text: &str| error.message.contains(text);
    if !alive || error.code == code::RPC || error.code == code::INVALID_CONN {
        return Kind::Unreachable;
    }
    match error.code {
        code::NO_DOMAIN | code::NO_STORAGE_POOL | code::NO_STORAGE_VOL | code::NO_NWFILTER => Kind::NotFound,
        code::DOM_EXIST | code::STORAGE_VOL_EXIST => Kind::AlreadyExists,
        // "domain 'x' already exists with uuid …" has the code of any failed operation, and a file that libvirt does
        // not know of that of an invalid one.
        _ if says("already exists") || error.errno == code::EEXIST || says("File exists") => {
            Kind::AlreadyExists
        }
        code::NO_MEMORY => Kind::Exhausted,
        code::SYSTEM_ERROR if matches!(error.errno, code::ENOSPC | code::EDQUOT | code::ENOMEM) => {
            Kind::Exhausted
        }
        _ if says("No space left on device")
            || says("Cannot allocate memory")
            || says("Disk quota exceeded") =>
        {
            Kind::Exhausted
        }
        code::OPERATION_TIMEOUT | code::RESOURCE_BUSY | code::AGENT_UNRESPONSIVE => Kind::Busy,
        _ if says("has asynchronous jobs running")
            || says("cannot acquire state change lock")
            || says("is still in use")
            || says("is being")
            // QEMU lets the guest open the tray of a CD-ROM, and libvirt does not wait for a guest that is slow at it.
            || says("Tray of device") =>
        {
            Kind::Busy
        }
        _ if error.domain == code::FROM_RPC || error.domain == code::FROM_REMOTE => {
            if says("client socket is closed") || says("Input/output error") || says("reset by peer") {
                Kind::Unreachable
            } else {
                Kind::Refused
            }
        }
        _ => Kind::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(code: i32, domain: i32, errno: i32, message: &str) -> LibvirtError {
        LibvirtError { code, domain, errno, message: message.to_owned() }
    }

    #[test]
    fn errors_have_the_class_that_the_engine_acts_on() {
        use EffectErrorKind::*;
        let cases = [
            (error(42, 10, 0, "Domain not found: no domain with matching uuid"), NotFound),
            (error(50, 18, 0, "Storage volume not found: no storage vol with matching name 'x'"), NotFound),
            (error(90, 18, 0, "storage volume 'x' exists already"), AlreadyExists),
            (error(9, 10, 0, "operation failed: domain 'a' already exists with uuid b"), AlreadyExists),
            (
                error(
                    55,
                    18,
                    0,
                    "Requested operation is not valid: volume target path '/p/x' already exists",
                ),
                AlreadyExists,
            ),
            (error(38, 18, 28, "cannot fill file '/p/x': No space left on device"), Exhausted),
            (error(1, 18, 0, "internal error: pool 'images' has asynchronous jobs running."), Busy),
            (
                error(
                    1,
                    10,
                    0,
                    "internal error: unable to execute QEMU command 'blockdev-remove-medium': Tray of device \
                     'scsi0-0-0-6' is not open",
                ),
                Busy,
            ),
            (error(68, 10, 0, "Timed out during operation: cannot acquire state change lock"), Busy),
            (error(27, 20, 0, "XML error: bad"), Refused),
            (error(67, 10, 0, "unsupported configuration: x"), Refused),
            (error(1, 7, 0, "internal error: client socket is closed"), Unreachable),
            (error(38, 7, 104, "Cannot recv data: Connection reset by peer"), Unreachable),
        ];
        for (error, kind) in cases {
            assert_eq!(classify(&error, true), kind, "{error}");
        }
        assert_eq!(classify(&error(42, 10, 0, "whatever"), false), Unreachable);
    }
}
