//! Describes the keys of contexts and their values, by which users can be told apart.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The keys in the contexts of an experiment's exposed users.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Context {
    /// The experiment.
    pub experiment_id: String,
    /// When the numbers of the experiment were published; null before the first run.
    #[schemars(extend("format" = "date-time"))]
    pub computed_at: Option<String>,
    /// The position in the ingested events up to which the counts hold.
    pub position: Option<u64>,
    /// The time up to which the counts hold: later events wait for the next run.
    #[schemars(extend("format" = "date-time"))]
    pub data_time: Option<String>,
    /// Exposed users.
    pub users: u64,
    /// How many keys there are; of more than 10,000 the others are not counted.
    pub n_keys: u64,
    /// Whether there are more than 10,000 keys, as where a value is sent as a key.
    pub has_more_keys: bool,
    /// The 100 keys with the most users.
    pub keys: Vec<ContextKey>,
}

/// A key of contexts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ContextKey {
    /// The key.
    pub key: String,
    /// Exposed users who have a value of it.
    pub users: u64,
    /// How many values there are.
    pub n_values: u64,
    /// Whether the experiment declares it as a segment.
    pub is_declared: bool,
    /// The 50 values with the most users.
    pub values: Vec<ContextValue>,
}

/// A value of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ContextValue {
    /// The value; numbers and booleans are their JSON text.
    pub value: String,
    /// Exposed users who have it.
    pub users: u64,
}
