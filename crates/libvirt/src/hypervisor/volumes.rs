//! What is done to volumes.

use ashlar_engine::effects::{EffectErrorKind, VolumeCreate};
use ashlar_plan::VolumeSeen;
use uuid::Uuid;

use super::observe::{absent, volume_seen};
use crate::counters::{Counters, READ};
use crate::ffi::{Connection, code};
use crate::lane::CallError;
use crate::xml;

pub(super) fn create(
    connection: &Connection,
    counters: &Counters,
    volume: &VolumeCreate,
) -> Result<(), CallError> {
    let xml = xml::volume(volume)?;
    let pool = connection.pool_by_uuid(volume.pool)?;
    counters.count(READ);
    if !pool.is_active()? {
        return Err(CallError::Other(
            EffectErrorKind::NotFound,
            format!("its pool {} is not active: start it (virsh pool-start)", volume.pool),
        ));
    }
    counters.count("create_volume");
    pool.create_volume(&xml)?;
    Ok(())
}

pub(super) fn seen(connection: &Connection, pool: Uuid, name: &str) -> Result<Option<VolumeSeen>, CallError> {
    let pool = connection.pool_by_uuid(pool)?;
    match absent(pool.volume(name), code::NO_STORAGE_VOL)? {
        Some(volume) => volume_seen(&volume),
        None => Ok(None),
    }
}
