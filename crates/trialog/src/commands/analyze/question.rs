//! Parses the question about a file: which columns are the variant, the metrics, the segments.

use std::str::FromStr;

use trialog_model::experiment::is_weight;
use trialog_model::fraction;
use trialog_model::ids::{MetricName, Variant};
use trialog_model::metric::{MetricKind, MetricRole};
use trialog_model::metric_definition::Direction;

/// A metric as an argument names it: `name:kind`, or `name:kind:column`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Asked {
    pub(crate) name: MetricName,
    pub(crate) kind: MetricKind,
    /// The column of its values.
    pub(crate) column: String,
    /// Of a ratio the column that it is divided by.
    pub(crate) denominator: Option<String>,
    /// Of a quantile its level.
    pub(crate) level: Option<f64>,
}

impl FromStr for Asked {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = "write name:kind or name:kind:column";
        let (name, rest) = text
            .split_once(':')
            .ok_or_else(|| format!("`{text}`: {form}"))?;
        let (kind, column) = match rest.split_once(':') {
            Some((kind, column)) => (kind, column),
            None => (rest, name),
        };
        let name = MetricName::new(name).map_err(|error| format!("the name `{name}` {error}"))?;
        let kind: MetricKind = kind.parse()?;
        let asked = |column: &str| Self {
            name: name.clone(),
            kind,
            column: column.to_owned(),
            denominator: None,
            level: None,
        };
        match kind {
            MetricKind::Ratio => {
                let (column, denominator) = column.rsplit_once('/').ok_or_else(|| {
                    format!("`{text}`: a ratio is of two columns, as in {name}:ratio:spend/visits")
                })?;
                Ok(Self {
                    denominator: Some(denominator.to_owned()),
                    ..asked(column)
                })
            }
            MetricKind::Quantile => {
                let (column, level) = column.rsplit_once('@').ok_or_else(|| {
                    format!("`{text}`: a quantile has a level, as in {name}:quantile:{column}@0.95")
                })?;
                let level = fraction(level)?;
                Ok(Self {
                    level: Some(level),
                    ..asked(column)
                })
            }
            _ => Ok(asked(column)),
        }
    }
}

/// A number between 0 and 1, or below 100%.
fn fraction(text: &str) -> Result<f64, String> {
    let value = fraction::parse(text).ok();
    let value = value.filter(|value| *value > 0.0 && *value < 1.0);
    value.ok_or_else(|| format!("`{text}` is not between 0 and 1: give 0.99, or 99%"))
}

/// `column`, or `metric=column`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Covariate {
    pub(crate) metric: Option<String>,
    pub(crate) column: String,
}

impl FromStr for Covariate {
    type Err = std::convert::Infallible;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text.split_once('=') {
            Some((metric, column)) => Self {
                metric: Some(metric.to_owned()),
                column: column.to_owned(),
            },
            None => Self {
                metric: None,
                column: text.to_owned(),
            },
        })
    }
}

/// `0.99`, or `0.01,0.99`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Winsorise {
    pub(crate) lower: Option<f64>,
    pub(crate) upper: Option<f64>,
    /// Whether the quantiles are those of the values that are not 0.
    pub(crate) nonzero: bool,
}

impl FromStr for Winsorise {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let ends = match text.split_once(',') {
            None => Self {
                lower: None,
                upper: Some(fraction(text)?),
                nonzero: false,
            },
            Some((lower, upper)) => Self {
                lower: Some(fraction(lower)?),
                upper: Some(fraction(upper)?),
                nonzero: false,
            },
        };
        match ends {
            Self {
                lower: Some(lower),
                upper: Some(upper),
                ..
            } if lower >= upper => Err(format!(
                "`{text}`: the lower quantile is not below the upper"
            )),
            ends => Ok(ends),
        }
    }
}

/// `variant=weight`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Weight {
    pub(crate) variant: Variant,
    pub(crate) weight: f64,
}

impl FromStr for Weight {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (variant, weight) = (text.rsplit_once('='))
            .ok_or_else(|| format!("`{text}`: write variant=weight, as in control=0.5"))?;
        let weight = fraction::parse(weight)
            .ok()
            .filter(|weight| *weight > 0.0 && is_weight(*weight));
        Ok(Self {
            variant: Variant::new(variant)
                .map_err(|error| format!("the variant `{variant}` {error}"))?,
            weight: weight.ok_or_else(|| format!("`{text}`: a weight is a number above 0"))?,
        })
    }
}

/// A metric with the positions of its columns among those that are read.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Metric {
    pub(super) name: String,
    pub(super) kind: MetricKind,
    pub(super) role: MetricRole,
    pub(super) direction: Option<Direction>,
    pub(super) margin: Option<f64>,
    /// Its columns as they are displayed.
    pub(super) columns: String,
    pub(super) value: usize,
    /// The column of denominators, or of a covariate.
    pub(super) second: Option<usize>,
    pub(super) level: Option<f64>,
    pub(super) winsorise: Option<Winsorise>,
}

impl Metric {
    /// Returns whether the metric needs the users in order.
    pub(super) fn is_ranked(&self) -> bool {
        self.level.is_some() || self.winsorise.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_a_name_a_kind_and_columns() {
        let asked = |text: &str| text.parse::<Asked>();
        let plain = asked("spend:sum").unwrap();
        assert_eq!(
            (plain.column.as_str(), plain.kind),
            ("spend", MetricKind::Sum)
        );
        assert_eq!(asked("spend:sum:a:b").unwrap().column, "a:b");
        let ratio = asked("aov:ratio:spend/orders").unwrap();
        assert_eq!(
            (ratio.column.as_str(), ratio.denominator.as_deref()),
            ("spend", Some("orders"))
        );
        let quantile = asked("slow:quantile:ms@0.95").unwrap();
        assert_eq!(
            (quantile.column.as_str(), quantile.level),
            ("ms", Some(0.95))
        );
        for bad in [
            "spend",
            "spend:mean",
            ":sum",
            "a:ratio:b",
            "a:quantile:b",
            "a:quantile:b@1",
        ] {
            assert!(asked(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn weights_and_quantiles_say_what_is_wrong() {
        assert_eq!("a=b=0.5".parse::<Weight>().unwrap().variant.as_str(), "a=b");
        let half = "a=50%".parse::<Weight>().unwrap().weight;
        assert!((half - 0.5).abs() < 1e-12);
        assert_eq!("99%".parse::<Winsorise>().unwrap().upper, Some(0.99));
        for bad in ["a", "a=0", "a=-1", "a=inf", "=1"] {
            assert!(bad.parse::<Weight>().is_err(), "{bad}");
        }
        assert!("0.9,0.1".parse::<Winsorise>().is_err());
        assert_eq!("0.99".parse::<Winsorise>().unwrap().lower, None);
    }
}
