//! Gathers what the analysis needs, in passes over the rows of a file.

use std::collections::{HashMap, HashSet};

use anyhow::{Context, bail};
use trialog_model::experiment::MAX_VARIANTS;
use trialog_model::ids::Variant;
use trialog_model::metric::MetricKind;
use trialog_model::murmur3::murmur3_x64_128;
use trialog_stats::{CoMoments, Moments};

use super::question::Metric;
use super::ranked::Ranked;
use super::read::Cell;
use crate::cli::Missing;

/// The most values of a segment's column.
const MOST_SEGMENTS: usize = 100;
/// The number of different values that are counted per variant when users are ordered: a megabyte.
const MOST_BUCKETS: usize = 16 << 10;
/// The same in a segment, of which there may be many: 64 kilobytes.
const MOST_BUCKETS_OF_SEGMENT: usize = 1 << 10;
/// Units that are checked for standing in two rows; as many fingerprints fit into 151 MB.
const MOST_UNITS: usize = (1 << 24) / 8 * 7;

/// The positions of columns among the cells of a row.
#[derive(Debug, Clone)]
pub(super) struct Places {
    pub(super) variant: usize,
    pub(super) unit: Option<usize>,
    pub(super) segments: Vec<usize>,
    /// The names of all columns.
    pub(super) names: Vec<String>,
}

/// The users of all segments, or of one.
#[derive(Debug, Clone)]
pub(super) struct Group {
    /// The segment's column and value; `None` for all users.
    pub(super) segment: Option<(String, String)>,
    /// For each variant its users.
    pub(super) users: Vec<u64>,
    /// For each variant and metric what was gathered.
    pub(super) arms: Vec<Vec<Gathered>>,
    /// For each metric the order of its users; empty where it does not matter.
    pub(super) ranked: Vec<Ranked>,
}

/// The gathered values of a metric in one variant.
#[derive(Debug, Clone, Default)]
pub(super) struct Gathered {
    pub(super) converted: u64,
    pub(super) values: Moments,
    /// With the denominators or the covariate.
    pub(super) pairs: CoMoments,
}

/// Everything that is gathered from a file.
pub(super) struct Gathering<'q> {
    metrics: &'q [Metric],
    places: &'q Places,
    variants: Vec<String>,
    groups: Vec<Group>,
    /// For each segment column the group of each of its values.
    by_value: Vec<HashMap<String, usize>>,
    units: HashSet<u64>,
    /// Whether there were more units than were checked.
    pub(super) is_checked_in_part: bool,
    is_first_pass: bool,
    missing: Missing,
    /// Rows that were left out, as a value is missing.
    pub(super) n_dropped: u64,
}

impl<'q> Gathering<'q> {
    pub(super) fn new(metrics: &'q [Metric], places: &'q Places, missing: Missing) -> Self {
        Self {
            metrics,
            places,
            variants: Vec::new(),
            groups: vec![Group::new(None, metrics)],
            by_value: vec![HashMap::new(); places.segments.len()],
            units: HashSet::new(),
            is_checked_in_part: false,
            is_first_pass: true,
            missing,
            n_dropped: 0,
        }
    }

