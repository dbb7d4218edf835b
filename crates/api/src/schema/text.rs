//! Schemas of values that are written as text: with a format, so that files are checked by it and docs name it.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

macro_rules! text_schema {
    ($($(#[$doc:meta])* $name:ident = $format:literal, $example:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub enum $name {}

        impl JsonSchema for $name {
            fn inline_schema() -> bool { true }
            fn schema_name() -> Cow<'static, str> { stringify!($name).into() }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({"type": "string", "format": $format, "examples": [$example]})
            }
        }
    )*};
}
text_schema! {
    /// An IPv4 address.
    Ipv4Text = "ipv4", "192.168.1.10";
    /// An IPv4 network in CIDR notation.
    CidrText = "ipv4-cidr", "10.244.0.0/16";
    /// A UUID.
    UuidText = "uuid", "b0a5ff6a-7b1c-4e0b-9d2a-3d1f6c1c2b3a";
    /// A time (RFC 3339).
    TimeText = "date-time", "2026-01-31T12:00:00Z";
}
