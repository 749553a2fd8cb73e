//! Stores the optional strings of rows, most of which have none.

/// A text for each of some rows. Rows after the last text have none and take no memory.
#[derive(Debug, Clone, Default)]
pub(crate) struct Texts {
    bytes: Vec<u8>,
    /// Where the text of each row ends, up to the last row that has one.
    ends: Vec<usize>,
}

impl Texts {
    /// Sets the text of row `row`, which follows all rows that have a text.
    pub(crate) fn set(&mut self, row: usize, text: &str) {
        if !text.is_empty() {
            debug_assert!(self.ends.len() <= row, "texts come in the order of rows");
            self.ends.resize(row, self.bytes.len());
            self.bytes.extend_from_slice(text.as_bytes());
            self.ends.push(self.bytes.len());
        }
    }

    /// Returns the text of row `row`; empty if it has none.
    pub(crate) fn get(&self, row: usize) -> &str {
        let Some(&end) = self.ends.get(row) else {
            return "";
        };
        let start = row.checked_sub(1).map_or(0, |before| self.ends[before]);
        std::str::from_utf8(&self.bytes[start..end]).expect("texts are set as wholes")
    }

    /// Adds the texts of `other`, whose first row becomes row `row`.
    pub(crate) fn append(&mut self, row: usize, other: &Self) {
        if other.ends.is_empty() {
            return;
        }
        self.ends.resize(row, self.bytes.len());
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&other.bytes);
        self.ends.extend(other.ends.iter().map(|end| start + end));
    }

    /// Returns whether no row has a text.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Counts the bytes of all texts.
    pub(crate) fn n_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Estimates the memory that the texts take.
    pub(crate) fn size_bytes(&self) -> usize {
        self.bytes.len() + self.ends.len() * size_of::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn each_row_has_its_text_however_they_are_put_together(
            parts in prop::collection::vec(prop::collection::vec("[a-zé\0]{0,3}", 0..5), 0..5),
        ) {
            let (mut all, mut n_rows) = (Texts::default(), 0);
            for part in &parts {
                let mut texts = Texts::default();
                for (row, text) in part.iter().enumerate() {
                    texts.set(row, text);
                }
                all.append(n_rows, &texts);
                n_rows += part.len();
            }
            let expected = parts.concat();
            let found: Vec<&str> = (0..n_rows).map(|row| all.get(row)).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
