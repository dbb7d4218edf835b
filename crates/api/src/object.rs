//! The generic object and the sum of all kinds.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::*;

/// What tells one kind's spec from another's.
pub trait Spec: Serialize + DeserializeOwned + Clone + std::fmt::Debug + PartialEq {
    /// The kind.
    const KIND: Kind;
    /// Facts that the planner or engine recorded and that later plans build on: a ledger's counter, what was
    /// verified, when a domain was started. Unlike status it is input, so it changes only by compare-and-set.
    type Record: Serialize + DeserializeOwned + Clone + std::fmt::Debug + PartialEq + Default;
    /// What was last observed; written for people, never read back as input.
    type Status: Serialize + DeserializeOwned + Clone + std::fmt::Debug + PartialEq + Default;
}

/// One object: metadata, what is wanted, what was recorded, what was seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, bound = "S: Spec")]
#[schemars(
    bound = "S: Spec + schemars::JsonSchema, S::Record: schemars::JsonSchema, S::Status: schemars::JsonSchema"
)]
pub struct Resource<S: Spec> {
    /// Always `ashlar.dev/v1alpha1`.
    pub api_version: String,
    /// The kind's name.
    pub kind: Kind,
    /// Metadata.
    pub metadata: ObjectMeta,
    /// What is wanted.
    pub spec: S,
    /// What the planner or engine recorded.
    #[serde(default, skip_serializing_if = "is_default")]
    pub record: S::Record,
    /// What was last seen.
    #[serde(default, skip_serializing_if = "is_default")]
    pub status: S::Status,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl<S: Spec> Resource<S> {
    /// A new object; a kind without namespace gets none, another the default one.
    pub fn new(name: impl Into<String>, spec: S) -> Self {
        let namespace = if S::KIND.is_namespaced() { DEFAULT_NAMESPACE } else { "" };
        Resource {
            api_version: API_VERSION.to_owned(),
            kind: S::KIND,
            metadata: ObjectMeta { namespace: namespace.to_owned(), ..ObjectMeta::named(name) },
            spec,
            record: S::Record::default(),
            status: S::Status::default(),
        }
    }

    /// Kind, namespace and name.
    pub fn object_ref(&self) -> ObjectRef {
        ObjectRef::new(S::KIND, &self.metadata.namespace, &self.metadata.name)
    }

    /// Namespace and name.
    pub fn key(&self) -> NamespacedName {
        self.metadata.key()
    }

    /// Fills in what follows from the kind: see [`Object::apply_defaults`].
    pub fn apply_defaults(&mut self) {
        self.api_version = API_VERSION.to_owned();
        if S::KIND.is_namespaced() && self.metadata.namespace.is_empty() {
            self.metadata.namespace = DEFAULT_NAMESPACE.to_owned();
        }
    }
}

/// Why JSON is not an object of its kind (or the other way round).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} {}: {}{message}", kind.name().to_ascii_lowercase(), if name.is_empty() { "without a name" } else { name }, at(path))]
pub struct ConversionError {
    kind: Kind,
    name: String,
    path: String,
    message: String,
}

fn at(path: &str) -> String {
    if path.is_empty() { String::new() } else { format!("{path}: ") }
}

impl ConversionError {
    /// The field that does not fit; empty if it is the object as a whole.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What does not fit, without object and path.
    pub fn message(&self) -> &str {
        &self.message
    }
}

macro_rules! object_sum {
    ($($kind:ident),*) => {
        /// An object of any kind.
        #[derive(Clone, Debug, PartialEq)]
        #[expect(missing_docs, reason = "each variant holds the kind of that name")]
        pub enum Object { $($kind(Box<$kind>)),* }

        impl Object {
            /// Its kind.
            pub fn kind(&self) -> Kind { match self { $(Object::$kind(_) => Kind::$kind),* } }
            /// Its metadata.
            pub fn metadata(&self) -> &ObjectMeta { match self { $(Object::$kind(object) => &object.metadata),* } }
            /// Its metadata, to change.
            pub fn metadata_mut(&mut self) -> &mut ObjectMeta {
                match self { $(Object::$kind(object) => &mut object.metadata),* }
            }
            /// Kind, namespace and name.
            pub fn object_ref(&self) -> ObjectRef { match self { $(Object::$kind(object) => object.object_ref()),* } }
            /// As JSON.
            ///
            /// # Errors
            /// None for what the types can hold; the signature leaves it to serde.
            pub fn to_value(&self) -> Result<serde_json::Value, ConversionError> {
                match self { $(Object::$kind(object) => serde_json::to_value(object)),* }.map_err(|error| {
                    let name = &self.metadata().name;
                    ConversionError { kind: self.kind(), name: name.clone(), path: String::new(), message: error.to_string() }
                })
            }
            /// From JSON whose `kind` is known.
            ///
            /// # Errors
            /// Names the object and the field that does not fit.
            pub fn from_value(kind: Kind, value: serde_json::Value) -> Result<Self, ConversionError> {
                Self::from_value_ref(kind, &value)
            }
            /// As [`from_value`](Self::from_value), from JSON that somebody else keeps.
            ///
            /// # Errors
            /// Names the object and the field that does not fit.
            pub fn from_value_ref(kind: Kind, value: &serde_json::Value) -> Result<Self, ConversionError> {
                // Keeping track of where one is costs as much as reading; it is needed only where something is wrong.
                let read = match kind { $(Kind::$kind => $kind::deserialize(value).map(|object| Object::$kind(Box::new(object)))),* };
                match read {
                    Ok(object) if object.declared_kind() == kind => Ok(object),
                    _ => Self::from_value_tracked(kind, value),
                }
            }
            /// From JSON text; none if it is not an object of that kind, and [`from_value`](Self::from_value) says why.
            pub fn from_json(kind: Kind, text: &str) -> Option<Self> {
                let read = match kind { $(Kind::$kind => serde_json::from_str::<$kind>(text).map(|object| Object::$kind(Box::new(object)))),* };
                read.ok().filter(|object| object.declared_kind() == kind)
            }
            fn from_value_tracked(kind: Kind, value: &serde_json::Value) -> Result<Self, ConversionError> {
                let name = value.pointer("/metadata/name").and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
                let error = |error: serde_path_to_error::Error<serde_json::Error>| {
                    let path = error.path().to_string();
                    let path = if path == "." { String::new() } else { path };
                    ConversionError { kind, name, path, message: error.into_inner().to_string() }
                };
                let object = match kind {
                    $(Kind::$kind => Object::$kind(Box::new(serde_path_to_error::deserialize(value).map_err(error)?))),*
                };
                if object.declared_kind() != kind {
                    return Err(ConversionError {
                        kind,
                        name: object.metadata().name.clone(),
                        path: "kind".to_owned(),
                        message: format!("it is a {}, not a {kind}", object.declared_kind()),
                    });
                }
                Ok(object)
            }
            /// What stands in its `kind` field.
            fn declared_kind(&self) -> Kind { match self { $(Object::$kind(object) => object.kind),* } }
            /// Fills in what follows from the kind: apiVersion, and the default namespace (or none).
            /// Defaults of fields are filled in when an object is read.
            pub fn apply_defaults(&mut self) {
                match self { $(Object::$kind(object) => object.apply_defaults()),* }
            }
            /// The object that an update makes of a stored one: what people write comes from `self` (labels,
            /// annotations, spec), all else (uid, versions, finalizers, owners, record, status) from `stored`.
            /// A WorkerGroup without `replicas` keeps the present number. `None` if the kinds differ.
            pub fn updating(mut self, stored: &Object) -> Option<Object> {
                match (&mut self, stored) {
                    $((Object::$kind(new), Object::$kind(old)) => {
                        new.record = old.record.clone();
                        new.status = old.status.clone();
                        new.metadata = ObjectMeta {
                            labels: std::mem::take(&mut new.metadata.labels),
                            annotations: std::mem::take(&mut new.metadata.annotations),
                            ..old.metadata.clone()
                        };
                    })*
                    _ => return None,
                }
                if let (Object::WorkerGroup(new), Object::WorkerGroup(old)) = (&mut self, stored) {
                    new.spec.replicas = new.spec.replicas.or(old.spec.replicas);
                }
                Some(self)
            }
        }

        $(impl TryFrom<Object> for $kind {
            type Error = Object;
            /// The object of this kind; another kind comes back as it was.
            fn try_from(object: Object) -> Result<Self, Object> {
                match object { Object::$kind(object) => Ok(*object), other => Err(other) }
            }
        })*

        $(impl From<$kind> for Object { fn from(object: $kind) -> Self { Object::$kind(Box::new(object)) } })*
    };
}
object_sum!(
    Host,
    StoragePool,
    Network,
    Image,
    MachineClass,
    Cluster,
    WorkerGroup,
    Machine,
    Volume,
    Secret,
    Event
);
