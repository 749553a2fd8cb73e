//! Describes what happens to an experiment after its start: pauses, and the decision at its end.

use crate::ids::Variant;
use crate::time::UnixMicros;

/// The decision about an experiment after its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The variant that everybody gets; `None` where nothing is shipped.
    pub ship: Option<Variant>,
    /// Why.
    pub reason: String,
    /// Who decided.
    pub by: String,
    /// When.
    pub at: UnixMicros,
}

/// A period in which a started experiment was stopped, before it was resumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pause {
    /// When it was stopped.
    pub from: UnixMicros,
    /// When it was resumed.
    pub to: UnixMicros,
}
