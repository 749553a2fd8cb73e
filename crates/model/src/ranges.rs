//! Computes which buckets of a layer its experiments own and which are free.

use std::ops::Range;

use crate::bucket::N_BUCKETS;

/// Returns the buckets in none of `taken`, as ranges in order. `taken` may come in any order.
///
/// ```
/// use trialog_model::ranges::free;
/// assert_eq!(free(&[0..2_500, 5_000..10_000]), [2_500..5_000]);
/// ```
pub fn free(taken: &[Range<u16>]) -> Vec<Range<u16>> {
    let mut taken: Vec<_> = taken.to_vec();
    taken.sort_by_key(|range| range.start);
    let mut free = Vec::new();
    let mut next = 0;
    for range in taken {
        if next < range.start {
            free.push(next..range.start);
        }
        next = next.max(range.end);
    }
    if next < N_BUCKETS {
        free.push(next..N_BUCKETS);
    }
    free
}

/// Counts the buckets in `ranges`, which do not overlap.
pub fn n_buckets(ranges: &[Range<u16>]) -> u16 {
    ranges.iter().map(|range| range.end - range.start).sum()
}

/// Grows or shrinks `held` to `n` buckets, adding buckets of `free` from its start; `None` if they
/// do not suffice. Growing gives up no bucket, so no unit leaves.
///
/// ```
/// use trialog_model::ranges::resized;
/// assert_eq!(resized(&[0..10], &[20..30], 15), Some(vec![0..10, 20..25]));
/// assert_eq!(resized(&[0..10], &[20..30], 4), Some(vec![0..4]));
/// assert_eq!(resized(&[0..10], &[20..30], 21), None);
/// ```
pub fn resized(held: &[Range<u16>], free: &[Range<u16>], n: u16) -> Option<Vec<Range<u16>>> {
    let mut missing = n;
    let mut ranges: Vec<Range<u16>> = Vec::new();
    for range in held.iter().chain(free) {
        if missing == 0 {
            break;
        }
        let n_taken = missing.min(range.end - range.start);
        missing -= n_taken;
        ranges.push(range.start..range.start + n_taken);
    }
    (missing == 0).then(|| joined(ranges))
}

/// The same buckets in order, and adjacent ranges as one.
fn joined(mut ranges: Vec<Range<u16>>) -> Vec<Range<u16>> {
    ranges.sort_by_key(|range| range.start);
    let mut joined: Vec<Range<u16>> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => joined.push(range),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn contains(ranges: &[Range<u16>], bucket: u16) -> bool {
        ranges.iter().any(|range| range.contains(&bucket))
    }

    proptest! {
        #[test]
        fn every_bucket_is_taken_or_free(cuts in prop::collection::btree_set(0..=N_BUCKETS, 0..12)) {
            let cuts: Vec<u16> = cuts.into_iter().collect();
            let taken: Vec<_> = cuts.chunks_exact(2).rev().map(|pair| pair[0]..pair[1]).collect();
            let free = free(&taken);
            prop_assert_eq!(n_buckets(&free) + n_buckets(&taken), N_BUCKETS);
            prop_assert!((0..N_BUCKETS).all(|bucket| contains(&free, bucket) != contains(&taken, bucket)));
        }

        #[test]
        fn growing_keeps_what_is_owned_and_takes_only_what_is_free(
            first in 1..5_000u16, other in 5_000..9_000u16, n in 0..=N_BUCKETS,
        ) {
            let first_ranges = resized(&[], &free(&[]), first).unwrap();
            let others = other..9_500;
            let free = free(&[first_ranges[0].clone(), others.clone()]);
            match resized(&first_ranges, &free, n) {
                None => prop_assert!(n > n_buckets(&first_ranges) + n_buckets(&free)),
                Some(grown) => {
                    prop_assert_eq!(n_buckets(&grown), n);
                    let kept = n >= first;
                    prop_assert!(!kept || (0..first).all(|bucket| contains(&grown, bucket)));
                    prop_assert!(grown.iter().all(|range| range.end <= others.start || range.start >= others.end));
                }
            }
        }
    }
}
