//! Writes bytes as hexadecimal digits.

use std::fmt::Write;

/// Writes `bytes` as lowercase hexadecimal digits, two for each byte.
///
/// ```
/// assert_eq!(trialog_model::hex::hex(&[0, 0xab]), "00ab");
/// ```
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a `String` cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}
