//! Describes verdicts: the direction of an effect, and whether it is good.

use trialog_report::Flag;

/// A verdict in words and a shape, so that readers do not depend on its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// `good`, `bad`, `trend` or `none`: the style of the row.
    pub(crate) class: &'static str,
    /// The shape before the words.
    pub(crate) mark: &'static str,
    /// The words.
    pub(crate) text: &'static str,
}

impl Verdict {
    /// Describes the verdict of a test with `flag`; `desirable` says whether its direction is
    /// good.
    pub(crate) fn from_flag(flag: Option<Flag>, desirable: Option<bool>) -> Self {
        let verdict = |class, mark, text| Self { class, mark, text };
        match (flag, desirable) {
            (Some(Flag::Significant), Some(true)) => verdict("good", "▲", "significant: better"),
            (Some(Flag::Significant), Some(false)) => verdict("bad", "▼", "significant: worse"),
            // An earlier look showed a difference that goes the other way now.
            (Some(Flag::Significant), None) => {
                verdict("trend", "◆", "significant earlier, unclear now")
            }
            (Some(Flag::Trending), _) => verdict("trend", "◆", "trending"),
            (Some(Flag::NotSignificant), _) => verdict("none", "●", "not significant"),
            (None, _) => verdict("none", "", "no verdict"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_significant_is_better_or_worse_where_that_is_known() {
        let text = |desirable| Verdict::from_flag(Some(Flag::Significant), desirable).text;
        assert_eq!(text(Some(true)), "significant: better");
        assert_eq!(text(Some(false)), "significant: worse");
        assert_eq!(text(None), "significant earlier, unclear now");
        let not = Verdict::from_flag(Some(Flag::NotSignificant), None);
        assert_eq!(not.text, "not significant");
        assert_eq!(Verdict::from_flag(None, None).class, "none");
    }
}
