//! Encodes and decodes percent codes in addresses.

/// Encodes `text` as one segment of a path or one value of a query.
///
/// ```
/// # use trialog_model::percent::encode;
/// assert_eq!(encode("a@b"), "a%40b");
/// ```
pub fn encode(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// Decodes each percent code of `text`; `None` if a code is broken or the bytes are not UTF-8.
///
/// ```
/// # use trialog_model::percent::decode;
/// assert_eq!(decode("a%40b").as_deref(), Some("a@b"));
/// assert_eq!(decode("a%4"), None);
/// ```
pub fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
            let (high, low) = (digit(rest.next())?, digit(rest.next())?);
            bytes.push((high * 16 + low) as u8);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}
