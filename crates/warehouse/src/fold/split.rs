//! Splits exposed users into cells: a cell is a combination of context values, or a day of
//! exposure.
//!
//! An analysis keeps its sums by variant and cell. The two together are a *slot*: the slots of
//! the first cell come first, in the order of the variants, so that an analysis without cells
//! has a slot for each variant.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The most keys that are crossed.
pub const MAX_KEYS: usize = 2;
/// The most cells with a name; the users of all others are in one further cell.
pub const MAX_CELLS: usize = 64;
/// The most days with a cell of their own; the users of all others are in one further cell.
pub const MAX_DAYS: usize = 90;
/// Microseconds of a UTC day.
pub const DAY_MICROS: i64 = 86_400_000_000;
/// Contexts whose cells are remembered.
const MAX_REMEMBERED: usize = 4_096;

/// The values of context keys, in the order of the keys; none for a key that is missing.
pub type CellValues = Vec<Option<String>>;

/// How exposed users are told apart into cells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Split {
    /// All users are in one cell.
    #[default]
    Whole,
    /// By the values of context keys at the exposure.
    Keys(KeyCells),
    /// By the UTC day of the exposure.
    Days(DayCells),
}

impl Split {
    /// How many cells there are.
    pub fn n_cells(&self) -> usize {
        match self {
            Self::Whole => 1,
            Self::Keys(cells) => cells.values.len() + 1,
            Self::Days(cells) => cells.days.len() + 1,
        }
    }

    /// Returns whether cells depend on the context at the exposure.
    pub(crate) fn reads_contexts(&self) -> bool {
        matches!(self, Self::Keys(_))
    }
}

/// Returns the number of the UTC day of a time in microseconds, counted from 1970-01-01.
pub fn day_number(micros: i64) -> i64 {
    micros.div_euclid(DAY_MICROS)
}

/// Cells by the UTC day of the exposure. The last cell has the users of all other days.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DayCells {
    days: Vec<i64>,
}

impl DayCells {
    /// A cell for each of `days`, which are numbers of days in order; [`MAX_DAYS`] at most.
    pub fn from_days(days: Vec<i64>) -> Self {
        debug_assert!(days.len() <= MAX_DAYS, "the number of a cell has room");
        debug_assert!(days.is_sorted(), "days are in order");
        Self { days }
    }

    /// The number of the day of each cell but the last.
    pub fn days(&self) -> &[i64] {
        &self.days
    }

    /// Returns the cell of a user exposed at this time.
    pub(crate) fn cell(&self, exposure: i64) -> u32 {
        let found = self.days.binary_search(&day_number(exposure));
        found.unwrap_or(self.days.len()) as u32
    }
}

/// Cells by the values of context keys. The last cell has the users of all other values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyCells {
    keys: Vec<String>,
    values: Vec<CellValues>,
}

/// Lists the keys of `groups`, each once, and where those of each group stand in the list.
pub(crate) fn places_of(groups: &[Vec<String>]) -> (Vec<String>, Vec<Vec<usize>>) {
    let mut all: Vec<String> = Vec::new();
    let mut place = |key: &String| match all.iter().position(|known| known == key) {
        Some(at) => at,
        None => {
            all.push(key.clone());
            all.len() - 1
        }
    };
    let places = groups.iter();
    let places = places
        .map(|keys| keys.iter().map(&mut place).collect())
        .collect();
    (all, places)
}

impl KeyCells {
    /// A cell for each of `values`, which are values of `keys`; [`MAX_CELLS`] at most.
    pub fn from_values(keys: Vec<String>, values: Vec<CellValues>) -> Self {
        debug_assert!(values.len() <= MAX_CELLS, "the number of a cell has room");
        Self { keys, values }
    }

    /// The keys.
    pub fn keys(&self) -> &[String] {
        &self.keys
    }

    /// The values of each cell but the last.
    pub fn values(&self) -> &[CellValues] {
        &self.values
    }
}

/// Numbers the contexts of assignments.
pub trait Cells {
    /// Returns the number of the cell that `context` falls into; below 2^31.
    fn cell(&mut self, context: &str) -> u32;
}

/// Finds the cell of a context among those of a plan.
pub(crate) struct CellFinder {
    by_values: CellNumbers,
    remembered: HashMap<Box<str>, u32>,
    reader: ContextReader,
    text: String,
}

/// The numbers of cells by their values, which are written as one text.
pub(crate) struct CellNumbers {
    numbers: HashMap<String, u32>,
    other: u32,
}

impl CellNumbers {
    pub(crate) fn new(cells: &KeyCells) -> Self {
        let texts = cells.values.iter().map(encode_values);
        Self {
            numbers: texts.zip(0..).collect(),
            other: cells.values.len() as u32,
        }
    }

    /// The cell of the values in `text`, the last one where they have none of their own.
    pub(crate) fn get(&self, text: &str) -> u32 {
        self.numbers.get(text).copied().unwrap_or(self.other)
    }
}

