//! Limits JSON that is stored: how deep it nests, and which keys it may not have.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// The maximum number of levels of objects and arrays in a document, a value or a context.
///
/// Readers of JSON give up at 128, and what is kept is shown inside of lists and pages.
pub const MAX_DEPTH: usize = 64;

/// What the keys begin with by which the JSON library passes values to itself.
const PRIVATE: &str = "$serde_json::private::";

/// Rejects a value at `depth` levels, counted from 0, if that is too deep.
pub(crate) fn check_depth<E: Error>(depth: usize) -> Result<(), E> {
    match depth {
        0..MAX_DEPTH => Ok(()),
        _ => Err(E::custom(format_args!(
            "is nested too deeply: at most {MAX_DEPTH} levels are allowed"
        ))),
    }
}

/// Rejects a key that serde would take for something else.
pub(crate) fn check_key<E: Error>(key: &str) -> Result<(), E> {
    match key.starts_with(PRIVATE) {
        false => Ok(()),
        true => Err(E::custom(format_args!(
            "`{key}` is reserved: rename the key"
        ))),
    }
}

/// Checks that `text` is JSON that may be stored: at most [`MAX_DEPTH`] levels, no reserved key,
/// and only whole characters in every text.
///
/// ```
/// use trialog_model::json::check;
/// assert!(check(r#"{"a": [{"b": "\ud83d\ude00"}]}"#).is_ok());
/// for bad in [r#"{"$serde_json::private::RawValue": "1"}"#, r#"{"a": "\ud800"}"#, "{"] {
///     assert!(check(bad).is_err(), "{bad}");
/// }
/// assert!(check(&format!("{}{}", "[".repeat(65), "]".repeat(65))).is_err());
/// ```
///
/// # Errors
///
/// Where and what is wrong.
pub fn check(text: &str) -> Result<(), serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_str(text);
    Shape(0).deserialize(&mut reader)?;
    reader.end()
}

/// Reads a value at a depth, and keeps nothing of it.
struct Shape(usize);

impl<'de> DeserializeSeed<'de> for Shape {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Shape {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        check_depth(self.0)?;
        while elements.next_element_seed(Self(self.0 + 1))?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        check_depth(self.0)?;
        while let Some(key) = fields.next_key::<String>()? {
            check_key(&key)?;
            fields.next_value_seed(Self(self.0 + 1))?;
        }
        Ok(())
    }
}
