//! What many answers are made of.

use std::ops::Range;

use schemars::JsonSchema;
use serde::Serialize;
use trialog_model::time::UnixMicros;

/// A time as RFC 3339 in UTC.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline)]
pub(crate) struct Time(#[schemars(extend("format" = "date-time"))] String);

impl From<UnixMicros> for Time {
    fn from(time: UnixMicros) -> Self {
        Self(time.to_rfc3339())
    }
}

/// Buckets of a layer, from the first on and before the second.
pub(crate) type BucketRange = [u16; 2];

/// The form in which answers have `range`.
pub(crate) fn bucket_range(range: &Range<u16>) -> BucketRange {
    [range.start, range.end]
}