    /// Adds a row.
    pub(super) fn row(&mut self, number: u64, cells: &[Cell<'_>]) -> anyhow::Result<()> {
        if self.is_first_pass {
            self.check_unit(number, cells)?;
        }
        let variant = self.variant(number, cells)?;
        let Some(values) = self.values(number, cells)? else {
            self.n_dropped += u64::from(self.is_first_pass);
            return Ok(());
        };
        self.groups[0].add(self.metrics, variant, &values, self.is_first_pass);
        for at in 0..self.places.segments.len() {
            let group = self.group(at, number, cells)?;
            self.groups[group].add(self.metrics, variant, &values, self.is_first_pass);
        }
        Ok(())
    }

    /// Ends a pass, and returns whether another one is needed.
    pub(super) fn end_pass(&mut self) -> bool {
        self.is_first_pass = false;
        self.units = HashSet::new();
        let mut is_open = false;
        for group in &mut self.groups {
            for (ranked, metric) in group.ranked.iter_mut().zip(self.metrics) {
                if metric.is_ranked() {
                    ranked.end_pass();
                    is_open |= !ranked.is_done();
                }
            }
        }
        is_open
    }

    /// Returns the variants in the order in which they were met, and the groups.
    pub(super) fn into_groups(self) -> (Vec<String>, Vec<Group>) {
        (self.variants, self.groups)
    }

    fn check_unit(&mut self, number: u64, cells: &[Cell<'_>]) -> anyhow::Result<()> {
        let Some(place) = self.places.unit else {
            return Ok(());
        };
        let unit = self.text(place, number, cells)?;
        if self.units.len() >= MOST_UNITS {
            self.is_checked_in_part = true;
            return Ok(());
        }
        let (fingerprint, _) = murmur3_x64_128(unit.as_bytes(), 0);
        if !self.units.insert(fingerprint) {
            bail!(
                "row {number}: the unit `{unit}` stands in an earlier row, too: a file has one row per unit, so add up its rows first"
            );
        }
        Ok(())
    }

    fn text<'c>(
        &self,
        place: usize,
        number: u64,
        cells: &'c [Cell<'_>],
    ) -> anyhow::Result<&'c str> {
        match &cells[place] {
            Cell::Text(text) => Ok(text),
            Cell::Missing | Cell::Number(_) => {
                bail!(
                    "row {number}: column `{}` is empty",
                    self.places.names[place]
                )
            }
        }
    }

    fn variant(&mut self, number: u64, cells: &[Cell<'_>]) -> anyhow::Result<usize> {
        let name = self.text(self.places.variant, number, cells)?;
        if let Some(at) = self.variants.iter().position(|known| known == name) {
            return Ok(at);
        }
        let column = &self.places.names[self.places.variant];
        if !self.is_first_pass {
            bail!("row {number}: the variant `{name}` is new: the file changed while it was read");
        }
        Variant::new(name).map_err(|error| {
            anyhow::anyhow!("row {number}: the variant `{name}` in column `{column}` {error}")
        })?;
        if self.variants.len() == MAX_VARIANTS {
            bail!(
                "column `{column}` has more than {MAX_VARIANTS} different values: is it the variant?"
            );
        }
        self.variants.push(name.to_owned());
        Ok(self.variants.len() - 1)
    }

    fn group(&mut self, at: usize, number: u64, cells: &[Cell<'_>]) -> anyhow::Result<usize> {
        let place = self.places.segments[at];
        let value = match &cells[place] {
            Cell::Text(text) => text.as_ref(),
            Cell::Missing | Cell::Number(_) => "",
        };
        if let Some(group) = self.by_value[at].get(value) {
            return Ok(*group);
        }
        let column = &self.places.names[place];
        if self.by_value[at].len() == MOST_SEGMENTS {
            bail!(
                "row {number}: column `{column}` has more than {MOST_SEGMENTS} different values: a segment has few"
            );
        }
        let segment = Some((column.clone(), value.to_owned()));
        self.groups.push(Group::new(segment, self.metrics));
        self.by_value[at].insert(value.to_owned(), self.groups.len() - 1);
        Ok(self.groups.len() - 1)
    }

    /// The value of each metric, and its denominator or covariate; `None` where one is
    /// missing and such rows are left out.
    fn values(&self, number: u64, cells: &[Cell<'_>]) -> anyhow::Result<Option<Vec<(f64, f64)>>> {
        let value = |place: usize| match self.missing {
            Missing::Zero if cells[place].is_missing() => Ok(0.0),
            _ => self.value(place, number, cells),
        };
        if self.missing == Missing::Drop {
            let is_missing = |place: usize| cells[place].is_missing();
            let has_gap =
                |metric: &Metric| is_missing(metric.value) || metric.second.is_some_and(is_missing);
            if self.metrics.iter().any(has_gap) {
                return Ok(None);
            }
        }
        let pair =
            |metric: &Metric| Ok((value(metric.value)?, metric.second.map_or(Ok(0.0), value)?));
        self.metrics
            .iter()
            .map(pair)
            .collect::<anyhow::Result<_>>()
            .map(Some)
    }

    fn value(&self, place: usize, number: u64, cells: &[Cell<'_>]) -> anyhow::Result<f64> {
        cells[place].number().with_context(|| {
            let column = &self.places.names[place];
            match &cells[place] {
                Cell::Missing => format!(
                    "row {number}: column `{column}` is empty: --missing zero reads such cells as 0, --missing drop leaves such rows out"
                ),
                cell if cell.is_missing() => format!(
                    "row {number}: there is no value in column `{column}`, which says `{cell}`: --missing zero reads such cells as 0, --missing drop leaves such rows out"
                ),
                cell => format!(
                    "row {number}: `{cell}` in column `{column}` is no number that can be used"
                ),
            }
        })
    }
}

impl Group {
    /// The users of each variant, without metrics.
    pub(super) fn from_users(users: Vec<u64>) -> Self {
        Self {
            users,
            ..Self::new(None, &[])
        }
    }

    fn new(segment: Option<(String, String)>, metrics: &[Metric]) -> Self {
        let most_buckets = match &segment {
            None => MOST_BUCKETS,
            Some(_) => MOST_BUCKETS_OF_SEGMENT,
        };
        Self {
            segment,
            users: Vec::new(),
            arms: Vec::new(),
            ranked: (metrics.iter())
                .map(|metric| Ranked::new(metric, most_buckets))
                .collect(),
        }
    }

    fn add(&mut self, metrics: &[Metric], variant: usize, values: &[(f64, f64)], is_first: bool) {
        while self.arms.len() <= variant {
            self.users.push(0);
            self.arms.push(vec![Gathered::default(); metrics.len()]);
        }
        if is_first {
            self.users[variant] += 1;
        }
        for (at, (metric, (value, second))) in metrics.iter().zip(values).enumerate() {
            if is_first {
                self.arms[variant][at].add(metric, *value, *second);
            }
            if metric.is_ranked() {
                self.ranked[at].add(variant, *value);
            }
        }
    }
}

impl Gathered {
    fn add(&mut self, metric: &Metric, value: f64, second: f64) {
        let has_converted = value != 0.0;
        self.converted += u64::from(has_converted);
        self.values.push(value);
        if metric.second.is_some() {
            let first = match metric.kind {
                MetricKind::Conversion | MetricKind::Retention => {
                    f64::from(u8::from(has_converted))
                }
                _ => value,
            };
            self.pairs.push(first, second);
        }
    }
}
