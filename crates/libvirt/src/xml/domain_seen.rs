//! What a domain's XML says.

use std::collections::BTreeSet;
use std::sync::Arc;

use ashlar_plan::{Definition, DomainMark};
use uuid::Uuid;

use super::{Element, MARK_NAMESPACE, XmlError, definition};

const KIND: &str = "domain";

/// What of a domain's definition matters to us.
#[derive(Clone, Debug, PartialEq)]
pub struct DomainDescription {
    /// UUID.
    pub uuid: Uuid,
    /// Name.
    pub name: String,
    /// Our mark, if it carries one that can be read.
    pub mark: Option<DomainMark>,
    /// Files and devices of its disks.
    pub disk_paths: BTreeSet<String>,
    /// Medium in a CD-ROM drive.
    pub medium_path: Option<String>,
    /// What of a definition of ours may have been edited; none of what does not carry our mark.
    pub definition: Option<Arc<Definition>>,
    /// What runs, where somebody looked and that is another.
    pub running: Option<Arc<Definition>>,
}

/// Reads a domain's XML, ours or anybody's.
pub fn domain_seen(xml: &str) -> Result<DomainDescription, XmlError> {
    let root = Element::parse(KIND, xml)?;
    let text = |name: &str| {
        root.child(name)
            .map(|element| element.trimmed().to_owned())
            .ok_or_else(|| XmlError::unreadable(KIND, format!("it has no {name}")))
    };
    let uuid = text("uuid")?
        .parse()
        .map_err(|error| XmlError::unreadable(KIND, format!("its uuid is none: {error}")))?;
    let mut disk_paths = BTreeSet::new();
    let mut medium_path = None;
    for disk in root.path(&["devices"]).iter().flat_map(|devices| devices.all("disk")) {
        let Some(source) = disk.child("source") else { continue };
        let Some(path) = source.attribute("file").or_else(|| source.attribute("dev")) else { continue };
        match disk.attribute("device") {
            Some("cdrom") => medium_path = Some(path.to_owned()),
            Some("floppy") => {}
            _ => {
                disk_paths.insert(path.to_owned());
            }
        }
    }
    let mark = mark(&root);
    let definition = mark.is_some().then(|| Arc::new(definition::read(&root)));
    let name = text("name")?;
    Ok(DomainDescription { uuid, name, mark, disk_paths, medium_path, definition, running: None })
}

/// A mark whose identity cannot be read is none: the domain then counts as foreign, and is left alone. A machine that
/// cannot be read (a newer Ashlar wrote it) leaves the identity standing.
fn mark(root: &Element) -> Option<DomainMark> {
    let element = root
        .child("metadata")?
        .children
        .iter()
        .find(|child| child.namespace.as_deref() == Some(MARK_NAMESPACE) && child.name == "domain")?;
    Some(DomainMark {
        installation: element.attribute("installation")?.parse().ok()?,
        machine_uid: element.attribute("machine")?.parse().ok()?,
        generation: element.attribute("generation")?.parse().ok()?,
        machine: serde_json::from_str(element.trimmed()).ok(),
    })
}
