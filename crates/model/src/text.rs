//! Escapes texts for display: hazardous characters, and passwords in addresses.

use std::borrow::Cow;
use std::fmt::Write;

/// Returns whether a name may not have `character`, because it controls a terminal, turns the
/// direction of the text around it, breaks a line, or is invisible.
///
/// The joiners U+200C and U+200D are allowed: Persian, Indic scripts and emoji need them.
///
/// ```
/// use trialog_model::text::is_hazardous;
/// assert!("\u{1b}\u{9b}\u{85}\u{202e}\u{2028}\u{200b}".chars().all(is_hazardous));
/// assert!(!"Größe נסיון 実験 \u{200d}".chars().any(is_hazardous));
/// ```
pub fn is_hazardous(character: char) -> bool {
    character.is_control()
        || matches!(character,
            // Direction: marks, embeddings, overrides, isolates, and those of old.
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2066}'..='\u{206f}'
            // Line and paragraph separators.
            | '\u{2028}' | '\u{2029}'
            // What has no width: spaces, operators, marks, tags.
            | '\u{180e}' | '\u{200b}' | '\u{2060}'..='\u{2065}' | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Whether `character` is printed by its number: it is hazardous, or has no width.
fn is_escaped(character: char) -> bool {
    is_hazardous(character) || matches!(character, '\u{ad}' | '\u{200c}' | '\u{200d}')
}

/// Escapes `text` for a terminal or a log: control and invisible characters become codes such as
/// `\u009b`. If `keeps_lines`, line breaks and tabs stay.
///
/// The form is that of JSON, so that a JSON document is the same document after it.
///
/// ```
/// use trialog_model::text::escaped;
/// assert_eq!(escaped("a\u{9b}31m\u{202e}b\n", true), "a\\u009b31m\\u202eb\n");
/// assert_eq!(escaped("a\nb\u{e0041}", false), "a\\u000ab\\udb40\\udc41");
/// assert_eq!(escaped("größer", false), "größer");
/// ```
pub fn escaped(text: &str, keeps_lines: bool) -> Cow<'_, str> {
    let is_kept = |character: char| keeps_lines && matches!(character, '\n' | '\t');
    let is_shown = |character: char| is_kept(character) || !is_escaped(character);
    if text.chars().all(is_shown) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if is_shown(character) {
            shown.push(character);
            continue;
        }
        for unit in character.encode_utf16(&mut [0; 2]) {
            // Writing to a string cannot fail.
            let _ = write!(shown, "\\u{unit:04x}");
        }
    }
    Cow::Owned(shown)
}

/// What ends an address in a text.
const AFTER_ADDRESS: [char; 7] = ['`', '"', '\'', '<', '>', '(', ')'];

/// Replaces the user and the password of every address in `text`, such as
/// `http://user:password@host`, by `***`.
///
/// ```
/// use trialog_model::text::without_passwords;
/// assert_eq!(without_passwords("no answer of http://mia:s3cret@host:80"), "no answer of http://***@host:80");
/// ```
pub fn without_passwords(text: &str) -> Cow<'_, str> {
    const SCHEME_END: &str = "://";
    if !text.contains(SCHEME_END) || !text.contains('@') {
        return Cow::Borrowed(text);
    }
    let mut parts = text.split(SCHEME_END);
    let mut shown = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        shown.push_str(SCHEME_END);
        let ends = |letter: char| letter.is_whitespace() || AFTER_ADDRESS.contains(&letter);
        let address = &part[..part.find(ends).unwrap_or(part.len())];
        let hidden = end_of_user(address);
        if hidden > 0 {
            shown.push_str("***@");
        }
        shown.push_str(&part[hidden..]);
    }
    Cow::Owned(shown)
}

/// Where the host begins in `address`, which has no scheme; 0 where it begins with the host.
fn end_of_user(address: &str) -> usize {
    let authority = &address[..address.find(['/', '?', '#']).unwrap_or(address.len())];
    let after_last = |text: &str| text.rfind('@').map_or(0, |at| at + 1);
    let port = authority.rsplit_once(':').map(|(_, port)| port);
    let is_port = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    match (after_last(authority), port) {
        // What follows the colon is no port: a password with a `/` that nobody escaped.
        (0, Some(port)) if !is_port(port) => after_last(address),
        (end, _) => end,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_of_an_address_is_shown() {
        for (text, shown) in [
            (
                "cannot reach `http://mia:s3cret@host:80/x`: no",
                "cannot reach `http://***@host:80/x`: no",
            ),
            (
                "postgres://u:p@ss@h/db and http://a@b",
                "postgres://***@h/db and http://***@b",
            ),
            ("http://u:pa/ss@host/x", "http://***@host/x"),
            ("http://host:80/@mia", "http://host:80/@mia"),
            ("http://[::1]:80/@mia", "http://[::1]:80/@mia"),
            ("mail mia@example.com", "mail mia@example.com"),
            ("http://u:p", "http://u:p"),
        ] {
            assert_eq!(without_passwords(text), shown);
        }
    }
}
