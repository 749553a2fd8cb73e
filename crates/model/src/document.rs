//! Parses definitions from JSON documents and reports which field is wrong and why, in plain
//! words.
//!
//! serde's own messages speak of the types of this program. This deserializer keeps
//! the path to the value at fault, and says what it is and what to give instead.

mod strict;

use std::fmt;

use serde::de::value::{StrDeserializer, StringDeserializer};
use serde::de::{
    DeserializeOwned, DeserializeSeed, EnumAccess, Error as _, Expected, IntoDeserializer,
    MapAccess, SeqAccess, Unexpected, VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;
use serde_json::{Map, Value};

use crate::event::FieldError;
use crate::nearest::there_are;

/// The most characters of a value that a message repeats.
const MAX_SHOWN: usize = 64;

/// A field of a document that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct DocumentError {
    /// The way to the field, such as `variants[1].weight`; empty for the whole document.
    pub field: String,
    /// What is wrong and how to fix it.
    pub reason: String,
}

impl fmt::Display for DocumentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.field.as_str() {
            "" => write!(f, "the document {}", self.reason),
            field if self.reason.starts_with('`') => write!(f, "`{field}`: {}", self.reason),
            field => write!(f, "`{field}` {}", self.reason),
        }
    }
}

impl From<FieldError> for DocumentError {
    fn from(error: FieldError) -> Self {
        Self {
            field: error.field.to_owned(),
            reason: error.reason,
        }
    }
}

impl DocumentError {
    /// The error of a field that is found in the field `outer`, or in `[index]`.
    pub(crate) fn inside(mut self, outer: &str) -> Self {
        let joint = match self.field.as_str() {
            "" => "",
            inner if inner.starts_with('[') => "",
            _ => ".",
        };
        self.field = format!("{outer}{joint}{}", self.field);
        self
    }
}

/// Parses a definition from the bytes of a JSON document.
///
/// # Errors
///
/// The bytes are not JSON, or a field cannot be used.
///
/// ```
/// use trialog_model::{document, experiment::Definition};
/// let text = r#"{"experiment_id":"gate","variants":[{"variant":"a"},{"variant":"b","weight":"0.5"}]}"#;
/// let error = document::from_slice::<Definition>(text.as_bytes()).unwrap_err();
/// assert_eq!(error.field, "variants[1].weight");
/// assert_eq!(error.reason, "is the text `0.5`: give a number");
/// ```
pub fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DocumentError> {
    from_value(value(bytes)?)
}

/// Parses a definition from a JSON value.
///
/// # Errors
///
/// A field cannot be used.
pub fn from_value<T: DeserializeOwned>(value: Value) -> Result<T, DocumentError> {
    T::deserialize(Node(value))
}

/// Parses a JSON value from the bytes of a document, and rejects duplicate keys.
///
/// # Errors
///
/// The bytes are not JSON: where, and what is wrong there.
pub fn value(bytes: &[u8]) -> Result<Value, DocumentError> {
    let value: Result<strict::Strict, _> = serde_json::from_slice(bytes);
    value.map(|value| value.0).map_err(|error| DocumentError {
        field: String::new(),
        reason: not_json(&error),
    })
}

/// Describes where a text stops being JSON, as the end of a sentence.
///
/// ```
/// use trialog_model::document::not_json;
/// let error = serde_json::from_str::<serde_json::Value>("{\"a\": 1,}").unwrap_err();
/// assert_eq!(not_json(&error), "is not JSON: line 1, column 9 has a comma too many");
/// ```
pub fn not_json(error: &serde_json::Error) -> String {
    let (line, column) = (error.line(), error.column());
    if line == 0 {
        return "is not JSON".to_owned();
    }
    let place = format!("line {line}, column {column}");
    if error.is_eof() {
        return match column {
            0 => "is empty: give a JSON object".to_owned(),
            _ => format!("is not JSON: it ends in the middle of a value, at {place}"),
        };
    }
    let said = error.to_string();
    let said = said.split(" at line ").next().unwrap_or_default();
    if error.is_data() {
        return match said.strip_prefix("duplicate field ") {
            Some(field) => format!("cannot be used: {field} stands twice, at {place}"),
            None if said.starts_with("invalid type") => "is not a JSON object".to_owned(),
            None => format!("cannot be used: {place}: {said}"),
        };
    }
    let reason = match said {
        "trailing comma" => "has a comma too many",
        "key must be a string" => "has a key that is not in double quotes",
        "trailing characters" => "has something after the end of the value",
        "invalid number" => "has a number that is not written as JSON writes numbers",
        "invalid escape" => "has a backslash that nothing valid follows",
        "recursion limit exceeded" => "is nested too deeply",
        said if said.starts_with("expected `,`") => "has no comma where one belongs",
        "expected `:`" => "has no colon after a key",
        "expected value" | "expected ident" => {
            "has what is no JSON value: write numbers in digits, texts in double quotes, and null for nothing"
        }
        "invalid unicode code point" => "has bytes that are not UTF-8",
        "control character (\\u0000-\\u001F) found while parsing a string" => {
            "has a line break or another control character in a text: write it as \\n"
        }
        _ => "cannot be read",
    };
    format!("is not JSON: {place} {reason}")
}