impl CellFinder {
    pub(crate) fn new(cells: &KeyCells) -> Self {
        Self {
            by_values: CellNumbers::new(cells),
            remembered: HashMap::new(),
            reader: ContextReader::new(cells.keys.clone()),
            text: String::new(),
        }
    }
}

impl Cells for CellFinder {
    fn cell(&mut self, context: &str) -> u32 {
        if let Some(cell) = self.remembered.get(context) {
            return *cell;
        }
        self.reader.read(context);
        self.text.clear();
        encode_into(&mut self.text, self.reader.values());
        let cell = self.by_values.get(&self.text);
        if self.remembered.len() < MAX_REMEMBERED {
            self.remembered.insert(context.into(), cell);
        }
        cell
    }
}

/// Tuples that are remembered between two users.
const MAX_TUPLES: usize = 1 << 16;

/// Gives each combination of numbers a number, where a context falls into a cell of each of
/// several splits.
#[derive(Debug, Default)]
pub(crate) struct Tuples {
    /// How many numbers are combined.
    width: usize,
    numbers: HashMap<Box<[u32]>, u32>,
    combined: Vec<u32>,
}

impl Tuples {
    /// Numbers combinations of `width` numbers.
    pub(crate) fn new(width: usize) -> Self {
        Self {
            width,
            ..Self::default()
        }
    }

    /// The number of `tuple`.
    pub(crate) fn number(&mut self, tuple: &[u32]) -> u32 {
        if let Some(number) = self.numbers.get(tuple) {
            return *number;
        }
        let number = self.numbers.len() as u32;
        self.numbers.insert(tuple.into(), number);
        self.combined.extend_from_slice(tuple);
        number
    }

    /// The numbers that are combined under `number`.
    pub(crate) fn get(&self, number: u32) -> &[u32] {
        let first = number as usize * self.width;
        &self.combined[first..first + self.width]
    }

    /// Forgets all tuples if there are many. No number is in use any more.
    pub(crate) fn clear_if_many(&mut self) {
        if self.numbers.len() > MAX_TUPLES {
            self.clear();
        }
    }

    /// Forgets all tuples. No number is in use any more.
    pub(crate) fn clear(&mut self) {
        self.numbers.clear();
        self.combined.clear();
    }
}

/// Reads the values of keys out of contexts, which are JSON objects. Numbers and booleans are
/// their JSON text; null is a missing value, and so is everything where the context is no object.
/// Of a key that occurs twice the last value counts.
#[derive(Debug, Default)]
pub(crate) struct ContextReader {
    keys: Vec<String>,
    /// The values of the context that was read last; the texts are used again.
    found: Vec<FoundValue>,
}

#[derive(Debug, Clone, Default)]
struct FoundValue {
    is_present: bool,
    text: String,
}

impl ContextReader {
    /// Creates a reader of the values of `keys`.
    pub(crate) fn new(keys: Vec<String>) -> Self {
        let found = vec![FoundValue::default(); keys.len()];
        Self { keys, found }
    }

    /// Reads `context`, whose values are there until the next one is read.
    pub(crate) fn read(&mut self, context: &str) {
        self.clear();
        if context.is_empty() {
            return;
        }
        let mut reader = serde_json::Deserializer::from_str(context);
        let read = Wanted(self).deserialize(&mut reader);
        if read.and_then(|()| reader.end()).is_err() {
            self.clear();
        }
    }

    /// The values in the order of the keys, none for a missing one.
    pub(crate) fn values(&self) -> impl Iterator<Item = Option<&str>> {
        let found = self.found.iter();
        found.map(|value| value.is_present.then_some(value.text.as_str()))
    }

    /// The value of the key with this number, none if it is missing.
    pub(crate) fn value(&self, key: usize) -> Option<&str> {
        let value = &self.found[key];
        value.is_present.then_some(value.text.as_str())
    }

    fn clear(&mut self) {
        (self.found.iter_mut()).for_each(|value| value.is_present = false);
    }
}

struct Wanted<'w>(&'w mut ContextReader);

impl<'de> DeserializeSeed<'de> for Wanted<'_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Wanted<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let ContextReader { keys, found } = self.0;
        while let Some(key) = map.next_key::<Text<'de>>()? {
            if !keys.iter().any(|wanted| *wanted == *key.0) {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let value = value_text(map.next_value::<&RawValue>()?.get());
            let places = keys.iter().zip(found.iter_mut());
            for (_, place) in places.filter(|(wanted, _)| **wanted == *key.0) {
                place.is_present = value.is_some();
                place.text.clear();
                place.text.push_str(value.as_deref().unwrap_or_default());
            }
        }
        Ok(())
    }
}

/// A key, borrowed where it has no escapes.
#[derive(serde::Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// Returns the keys of `context` that have a value other than null; none where it is no object.
pub(crate) fn context_keys(context: &str) -> Vec<String> {
    let read = serde_json::from_str::<HashMap<String, &RawValue>>(context);
    let members = read.unwrap_or_default().into_iter();
    let with_value = members.filter(|(_, value)| value.get() != "null");
    with_value.map(|(key, _)| key).collect()
}

