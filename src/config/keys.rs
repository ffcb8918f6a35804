//! The keys of a type, asked from the type itself.
//!
//! `serde` hands the list of a struct's fields to whatever decodes it, so the list that [`super::Section::check_keys`] compares with
//! is the one that the decoder knows, and no second one is written down. The JSON Schema is made from the same fields.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::forward_to_deserialize_any;

/// The keys that `T` takes as a mapping, or the words of an enum, in the order of its declaration. Empty for anything else.
///
/// Costs nothing: no value is made, the list is the one in the program.
#[must_use]
pub fn keys_of<'de, T: Deserialize<'de>>() -> &'static [&'static str] {
    T::deserialize(Question).err().map_or(&[], |answer| answer.0)
}

/// Input that answers the first question of a decoder with the list that came with it.
struct Question;

/// The list, brought back as the error that ends the decoding.
#[derive(Debug)]
struct Answer(&'static [&'static str]);

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl std::error::Error for Answer {}

impl de::Error for Answer {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self(&[])
    }
}

impl<'de> Deserializer<'de> for Question {
    type Error = Answer;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Answer> {
        Err(Answer(&[]))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Answer> {
        Err(Answer(fields))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Answer> {
        Err(Answer(variants))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "camelCase")]
    #[expect(dead_code, reason = "only the names are looked at")]
    struct Settings {
        stale_if_error: Option<String>,
        #[serde(rename = "in")]
        place: u8,
    }

    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    enum Word {
        RoundRobin,
        LeastInFlight,
    }

    #[test]
    fn keys_are_those_that_the_decoder_knows() {
        assert_eq!(keys_of::<Settings>(), ["staleIfError", "in"]);
        assert_eq!(keys_of::<Word>(), ["roundRobin", "leastInFlight"]);
        assert!(
            keys_of::<Vec<Settings>>().is_empty() && keys_of::<String>().is_empty(),
            "no mapping, no keys"
        );
    }
}
