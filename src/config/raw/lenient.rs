//! How the mirror is read so that one fault does not hide the next.
//!
//! A value of the wrong type is kept as a fault in its [`Field`], an unknown field in its [`Table`];
//! reading goes on behind both. serde's derive alone stops at the first.
//!
//! Never here: what a value means.

use std::borrow::Cow;
use std::fmt::{self, Formatter};
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::value::StrDeserializer;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, forward_to_deserialize_any};
use serde_spanned::Spanned;

/// A value with its place, or what serde expected in its stead.
#[derive(Debug)]
pub(in crate::config) struct Given<T>(pub(in crate::config) Spanned<Result<T, String>>);

/// A field of a table: `None` when left out.
#[derive(Debug)]
pub(in crate::config) struct Field<T>(pub(in crate::config) Option<Given<T>>);

/// A table, with the fields nobody knows beside the ones its type has.
#[derive(Debug)]
pub(in crate::config) struct Table<T> {
    pub(in crate::config) fields: T,
    /// The names of all fields of `T`.
    pub(in crate::config) known: &'static [&'static str],
    pub(in crate::config) unknown: Vec<Spanned<String>>,
}

impl<T> Default for Field<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Field<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Given::deserialize(deserializer).map(|given| Self(Some(given)))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Given<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Attempt<T>(Result<T, String>);
        impl<'de, T: Deserialize<'de>> Deserialize<'de> for Attempt<T> {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                // The whole document is parsed already, so an error leaves nothing half read.
                Ok(Self(T::deserialize(deserializer).map_err(|error| expectation(&error))))
            }
        }
        let attempt = Spanned::<Attempt<T>>::deserialize(deserializer)?;
        Ok(Self(Spanned::new(attempt.span(), attempt.into_inner().0)))
    }
}

/// What serde expected. What it found is left out: it may be a secret in the wrong place.
fn expectation(error: &impl fmt::Display) -> String {
    let message = error.to_string();
    let first_line = message.lines().next().unwrap_or_default();
    match first_line.rsplit_once(", expected ") {
        Some((_, expected)) if expected.starts_with("struct ") => "a table".to_owned(),
        Some((_, "a map")) => "a table".to_owned(),
        Some((_, "a sequence")) => "an array".to_owned(),
        Some((_, "a boolean")) => "true or false".to_owned(),
        Some((_, "i64")) => "a whole number".to_owned(),
        Some((_, expected)) => expected.to_owned(),
        None => "a value of another kind".to_owned(),
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Table<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut known: &'static [&'static str] = &[];
        let mut unknown = Vec::new();
        let sorting = Sorting { inner: deserializer, known: &mut known, unknown: &mut unknown };
        let fields = T::deserialize(sorting)?;
        Ok(Self { fields, known, unknown })
    }
}

/// Hands a struct the fields it knows, and keeps the others aside.
struct Sorting<'a, T> {
    inner: T,
    known: &'a mut &'static [&'static str],
    unknown: &'a mut Vec<Spanned<String>>,
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Sorting<'_, D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_any(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        *self.known = fields;
        let sorting = Sorting { inner: visitor, known: self.known, unknown: self.unknown };
        self.inner.deserialize_struct(name, fields, sorting)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Sorting<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.inner.expecting(f)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V::Value, A::Error> {
        let sorting = Sorting { inner: map, known: self.known, unknown: self.unknown };
        self.inner.visit_map(sorting)
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Sorting<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        while let Some(key) = self.inner.next_key::<Spanned<String>>()? {
            if self.known.contains(&key.get_ref().as_str()) {
                let name = StrDeserializer::new(key.get_ref());
                return seed.deserialize(name).map(Some);
            }
            self.inner.next_value::<IgnoredAny>()?;
            self.unknown.push(key);
        }
        Ok(None)
    }

    fn next_value_seed<W: DeserializeSeed<'de>>(&mut self, seed: W) -> Result<W::Value, A::Error> {
        self.inner.next_value_seed(seed)
    }
}

/// A wrapper has the schema of what it wraps.
macro_rules! schema_of_inner {
    ($($wrapper:ident),*) => {$(
        impl<T: JsonSchema> JsonSchema for $wrapper<T> {
            fn inline_schema() -> bool {
                T::inline_schema()
            }

            fn schema_name() -> Cow<'static, str> {
                T::schema_name()
            }

            fn schema_id() -> Cow<'static, str> {
                T::schema_id()
            }

            fn json_schema(generator: &mut SchemaGenerator) -> Schema {
                T::json_schema(generator)
            }
        }
    )*};
}
schema_of_inner!(Field, Given, Table);

/// A table whose keys are names that people choose, in the order of the names.
#[derive(Debug)]
pub(in crate::config) struct Named<T>(pub(in crate::config) Vec<(Spanned<String>, Given<T>)>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Named<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Entries<T> {
            type Value = Named<T>;

            fn expecting(&self, f: &mut Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Named<T>, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Named(entries))
            }
        }
        deserializer.deserialize_map(Entries(PhantomData))
    }
}

impl<T: JsonSchema> JsonSchema for Named<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Named_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        std::collections::BTreeMap::<String, T>::json_schema(generator)
    }
}
