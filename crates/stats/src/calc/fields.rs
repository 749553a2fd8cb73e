//! Reads an input field by field, so that an error can name its place.

use serde_json::{Map, Value};

use super::CalcError;
use crate::{Alpha, StatsError, Summary};

/// The most values of a list.
const MAX_VALUES: usize = 10_000_000;
/// The largest integer that every reader of JSON keeps exact.
const MAX_INTEGER: f64 = 9_007_199_254_740_992.0;

/// An object of an input, with its path, so that an error names the field.
///
/// ```
/// use trialog_stats::calc::Fields;
/// let input = serde_json::json!({"unit": "42", "limit": -1});
/// let fields = Fields::new(&input, &["unit", "limit"])?;
/// assert_eq!(fields.text("unit")?, "42");
/// let error = fields.count("limit").unwrap_err().to_string();
/// assert_eq!(error, "`limit` is not a whole number from 0 to 2^53");
/// # Ok::<(), trialog_stats::calc::CalcError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Fields<'a> {
    path: String,
    members: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    /// Reads the whole input.
    ///
    /// # Errors
    ///
    /// The input is not an object, or has a member that is not in `known`.
    pub fn new(input: &'a Value, known: &[&str]) -> Result<Self, CalcError> {
        Self::from_value(input, String::new(), known)
    }

    fn from_value(value: &'a Value, path: String, known: &[&str]) -> Result<Self, CalcError> {
        let Value::Object(members) = value else {
            let field = if path.is_empty() { "input" } else { &path };
            return Err(fault(field, "is not an object"));
        };
        let fields = Self { path, members };
        match members.keys().find(|name| !known.contains(&name.as_str())) {
            Some(unknown) => {
                let reason = format!("is not known here: use {}", known.join(", "));
                Err(fault(&fields.place(unknown), &reason))
            }
            None => Ok(fields),
        }
    }

    /// Reads the object `name`.
    pub(super) fn object(&self, name: &str, known: &[&str]) -> Result<Self, CalcError> {
        Self::from_value(self.get(name)?, self.place(name), known)
    }

    /// Reads the objects in the list `name`.
    pub(super) fn objects(&self, name: &str, known: &[&str]) -> Result<Vec<Self>, CalcError> {
        let items = self.items(name)?.iter().enumerate();
        items
            .map(|(index, item)| {
                Self::from_value(item, format!("{}[{index}]", self.place(name)), known)
            })
            .collect()
    }

    /// The lists of objects in the list `name`.
    pub(super) fn object_rows(
        &self,
        name: &str,
        known: &[&str],
    ) -> Result<Vec<Vec<Self>>, CalcError> {
        self.rows(name, &|place, item| {
            Self::from_value(item, self.place(place), known)
        })
    }

    /// The lists of numbers in the list `name`.
    pub(super) fn number_rows(&self, name: &str) -> Result<Vec<Vec<f64>>, CalcError> {
        self.rows(name, &|place, item| {
            number(item).ok_or_else(|| self.fault(place, "is not a number"))
        })
    }

    /// The lists in the list `name`, each item read by `read`, which gets the way to it.
    fn rows<T>(
        &self,
        name: &str,
        read: &dyn Fn(&str, &'a Value) -> Result<T, CalcError>,
    ) -> Result<Vec<Vec<T>>, CalcError> {
        let mut rows = Vec::new();
        for (row, cells) in self.items(name)?.iter().enumerate() {
            let place = format!("{name}[{row}]");
            let Value::Array(cells) = cells else {
                return Err(self.fault(&place, "is not a list"));
            };
            let cells = cells.iter().enumerate();
            let cells = cells.map(|(column, cell)| read(&format!("{place}[{column}]"), cell));
            rows.push(cells.collect::<Result<_, _>>()?);
        }
        Ok(rows)
    }

    /// Returns whether there is a member `name` that is not null.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.members.get(name).is_some_and(|value| !value.is_null())
    }

    /// Reads a finite number.
    pub(super) fn number(&self, name: &str) -> Result<f64, CalcError> {
        number(self.get(name)?).ok_or_else(|| self.fault(name, "is not a number"))
    }

    /// Reads a number; `None` if it is null or missing.
    pub(super) fn optional(&self, name: &str) -> Result<Option<f64>, CalcError> {
        self.has(name).then(|| self.number(name)).transpose()
    }

    /// Reads a whole number from 0 to 2^53.
    ///
    /// # Errors
    ///
    /// [`CalcError::Field`] with the place where it is not.
    pub fn count(&self, name: &str) -> Result<u64, CalcError> {
        count(self.get(name)?).ok_or_else(|| self.fault(name, NO_COUNT))
    }

    /// A whole number of either sign.
    pub(super) fn integer(&self, name: &str) -> Result<i64, CalcError> {
        let value = self.get(name)?;
        integer(value).ok_or_else(|| self.fault(name, "is not a whole number"))
    }

    /// Reads a text.
    ///
    /// # Errors
    ///
    /// [`CalcError::Field`] with the place where it is not.
    pub fn text(&self, name: &str) -> Result<&'a str, CalcError> {
        let text = self.get(name)?.as_str();
        text.ok_or_else(|| self.fault(name, "is not text"))
    }

    /// Reads one of the `words`; the first of them if it is null or missing.
    pub(super) fn word<T: Copy>(&self, name: &str, words: &[(&str, T)]) -> Result<T, CalcError> {
        if let (false, Some((_, first))) = (self.has(name), words.first()) {
            return Ok(*first);
        }
        let text = self.text(name)?;
        let found = words.iter().find(|(word, _)| *word == text);
        found.map(|(_, value)| *value).ok_or_else(|| {
            let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            self.fault(name, &format!("is not known: use {}", known.join(", ")))
        })
    }

    /// Reads the numbers of the list `name`.
    pub(super) fn numbers(&self, name: &str) -> Result<Vec<f64>, CalcError> {
        self.each(name, number, "is not a number")
    }

    /// Reads the whole numbers of the list `name`.
    pub(super) fn counts(&self, name: &str) -> Result<Vec<u64>, CalcError> {
        self.each(name, count, NO_COUNT)
    }

    /// Reads the texts of the list `name`.
    ///
    /// # Errors
    ///
    /// [`CalcError::Field`] with the place where it is not.
    pub fn texts(&self, name: &str) -> Result<Vec<&'a str>, CalcError> {
        self.each(name, Value::as_str, "is not text")
    }

    /// Reads the lists of whole numbers in the list `name`.
    pub(super) fn table(&self, name: &str) -> Result<Vec<Vec<u64>>, CalcError> {
        let rows = self.items(name)?.iter().enumerate();
        rows.map(|(row, cells)| {
            let place = format!("{name}[{row}]");
            let cells = cells
                .as_array()
                .ok_or_else(|| self.fault(&place, "is not a list"))?;
            let cells = cells.iter().enumerate().map(|(column, cell)| {
                count(cell).ok_or_else(|| self.fault(&format!("{place}[{column}]"), NO_COUNT))
            });
            cells.collect()
        })
        .collect()
    }

    /// What `read` makes of each value of the list `name`.
    pub(super) fn each<T>(
        &self,
        name: &str,
        read: impl Fn(&'a Value) -> Option<T>,
        reason: &str,
    ) -> Result<Vec<T>, CalcError> {
        let items = self.items(name)?.iter().enumerate();
        items
            .map(|(index, item)| {
                read(item).ok_or_else(|| self.fault(&format!("{name}[{index}]"), reason))
            })
            .collect()
    }

    pub(super) fn items(&self, name: &str) -> Result<&'a [Value], CalcError> {
        let Value::Array(items) = self.get(name)? else {
            return Err(self.fault(name, "is not a list"));
        };
        if items.len() > MAX_VALUES {
            return Err(self.fault(name, "has more than ten million values"));
        }
        Ok(items)
    }

    /// Reads `alpha`, 0.05 if it is missing.
    pub(super) fn alpha(&self) -> Result<Alpha, CalcError> {
        match self.optional("alpha")? {
            Some(alpha) => self.check(Alpha::new(alpha)),
            None => Ok(Alpha::P05),
        }
    }

    /// Reads the levels `alphas`, only 0.05 if they are missing.
    pub(super) fn alphas(&self) -> Result<Vec<Alpha>, CalcError> {
        if !self.has("alphas") {
            return Ok(vec![Alpha::P05]);
        }
        let level = |(index, alpha): (usize, f64)| {
            Alpha::new(alpha)
                .map_err(|error| self.fault(&format!("alphas[{index}]"), &error.to_string()))
        };
        (self.numbers("alphas")?.into_iter().enumerate())
            .map(level)
            .collect()
    }

    /// Reads the arm `name` with `n`, `mean` and `var`, which may be missing for a single unit.
    pub(super) fn summary(&self, name: &str) -> Result<Summary, CalcError> {
        let arm = self.object(name, &["n", "mean", "var"])?;
        arm.summary_of("n", "mean", "var")
    }

    /// Builds the arm `name` as [`Self::summary`] does; `None` where it has no units.
    pub(super) fn optional_summary(&self, name: &str) -> Result<Option<Summary>, CalcError> {
        self.object(name, &["n", "mean", "var"])?
            .summary_or_nobody()
    }

    /// Builds the summary in the fields `n`, `mean` and `var`; `None` without units.
    pub(super) fn summary_or_nobody(&self) -> Result<Option<Summary>, CalcError> {
        let has_units = self.count("n")? > 0;
        let summary = || self.summary_of("n", "mean", "var");
        has_units.then(summary).transpose()
    }

    /// Builds the summary in these fields.
    pub(super) fn summary_of(
        &self,
        n: &str,
        mean: &str,
        variance: &str,
    ) -> Result<Summary, CalcError> {
        let units = self.count(n)?;
        let given = match units {
            // Written as 0 by many.
            1 => (self.optional(variance)?).filter(|variance| variance.abs() > 0.0),
            0 => None,
            _ => Some(self.number(variance)?),
        };
        let summary = Summary::new(units, self.number(mean)?, given);
        summary.map_err(|error| match error {
            StatsError::Mean(_) => self.fault(mean, &error.to_string()),
            StatsError::Variance(_) | StatsError::VariancePresence { .. } => {
                self.fault(variance, &error.to_string())
            }
            other => self.fault_of(&other),
        })
    }

    /// Names the field of an error in `outcome`, a computation on this object.
    pub(super) fn check<T>(&self, outcome: Result<T, StatsError>) -> Result<T, CalcError> {
        outcome.map_err(|error| self.fault_of(&error))
    }

    fn fault_of(&self, error: &StatsError) -> CalcError {
        let place = match error {
            StatsError::Range { argument, .. } | StatsError::List { argument, .. } => {
                self.place(argument)
            }
            StatsError::Alpha(_) => self.place("alpha"),
            StatsError::Probability(_) => self.place("quantile_level"),
            StatsError::Weight(_) | StatsError::LengthMismatch { .. } => self.place("weights"),
            StatsError::TooFewVariants(_) => self.place("counts"),
            StatsError::ConversionsExceedUnits { .. } => self.place("conversions"),
            StatsError::PValue { index, .. } => self.place(&format!("p_values[{index}]")),
            _ if self.path.is_empty() => "input".to_owned(),
            _ => self.path.clone(),
        };
        let text = error.to_string();
        // Some name their argument already.
        let reason = match text.strip_prefix(&format!("`{}` ", argument(error))) {
            Some(rest) => rest.to_owned(),
            None => format!("cannot be used: {text}"),
        };
        CalcError::Field {
            field: place,
            reason,
        }
    }

    pub(super) fn fault(&self, name: &str, reason: &str) -> CalcError {
        fault(&self.place(name), reason)
    }

    fn get(&self, name: &str) -> Result<&'a Value, CalcError> {
        let value = self.members.get(name);
        value.ok_or_else(|| self.fault(name, "is missing"))
    }

    fn place(&self, name: &str) -> String {
        if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.path)
        }
    }
}

pub(super) const NO_COUNT: &str = "is not a whole number from 0 to 2^53";

fn argument(error: &StatsError) -> &str {
    match error {
        StatsError::Range { argument, .. } | StatsError::List { argument, .. } => argument,
        _ => "",
    }
}

fn fault(field: &str, reason: &str) -> CalcError {
    CalcError::Field {
        field: field.to_owned(),
        reason: reason.to_owned(),
    }
}

pub(super) fn number(value: &Value) -> Option<f64> {
    value.as_f64().filter(|number| number.is_finite())
}

pub(super) fn count(value: &Value) -> Option<u64> {
    if let Some(count) = value.as_u64() {
        return Some(count);
    }
    let number = number(value)?;
    let is_count = number.fract() == 0.0 && (0.0..=MAX_INTEGER).contains(&number);
    is_count.then_some(number as u64)
}

fn integer(value: &Value) -> Option<i64> {
    if let Some(integer) = value.as_i64() {
        return Some(integer);
    }
    let number = number(value)?;
    let is_integer = number.fract() == 0.0 && number.abs() <= MAX_INTEGER;
    is_integer.then_some(number as i64)
}
