//! Defines a list to choose from.

/// An entry of a list to choose from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) value: String,
    pub(crate) is_chosen: bool,
}

impl Choice {
    /// Lists `values`, of which the one that equals `chosen` is selected.
    pub(crate) fn among<T: AsRef<str>>(
        values: impl IntoIterator<Item = T>,
        chosen: &str,
    ) -> Vec<Self> {
        let choice = |value: T| Self {
            value: value.as_ref().to_owned(),
            is_chosen: value.as_ref() == chosen,
        };
        values.into_iter().map(choice).collect()
    }
}
