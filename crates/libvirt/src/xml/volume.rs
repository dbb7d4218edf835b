//! Storage volumes.

use ashlar_api::VolumeFormat;
use ashlar_engine::effects::VolumeCreate;
use ashlar_plan::domain::format_name;

use super::XmlError;
use super::write::Document;

/// XML of a volume to create.
pub fn volume(volume: &VolumeCreate) -> Result<String, XmlError> {
    let capacity = volume.capacity_bytes.to_string();
    // A seed is allocated too: what is wiped later is then the blocks that held it (libvirt "wipes" a sparse file by
    // cutting it off, which leaves them on the disk).
    let whole = volume.preallocate || volume.format == VolumeFormat::Iso;
    let allocation = if whole { capacity.as_str() } else { "0" };
    let mut document = Document::new();
    document.nest("volume", &[("type", "file")], |volume_| {
        volume_.text("name", &[], "volume name", &volume.file_name)?;
        volume_.text("capacity", &[("unit", "bytes")], "capacity", &capacity)?;
        volume_.text("allocation", &[("unit", "bytes")], "allocation", allocation)?;
        volume_.nest("target", &[], |target| {
            target.empty("format", &[("type", format_name(volume.format))])?;
            target.nest("permissions", &[], |permissions| permissions.text("mode", &[], "mode", "0600"))
        })?;
        match &volume.backing_path {
            Some(path) => volume_.nest("backingStore", &[], |backing| {
                backing.text("path", &[], "path", path)?;
                // Never probed: a guest can write any header into a raw disk.
                backing.empty("format", &[("type", "qcow2")])
            }),
            None => Ok(()),
        }
    })?;
    Ok(document.finish())
}
