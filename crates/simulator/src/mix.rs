//! Hashes numbers, so that everything drawn can be drawn again without being stored.
//!
//! `SplitMix64` (Steele, Lea and Flood 2014): a bijection of 64 bits, so that
//! different inputs never share an output.

/// The odd step between the inputs of neighbouring draws.
pub(crate) const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// Scatters `input` over 64 bits.
#[inline]
pub(crate) const fn mix(input: u64) -> u64 {
    let z = input.wrapping_add(GOLDEN);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Returns the part `draw / 2^64` of `range`, rounded down.
#[inline]
pub(crate) const fn share_of(range: u64, draw: u64) -> u64 {
    ((range as u128 * draw as u128) >> 64) as u64
}

/// Converts the upper bits of `draw` to a uniform number in `[0, 1)`.
#[inline]
pub(crate) const fn unit_interval(draw: u64) -> f64 {
    (draw >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_outputs_are_those_of_the_reference() {
        // Vigna's splitmix64.c with the seed 1234567.
        let outputs = [0u64, 1, 2].map(|n| mix(1_234_567u64.wrapping_add(n.wrapping_mul(GOLDEN))));
        assert_eq!(
            outputs,
            [
                6_457_827_717_110_365_317,
                3_203_168_211_198_807_973,
                9_817_491_932_198_370_423
            ]
        );
    }

    #[test]
    fn shares_stay_below_their_range() {
        assert_eq!(share_of(10, u64::MAX), 9);
        assert_eq!(share_of(10, 0), 0);
        assert!(unit_interval(u64::MAX) < 1.0);
    }
}
