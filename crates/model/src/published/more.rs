//! Defines the sums that only some kinds of metrics have, and their text in tables and exports.

use std::str::FromStr;

/// The sums that a metric has beside those of every metric.
#[derive(Debug, Clone, PartialEq)]
pub enum MoreSums {
    /// The sums of a ratio's denominators, or of covariates.
    Second {
        /// The sum, in 1/10,000.
        total: i128,
        /// The sum of squares per user, in 1/100,000,000.
        squared_total: i128,
        /// The sum over users of the product of the two numbers of each user, in 1/10,000 of its
        /// unit.
        product: i128,
    },
    /// A quantile over users, in 1/10,000 of a value: it may lie between two.
    Quantile {
        /// The quantile.
        quantile: f64,
        /// The quantiles at the ends of its 95 % interval of ranks.
        ends: [f64; 2],
        /// The largest number of users who share one of the values that these are made of; `None`
        /// in rows that are older than this count.
        tied: Option<u64>,
    },
    /// Users were winsorised: these replace the sum of values and its squares.
    Winsorised {
        /// The sum, in 1/10,000.
        total: i128,
        /// The sum of squares, in 1/100,000,000.
        squared_total: i128,
        /// What users were set to where they lay below or above it, in 1/10,000.
        ends: [Option<i128>; 2],
        /// How many were.
        users: u64,
    },
}

impl MoreSums {
    /// Writes the sums as a word and numbers, with `-` for an absent one. A double has enough
    /// digits to be read back unchanged.
    pub fn text(&self) -> String {
        match self {
            Self::Second {
                total,
                squared_total,
                product,
            } => format!("second {total} {squared_total} {product}"),
            Self::Quantile {
                quantile,
                ends,
                tied,
            } => {
                let tied = tied.map_or(String::new(), |tied| format!(" {tied}"));
                format!("quantile {quantile} {} {}{tied}", ends[0], ends[1])
            }
            Self::Winsorised {
                total,
                squared_total,
                ends,
                users,
            } => {
                let end = |end: Option<i128>| end.map_or("-".to_owned(), |end| end.to_string());
                let [low, high] = ends.map(end);
                format!("winsorised {total} {squared_total} {low} {high} {users}")
            }
        }
    }

    /// Parses what [`Self::text`] wrote; `None` for any other text.
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let parsed = match words.next()? {
            "second" => Self::Second {
                total: number(words.next())?,
                squared_total: number(words.next())?,
                product: number(words.next())?,
            },
            "quantile" => Self::Quantile {
                quantile: number(words.next())?,
                ends: [number(words.next())?, number(words.next())?],
                tied: match words.next() {
                    None => None,
                    Some(word) => Some(word.parse().ok()?),
                },
            },
            "winsorised" => Self::Winsorised {
                total: number(words.next())?,
                squared_total: number(words.next())?,
                ends: [end(words.next())?, end(words.next())?],
                users: number(words.next())?,
            },
            _ => return None,
        };
        words.next().is_none().then_some(parsed)
    }
}

fn number<T: FromStr>(word: Option<&str>) -> Option<T> {
    word?.parse().ok()
}

fn end(word: Option<&str>) -> Option<Option<i128>> {
    match word? {
        "-" => Some(None),
        word => Some(Some(word.parse().ok()?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let all = [
            MoreSums::Second {
                total: -3,
                squared_total: i128::MAX,
                product: i128::MIN,
            },
            MoreSums::Quantile {
                quantile: 0.1 + 0.2,
                ends: [-1e-300, 1e18],
                tied: None,
            },
            MoreSums::Quantile {
                quantile: 2.5,
                ends: [1.0, 4.0],
                tied: Some(17),
            },
            MoreSums::Winsorised {
                total: 5,
                squared_total: 25,
                ends: [None, Some(4_930_000)],
                users: 7,
            },
        ];
        for sums in all {
            let text = sums.text();
            assert_eq!(MoreSums::parse(&text), Some(sums), "{text}");
        }
        for text in [
            "",
            "second 1 2",
            "second 1 2 3 4",
            "median 1",
            "winsorised 1 2 x - 3",
        ] {
            assert_eq!(MoreSums::parse(text), None, "{text}");
        }
    }
}
