//! Hashes string ids of users to 64-bit ids, and computes the 64-bit fingerprints of events.
//!
//! Contract: the numbers are stored and joined against, so they never change.
//! Fingerprints come from `MurmurHash3` x64 128; among a million events of one
//! user and experiment, two different ids share one with odds of 1 to 37
//! million.

use crate::murmur3::murmur3_x64_128;

/// Seed that keeps fingerprints of positions apart from those of event ids.
const POSITION_SEED: u32 = 1;

/// Returns the 64-bit id under which the user `text` is stored.
///
/// A canonical decimal integer within BIGINT is itself. Any other text is the
/// first eight bytes, little endian, of its `MurmurHash3` x64 128 (seed 0): so
/// are `-0`, `007`, `+1`, integers beyond BIGINT, and text with spaces, which
/// are not trimmed. The empty text is 0, as the user `0` is.
///
/// ```
/// # use trialog_model::user_id::user_id_from_text;
/// assert_eq!(user_id_from_text("-42"), -42);
/// assert_eq!(user_id_from_text("-0"), -7_673_569_873_821_001_361);
/// ```
pub fn user_id_from_text(text: &str) -> i64 {
    canonical_integer(text).unwrap_or_else(|| murmur3_x64_128(text.as_bytes(), 0).0 as i64)
}

/// Returns whether `text` is stored as the integer that it writes, and not as a hash.
///
/// ```
/// # use trialog_model::user_id::is_integer_text;
/// assert!(is_integer_text("-42"));
/// assert!(!is_integer_text("042") && !is_integer_text("ann"));
/// ```
pub fn is_integer_text(text: &str) -> bool {
    canonical_integer(text).is_some()
}

/// Computes the fingerprint of an event id: the first half of `MurmurHash3` x64 128, seed 0.
///
/// UUIDs are hashed as text, so `A1…` and `a1…` are different ids.
///
/// ```
/// # use trialog_model::user_id::event_fingerprint;
/// assert_eq!(event_fingerprint("hello"), 0xcbd8_a7b3_41bd_9b02);
/// ```
pub fn event_fingerprint(text: &str) -> u64 {
    murmur3_x64_128(text.as_bytes(), 0).0
}

/// Computes the fingerprint of an event without an id, from the place it was read at.
///
/// The first half of `MurmurHash3` x64 128 (seed 1) over the bytes of `source`, a
/// zero byte, and `sequence` and `index` as eight bytes each, little endian.
/// Says the same for every delivery of the same event: `source` names the
/// file, partition or request, `sequence` and `index` the place within it.
/// Allocates only when `source` is longer than 239 bytes.
///
/// ```
/// # use trialog_model::user_id::position_fingerprint;
/// let first = position_fingerprint("events/0", 7, 0);
/// assert_eq!(first, position_fingerprint("events/0", 7, 0));
/// assert_ne!(first, position_fingerprint("events/0", 7, 1));
/// ```
pub fn position_fingerprint(source: &str, sequence: u64, index: u64) -> u64 {
    let len = source.len() + 17;
    let mut short = [0; 256];
    let mut long = Vec::new();
    let key = if len <= short.len() {
        &mut short[..len]
    } else {
        long.resize(len, 0);
        &mut long[..]
    };
    let (name, place) = key.split_at_mut(source.len());
    name.copy_from_slice(source.as_bytes());
    place[1..9].copy_from_slice(&sequence.to_le_bytes());
    place[9..].copy_from_slice(&index.to_le_bytes());
    murmur3_x64_128(key, POSITION_SEED).0
}

/// The integer that `text` writes in the only way an `i64` is printed.
fn canonical_integer(text: &str) -> Option<i64> {
    match text.as_bytes() {
        b"0" => Some(0),
        [b'1'..=b'9', ..] | [b'-', b'1'..=b'9', ..] => text.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_the_canonical_form_of_an_integer_is_that_integer() {
        let canonical = [
            "0",
            "7",
            "-7",
            "9223372036854775807",
            "-9223372036854775808",
        ];
        for text in canonical {
            assert_eq!(user_id_from_text(text).to_string(), text);
        }
        let hashed = [
            "-0",
            "007",
            "+1",
            "-",
            "1 ",
            " 1",
            "1.0",
            "1e3",
            "-01",
            "٣",
            "9223372036854775808",
        ];
        for text in hashed {
            assert_eq!(canonical_integer(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn every_bigint_is_itself(id: i64) {
            prop_assert_eq!(user_id_from_text(&id.to_string()), id);
        }

        #[test]
        fn text_is_an_integer_only_if_it_prints_back(text in "[-+]?[0-9]{0,21}") {
            if let Some(id) = canonical_integer(&text) {
                prop_assert_eq!(id.to_string(), text);
            }
        }

        #[test]
        fn position_is_hashed_as_documented(
            source in "[ -~é]{0,300}", sequence: u64, index: u64,
        ) {
            let key = [
                source.as_bytes(), &[0], &sequence.to_le_bytes(), &index.to_le_bytes(),
            ].concat();
            prop_assert_eq!(
                position_fingerprint(&source, sequence, index),
                murmur3_x64_128(&key, 1).0,
            );
        }
    }
}
