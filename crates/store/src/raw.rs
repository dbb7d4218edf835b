//! Listings whose values are not parsed yet: for callers that go straight to a type of their own.

use std::borrow::Cow;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use crate::{Key, Listing, Revision, Stored};

/// A value as the store holds it, before anybody asked for a shape.
#[derive(Clone, Debug)]
pub enum RawValue {
    /// JSON text (stores that keep bytes).
    Text(Box<str>),
    /// A parsed value, shared with the store (stores in memory).
    Shared(Arc<Value>),
}

/// An object with its value unparsed.
#[derive(Clone, Debug)]
pub struct RawStored {
    /// Its name.
    pub key: Key,
    /// The revision of its last change.
    pub revision: Revision,
    /// Its value.
    pub value: RawValue,
}

impl RawValue {
    /// Reads the value as `T`. A `T` that names only the fields it needs, and borrows its strings, costs a
    /// fraction of a full parse.
    ///
    /// # Errors
    /// The value does not have the shape of `T`, or is not JSON.
    pub fn decode<'a, T: Deserialize<'a>>(&'a self) -> Result<T, serde_json::Error> {
        match self {
            Self::Text(text) => serde_json::from_str(text),
            Self::Shared(value) => T::deserialize(value.as_ref()),
        }
    }

    /// As JSON text.
    pub fn json(&self) -> Cow<'_, str> {
        match self {
            Self::Text(text) => Cow::Borrowed(text),
            Self::Shared(value) => Cow::Owned(value.to_string()),
        }
    }

    /// The whole value.
    ///
    /// # Errors
    /// The text is not JSON.
    pub fn into_value(self) -> Result<Value, serde_json::Error> {
        match self {
            Self::Text(text) => serde_json::from_str(&text),
            Self::Shared(value) => Ok(Arc::unwrap_or_clone(value)),
        }
    }
}

impl RawStored {
    /// Parses the whole value.
    ///
    /// # Errors
    /// The text is not JSON.
    pub fn parse(self) -> Result<Stored, serde_json::Error> {
        Ok(Stored { key: self.key, revision: self.revision, value: self.value.into_value()? })
    }
}

/// What became of an object, with its value unparsed.
#[derive(Clone, Debug)]
pub struct RawChange {
    /// Its name.
    pub key: Key,
    /// The revision of the change.
    pub revision: Revision,
    /// Its value, or `None` if it was deleted.
    pub value: Option<RawValue>,
}

/// What changed between two snapshots, ordered by key: of each object the last change.
#[derive(Clone, Debug)]
pub struct RawChanges {
    /// The store's revision now.
    pub revision: Revision,
    /// The changes.
    pub items: Vec<RawChange>,
}

/// One consistent snapshot, ordered by key, with values unparsed.
#[derive(Clone, Debug)]
pub struct RawListing {
    /// The store's revision at the moment of the snapshot.
    pub revision: Revision,
    /// The objects, ordered by key.
    pub items: Vec<RawStored>,
}

impl RawListing {
    /// Parses all values; `corrupt` makes the error of one that is not JSON.
    pub(crate) fn parse<E>(self, corrupt: impl Fn(Key, serde_json::Error) -> E) -> Result<Listing, E> {
        let parse = |raw: RawStored| {
            let value = raw.value.into_value().map_err(|source| corrupt(raw.key.clone(), source))?;
            Ok(Stored { key: raw.key, revision: raw.revision, value })
        };
        let items = self.items.into_iter().map(parse).collect::<Result<_, E>>()?;
        Ok(Listing { revision: self.revision, items })
    }
}
