//! Draws the forest plot: relative differences with their intervals on one scale.
//!
//! Positions are percentages of the picture's width, so that it fits every
//! screen while its text keeps its size. The scale reaches as far as most
//! intervals do and always holds every estimate and zero; an interval that
//! goes on beyond it ends in an arrow.

use askama::Template;
use askama::filters::HtmlSafe;

use super::format::{self, Sign};
use super::number::Unit;

/// The maximum number of rows of a plot.
pub(crate) const MOST_ROWS: usize = 60;
/// The longest label, in characters, that fits a narrow screen.
const LABEL_CHARS: usize = 40;
/// How much farther than the middle interval the scale may reach.
const REACH: f64 = 3.0;

/// What rounding may add to a whole number of ticks.
const ALMOST: f64 = 1e-9;

const ROW_HEIGHT: usize = 46;
const AXIS_HEIGHT: usize = 26;
/// The margins of the scale, in percent of the width.
const LEFT: f64 = 5.0;
const WIDTH: f64 = 90.0;

/// A relative difference to draw.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Estimate {
    /// What is compared.
    pub(crate) label: String,
    /// The relative difference.
    pub(crate) lift: f64,
    /// Its interval.
    pub(crate) interval: [f64; 2],
    /// How it reads in words.
    pub(crate) text: String,
    /// The class of its verdict: `good`, `bad`, `trend`, `none`.
    pub(crate) class: &'static str,
}

/// A forest plot as inline SVG.
#[derive(Debug, Clone, PartialEq, Template)]
#[template(path = "forest.html")]
pub(crate) struct Forest {
    id: String,
    title: String,
    description: String,
    height: usize,
    axis: usize,
    zero: String,
    ticks: Vec<Tick>,
    rows: Vec<Row>,
}

impl HtmlSafe for Forest {}

#[derive(Debug, Clone, PartialEq)]
struct Tick {
    x: String,
    label: String,
}

#[derive(Debug, Clone, PartialEq)]
struct Row {
    label: String,
    full_label: String,
    text: String,
    class: &'static str,
    label_y: usize,
    bar_y: usize,
    low: String,
    high: String,
    point: String,
    is_cut_low: bool,
    is_cut_high: bool,
}

