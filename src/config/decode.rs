//! From the untyped value to a typed one, with the exact place of a mistake.
//!
//! A `serde` deserializer over `serde_yaml::Value` of our own, because the stock one speaks in positions of the parent and
//! echoes values into its messages. This one is strict (nothing is no text, a number is no text), reads
//! `{ bearer: key }` as the variant `bearer`, keeps the path of a mistake, and keeps values out of its errors: what went
//! wrong is data here, and becomes words in `words`.

use std::fmt;

use serde::de::value::BorrowedStrDeserializer;
use serde::de::{
    self, DeserializeSeed, Deserializer, EnumAccess, Error as _, Expected, MapAccess, SeqAccess, Unexpected,
    VariantAccess, Visitor,
};
use serde_yaml::{Mapping, Value};

use super::path::Seg;

/// A mistake in a value.
#[derive(Debug)]
pub(super) struct Mistake {
    /// From the mistake up to the section: innermost step first.
    pub(super) steps: Vec<Seg>,
    /// Whether the last step's key is wrong, not its value.
    pub(super) on_key: bool,
    pub(super) what: What,
}

/// What is wrong. Holds no value of the document except a mistaken variant's name.
#[derive(Debug)]
pub(super) enum What {
    UnknownKey {
        key: String,
        known: &'static [&'static str],
    },
    UnknownChoice {
        written: String,
        known: &'static [&'static str],
    },
    MissingKey(&'static str),
    Null,
    WrongType {
        found: Found,
        expected: String,
    },
    BadValue {
        expected: String,
    },
    NotOneKey {
        found: usize,
        known: &'static [&'static str],
    },
    /// A message; what follows a line break is its hint.
    Other(String),
}

/// The type of what stands in the document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Bool,
    Number,
    Text,
    List,
    Mapping,
    Other,
}

impl Mistake {
    fn new(what: What) -> Self {
        Self { steps: Vec::new(), on_key: false, what }
    }

    fn below(mut self, seg: Seg) -> Self {
        self.steps.push(seg);
        self
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.what)
    }
}

impl std::error::Error for Mistake {}

impl de::Error for Mistake {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(What::Other(message.to_string()))
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let found = match unexpected {
            Unexpected::Unit | Unexpected::Option => return Self::new(What::Null),
            Unexpected::Bool(_) => Found::Bool,
            Unexpected::Unsigned(_) | Unexpected::Signed(_) | Unexpected::Float(_) => Found::Number,
            Unexpected::Str(_) | Unexpected::Char(_) | Unexpected::Bytes(_) => Found::Text,
            Unexpected::Seq => Found::List,
            Unexpected::Map => Found::Mapping,
            _ => Found::Other,
        };
        Self::new(What::WrongType { found, expected: expected.to_string() })
    }

    fn invalid_value(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(What::BadValue { expected: expected.to_string() })
    }

    fn invalid_length(_: usize, expected: &dyn Expected) -> Self {
        Self::new(What::BadValue { expected: expected.to_string() })
    }

    fn unknown_variant(variant: &str, known: &'static [&'static str]) -> Self {
        Self::new(What::UnknownChoice { written: variant.to_owned(), known })
    }

    fn unknown_field(field: &str, known: &'static [&'static str]) -> Self {
        Self::new(What::UnknownKey { key: field.to_owned(), known })
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(What::MissingKey(field))
    }

    fn duplicate_field(field: &'static str) -> Self {
        // Duplicate keys never get this far: two spellings of one key (an alias) do.
        Self::custom(format_args!("`{field}` is given twice under different spellings"))
    }
}

/// One value of the document. `skipped` are values that were reported already and are read as if absent.
#[derive(Clone, Copy)]
pub(super) struct Input<'v> {
    pub(super) value: &'v Value,
    pub(super) skipped: &'v [&'v Value],
}

impl<'v> Input<'v> {
    fn at(self, value: &'v Value) -> Self {
        Self { value, ..self }
    }

    fn wrong<E>(self, expected: &dyn Expected) -> Result<E, Mistake> {
        let unexpected = match self.value {
            Value::Null => Unexpected::Unit,
            Value::Bool(b) => Unexpected::Bool(*b),
            Value::Number(_) => Unexpected::Unsigned(0),
            Value::String(_) => Unexpected::Str(""),
            Value::Sequence(_) => Unexpected::Seq,
            Value::Mapping(_) => Unexpected::Map,
            Value::Tagged(_) => Unexpected::Enum,
        };
        Err(Mistake::invalid_type(unexpected, expected))
    }

