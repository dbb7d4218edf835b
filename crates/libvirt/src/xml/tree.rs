//! A bounded reader: a whole document as a small tree.

use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesStart, Event};
use quick_xml::name::ResolveResult;
use quick_xml::{NsReader, XmlVersion};

use super::XmlError;

/// Longest document: a big host's capabilities are a few hundred KiB.
const MAX_BYTES: usize = 16 * 1024 * 1024;
/// Deepest nesting.
const MAX_DEPTH: usize = 64;

/// An element.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Element {
    /// Name without prefix.
    pub name: String,
    /// Namespace, if it has one.
    pub namespace: Option<String>,
    /// Attributes by name.
    pub attributes: Vec<(String, String)>,
    /// Children.
    pub children: Vec<Element>,
    /// Its own text, without what surrounds it.
    pub text: String,
}

impl Element {
    /// Reads a document of the given kind (for the error).
    pub fn parse(kind: &'static str, text: &str) -> Result<Element, XmlError> {
        let bad = |reason: String| XmlError::unreadable(kind, reason);
        if text.len() > MAX_BYTES {
            return Err(bad(format!("{} bytes are more than the {MAX_BYTES} that are read", text.len())));
        }
        let mut reader = NsReader::from_str(text);
        let mut open: Vec<Element> = Vec::new();
        loop {
            let event = reader.read_event().map_err(|error| bad(error.to_string()))?;
            let closed = match event {
                Event::Start(start) => {
                    if open.len() == MAX_DEPTH {
                        return Err(bad(format!("it is nested deeper than {MAX_DEPTH}")));
                    }
                    open.push(element(&reader, &start).map_err(bad)?);
                    continue;
                }
                Event::Empty(start) => element(&reader, &start).map_err(bad)?,
                Event::End(_) => open.pop().ok_or_else(|| bad("it closes what it did not open".into()))?,
                Event::Text(text) => {
                    if let Some(current) = open.last_mut() {
                        current.text.push_str(&text.decode().map_err(|error| bad(error.to_string()))?);
                    }
                    continue;
                }
                Event::CData(text) => {
                    if let Some(current) = open.last_mut() {
                        current.text.push_str(&text.decode().map_err(|error| bad(error.to_string()))?);
                    }
                    continue;
                }
                Event::GeneralRef(reference) => {
                    let name = reference.decode().map_err(|error| bad(error.to_string()))?;
                    let resolved =
                        match reference.resolve_char_ref().map_err(|error| bad(error.to_string()))? {
                            Some(c) => c.to_string(),
                            None => resolve_predefined_entity(&name)
                                .ok_or_else(|| bad(format!("it uses the entity &{name};")))?
                                .to_owned(),
                        };
                    if let Some(current) = open.last_mut() {
                        current.text.push_str(&resolved);
                    }
                    continue;
                }
                // An entity declared by the document itself could grow without bound.
                Event::DocType(_) => return Err(bad("it has a document type declaration".into())),
                Event::Eof => return Err(bad("it ends too early".into())),
                Event::Comment(_) | Event::PI(_) | Event::Decl(_) => continue,
            };
            match open.last_mut() {
                Some(parent) => parent.children.push(closed),
                None => return Ok(closed),
            }
        }
    }

    /// The first child of that name that belongs to libvirt (no namespace).
    pub fn child(&self, name: &str) -> Option<&Element> {
        self.children.iter().find(|child| child.namespace.is_none() && child.name == name)
    }

    /// All children of that name that belong to libvirt.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Element> {
        self.children.iter().filter(move |child| child.namespace.is_none() && child.name == name)
    }

    /// Follows a path of names.
    pub fn path(&self, names: &[&str]) -> Option<&Element> {
        names.iter().try_fold(self, |element, name| element.child(name))
    }

    /// An attribute.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Its text without white space around it.
    pub fn trimmed(&self) -> &str {
        self.text.trim()
    }
}

fn element(reader: &NsReader<&[u8]>, start: &BytesStart<'_>) -> Result<Element, String> {
    let (namespace, local) = reader.resolver().resolve_element(start.name());
    let namespace = match namespace {
        ResolveResult::Bound(namespace) => Some(String::from_utf8_lossy(namespace.as_ref()).into_owned()),
        ResolveResult::Unbound => None,
        ResolveResult::Unknown(prefix) => {
            return Err(format!("the prefix {} is not declared", String::from_utf8_lossy(&prefix)));
        }
    };
    let name = String::from_utf8_lossy(local.as_ref()).into_owned();
    let mut attributes = Vec::new();
    for attribute in start.attributes() {
        let attribute = attribute.map_err(|error| error.to_string())?;
        let key = String::from_utf8_lossy(attribute.key.as_ref()).into_owned();
        let value = attribute
            .decoded_and_normalized_value(XmlVersion::Explicit1_0, reader.decoder())
            .map_err(|error| error.to_string())?
            .into_owned();
        attributes.push((key, value));
    }
    Ok(Element { name, namespace, attributes, children: Vec::new(), text: String::new() })
}
