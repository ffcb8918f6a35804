//! Values of a case that can be written in more than one way.

use std::fmt;
use std::marker::PhantomData;

use regex::Regex;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer, StrDeserializer};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::spec::{Answer, Count, Received, Reply};
use crate::names::inline_schema;

/// A text that is compared with another: no number, no list.
pub type Text = String;
/// A word that must be the same.
pub type Word = String;

/// One value, or a list of them.
#[derive(Debug, Clone)]
pub enum OneOrMany<T> {
    /// Written without a list.
    One(T),
    /// Written as a list.
    Many(Vec<T>),
}

impl<T> OneOrMany<T> {
    /// The values in order.
    #[must_use]
    pub fn as_slice(&self) -> &[T] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Forms<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Forms<T> {
            type Value = OneOrMany<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("one value or a list of them")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                T::deserialize(StrDeserializer::new(text)).map(OneOrMany::One)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(OneOrMany::One)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(OneOrMany::Many)
            }
        }
        deserializer.deserialize_any(Forms(PhantomData))
    }
}

impl<T: JsonSchema> JsonSchema for OneOrMany<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        T::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<T>();
        json_schema!({ "anyOf": [one, { "type": "array", "items": one }] })
    }
}

/// What a text has to be.
#[derive(Debug, Clone)]
pub enum Matcher {
    /// Not there at all.
    Absent,
    /// There, whatever it is.
    Present,
    /// This text.
    Equals(String),
    /// This text is a part of it.
    Contains(String),
    /// This regular expression finds something in it.
    Matches(Regex),
}

impl Matcher {
    /// Whether `found` is as it has to be; `None`: there is nothing.
    #[must_use]
    pub fn accepts(&self, found: Option<&str>) -> bool {
        match (self, found) {
            (Self::Absent, None) => true,
            (Self::Absent, Some(_)) | (_, None) => false,
            (Self::Present, Some(_)) => true,
            (Self::Equals(text), Some(found)) => text == found,
            (Self::Contains(text), Some(found)) => found.contains(text.as_str()),
            (Self::Matches(regex), Some(found)) => regex.is_match(found),
        }
    }
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("absent"),
            Self::Present => f.write_str("present"),
            Self::Equals(text) => write!(f, "`{text}`"),
            Self::Contains(text) => write!(f, "a text with `{text}` in it"),
            Self::Matches(regex) => write!(f, "a text that matches `{regex}`"),
        }
    }
}

/// A text in other words than itself: exactly one of them.
#[derive(serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
struct Form {
    /// It is this text: for the texts `absent` and `present` themselves.
    equals: Option<String>,
    /// This text is a part of it.
    contains: Option<String>,
    /// This regular expression finds something in it.
    matches: Option<String>,
}

impl<'de> Deserialize<'de> for Matcher {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Forms;
        impl<'de> Visitor<'de> for Forms {
            type Value = Matcher;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, `absent`, `present`, or one of `equals`, `contains` and `matches`")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Matcher, E> {
                Ok(match text {
                    "absent" => Matcher::Absent,
                    "present" => Matcher::Present,
                    text => Matcher::Equals(text.to_owned()),
                })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Matcher, A::Error> {
                let form = Form::deserialize(MapAccessDeserializer::new(map))?;
                match (form.equals, form.contains, form.matches) {
                    (Some(text), None, None) => Ok(Matcher::Equals(text)),
                    (None, Some(text), None) => Ok(Matcher::Contains(text)),
                    (None, None, Some(pattern)) => Regex::new(&pattern)
                        .map(Matcher::Matches)
                        .map_err(|_| A::Error::custom(format_args!("`{pattern}` is no regular expression"))),
                    _ => Err(A::Error::custom("exactly one of `equals`, `contains` and `matches`")),
                }
            }
        }
        deserializer.deserialize_any(Forms)
    }
}

inline_schema!(Matcher, |generator| {
    let form = generator.subschema_for::<Form>();
    let text = json_schema!({
        "type": "string",
        "description": "It is this text. `absent`: it is not there; `present`: it is there, whatever it is.",
        "examples": ["absent", "present"],
    });
    json_schema!({ "anyOf": [text, form] })
});

impl<'de> Deserialize<'de> for Answer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Forms;
        impl<'de> Visitor<'de> for Forms {
            type Value = Answer;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`refused`, `timeout`, or an answer such as `{ status: 200, json: {} }`")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Answer, E> {
                match text {
                    "refused" => Ok(Answer::Refused),
                    "timeout" => Ok(Answer::Timeout),
                    other => Err(E::unknown_variant(other, &["refused", "timeout"])),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Answer, A::Error> {
                Reply::deserialize(MapAccessDeserializer::new(map)).map(Answer::Reply)
            }
        }
        deserializer.deserialize_any(Forms)
    }
}

inline_schema!(Answer, |generator| {
    let reply = generator.subschema_for::<Reply>();
    let word = json_schema!({
        "enum": ["refused", "timeout"],
        "description": "`refused`: it takes no connection. `timeout`: it says nothing until `timeouts.request` is over.",
    });
    json_schema!({ "anyOf": [word, reply] })
});

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Forms;
        impl<'de> Visitor<'de> for Forms {
            type Value = Count;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of requests, or a list of what each of them is")
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Count, E> {
                u32::try_from(number).map(Count::Number).map_err(|_| E::custom("so many are never sent"))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Count, A::Error> {
                Vec::<Received>::deserialize(SeqAccessDeserializer::new(list)).map(Count::Each)
            }
        }
        deserializer.deserialize_any(Forms)
    }
}

inline_schema!(Count, |generator| {
    let each = generator.subschema_for::<Vec<Received>>();
    json_schema!({ "anyOf": [{ "type": "integer", "minimum": 0, "description": "So many." }, each] })
});
