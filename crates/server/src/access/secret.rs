//! Generates API keys, and hashes them for storage.
//!
//! A key is `tlk_`, its id, `_`, and 256 random bits in hexadecimal. The id
//! is no secret; it finds the key among the others. SHA-256 is enough to keep
//! a secret of 256 random bits: there is nothing to guess, so a hash that is
//! slow on purpose would slow down nobody but us.

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use trialog_model::hex::hex;

/// The prefix of every key, by which a leaked key can be recognised.
pub(crate) const PREFIX: &str = "tlk_";
/// The id of the key that a server gives to commands on the same machine.
pub(crate) const LOCAL_ID: &str = "local";

const ID_BYTES: usize = 6;
const SECRET_BYTES: usize = 32;
/// The number of random bytes of a key.
pub(crate) const RANDOM_BYTES: usize = ID_BYTES + SECRET_BYTES;
/// A key is shorter, so nothing longer is hashed.
const MAX_BYTES: usize = 128;

/// Generates a key, and returns its id and the whole key.
pub(crate) fn from_random(random: &[u8; RANDOM_BYTES]) -> (String, String) {
    let (id, secret) = random.split_at(ID_BYTES);
    let id = hex(id);
    let key = format!("{PREFIX}{id}_{}", hex(secret));
    (id, key)
}

/// Generates a key for commands on the same machine.
pub(crate) fn local_from_random(random: &[u8; RANDOM_BYTES]) -> String {
    format!("{PREFIX}{LOCAL_ID}_{}", hex(random))
}

/// Extracts the id from `key`, if it has the form of one.
pub(crate) fn id_in(key: &str) -> Option<&str> {
    if key.len() > MAX_BYTES {
        return None;
    }
    let (id, secret) = key.strip_prefix(PREFIX)?.split_once('_')?;
    (!id.is_empty() && !secret.is_empty()).then_some(id)
}

/// Computes the hash that is stored of `key`.
pub(crate) fn hash(key: &str) -> [u8; 32] {
    Sha256::digest(key.as_bytes()).into()
}

/// Returns whether `key` has the hash `kept`, in constant time.
pub(crate) fn matches(key: &str, kept: &[u8; 32]) -> bool {
    hash(key).ct_eq(kept).into()
}

/// Returns whether `text` contains a key, percent-encoded or not: the prefix, an id, `_`, and as
/// many hexadecimal digits as a secret has. Names that only begin like a key do not count.
pub(crate) fn contains_key(text: &str) -> bool {
    let plain = percent_decoded(text);
    let is_key = |(at, _): (usize, &str)| {
        let (id, secret) = plain[at + PREFIX.len()..].split_once('_')?;
        let is_id = id == LOCAL_ID || (id.len() == 2 * ID_BYTES && n_digits(id) == id.len());
        (is_id && n_digits(secret) >= 2 * SECRET_BYTES).then_some(())
    };
    plain.match_indices(PREFIX).find_map(is_key).is_some()
}

/// How many hexadecimal digits `text` begins with.
fn n_digits(text: &str) -> usize {
    (text.bytes())
        .take_while(|byte| byte.is_ascii_hexdigit())
        .count()
}

fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let escaped = (byte == b'%')
            .then(|| text.get(at + 1..at + 3))
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        decoded.push(escaped.unwrap_or(byte));
        at += if escaped.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_matches_what_is_kept_of_it_and_no_other_does() {
        let (id, key) = from_random(&[0xab; RANDOM_BYTES]);
        assert_eq!((id.as_str(), key.len()), ("abababababab", 81));
        assert_eq!(id_in(&key), Some(id.as_str()));
        assert!(matches(&key, &hash(&key)));
        let (_, other) = from_random(&[0xac; RANDOM_BYTES]);
        assert!(!matches(&other, &hash(&key)));
    }

    #[test]
    fn the_hash_is_sha_256() {
        // FIPS 180-2, appendix B.1.
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hex(&hash("abc")), expected);
    }

    #[test]
    fn a_key_is_seen_wherever_it_stands() {
        let (_, key) = from_random(&[7; RANDOM_BYTES]);
        let escaped = format!("/v1/experiments?limit=1&a={}", key.replace('_', "%5f"));
        for text in [
            format!("/v1/experiments?key={key}"),
            format!("/v1/keys/{key}"),
            escaped,
            local_from_random(&[7; RANDOM_BYTES]),
        ] {
            assert!(contains_key(&text), "{text}");
        }
        for text in [
            "/v1/keys/abababababab",
            "/v1/experiments/tlk_promo",
            &format!("/v1/experiments/tlk_{}", "a".repeat(60)),
            &format!("/v1/users/tlk_{}_{}", "a".repeat(12), "a".repeat(63)),
            &format!("/v1/users/tlk_user_{}", "f".repeat(64)),
            "%",
            "%4",
            "tlk_%zz",
        ] {
            assert!(!contains_key(text), "{text}");
        }
    }

    #[test]
    fn what_is_no_key_has_no_id() {
        let long = format!("tlk_a_{}", "b".repeat(MAX_BYTES));
        for text in ["", "tlk_", "tlk__x", "tlk_x_", "abc", "sk_a_b", &long] {
            assert_eq!(id_in(text), None, "{text}");
        }
    }
}