impl Forest {
    /// Draws `estimates`; `None` if there is nothing to draw.
    pub(crate) fn new(id: &str, title: &str, estimates: &[Estimate]) -> Option<Self> {
        let estimates = &estimates[..estimates.len().min(MOST_ROWS)];
        let scale = Scale::over(estimates)?;
        let axis = estimates.len() * ROW_HEIGHT + 4;
        let row = |(index, estimate): (usize, &Estimate)| scale.row(index * ROW_HEIGHT, estimate);
        let ticks = scale.ticks();
        let (first, last) = (ticks.first(), ticks.last());
        let ends = first.zip(last).map_or_else(String::new, |(first, last)| {
            format!(" Ticks from {} to {}.", first.label, last.label)
        });
        let details: Vec<String> = estimates
            .iter()
            .map(|estimate| format!("{}: {}", estimate.label, estimate.text))
            .collect();
        Some(Self {
            id: id.to_owned(),
            title: title.to_owned(),
            description: format!(
                "Difference relative to the control.{ends} {}.",
                details.join("; ")
            ),
            height: axis + AXIS_HEIGHT,
            axis,
            zero: scale.x(0.0),
            ticks,
            rows: estimates.iter().enumerate().map(row).collect(),
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Scale {
    low: f64,
    high: f64,
    /// The distance of ticks; both ends are ticks.
    step: f64,
}

impl Scale {
    fn over(estimates: &[Estimate]) -> Option<Self> {
        let farthest = |[low, high]: [f64; 2]| low.abs().max(high.abs());
        let mut extents: Vec<f64> = estimates
            .iter()
            .map(|estimate| farthest(estimate.interval))
            .collect();
        extents.sort_by(f64::total_cmp);
        let middle = extents.get(extents.len() / 2)?;
        let lifts = estimates.iter().map(|estimate| estimate.lift.abs());
        let limit = lifts.fold(middle * REACH, |limit, lift| limit.max(lift * 1.25));
        let low = estimates
            .iter()
            .fold(0.0_f64, |low, estimate| low.min(estimate.interval[0]))
            .max(-limit);
        let high = estimates
            .iter()
            .fold(0.0_f64, |high, estimate| high.max(estimate.interval[1]))
            .min(limit);
        let is_sound = low.is_finite() && high.is_finite();
        is_sound.then(|| Self::to_ticks(low, high))
    }

    /// From the tick before `low` to the one after `high`.
    fn to_ticks(low: f64, high: f64) -> Self {
        if high <= low {
            return Self::to_ticks(-0.01, 0.01);
        }
        let step = step(high - low);
        Self {
            low: (low / step + ALMOST).floor() * step,
            high: (high / step - ALMOST).ceil() * step,
            step,
        }
    }

    fn x(self, value: f64) -> String {
        let share = (value - self.low) / (self.high - self.low);
        format!("{:.2}%", LEFT + WIDTH * share.clamp(0.0, 1.0))
    }

    fn row(self, top: usize, estimate: &Estimate) -> Row {
        let [low, high] = estimate.interval;
        Row {
            label: shortened(&estimate.label),
            full_label: estimate.label.clone(),
            text: estimate.text.clone(),
            class: estimate.class,
            label_y: top + 18,
            bar_y: top + 34,
            low: self.x(low),
            high: self.x(high),
            point: self.x(estimate.lift),
            is_cut_low: low < self.low - self.step * ALMOST,
            is_cut_high: high > self.high + self.step * ALMOST,
        }
    }

    fn ticks(self) -> Vec<Tick> {
        let percent = Unit::Percent.factor();
        let decimals = format::decimals_for(self.step * percent, 1).max(0);
        let (first, last) = (
            (self.low / self.step).round(),
            (self.high / self.step).round(),
        );
        (first as i64..=last as i64)
            .map(|times| {
                let at = times as f64 * self.step;
                let shown = format::rounded(at * percent, decimals, Sign::Both);
                Tick {
                    x: self.x(at),
                    label: format!("{shown} %"),
                }
            })
            .collect()
    }
}

/// 1, 2 or 5 times a power of ten, at most four of which fit into `span`.
fn step(span: f64) -> f64 {
    let power = 10_f64.powf((span / 4.0).log10().floor());
    let steps = [1.0, 2.0, 5.0].map(|times| times * power);
    let fits = |step: &f64| span / step <= 4.0 + ALMOST;
    steps.into_iter().find(fits).unwrap_or(10.0 * power)
}

fn shortened(label: &str) -> String {
    if label.chars().count() <= LABEL_CHARS {
        label.to_owned()
    } else {
        label.chars().take(LABEL_CHARS - 1).chain(['…']).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn estimate(lift: f64, low: f64, high: f64) -> Estimate {
        let text = format!("{lift}");
        Estimate {
            label: "<buy>".to_owned(),
            lift,
            interval: [low, high],
            text,
            class: "none",
        }
    }

    fn labels(low: f64, high: f64) -> Vec<String> {
        let ticks = Scale::to_ticks(low, high).ticks();
        ticks.into_iter().map(|tick| tick.label).collect()
    }

    #[test]
    fn a_scale_goes_from_round_number_to_round_number() {
        for (low, high, expected) in [
            (-0.1, 0.2, "−10 %, 0 %, +10 %, +20 %"),
            (-0.13, 0.41, "−20 %, 0 %, +20 %, +40 %, +60 %"),
            (0.0, 0.0123, "0.0 %, +0.5 %, +1.0 %, +1.5 %"),
            (-3.0, 1.0, "−300 %, −200 %, −100 %, 0 %, +100 %"),
            (-0.15, 0.3, "−20 %, 0 %, +20 %, +40 %"),
            (0.0, 0.0, "−1.0 %, −0.5 %, 0.0 %, +0.5 %, +1.0 %"),
            (
                -0.21,
                1234.5,
                "−50,000 %, 0 %, +50,000 %, +100,000 %, +150,000 %",
            ),
        ] {
            assert_eq!(labels(low, high).join(", "), expected, "{low} to {high}");
        }
    }

    #[test]
    fn the_scale_holds_every_estimate_and_zero_and_cuts_what_goes_far_beyond() {
        let estimates = [
            estimate(0.1, 0.05, 0.15),
            estimate(0.12, 0.02, 0.2),
            estimate(0.3, -9.0, 9.6),
        ];
        let forest = Forest::new("f", "t", &estimates).unwrap();
        let cut: Vec<(bool, bool)> = forest
            .rows
            .iter()
            .map(|row| (row.is_cut_low, row.is_cut_high))
            .collect();
        assert_eq!(cut, [(false, false), (false, false), (true, true)]);
        let svg = forest.to_string();
        assert_eq!(svg.matches("class=\"arrow\"").count(), 2);
        assert!(svg.contains("role=\"img\"") && svg.contains("<title id=\"f-title\">t</title>"));
        assert!(!svg.contains("<buy>"), "labels are escaped: {svg}");
        assert!(!svg.contains("style="), "no style attributes");
    }

    #[test]
    fn an_interval_ends_where_its_numbers_are() {
        let forest = Forest::new("f", "t", &[estimate(0.0, -0.1, 0.1)]).unwrap();
        let row = &forest.rows[0];
        assert_eq!(
            (row.low.as_str(), row.point.as_str(), row.high.as_str()),
            ("5.00%", "50.00%", "95.00%")
        );
        assert_eq!(forest.zero, "50.00%");
    }

    #[test]
    fn nothing_to_draw_is_no_plot_and_no_difference_at_all_is_one() {
        assert_eq!(Forest::new("f", "t", &[]), None);
        assert!(Forest::new("f", "t", &[estimate(0.0, 0.0, 0.0)]).is_some());
        assert_eq!(
            Forest::new("f", "t", &[estimate(f64::NAN, f64::NAN, f64::INFINITY)]),
            None
        );
    }

    #[test]
    fn a_long_label_is_shortened_and_told_in_full() {
        let long = "ä".repeat(100);
        let mut estimate = estimate(0.0, -0.1, 0.1);
        estimate.label.clone_from(&long);
        let forest = Forest::new("f", "t", &[estimate]).unwrap();
        assert_eq!(forest.rows[0].label.chars().count(), LABEL_CHARS);
        assert!(forest.to_string().contains(&long));
    }
}