impl serde::de::Error for DocumentError {
    fn custom<T: fmt::Display>(reason: T) -> Self {
        Self {
            field: String::new(),
            reason: reason.to_string(),
        }
    }

    fn invalid_type(found: Unexpected<'_>, wanted: &dyn Expected) -> Self {
        Self::custom(format_args!(
            "is {}: give {}",
            described(&found),
            plain(&wanted.to_string())
        ))
    }

    fn invalid_value(found: Unexpected<'_>, wanted: &dyn Expected) -> Self {
        Self::invalid_type(found, wanted)
    }

    fn invalid_length(length: usize, wanted: &dyn Expected) -> Self {
        Self::custom(format_args!(
            "has {length} elements: give {}",
            plain(&wanted.to_string())
        ))
    }

    fn unknown_variant(found: &str, known: &'static [&'static str]) -> Self {
        let found = shortened(found);
        Self::custom(format_args!(
            "is `{found}`, which is not known here{}",
            there_are(&found, known, false)
        ))
    }

    fn unknown_field(field: &str, known: &'static [&'static str]) -> Self {
        let field = shortened(field);
        Self {
            reason: format!("is no field here{}", there_are(&field, known, false)),
            field,
        }
    }

    fn missing_field(field: &'static str) -> Self {
        Self {
            field: field.to_owned(),
            reason: "is missing".to_owned(),
        }
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self {
            field: field.to_owned(),
            reason: "stands twice".to_owned(),
        }
    }
}

