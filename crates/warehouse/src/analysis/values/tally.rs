//! Exact counts of any number of values in bounded memory.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::{KeyValues, ValueUsers};
use crate::error::WarehouseError;
use crate::fold::split::CellValues;

/// Memory of the values of a tally, about; beyond it they go to disk.
const MAX_BYTES: usize = 16 << 20;
/// What a value takes beside its text, about.
const BYTES_PER_VALUE: usize = 96;

/// Counts users by value.
pub(crate) struct Tally {
    directory: PathBuf,
    max_bytes: usize,
    n_bytes: usize,
    numbers: HashMap<String, u32>,
    counts: Vec<u64>,
    /// Files of values in order, each with its count.
    sorted: Vec<File>,
}

impl Tally {
    /// Creates a tally that spills into `directory`.
    pub(crate) fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            max_bytes: MAX_BYTES,
            n_bytes: 0,
            numbers: HashMap::new(),
            counts: Vec::new(),
            sorted: Vec::new(),
        }
    }

    /// Returns the number of `values`, which stands until the next spill.
    pub(crate) fn number(&mut self, values: &CellValues) -> u32 {
        self.number_text(encode_values(values))
    }

    /// Returns the number of values that were written by [`encode_values`].
    pub(crate) fn number_text(&mut self, text: String) -> u32 {
        if let Some(number) = self.numbers.get(&text) {
            return *number;
        }
        let number = self.counts.len() as u32;
        self.n_bytes += text.len() + BYTES_PER_VALUE;
        self.numbers.insert(text, number);
        self.counts.push(0);
        number
    }

    /// Adds users of the value with this number.
    pub(crate) fn add(&mut self, number: u32, users: u64) {
        self.counts[number as usize] += users;
    }

    /// Writes what there is to disk, if it has become too much. Numbers stand no more then.
    pub(crate) fn spill_if_large(&mut self) -> Result<(), WarehouseError> {
        match self.n_bytes > self.max_bytes {
            true => self.spill(),
            false => Ok(()),
        }
    }

    /// Takes in the counts of another tally.
    pub(crate) fn merge(&mut self, other: Self) -> Result<(), WarehouseError> {
        self.sorted.extend(other.sorted);
        for (text, number) in other.numbers {
            let users = other.counts[number as usize];
            if users > 0 {
                let number = self.number_text(text);
                self.add(number, users);
            }
        }
        self.spill_if_large()
    }

    /// Returns the `limit` values with the most users.
    pub(crate) fn into_largest(mut self, limit: usize) -> Result<KeyValues, WarehouseError> {
        let mut largest = Largest::new(limit);
        if self.sorted.is_empty() {
            for (text, number) in std::mem::take(&mut self.numbers) {
                largest.push(text, self.counts[number as usize]);
            }
            return Ok(largest.finish());
        }
        self.spill()?;
        let failed = WarehouseError::io("read counts of values from a file in", &self.directory);
        merge_sorted(self.sorted, &mut largest).map_err(failed)?;
        Ok(largest.finish())
    }

    fn spill(&mut self) -> Result<(), WarehouseError> {
        let failed = WarehouseError::io("write counts of values to a file in", &self.directory);
        let numbers: BTreeMap<String, u32> =
            std::mem::take(&mut self.numbers).into_iter().collect();
        let counts = std::mem::take(&mut self.counts);
        self.n_bytes = 0;
        let file = write_sorted(&self.directory, &numbers, &counts).map_err(failed)?;
        self.sorted.push(file);
        Ok(())
    }
}

/// Writes values in order, each with its count.
fn write_sorted(
    directory: &Path,
    numbers: &BTreeMap<String, u32>,
    counts: &[u64],
) -> std::io::Result<File> {
    let mut file = BufWriter::new(tempfile::tempfile_in(directory)?);
    for (text, number) in numbers {
        let users = counts[*number as usize];
        if users > 0 {
            file.write_all(&(text.len() as u64).to_le_bytes())?;
            file.write_all(&users.to_le_bytes())?;
            file.write_all(text.as_bytes())?;
        }
    }
    let unwritten = std::io::IntoInnerError::into_error;
    let mut file = file.into_inner().map_err(unwritten)?;
    file.seek(SeekFrom::Start(0))?;
    Ok(file)
}

/// Finds the values with the most users.
struct Largest {
    limit: usize,
    /// The least of them first.
    heap: BinaryHeap<Reverse<(u64, Reverse<String>)>>,
    found: KeyValues,
}

impl Largest {
    fn new(limit: usize) -> Self {
        Self {
            limit,
            heap: BinaryHeap::new(),
            found: KeyValues::default(),
        }
    }

    /// Takes in a value with all its users.
    fn push(&mut self, text: String, users: u64) {
        if users == 0 {
            return;
        }
        self.found.users += users;
        if text.split(SEPARATOR).all(|part| part == MISSING) {
            self.found.missing += users;
            return;
        }
        self.found.n_values += 1;
        self.heap.push(Reverse((users, Reverse(text))));
        if self.heap.len() > self.limit {
            self.heap.pop();
        }
    }

