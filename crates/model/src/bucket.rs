//! Computes the bucket of a unit: the one number that every assignment rule compares.
//!
//! Contract: buckets are the same in every version, process and SDK. A change
//! here would move people between variants of running experiments.

use crate::murmur3::X86Hash32;

/// The number of buckets. Buckets run from 0 to one less than this.
pub const N_BUCKETS: u16 = 10_000;

/// Returns the bucket of `unit` under `salt`, from 0 to 9,999.
///
/// [`bucket_hash`] modulo [`N_BUCKETS`]. As 2^32 is no multiple of 10,000, the
/// first 7,296 buckets are likelier by one part in 429,496: far below anything
/// that an experiment can see.
///
/// ```
/// # use trialog_model::bucket::bucket;
/// assert_eq!(bucket("-0", "holdout:a"), 878);
/// ```
pub fn bucket(unit: &str, salt: &str) -> u16 {
    (bucket_hash(unit, salt) % u32::from(N_BUCKETS)) as u16
}

/// Converts the share `share` of units, 0 to 1, to the nearest number of buckets.
///
/// ```
/// # use trialog_model::bucket::n_of_share;
/// assert_eq!(n_of_share(0.33333), 3_333);
/// ```
pub fn n_of_share(share: f64) -> u16 {
    (share.clamp(0.0, 1.0) * f64::from(N_BUCKETS)).round() as u16
}

/// Computes `MurmurHash3` x86 32 (seed 0) of the UTF-8 of `unit`, `:` and `salt`.
///
/// `unit` is the user id as the caller gave it, in text. Either may be empty.
/// Parts that contain `:` are not escaped: `("a:b", "c")` and `("a", "b:c")`
/// have the same hash. Does not allocate.
///
/// ```
/// # use trialog_model::bucket::bucket_hash;
/// # use trialog_model::murmur3::murmur3_x86_32;
/// assert_eq!(bucket_hash("42", "variant:cta"), murmur3_x86_32(b"42:variant:cta", 0));
/// ```
pub fn bucket_hash(unit: &str, salt: &str) -> u32 {
    let mut hasher = X86Hash32::new(0);
    hasher.write(unit.as_bytes());
    hasher.write(b":");
    hasher.write(salt.as_bytes());
    hasher.finish()
}

/// Returns the bucket of `unit` under the salt made of `kind`, such as `variant:`, and `name`.
pub(crate) fn bucket_of(unit: &str, kind: &str, name: &[u8]) -> u16 {
    let mut hasher = X86Hash32::new(0);
    for part in [unit.as_bytes(), b":", kind.as_bytes(), name] {
        hasher.write(part);
    }
    (hasher.finish() % u32::from(N_BUCKETS)) as u16
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::murmur3::murmur3_x86_32;

    #[test]
    fn buckets_are_spread_evenly_enough_for_a_tenth() {
        let n_below = (0..100_000)
            .filter(|id| bucket(&id.to_string(), "enrol:x") < 1_000)
            .count();
        // Binomial(100,000, 0.1): five standard deviations are 474.
        assert!(n_below.abs_diff(10_000) < 474, "{n_below}");
    }

    proptest! {
        #[test]
        fn hash_is_that_of_the_joined_text(unit: String, salt: String) {
            let joined = format!("{unit}:{salt}");
            prop_assert_eq!(bucket_hash(&unit, &salt), murmur3_x86_32(joined.as_bytes(), 0));
            prop_assert!(bucket(&unit, &salt) < N_BUCKETS);
            let whole = format!("variant:{salt}");
            prop_assert_eq!(bucket_of(&unit, "variant:", salt.as_bytes()), bucket(&unit, &whole));
        }
    }
}
