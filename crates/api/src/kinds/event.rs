//! Event: what happened to an object, and why.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Kind, Nothing, ObjectRef, Resource, Spec};

/// What happened to an object.
pub type Event = Resource<EventSpec>;

/// One event; the same event again counts up instead of piling up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EventSpec {
    /// The object.
    pub about: ObjectRef,
    /// Normal or Warning.
    #[serde(rename = "type")]
    pub event_type: EventType,
    /// One CamelCase word.
    pub reason: String,
    /// A sentence.
    pub message: String,
    /// How often.
    pub count: u32,
    /// First time.
    #[schemars(with = "crate::schema::TimeText")]
    pub first_time: Timestamp,
    /// Last time.
    #[schemars(with = "crate::schema::TimeText")]
    pub last_time: Timestamp,
}

/// Whether a person should look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum EventType {
    /// As expected.
    Normal,
    /// Look at it.
    Warning,
}

impl Spec for EventSpec {
    const KIND: Kind = Kind::Event;
    type Record = Nothing;
    type Status = Nothing;
}
