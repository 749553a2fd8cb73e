//! Finds where a monotone condition turns false.

/// Returns the point between `low` and `high` up to which `is_below` holds, to the last bit that
/// bisection can resolve. `is_below` must be true before a point and false after it. If it is
/// always true or always false, the corresponding end is returned.
pub(crate) fn last_below(mut low: f64, mut high: f64, is_below: impl Fn(f64) -> bool) -> f64 {
    const MOST_STEPS: u32 = 200;
    for _ in 0..MOST_STEPS {
        let middle = low + 0.5 * (high - low);
        if middle <= low || middle >= high {
            break;
        }
        if is_below(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    low + 0.5 * (high - low)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_turn_is_found_to_the_last_bit_and_ends_are_kept() {
        let root = last_below(0.0, 4.0, |x| x * x < 2.0);
        assert!((root - std::f64::consts::SQRT_2).abs() < 1e-15);
        assert!((last_below(0.0, 4.0, |_| true) - 4.0).abs() < 1e-15);
        assert!(last_below(0.0, 4.0, |_| false) < 1e-15);
    }
}
