//! Defines the names that events and definitions carry, one type for each.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::text::is_hazardous;

/// The reason why a text cannot be a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// The text is empty.
    #[error("is empty: give it 1 to {max} characters")]
    Empty {
        /// The most characters allowed.
        max: usize,
    },
    /// The text is too long.
    #[error("has {length} characters: at most {max} are allowed")]
    TooLong {
        /// The characters that were given.
        length: usize,
        /// The most characters allowed.
        max: usize,
    },
    /// The text holds a control character.
    #[error("holds a control character at byte {at}: remove it")]
    Control {
        /// The byte offset of the first one.
        at: usize,
    },
    /// The text holds a character that a terminal obeys or that is invisible.
    #[error(
        "holds the character U+{character:04X} at byte {at}, which is obeyed instead of shown, or cannot be seen: remove it"
    )]
    Hazardous {
        /// The byte offset of the first one.
        at: usize,
        /// Its number.
        character: u32,
    },
}

/// Checks that `text` has 1 to `max` characters and no control characters.
///
/// # Errors
///
/// Names the rule that `text` breaks.
pub fn check_name(text: &str, max: usize) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty { max });
    }
    // A text of at most `max` bytes has at most `max` characters.
    if text.len() > max {
        let length = text.chars().count();
        if length > max {
            return Err(NameError::TooLong { length, max });
        }
    }
    match text.bytes().position(|byte| byte < 0x20 || byte == 0x7f) {
        Some(at) => Err(NameError::Control { at }),
        None => Ok(()),
    }
}

/// Checks a name that is new to the service: [`check_name`], and no hazardous character beyond
/// ASCII.
///
/// A name that is stored passes [`check_name`] alone, as earlier versions took more.
///
/// ```
/// use trialog_model::ids::check_new_name;
/// assert!(check_new_name("gate", 64).is_ok());
/// let error = check_new_name("gate\u{202e}", 64).unwrap_err();
/// assert!(error.to_string().starts_with("holds the character U+202E at byte 4"));
/// ```
///
/// # Errors
///
/// Names the rule that `text` breaks.
pub fn check_new_name(text: &str, max: usize) -> Result<(), NameError> {
    check_name(text, max)?;
    if text.is_ascii() {
        return Ok(());
    }
    match text
        .char_indices()
        .find(|(_, character)| is_hazardous(*character))
    {
        Some((at, character)) => Err(NameError::Hazardous {
            at,
            character: character.into(),
        }),
        None => Ok(()),
    }
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $max:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// The maximum number of characters of such a name.
            pub const MAX_CHARS: usize = $max;

            /// Checks `text` and converts it to a name.
            ///
            /// # Errors
            ///
            /// An empty text, one that is too long, or one with control characters.
            pub fn new(text: impl AsRef<str>) -> Result<Self, NameError> {
                let text = text.as_ref();
                check_name(text, Self::MAX_CHARS)?;
                Ok(Self(text.into()))
            }

            /// Checks a name that is new to the service.
            ///
            /// # Errors
            ///
            /// It holds a character that is obeyed instead of shown, or cannot be seen.
            pub fn check_new(&self) -> Result<(), NameError> {
                check_new_name(&self.0, Self::MAX_CHARS)
            }

            /// Returns the name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0.as_ref().to_owned()
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

name_type! {
    /// The name of an experiment: 1 to 64 characters.
    ///
    /// ```
    /// use trialog_model::ids::ExperimentId;
    /// assert_eq!(ExperimentId::new("gate")?.as_str(), "gate");
    /// assert!(ExperimentId::new("x".repeat(65)).is_err());
    /// # Ok::<(), trialog_model::ids::NameError>(())
    /// ```
    ExperimentId, 64
}
name_type! {
    /// The name of a variant: 1 to 32 characters.
    Variant, 32
}
name_type! {
    /// The kind of a metric event, such as `purchase`: 1 to 64 characters.
    EventType, 64
}
name_type! {
    /// The name of a metric: 1 to 64 characters. A metric without a definition is named like its
    /// event type.
    MetricName, 64
}

name_type! {
    /// The name of a layer, whose experiments share no unit: 1 to 64 characters.
    LayerName, 64
}
name_type! {
    /// The name of a holdout: 1 to 56 characters, as its experiment is called
    /// `holdout:` and this.
    HoldoutName, 56
}
name_type! {
    /// The name of a funnel that is saved with an experiment: 1 to 64 characters.
    FunnelName, 64
}

impl HoldoutName {
    /// The prefix of the ids of the experiments that measure holdouts.
    pub const PREFIX: &str = "holdout:";

    /// Returns the reserved id under which the holdout is measured.
    ///
    /// ```
    /// use trialog_model::ids::HoldoutName;
    /// assert_eq!(HoldoutName::new("q3")?.experiment_id().as_str(), "holdout:q3");
    /// # Ok::<(), trialog_model::ids::NameError>(())
    /// ```
    pub fn experiment_id(&self) -> ExperimentId {
        ExperimentId(format!("{}{}", Self::PREFIX, self.0).into())
    }
}

impl From<MetricName> for EventType {
    /// Converts the name of a metric without a definition to its event type.
    fn from(name: MetricName) -> Self {
        Self(name.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_is_counted_in_characters() {
        assert!(Variant::new("ä".repeat(32)).is_ok());
        assert_eq!(
            Variant::new("ä".repeat(33)),
            Err(NameError::TooLong {
                length: 33,
                max: 32
            })
        );
    }

    #[test]
    fn control_characters_are_refused() {
        assert_eq!(EventType::new("a\u{0}b"), Err(NameError::Control { at: 1 }));
    }
}
