//! Backup, verification, erasure and retention while the server serves.

mod backup;
mod erasure;
mod retention;
mod verify;

pub(crate) use backup::backup;
pub(crate) use erasure::{erasures, forget};
pub(crate) use retention::retain;
pub(crate) use verify::verify;

use crate::openapi::operation::Operation;

pub(crate) fn operations() -> Vec<Operation> {
    let [forget, erasures] = erasure::operations();
    vec![
        backup::operation(),
        verify::operation(),
        retention::operation(),
        forget,
        erasures,
    ]
}
