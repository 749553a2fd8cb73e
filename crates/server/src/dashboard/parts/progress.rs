//! Shows the progress of an experiment towards its planned sample.

use trialog_report::Progress;

use super::format;
use super::number::Number;

/// Progress as words, and as a bar that ends at 1.
#[derive(Debug)]
pub(crate) struct Bar {
    pub(crate) share: Number,
    pub(crate) filled: String,
    pub(crate) planned: Number,
}

impl Bar {
    pub(crate) fn from_progress(progress: &Progress) -> Self {
        Self {
            share: Number::new(
                "/plan/share",
                progress.share,
                format::progress(progress.share),
            ),
            filled: format!("{:.3}", progress.share.clamp(0.0, 1.0)),
            planned: Number::count(
                "/plan/sample_size_per_variant",
                progress.sample_size_per_variant,
            ),
        }
    }
}
