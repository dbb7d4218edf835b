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
            pub fn to_value(&self) -> Result<serde_json::Value, serde_json::Error> {
                match self { $(Object::$kind(object) => serde_json::to_value(object)),* }
            }
            /// From JSON whose `kind` is known.
            pub fn from_value(kind: Kind, value: serde_json::Value) -> Result<Self, serde_json::Error> {
                Ok(match kind { $(Kind::$kind => Object::$kind(Box::new(serde_json::from_value(value)?))),* })
            }
        }

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