/// What a value is.
fn described(found: &Unexpected<'_>) -> String {
    match found {
        Unexpected::Bool(value) => format!("`{value}`"),
        Unexpected::Unsigned(number) => format!("the number {number}"),
        Unexpected::Signed(number) => format!("the number {number}"),
        Unexpected::Float(number) => format!("the number {number}"),
        Unexpected::Str(text) => format!("the text `{}`", shortened(text)),
        Unexpected::Unit | Unexpected::Option => "null".to_owned(),
        Unexpected::Seq => "an array".to_owned(),
        Unexpected::Map => "an object".to_owned(),
        _ => "something else".to_owned(),
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// What serde wants, without the words of the language.
fn plain(wanted: &str) -> String {
    let first = wanted.split(' ').next().unwrap_or_default();
    match (first, wanted) {
        ("struct", _) | (_, "a map") => "an object",
        ("tuple", _) | (_, "a sequence") => "an array",
        (_, "a string" | "string" | "a borrowed string" | "a character") => "a text",
        (_, "f64" | "f32" | "a JSON number") => "a number",
        (_, "u64" | "u32" | "u16" | "u8" | "usize" | "u128") => "a whole number, 0 or more",
        (_, "i64" | "i32" | "i16" | "i8" | "isize" | "i128") => "a whole number",
        (_, "a boolean") => "true or false",
        ("enum", _) | (_, "variant identifier" | "string or map") => "a text",
        (_, "unit") => "null",
        (_, other) => other,
    }
    .to_owned()
}

/// A value that is read.
struct Node(Value);

impl<'de> serde::Deserializer<'de> for Node {
    type Error = DocumentError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DocumentError> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(value),
            Value::Number(number) => match (number.as_u64(), number.as_i64()) {
                (Some(number), _) => visitor.visit_u64(number),
                (None, Some(number)) => visitor.visit_i64(number),
                (None, None) => visitor.visit_f64(number.as_f64().unwrap_or(f64::NAN)),
            },
            Value::String(text) => visitor.visit_string(text),
            Value::Array(elements) => visitor.visit_seq(Elements {
                elements: elements.into_iter(),
                n_read: 0,
            }),
            Value::Object(fields) => visitor.visit_map(Fields {
                fields: fields.into_iter(),
                current: None,
            }),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DocumentError> {
        match self.0 {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, DocumentError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DocumentError> {
        match self.0 {
            Value::String(text) => visitor.visit_enum(Choice {
                text,
                content: None,
            }),
            Value::Object(fields) if fields.len() == 1 => match fields.into_iter().next() {
                Some((text, content)) => visitor.visit_enum(Choice {
                    text,
                    content: Some(content),
                }),
                None => Err(DocumentError::custom("is an empty object")),
            },
            other => {
                let known: Vec<String> = known.iter().map(|field| format!("`{field}`")).collect();
                Err(DocumentError::custom(format_args!(
                    "is {}: give {}",
                    described(&unexpected(&other)),
                    known.join(" or ")
                )))
            }
        }
    }

    /// Rejects arrays, whose elements serde would otherwise take for the fields.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DocumentError> {
        match self.0 {
            Value::Array(_) => Err(DocumentError::custom("is an array: give an object")),
            _ => self.deserialize_any(visitor),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
        unit unit_struct seq tuple tuple_struct map identifier ignored_any
    }
}

fn unexpected(value: &Value) -> Unexpected<'_> {
    match value {
        Value::Null => Unexpected::Unit,
        Value::Bool(value) => Unexpected::Bool(*value),
        Value::Number(number) => Unexpected::Float(number.as_f64().unwrap_or(f64::NAN)),
        Value::String(text) => Unexpected::Str(text),
        Value::Array(_) => Unexpected::Seq,
        Value::Object(_) => Unexpected::Map,
    }
}

struct Elements {
    elements: std::vec::IntoIter<Value>,
    n_read: usize,
}

impl<'de> SeqAccess<'de> for Elements {
    type Error = DocumentError;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, DocumentError> {
        let Some(element) = self.elements.next() else {
            return Ok(None);
        };
        let index = self.n_read;
        self.n_read += 1;
        let read = seed.deserialize(Node(element));
        read.map(Some)
            .map_err(|error| error.inside(&format!("[{index}]")))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.elements.len())
    }
}

struct Fields {
    fields: <Map<String, Value> as IntoIterator>::IntoIter,
    current: Option<(String, Value)>,
}

impl<'de> MapAccess<'de> for Fields {
    type Error = DocumentError;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, DocumentError> {
        self.current = self.fields.next();
        let Some((key, _)) = &self.current else {
            return Ok(None);
        };
        let key: StringDeserializer<DocumentError> = key.clone().into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<S::Value, DocumentError> {
        let (key, value) = (self.current.take())
            .ok_or_else(|| DocumentError::custom("has a value without a key"))?;
        seed.deserialize(Node(value))
            .map_err(|error| error.inside(&shortened(&key)))
    }
}

/// A text that names one of several things, with what belongs to it.
struct Choice {
    text: String,
    content: Option<Value>,
}

impl<'de> EnumAccess<'de> for Choice {
    type Error = DocumentError;
    type Variant = Content;

    fn variant_seed<S: DeserializeSeed<'de>>(
        self,
        seed: S,
    ) -> Result<(S::Value, Content), DocumentError> {
        let text: StrDeserializer<'_, DocumentError> = self.text.as_str().into_deserializer();
        Ok((seed.deserialize(text)?, Content(self.content)))
    }
}

struct Content(Option<Value>);

impl<'de> VariantAccess<'de> for Content {
    type Error = DocumentError;

    fn unit_variant(self) -> Result<(), DocumentError> {
        match self.0 {
            None => Ok(()),
            Some(_) => Err(DocumentError::custom("is an object: give a text")),
        }
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(
        self,
        seed: S,
    ) -> Result<S::Value, DocumentError> {
        seed.deserialize(Node(self.0.unwrap_or(Value::Null)))
    }

    fn tuple_variant<V: Visitor<'de>>(
        self,
        _length: usize,
        visitor: V,
    ) -> Result<V::Value, DocumentError> {
        serde::Deserializer::deserialize_any(Node(self.0.unwrap_or(Value::Null)), visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DocumentError> {
        serde::Deserializer::deserialize_any(Node(self.0.unwrap_or(Value::Null)), visitor)
    }
}

#[cfg(test)]
mod tests;