    fn list<V: Visitor<'v>>(self, items: &'v [Value], visitor: V) -> Result<V::Value, Mistake> {
        visitor.visit_seq(List { input: self, items: items.iter().enumerate() })
    }

    fn mapping<V: Visitor<'v>>(self, mapping: &'v Mapping, visitor: V) -> Result<V::Value, Mistake> {
        visitor.visit_map(Entries { input: self, entries: mapping.iter(), open: None })
    }
}

/// A visitor's "a list", or "a list of strings" where the type it makes says so.
struct ListOf<'a, V>(&'a V);

impl<'v, V: Visitor<'v>> Expected for ListOf<'_, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let made = std::any::type_name::<V::Value>();
        if made.ends_with("Vec<alloc::string::String>") {
            f.write_str("a list of strings")
        } else {
            self.0.expecting(f)
        }
    }
}

macro_rules! scalars {
    ($($method:ident)*) => {
        $(fn $method<V: Visitor<'v>>(self, visitor: V) -> Result<V::Value, Mistake> {
            match self.value {
                Value::Bool(_) | Value::Number(_) | Value::String(_) => self.deserialize_any(visitor),
                _ => self.wrong(&visitor),
            }
        })*
    };
}

macro_rules! texts {
    ($($method:ident)*) => {
        $(fn $method<V: Visitor<'v>>(self, visitor: V) -> Result<V::Value, Mistake> {
            match self.value {
                Value::String(text) => visitor.visit_borrowed_str(text),
                _ => self.wrong(&visitor),
            }
        })*
    };
}

impl<'v> Deserializer<'v> for Input<'v> {
    type Error = Mistake;

    fn deserialize_any<V: Visitor<'v>>(self, visitor: V) -> Result<V::Value, Mistake> {
        match self.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(b) => visitor.visit_bool(*b),
            Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
                (Some(unsigned), _, _) => visitor.visit_u64(unsigned),
                (_, Some(signed), _) => visitor.visit_i64(signed),
                (_, _, Some(float)) => visitor.visit_f64(float),
                _ => self.wrong(&visitor),
            },
            Value::String(text) => visitor.visit_borrowed_str(text),
            Value::Sequence(items) => self.list(items, visitor),
            Value::Mapping(mapping) => self.mapping(mapping, visitor),
            Value::Tagged(_) => self.wrong(&visitor),
        }
    }

    scalars! {
        deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128 deserialize_f32 deserialize_f64
    }

    texts! {
        deserialize_char deserialize_str deserialize_string deserialize_bytes deserialize_byte_buf deserialize_identifier
    }

    /// A key that is there has a value: `upstream:` with nothing after it is a mistake, not the default.
    fn deserialize_option<V: Visitor<'v>>(self, visitor: V) -> Result<V::Value, Mistake> {
        match self.value {
            Value::Null => Err(Mistake::new(What::Null)),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_unit<V: Visitor<'v>>(self, visitor: V) -> Result<V::Value, Mistake> {
        match self.value {
            Value::Null => visitor.visit_unit(),
            _ => self.wrong(&visitor),
        }
    }

    fn deserialize_unit_struct<V: Visitor<'v>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'v>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'v>>(self, visitor: V) -> Result<V::Value, Mistake> {
        match self.value {
            Value::Sequence(items) => self.list(items, visitor),
            _ => self.wrong(&ListOf(&visitor)),
        }
    }

    fn deserialize_tuple<V: Visitor<'v>>(self, _: usize, visitor: V) -> Result<V::Value, Mistake> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'v>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'v>>(self, visitor: V) -> Result<V::Value, Mistake> {
        match self.value {
            Value::Mapping(mapping) => self.mapping(mapping, visitor),
            _ => self.wrong(&visitor),
        }
    }

    fn deserialize_struct<V: Visitor<'v>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'v>>(
        self,
        _: &'static str,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        match self.value {
            Value::String(name) => visitor.visit_enum(Choice { input: self, name, content: None }),
            Value::Mapping(mapping) => {
                let mut entries = mapping.iter().filter(|(_, value)| !is_skipped(self.skipped, value));
                match (entries.next(), entries.next()) {
                    (Some((Value::String(name), content)), None) => {
                        visitor.visit_enum(Choice { input: self, name, content: Some(content) })
                    }
                    _ => Err(Mistake::new(What::NotOneKey { found: mapping.len(), known })),
                }
            }
            Value::Null => Err(Mistake::new(What::Null)),
            _ => self.wrong(&OneOf(known)),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'v>>(self, visitor: V) -> Result<V::Value, Mistake> {
        visitor.visit_unit()
    }
}

/// The names of an enum's variants, as what was expected.
struct OneOf(&'static [&'static str]);

impl Expected for OneOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "one of {}", super::suggest::listed(self.0.iter().copied()))
    }
}

