//! Converts panics of decoders to errors that name the file.
//!
//! The libraries that read Parquet, Arrow and compressed data return an error for most
//! damage, and stop with a panic for some. Whatever a file holds, the command goes on to
//! its end in order; every format is read through [`decoding`].

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use anyhow::anyhow;

thread_local! {
    static IS_DECODING: Cell<bool> = const { Cell::new(false) };
}

/// Returns whether this thread reads a file, so that a panic becomes an error instead of reaching
/// the hook.
pub(crate) fn is_decoding() -> bool {
    IS_DECODING.get()
}

/// Runs `read`, which reads the file that messages call `shown`.
///
/// Nothing that `read` changed is used after a panic: the command ends with the error.
pub(super) fn decoding<T>(
    shown: &str,
    read: impl FnOnce() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let was_decoding = IS_DECODING.replace(true);
    let outcome = catch_unwind(AssertUnwindSafe(read));
    IS_DECODING.set(was_decoding);
    outcome.unwrap_or_else(|panic| {
        let text = (panic.downcast_ref::<String>().map(String::as_str))
            .or_else(|| panic.downcast_ref::<&str>().copied());
        match text {
            Some(text) => Err(anyhow!(
                "cannot read {shown}: it is damaged, and its decoder gave up ({text}); write the file again"
            )),
            None => resume_unwind(panic),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error_that_names_the_file() {
        let error = decoding::<()>("`a.parquet`", || panic!("index {} out of range", 7));
        let said = error.unwrap_err().to_string();
        assert!(
            said.starts_with("cannot read `a.parquet`: it is damaged"),
            "{said}"
        );
        assert!(said.contains("index 7 out of range"), "{said}");
        assert!(!is_decoding());
    }
}