/// Returns the text that a JSON value is compared by; none for null.
pub(crate) fn value_text(json: &str) -> Option<Cow<'_, str>> {
    match serde_json::from_str::<Text<'_>>(json) {
        Ok(text) => Some(text.0),
        Err(_) => (json != "null").then_some(Cow::Borrowed(json)),
    }
}

/// Lies between two values that are written as one text; one inside of a value is escaped.
const SEPARATOR: char = '\0';
const ESCAPE: char = '\u{1}';
/// Stands for a missing value; others begin with `+`.
const MISSING: &str = "-";

/// Writes values as one text.
pub(crate) fn encode_values(values: &CellValues) -> String {
    let mut text = String::new();
    encode_into(&mut text, values.iter().map(Option::as_deref));
    text
}

/// Appends values as one text.
pub(crate) fn encode_into<'v>(text: &mut String, values: impl Iterator<Item = Option<&'v str>>) {
    for (at, value) in values.enumerate() {
        if at > 0 {
            text.push(SEPARATOR);
        }
        let Some(value) = value else {
            text.push_str(MISSING);
            continue;
        };
        text.push('+');
        if !value.contains([SEPARATOR, ESCAPE]) {
            text.push_str(value);
            continue;
        }
        for letter in value.chars() {
            match letter {
                SEPARATOR => text.extend([ESCAPE, '0']),
                ESCAPE => text.extend([ESCAPE, '1']),
                other => text.push(other),
            }
        }
    }
}

/// Whether all of the values that [`encode_values`] has written are missing.
pub(crate) fn all_missing(text: &str) -> bool {
    text.split(SEPARATOR).all(|part| part == MISSING)
}

/// Reads what [`encode_values`] has written.
pub(crate) fn decode_values(text: &str) -> CellValues {
    let value = |part: &str| {
        let mut letters = part.strip_prefix('+')?.chars();
        let mut value = String::with_capacity(part.len());
        while let Some(letter) = letters.next() {
            value.push(match letter {
                ESCAPE if letters.next() == Some('0') => SEPARATOR,
                other => other,
            });
        }
        Some(value)
    };
    text.split(SEPARATOR).map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(context: &str, keys: &[&str]) -> CellValues {
        let mut reader = ContextReader::new(keys.iter().map(|key| (*key).to_owned()).collect());
        reader.read(r#"{"age":"of another context","platform":"x"}"#);
        reader.read(context);
        let values = reader.values();
        values.map(|value| value.map(str::to_owned)).collect()
    }

    fn some(values: &[&str]) -> CellValues {
        values
            .iter()
            .map(|value| Some((*value).to_owned()))
            .collect()
    }

    #[test]
    fn values_are_texts_numbers_and_booleans() {
        let context = r#"{"platform":"i\"os","age":7,"new":true,"x":null,"\u0061":"b","age":8.50}"#;
        assert_eq!(
            values(context, &["platform", "age"]),
            some(&["i\"os", "8.50"])
        );
        assert_eq!(values(context, &["new", "a"]), some(&["true", "b"]));
        assert_eq!(values(context, &["x", "absent"]), [None, None]);
        assert_eq!(values(context, &["age", "age"]), some(&["8.50", "8.50"]));
        for broken in ["", "[]", "7", r#"{"age":7"#, r#"{"age":7}x"#] {
            assert_eq!(values(broken, &["age"]), [None], "{broken}");
        }
    }

    #[test]
    fn values_that_are_written_as_one_text_are_read_back() {
        let odd = ["", "-", "+", "a\0b", "\u{1}", "\u{1}0\0", "\0\u{1}", "é"];
        for first in odd {
            for second in [None, Some("x"), Some("\0")] {
                let values = vec![Some(first.to_owned()), second.map(str::to_owned)];
                assert_eq!(decode_values(&encode_values(&values)), values);
            }
        }
    }

    #[test]
    fn an_exposure_falls_into_the_cell_of_its_utc_day() {
        let cells = DayCells::from_days(vec![-1, 0, 2]);
        let days = [-1, 0, DAY_MICROS - 1, DAY_MICROS, 2 * DAY_MICROS];
        let found = days.map(|at| cells.cell(at));
        assert_eq!(found, [0, 1, 1, 3, 2]);
        assert_eq!(Split::Days(cells).n_cells(), 4);
    }

    #[test]
    fn a_context_falls_into_its_cell_or_the_last_one() {
        let values = vec![some(&["ios"]), vec![None], some(&["web"])];
        let cells = KeyCells::from_values(vec!["platform".to_owned()], values);
        assert_eq!(Split::Keys(cells.clone()).n_cells(), 4);
        let mut finder = CellFinder::new(&cells);
        for _ in 0..2 {
            assert_eq!(finder.cell(r#"{"platform":"web","geo":"de"}"#), 2);
            assert_eq!(finder.cell(r#"{"platform":"tv"}"#), 3);
            assert_eq!(finder.cell(r#"{"geo":"de"}"#), 1);
            assert_eq!(finder.cell(""), 1);
            assert_eq!(finder.cell(r#"{"platform":"ios"}"#), 0);
        }
    }
}
