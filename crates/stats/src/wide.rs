//! Implements 256-bit integers, just enough for an exact variance.
//!
//! `n * sum(x^2) - sum(x)^2` loses all its digits in doubles when the mean is
//! large against the spread. With integers it is exact and is rounded once.

/// An unsigned 256-bit integer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct U256 {
    high: u128,
    low: u128,
}

impl U256 {
    /// Multiplies two 128-bit integers.
    pub(crate) fn product(x: u128, y: u128) -> Self {
        let (low, high) = x.carrying_mul(y, 0);
        Self { high, low }
    }

    /// Computes `self - other`; `None` if that is negative.
    pub(crate) fn checked_sub(self, other: Self) -> Option<Self> {
        let (low, borrow) = self.low.borrowing_sub(other.low, false);
        let (high, negative) = self.high.borrowing_sub(other.high, borrow);
        (!negative).then_some(Self { high, low })
    }

    /// Returns the nearest double, ties to even.
    pub(crate) fn to_f64(self) -> f64 {
        if self.high == 0 {
            return self.low as f64;
        }
        let shift = self.high.leading_zeros();
        // The low half cannot be shifted right by all its 128 bits.
        let carried = self.low.checked_shr(128 - shift).unwrap_or(0);
        let lost = u128::from(self.low << shift != 0);
        // 128 bits are far more than the 53 of a double: folding what is lost into
        // the last bit keeps ties and near-ties apart, so this rounds only once.
        let leading = ((self.high << shift) | carried) | lost;
        leading as f64 * power_of_two(128 - shift)
    }
}

/// `2^exponent` for an exponent up to 128, exact.
fn power_of_two(exponent: u32) -> f64 {
    f64::from_bits(u64::from(1023 + exponent) << 52)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn product_and_difference_use_all_256_bits() {
        let largest = U256::product(u128::MAX, u128::MAX);
        assert_eq!((largest.high, largest.low), (u128::MAX - 1, 1));
        let next = U256::product(u128::MAX, u128::MAX - 1);
        assert_eq!(
            largest.checked_sub(next),
            Some(U256 {
                high: 0,
                low: u128::MAX
            })
        );
        assert_eq!(next.checked_sub(largest), None);
    }

    #[test]
    fn conversion_rounds_once_to_nearest_even() {
        let bits = |high: u128, low: u128| U256 { high, low }.to_f64().to_bits();
        let two_to_the = |exponent: u64| (1023 + exponent) << 52;
        assert_eq!(bits(0, 1), two_to_the(0));
        assert_eq!(bits(1, 0), two_to_the(128));
        assert_eq!(bits(1 << 127, 0), two_to_the(255));
        // Half an ulp above a power of two: a tie falls to even, one bit more goes up.
        assert_eq!(bits(1 << 53, 1 << 127 << 1), two_to_the(181));
        assert_eq!(bits(1 << 53 | 1, 0), two_to_the(181));
        assert_eq!(bits(1 << 53 | 1, 1), two_to_the(181) + 1);
        assert_eq!(bits(1 << 53 | 3, 0), two_to_the(181) + 2);
        assert_eq!(bits(u128::MAX, u128::MAX), two_to_the(256));
    }
}
