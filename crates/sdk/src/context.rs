//! Holds what the application knows about a unit.

use std::sync::Arc;

use serde_json::Value;
use trialog_model::assignment::Context as Members;

/// The attributes of a unit, for targeting and for its exposures.
///
/// Cheap to clone: build it once for a request and pass it to every call.
///
/// ```
/// use trialog_sdk::Context;
/// let context = Context::new().with("platform", "ios").with("age", 31);
/// assert_eq!(context.get("age"), Some(&31.into()));
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Context(Arc<Members>);

impl Context {
    /// Creates an empty context.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the context with `key` added.
    #[must_use]
    pub fn with(mut self, key: impl Into<String>, value: impl Into<Value>) -> Self {
        Arc::make_mut(&mut self.0).insert(key.into(), value.into());
        self
    }

    /// Returns the value under `key`.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key)
    }

    /// Estimates the size in bytes.
    pub(crate) fn n_bytes(&self) -> usize {
        n_bytes_of(&self.0)
    }

    pub(crate) fn members(&self) -> &Members {
        &self.0
    }
}

fn n_bytes_of(members: &Members) -> usize {
    members
        .iter()
        .map(|(key, value)| key.len() + n_bytes(value))
        .sum()
}

fn n_bytes(value: &Value) -> usize {
    let more = match value {
        Value::String(text) => text.len(),
        Value::Array(all) => all.iter().map(n_bytes).sum(),
        Value::Object(members) => n_bytes_of(members),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    };
    size_of::<Value>() + more
}

impl From<Members> for Context {
    fn from(members: Members) -> Self {
        Self(Arc::new(members))
    }
}