fn is_skipped(skipped: &[&Value], value: &Value) -> bool {
    skipped.iter().any(|other| std::ptr::eq(*other, value))
}

struct List<'v> {
    input: Input<'v>,
    items: std::iter::Enumerate<std::slice::Iter<'v, Value>>,
}

impl<'v> SeqAccess<'v> for List<'v> {
    type Error = Mistake;

    fn next_element_seed<T: DeserializeSeed<'v>>(&mut self, seed: T) -> Result<Option<T::Value>, Mistake> {
        let skipped = self.input.skipped;
        let Some((index, item)) = self.items.by_ref().find(|(_, item)| !is_skipped(skipped, item)) else {
            return Ok(None);
        };
        seed.deserialize(self.input.at(item)).map(Some).map_err(|mistake| mistake.below(Seg::Index(index)))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }
}

struct Entries<'v> {
    input: Input<'v>,
    entries: serde_yaml::mapping::Iter<'v>,
    open: Option<(&'v Value, &'v Value)>,
}

impl<'v> MapAccess<'v> for Entries<'v> {
    type Error = Mistake;

    fn next_key_seed<K: DeserializeSeed<'v>>(&mut self, seed: K) -> Result<Option<K::Value>, Mistake> {
        let skipped = self.input.skipped;
        let Some((key, value)) = self.entries.by_ref().find(|(_, value)| !is_skipped(skipped, value)) else {
            return Ok(None);
        };
        self.open = Some((key, value));
        seed.deserialize(self.input.at(key)).map(Some).map_err(|mistake| match mistake.what {
            What::UnknownKey { .. } => mistake,
            _ => Mistake { on_key: true, ..mistake.below(step(key)) },
        })
    }

    fn next_value_seed<T: DeserializeSeed<'v>>(&mut self, seed: T) -> Result<T::Value, Mistake> {
        let Some((key, value)) = self.open.take() else {
            return Err(Mistake::custom("a value was read before its key"));
        };
        seed.deserialize(self.input.at(value)).map_err(|mistake| mistake.below(step(key)))
    }
}

/// The step that a key makes. Keys that are no text are found by their usual spelling.
pub(super) fn step(key: &Value) -> Seg {
    let text = match key {
        Value::String(text) => text.as_str().into(),
        Value::Number(number) => number.to_string().into(),
        Value::Bool(b) => b.to_string().into(),
        _ => "".into(),
    };
    Seg::Key(text)
}

struct Choice<'v> {
    input: Input<'v>,
    name: &'v str,
    content: Option<&'v Value>,
}

impl<'v> EnumAccess<'v> for Choice<'v> {
    type Error = Mistake;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'v>>(self, seed: S) -> Result<(S::Value, Self), Mistake> {
        let name = BorrowedStrDeserializer::<Mistake>::new(self.name);
        let variant = seed.deserialize(name).map_err(|mistake| match (mistake.what, self.content) {
            // A mistaken choice in `{ choice: settings }` is a mistaken key.
            (What::UnknownChoice { written, known }, Some(_)) => {
                Mistake::new(What::UnknownKey { key: written, known })
            }
            (what, _) => Mistake::new(what),
        })?;
        Ok((variant, self))
    }
}

impl<'v> Choice<'v> {
    fn content(&self) -> Result<Input<'v>, Mistake> {
        match self.content {
            Some(content) => Ok(self.input.at(content)),
            None => {
                Err(Mistake::custom(format_args!("`{0}` needs settings\nwrite `{{ {0}: ... }}`", self.name)))
            }
        }
    }

    fn below(&self) -> impl Fn(Mistake) -> Mistake + use<'v> {
        let name: std::sync::Arc<str> = self.name.into();
        move |mistake| mistake.below(Seg::Key(name.clone()))
    }
}

impl<'v> VariantAccess<'v> for Choice<'v> {
    type Error = Mistake;

    fn unit_variant(self) -> Result<(), Mistake> {
        match self.content {
            None => Ok(()),
            Some(Value::Mapping(empty)) if empty.is_empty() => Ok(()),
            Some(Value::Null) => Err((self.below())(Mistake::new(What::Null))),
            Some(_) => Err((self.below())(Mistake::custom("this takes no settings"))),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'v>>(self, seed: T) -> Result<T::Value, Mistake> {
        seed.deserialize(self.content()?).map_err(self.below())
    }

    fn tuple_variant<V: Visitor<'v>>(self, _: usize, visitor: V) -> Result<V::Value, Mistake> {
        self.content()?.deserialize_seq(visitor).map_err(self.below())
    }

    fn struct_variant<V: Visitor<'v>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        self.content()?.deserialize_map(visitor).map_err(self.below())
    }
}