    fn finish(mut self) -> KeyValues {
        let in_order = self.heap.into_sorted_vec().into_iter();
        let largest = in_order.map(|Reverse((users, Reverse(text)))| ValueUsers {
            values: decode(&text),
            users,
        });
        self.found.largest = largest.collect();
        self.found
    }
}

/// Merges files of values in order; the counts of a value that is in several are added up.
fn merge_sorted(files: Vec<File>, largest: &mut Largest) -> std::io::Result<()> {
    let mut readers: Vec<BufReader<File>> = files.into_iter().map(BufReader::new).collect();
    let mut next: BinaryHeap<Reverse<(String, usize, u64)>> = BinaryHeap::new();
    for (at, reader) in readers.iter_mut().enumerate() {
        let counted = read_count(reader)?;
        next.extend(counted.map(|(text, users)| Reverse((text, at, users))));
    }
    let mut current: Option<(String, u64)> = None;
    while let Some(Reverse((text, at, users))) = next.pop() {
        let counted = read_count(&mut readers[at])?;
        next.extend(counted.map(|(text, users)| Reverse((text, at, users))));
        match &mut current {
            Some((known, total)) if *known == text => *total += users,
            _ => {
                if let Some((text, users)) = current.replace((text, users)) {
                    largest.push(text, users);
                }
            }
        }
    }
    if let Some((text, users)) = current {
        largest.push(text, users);
    }
    Ok(())
}

/// Reads a value and its count; none at the end of the file.
fn read_count(reader: &mut BufReader<File>) -> std::io::Result<Option<(String, u64)>> {
    let mut head = [0; 16];
    match reader.read_exact(&mut head) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let number = |at: usize| {
        let mut eight = [0; 8];
        eight.copy_from_slice(&head[at..at + 8]);
        u64::from_le_bytes(eight)
    };
    let mut text = vec![0; number(0) as usize];
    reader.read_exact(&mut text)?;
    let text = String::from_utf8(text).map_err(std::io::Error::other)?;
    Ok(Some((text, number(8))))
}

/// Lies between two values; one inside of a value is escaped.
const SEPARATOR: char = '\0';
const ESCAPE: char = '\u{1}';
/// Stands for a missing value; others begin with `+`.
const MISSING: &str = "-";

/// Writes values as one text.
pub(crate) fn encode_values(values: &CellValues) -> String {
    let mut text = String::new();
    for (at, value) in values.iter().enumerate() {
        if at > 0 {
            text.push(SEPARATOR);
        }
        let Some(value) = value else {
            text.push_str(MISSING);
            continue;
        };
        text.push('+');
        for letter in value.chars() {
            match letter {
                SEPARATOR => text.extend([ESCAPE, '0']),
                ESCAPE => text.extend([ESCAPE, '1']),
                other => text.push(other),
            }
        }
    }
    text
}

/// Reads what [`encode_values`] has written.
fn decode(text: &str) -> CellValues {
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
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_are_read_back_as_they_were() {
        let odd = ["", "-", "+", "a\0b", "\u{1}", "\u{1}0\0", "\0\u{1}", "é"];
        for first in odd {
            for second in [None, Some("x"), Some("\0")] {
                let values = vec![Some(first.to_owned()), second.map(str::to_owned)];
                assert_eq!(decode(&encode_values(&values)), values);
            }
        }
    }

    proptest! {
        #[test]
        fn counts_on_disk_are_those_in_memory(
            users in prop::collection::vec((0u32..40, any::<bool>()), 0..400),
            max_bytes in 0usize..3_000,
            limit in 0usize..50,
        ) {
            let spill = tempfile::tempdir().unwrap();
            let tally_of = |half: bool, max_bytes: usize| {
                let mut tally = Tally { max_bytes, ..Tally::new(spill.path()) };
                for (value, _) in users.iter().filter(|(_, of)| *of == half) {
                    let value = (*value > 0).then(|| value.to_string());
                    let number = tally.number(&vec![value]);
                    tally.add(number, 1);
                    tally.spill_if_large().unwrap();
                }
                tally
            };
            let count = |max_bytes: usize| {
                let mut tally = tally_of(false, max_bytes);
                tally.merge(tally_of(true, max_bytes)).unwrap();
                tally.into_largest(limit).unwrap()
            };
            let spilled = count(max_bytes);
            prop_assert_eq!(&spilled, &count(usize::MAX));
            prop_assert_eq!(spilled.users, users.len() as u64);
            let n_missing = users.iter().filter(|(value, _)| *value == 0).count();
            prop_assert_eq!(spilled.missing, n_missing as u64);
            prop_assert!(spilled.largest.len() <= limit);
            prop_assert!(spilled.largest.is_sorted_by_key(|value| Reverse(value.users)));
        }
    }
}
