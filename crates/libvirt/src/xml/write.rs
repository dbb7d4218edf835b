//! A small writer: elements with attributes, and text that is checked before it is escaped.

use quick_xml::Writer;
use quick_xml::events::{BytesEnd, BytesStart, BytesText, Event};

use super::XmlError;

/// Builds one document in memory.
pub(crate) struct Document {
    writer: Writer<Vec<u8>>,
}

impl Document {
    pub(crate) fn new() -> Self {
        Document { writer: Writer::new_with_indent(Vec::new(), b' ', 2) }
    }

    /// An element with children.
    pub(crate) fn nest(
        &mut self,
        name: &str,
        attributes: &[(&str, &str)],
        inner: impl FnOnce(&mut Self) -> Result<(), XmlError>,
    ) -> Result<(), XmlError> {
        self.event(Event::Start(start(name, attributes)?));
        inner(self)?;
        self.event(Event::End(BytesEnd::new(name)));
        Ok(())
    }

    /// An element without content.
    pub(crate) fn empty(&mut self, name: &str, attributes: &[(&str, &str)]) -> Result<(), XmlError> {
        self.event(Event::Empty(start(name, attributes)?));
        Ok(())
    }

    /// An element that holds text. `what` names the text in the error.
    pub(crate) fn text(
        &mut self,
        name: &str,
        attributes: &[(&str, &str)],
        what: &'static str,
        text: &str,
    ) -> Result<(), XmlError> {
        check(what, text)?;
        self.event(Event::Start(start(name, attributes)?));
        self.event(Event::Text(BytesText::new(text)));
        self.event(Event::End(BytesEnd::new(name)));
        Ok(())
    }

    pub(crate) fn finish(self) -> String {
        let mut text = String::from_utf8_lossy(&self.writer.into_inner()).into_owned();
        text.push('\n');
        text
    }

    fn event(&mut self, event: Event<'_>) {
        // A Vec takes every write.
        let _ = self.writer.write_event(event);
    }
}

fn start<'a>(name: &'a str, attributes: &[(&'a str, &'a str)]) -> Result<BytesStart<'a>, XmlError> {
    let mut element = BytesStart::new(name);
    for (key, value) in attributes {
        check("attribute", value)?;
        element.push_attribute((*key, *value));
    }
    Ok(element)
}

/// XML 1.0 cannot write most control characters, and changes the others (line ends, tabs in attributes); none belongs
/// in a name or a path.
pub(super) fn check(what: &'static str, text: &str) -> Result<(), XmlError> {
    match text.chars().find(|c| c.is_control() || matches!(c, '\u{FFFE}' | '\u{FFFF}' | '\u{2028}')) {
        Some(c) => Err(XmlError::Character { what, text: text.to_owned(), code: u32::from(c) }),
        None => Ok(()),
    }
}
