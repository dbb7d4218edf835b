//! Objects as the store holds them.
//!
//! In the store an object has no resourceVersion: the store's own revision is it. It is put in when an object is
//! read, and taken out when it is written.

use ashlar_api::{ConversionError, Kind, Object, ObjectRef, Resource, Spec};
use ashlar_store::{Key, Precondition, RawStored, RawValue, Revision, Store, StoreError, Transaction};
use serde::Deserialize as _;

use crate::EngineError;

/// Attempts of one compare-and-set. The engine is the only writer but for `apply` and `delete`, which write once per
/// command: whoever loses this often is not competing but broken.
const ATTEMPTS: u32 = 20;

/// The store's key of an object.
pub(crate) fn key_of(object: &ObjectRef) -> Key {
    Key::new(object.kind.name(), &object.namespace, &object.name)
}

/// The kind of a key. Keys of unknown kinds belong to a newer Ashlar.
pub(crate) fn kind_of(key: &Key) -> Option<Kind> {
    Kind::ALL.into_iter().find(|kind| kind.name() == key.kind)
}

/// An object's JSON for the store.
pub(crate) fn to_stored(mut object: Object) -> Result<serde_json::Value, EngineError> {
    object.metadata_mut().resource_version.clear();
    object.to_value().map_err(|source| unreadable(&object.object_ref().to_string(), source))
}

/// An object from a raw listing.
pub(crate) fn from_raw(kind: Kind, raw: RawStored) -> Result<Object, EngineError> {
    let RawStored { key, revision, value } = raw;
    let no_json = |error| StoreError::unavailable(format!("{key} in the store is no JSON: {error}"));
    let unfit = |source| unreadable(&format!("{} {}", key.kind, key.name), source);
    let mut object = match &value {
        RawValue::Shared(value) => Object::from_value_ref(kind, value).map_err(unfit)?,
        RawValue::Text(text) => match Object::from_json(kind, text) {
            Some(object) => object,
            None => {
                let value = serde_json::from_str(text).map_err(no_json)?;
                Object::from_value(kind, value).map_err(unfit)?
            }
        },
    };
    object.metadata_mut().resource_version = revision.to_string();
    Ok(object)
}

/// What an update of an object that was read at this resourceVersion expects.
pub(crate) fn unchanged_since(resource_version: &str) -> Result<Precondition, EngineError> {
    resource_version.parse().map(|number| Precondition::Revision(Revision(number))).map_err(|_| {
        EngineError::Refused(format!("`{resource_version}` is not a resourceVersion of this store"))
    })
}

/// Reads one object.
pub(crate) async fn read<S: Spec>(
    store: &dyn Store,
    object: &ObjectRef,
) -> Result<Option<Resource<S>>, EngineError> {
    let Some(stored) = store.get(&key_of(object)).await? else { return Ok(None) };
    let revision = stored.revision;
    let mut resource = match Resource::<S>::deserialize(&stored.value) {
        Ok(resource) if resource.kind == S::KIND => resource,
        // Says what is wrong with it, field by field.
        _ => match Object::from_value(S::KIND, stored.value) {
            Err(source) => return Err(unreadable(&object.to_string(), source)),
            Ok(_) => {
                let message = format!("{object} in the store cannot be read");
                return Err(EngineError::Store(StoreError::unavailable(message)));
            }
        },
    };
    resource.metadata.resource_version = revision.to_string();
    Ok(Some(resource))
}

/// Changes an object by compare-and-set: reads it, lets `change` work on it, and writes it if that says that it changed.
/// An object that is gone, or was replaced by another of its name (another uid), is left alone.
pub(crate) async fn update<S: Spec>(
    store: &dyn Store,
    seen: &Resource<S>,
    mut change: impl FnMut(&mut Resource<S>) -> bool,
) -> Result<Option<Resource<S>>, EngineError>
where
    Object: From<Resource<S>>,
{
    let name = seen.object_ref();
    for _ in 0..ATTEMPTS {
        let Some(mut object) = read::<S>(store, &name).await? else { return Ok(None) };
        if object.metadata.uid != seen.metadata.uid {
            return Ok(None);
        }
        if !change(&mut object) {
            return Ok(Some(object));
        }
        let expect = unchanged_since(&object.metadata.resource_version)?;
        let value = to_stored(Object::from(object.clone()))?;
        match store.commit(Transaction::new().put(key_of(&name), value, expect)).await {
            Ok(revision) => {
                object.metadata.resource_version = revision.to_string();
                return Ok(Some(object));
            }
            Err(error) if error.is_conflict() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(EngineError::Contended)
}

fn unreadable(object: &str, source: ConversionError) -> EngineError {
    EngineError::Unreadable { object: object.to_owned(), source }
}
