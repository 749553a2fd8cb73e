//! Cells: into which group an exposed user falls.
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
}

impl Split {
    /// How many cells there are.
    pub fn n_cells(&self) -> usize {
        match self {
            Self::Whole => 1,
            Self::Keys(cells) => cells.values.len() + 1,
        }
    }
}

/// Cells by the values of context keys. The last cell has the users of all other values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyCells {
    keys: Vec<String>,
    values: Vec<CellValues>,
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
pub(crate) struct CellFinder<'p> {
    cells: &'p KeyCells,
    by_values: HashMap<&'p CellValues, u32>,
    remembered: HashMap<Box<str>, u32>,
    values: CellValues,
}

impl<'p> CellFinder<'p> {
    pub(crate) fn new(cells: &'p KeyCells) -> Self {
        Self {
            cells,
            by_values: cells.values.iter().zip(0..).collect(),
            remembered: HashMap::new(),
            values: CellValues::new(),
        }
    }
}

impl Cells for CellFinder<'_> {
    fn cell(&mut self, context: &str) -> u32 {
        if let Some(cell) = self.remembered.get(context) {
            return *cell;
        }
        read_values(context, &self.cells.keys, &mut self.values);
        let other = self.cells.values.len() as u32;
        let cell = self.by_values.get(&self.values).copied().unwrap_or(other);
        if self.remembered.len() < MAX_REMEMBERED {
            self.remembered.insert(context.into(), cell);
        }
        cell
    }
}

/// Reads the values of `keys` out of the JSON object `context`. Numbers and booleans are their
/// JSON text; null is a missing value, and so is everything where the context is no object. Of
/// a key that occurs twice the last value counts.
pub(crate) fn read_values(context: &str, keys: &[String], values: &mut CellValues) {
    values.clear();
    values.resize(keys.len(), None);
    if context.is_empty() {
        return;
    }
    let mut reader = serde_json::Deserializer::from_str(context);
    let read = Wanted { keys, values }.deserialize(&mut reader);
    if read.and_then(|()| reader.end()).is_err() {
        values.fill(None);
    }
}

struct Wanted<'w> {
    keys: &'w [String],
    values: &'w mut CellValues,
}

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
        while let Some(key) = map.next_key::<Text<'de>>()? {
            let mut wanted = (self.keys.iter().zip(self.values.iter_mut()))
                .filter(|(wanted, _)| **wanted == *key.0)
                .peekable();
            if wanted.peek().is_none() {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let value = value_text(map.next_value::<&RawValue>()?.get());
            wanted.for_each(|(_, slot)| slot.clone_from(&value));
        }
        Ok(())
    }
}

/// A key, borrowed where it has no escapes.
#[derive(serde::Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// The text that a JSON value is compared by; none for null.
pub(crate) fn value_text(json: &str) -> Option<String> {
    match serde_json::from_str::<String>(json) {
        Ok(text) => Some(text),
        Err(_) => (json != "null").then(|| json.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(context: &str, keys: &[&str]) -> CellValues {
        let keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
        let mut values = CellValues::new();
        read_values(context, &keys, &mut values);
        values
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
