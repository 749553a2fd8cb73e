//! What a flag means: which way, and whether that way is good.

use crate::report::Flag;

/// A verdict in words and a shape, so that nobody depends on its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Verdict {
    /// `good`, `bad`, `trend` or `none`: the style of the row.
    pub(super) class: &'static str,
    /// The shape before the words.
    pub(super) mark: &'static str,
    /// The words.
    pub(super) text: &'static str,
}

impl Verdict {
    /// The verdict on `difference`, where `direction` is the way that is good.
    pub(super) fn of(flag: Option<Flag>, difference: Option<f64>, direction: &str) -> Self {
        let is_higher = difference.is_some_and(|difference| difference > 0.0);
        let is_better = match direction {
            "increase" => Some(is_higher),
            "decrease" => Some(!is_higher),
            _ => None,
        };
        let verdict = |class, mark, text| Self { class, mark, text };
        match (flag, is_better) {
            (Some(Flag::Significant), Some(true)) => verdict("good", "▲", "significant: better"),
            (Some(Flag::Significant), Some(false)) => verdict("bad", "▼", "significant: worse"),
            (Some(Flag::Significant), None) => verdict("trend", "◆", "significant"),
            (Some(Flag::Trending), Some(true)) => verdict("trend", "◆", "trending: better"),
            (Some(Flag::Trending), Some(false)) => verdict("trend", "◆", "trending: worse"),
            (Some(Flag::Trending), None) => verdict("trend", "◆", "trending"),
            (Some(Flag::NotSignificant), _) => verdict("none", "●", "not significant"),
            (None, _) => verdict("none", "", "no verdict"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fall_is_good_where_the_metric_should_fall() {
        let text =
            |flag, difference, direction| Verdict::of(Some(flag), Some(difference), direction).text;
        assert_eq!(
            text(Flag::Significant, 0.1, "increase"),
            "significant: better"
        );
        assert_eq!(
            text(Flag::Significant, -0.1, "increase"),
            "significant: worse"
        );
        assert_eq!(
            text(Flag::Significant, -0.1, "decrease"),
            "significant: better"
        );
        assert_eq!(text(Flag::Trending, 0.1, "decrease"), "trending: worse");
        assert_eq!(text(Flag::Significant, 0.1, "neither"), "significant");
        assert_eq!(
            text(Flag::NotSignificant, 0.1, "increase"),
            "not significant"
        );
        assert_eq!(Verdict::of(None, None, "increase").class, "none");
    }
}
