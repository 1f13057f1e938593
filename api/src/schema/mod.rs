//! What an object tree may hold: compact types shared by the built-in kinds and custom resources.
//!
//! A [`Types`] is a registry of types found by their OpenAPI name. Every walk over an object (decoding, patches, apply,
//! protobuf, OpenAPI) is a walk over it, so a kind is described once. The built-in types are facts read from a table in
//! this crate; a custom resource's are made from its structural schema and lean on the built-in ones for metadata.

mod decode;
mod facts;
mod leaf;
#[cfg(test)]
mod properties;
#[cfg(test)]
pub(crate) mod sample;
mod types;

pub use decode::{DecodeError, Decoded, FieldValidation, decode, decode_with_duplicates};
pub(crate) use decode::{SCHEMA_PROPS, zero};
pub use facts::builtin;
pub use types::{Field, List, ListKind, MapType, Scalar, Struct, Type, TypeId, Types, TypesBuilder};
