//! What a pool's XML says.

use std::collections::BTreeMap;

use ashlar_plan::PoolSeen;
use uuid::Uuid;

use super::{Element, XmlError};

const KIND: &str = "storage pool";

/// Reads a pool's XML; its volumes are asked for apart.
pub fn pool_seen(xml: &str) -> Result<(Uuid, PoolSeen), XmlError> {
    let root = Element::parse(KIND, xml)?;
    let missing = |name: &str| XmlError::unreadable(KIND, format!("it has no {name}"));
    let uuid = root
        .child("uuid")
        .and_then(|element| element.trimmed().parse().ok())
        .ok_or_else(|| missing("uuid"))?;
    let mib = |name: &str| {
        let element = root.child(name)?;
        let amount: u64 = element.trimmed().parse().ok()?;
        // libvirt always answers in bytes.
        matches!(element.attribute("unit"), None | Some("bytes")).then_some(amount / (1024 * 1024))
    };
    Ok((
        uuid,
        PoolSeen {
            name: root.child("name").ok_or_else(|| missing("name"))?.trimmed().to_owned(),
            path: root.path(&["target", "path"]).map(|path| path.trimmed().to_owned()).unwrap_or_default(),
            capacity_mib: mib("capacity").ok_or_else(|| missing("capacity"))?,
            available_mib: mib("available").ok_or_else(|| missing("available"))?,
            volumes: BTreeMap::new(),
        },
    ))
}
