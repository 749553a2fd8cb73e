//! Counts any number of values exactly, in bounded memory.
//!
//! Values get numbers. A table of values that has become large is closed: it goes to disk, and the
//! next one begins with new numbers. In the end all tables are merged.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use tempfile::{NamedTempFile, TempPath};

use super::{KeyValues, ValueUsers};
use crate::error::WarehouseError;
use crate::fold::split::{all_missing, decode_values};

/// Memory of the values of a tally, about; beyond it they go to disk.
const MAX_BYTES: usize = 16 << 20;
/// What a value takes beside its text, about.
const BYTES_PER_VALUE: usize = 96;

/// Counts users by value. Values are texts that
/// [`encode_values`](crate::fold::split::encode_values) has written.
pub(crate) struct Tally {
    directory: PathBuf,
    max_bytes: usize,
    /// Of the open table.
    n_bytes: usize,
    numbers: HashMap<String, u32>,
    counts: Vec<u64>,
    closed: Vec<Table>,
}

/// A closed table, in the order of [`Counted`].
enum Table {
    /// With about how many bytes it takes.
    Memory(Vec<Counted>, usize),
    File(TempPath),
}

/// A value of a table. The order is by hash first, which is faster to compare.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Counted {
    hash: u64,
    text: String,
    number: u32,
    users: u64,
}

/// For the table and the number of a value, its place among the largest values.
pub(crate) type Places = HashMap<(u32, u32), u32>;

impl Tally {
    /// Creates a tally that spills into `directory`.
    pub(crate) fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            max_bytes: MAX_BYTES,
            n_bytes: 0,
            numbers: HashMap::new(),
            counts: Vec::new(),
            closed: Vec::new(),
        }
    }

    /// Creates one of `n` tallies that share the memory of one.
    pub(crate) fn sharing(directory: &Path, n: usize) -> Self {
        Self {
            max_bytes: MAX_BYTES / n.max(1),
            ..Self::new(directory)
        }
    }

    /// Returns the number of the open table.
    pub(crate) fn table(&self) -> u32 {
        self.closed.len() as u32
    }

    /// Returns the number of a value in the open table.
    pub(crate) fn number(&mut self, text: &str) -> u32 {
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        let number = self.counts.len() as u32;
        self.n_bytes += text.len() + BYTES_PER_VALUE;
        self.numbers.insert(text.to_owned(), number);
        self.counts.push(0);
        number
    }

    /// Adds users of the value with this number in the open table.
    pub(crate) fn add(&mut self, number: u32, users: u64) {
        self.counts[number as usize] += users;
    }

    /// Closes the open table and writes it to disk, if it has become too large.
    pub(crate) fn spill_if_large(&mut self) -> Result<(), WarehouseError> {
        if self.n_bytes > self.max_bytes {
            self.close();
            self.spill_closed()?;
        }
        Ok(())
    }

    /// Takes in the tables of another tally, after its own. Returns how many its own are, which
    /// is what the numbers of the other tables grow by.
    pub(crate) fn merge(&mut self, mut other: Self) -> Result<u32, WarehouseError> {
        self.close();
        other.close();
        let n_tables = self.table();
        self.closed.append(&mut other.closed);
        let in_memory = self.closed.iter().map(|table| match table {
            Table::Memory(_, n_bytes) => *n_bytes,
            Table::File(_) => 0,
        });
        if in_memory.sum::<usize>() > self.max_bytes {
            self.spill_closed()?;
        }
        Ok(n_tables)
    }

    /// Returns the `limit` values with the most users, and where they stand in the tables. After
    /// them stand users without any value.
    pub(crate) fn into_largest(
        mut self,
        limit: usize,
    ) -> Result<(KeyValues, Places), WarehouseError> {
        self.close();
        let failed = WarehouseError::io("read counts of values from a file in", &self.directory);
        let mut largest = Largest::new(limit);
        merge_sorted(self.closed, &mut largest).map_err(failed)?;
        Ok(largest.finish())
    }

    /// Ends the open table. Values without users are kept, as users who do not count have them.
    fn close(&mut self) {
        let counts = std::mem::take(&mut self.counts);
        let numbers = std::mem::take(&mut self.numbers);
        let counted = numbers.into_iter().map(|(text, number)| Counted {
            hash: hash(&text),
            text,
            number,
            users: counts[number as usize],
        });
        let mut counted: Vec<Counted> = counted.collect();
        counted.sort_unstable();
        let n_bytes = std::mem::take(&mut self.n_bytes);
        self.closed.push(Table::Memory(counted, n_bytes));
    }

    /// Writes closed tables that are in memory to disk.
    fn spill_closed(&mut self) -> Result<(), WarehouseError> {
        for table in &mut self.closed {
            if let Table::Memory(counted, _) = table {
                let failed =
                    WarehouseError::io("write counts of values to a file in", &self.directory);
                let path = write_table(&self.directory, counted).map_err(failed)?;
                *table = Table::File(path);
            }
        }
        Ok(())
    }
}

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

fn write_table(directory: &Path, counted: &[Counted]) -> std::io::Result<TempPath> {
    let (file, path) = NamedTempFile::new_in(directory)?.into_parts();
    let mut file = BufWriter::new(file);
    for value in counted {
        file.write_all(&value.hash.to_le_bytes())?;
        file.write_all(&value.users.to_le_bytes())?;
        file.write_all(&value.number.to_le_bytes())?;
        file.write_all(&(value.text.len() as u32).to_le_bytes())?;
        file.write_all(value.text.as_bytes())?;
    }
    file.flush()?;
    Ok(path)
}

/// Reads a table in its order.
enum TableReader {
    Memory(std::vec::IntoIter<Counted>),
    /// The file is removed with its path.
    File(BufReader<File>, #[expect(dead_code)] TempPath),
}

impl TableReader {
    fn new(table: Table) -> std::io::Result<Self> {
        Ok(match table {
            Table::Memory(counted, _) => Self::Memory(counted.into_iter()),
            Table::File(path) => Self::File(BufReader::new(File::open(&path)?), path),
        })
    }

    fn next(&mut self) -> std::io::Result<Option<Counted>> {
        let file = match self {
            Self::Memory(counted) => return Ok(counted.next()),
            Self::File(file, _) => file,
        };
        let mut head = [0; 24];
        match file.read_exact(&mut head) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        }
        let long = |at: usize| {
            let mut eight = [0; 8];
            eight.copy_from_slice(&head[at..at + 8]);
            u64::from_le_bytes(eight)
        };
        let last = long(16);
        let mut text = vec![0; (last >> 32) as usize];
        file.read_exact(&mut text)?;
        Ok(Some(Counted {
            hash: long(0),
            users: long(8),
            number: last as u32,
            text: String::from_utf8(text).map_err(std::io::Error::other)?,
        }))
    }
}

/// A value with its users of all tables, and its number in each of them.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    users: u64,
    /// Of those with as many users, the first text is the largest.
    text: Reverse<String>,
    places: Vec<(u32, u32)>,
}

/// Finds the values with the most users.
struct Largest {
    limit: usize,
    /// The least of them first.
    heap: BinaryHeap<Reverse<Candidate>>,
    missing: Vec<(u32, u32)>,
    found: KeyValues,
}

impl Largest {
    fn new(limit: usize) -> Self {
        Self {
            limit,
            heap: BinaryHeap::new(),
            missing: Vec::new(),
            found: KeyValues::default(),
        }
    }

    /// Takes in a value with all its users.
    fn push(&mut self, value: Candidate) {
        if value.users == 0 {
            return;
        }
        self.found.users += value.users;
        if all_missing(&value.text.0) {
            self.found.missing += value.users;
            self.missing = value.places;
            return;
        }
        self.found.n_values += 1;
        self.heap.push(Reverse(value));
        if self.heap.len() > self.limit {
            self.heap.pop();
        }
    }

    fn finish(mut self) -> (KeyValues, Places) {
        let mut places = Places::new();
        for (cell, Reverse(value)) in (0..).zip(self.heap.into_sorted_vec()) {
            places.extend(value.places.into_iter().map(|place| (place, cell)));
            self.found.largest.push(ValueUsers {
                values: decode_values(&value.text.0),
                users: value.users,
            });
        }
        let after = self.found.largest.len() as u32;
        places.extend(self.missing.into_iter().map(|place| (place, after)));
        (self.found, places)
    }
}

/// Merges tables; the counts of a value that is in several are added up.
fn merge_sorted(tables: Vec<Table>, largest: &mut Largest) -> std::io::Result<()> {
    let mut readers = Vec::with_capacity(tables.len());
    let mut next: BinaryHeap<Reverse<(Counted, u32)>> = BinaryHeap::new();
    for (table, at) in tables.into_iter().zip(0..) {
        let mut reader = TableReader::new(table)?;
        next.extend(reader.next()?.map(|value| Reverse((value, at))));
        readers.push(reader);
    }
    let mut current: Option<Candidate> = None;
    while let Some(Reverse((value, at))) = next.pop() {
        let following = readers[at as usize].next()?;
        next.extend(following.map(|value| Reverse((value, at))));
        let place = (at, value.number);
        match &mut current {
            Some(known) if known.text.0 == value.text => {
                known.users += value.users;
                known.places.push(place);
            }
            _ => {
                let begun = Candidate {
                    users: value.users,
                    text: Reverse(value.text),
                    places: vec![place],
                };
                if let Some(complete) = current.replace(begun) {
                    largest.push(complete);
                }
            }
        }
    }
    if let Some(complete) = current {
        largest.push(complete);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fold::split::encode_values;

    /// The text of value number `value`; 0 stands for a missing one.
    fn text(value: u32) -> String {
        encode_values(&vec![(value > 0).then(|| value.to_string())])
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
                let mut numbered = Vec::new();
                for (value, _) in users.iter().filter(|(_, of)| *of == half) {
                    let number = tally.number(&text(*value));
                    numbered.push((tally.table(), number, *value));
                    tally.add(number, 1);
                    tally.spill_if_large().unwrap();
                }
                (tally, numbered)
            };
            let count = |max_bytes: usize| {
                let (mut tally, mut numbered) = tally_of(false, max_bytes);
                let (other, of_other) = tally_of(true, max_bytes);
                let n_tables = tally.merge(other).unwrap();
                numbered.extend(of_other.into_iter().map(|(table, number, value)| (table + n_tables, number, value)));
                let (found, places) = tally.into_largest(limit).unwrap();
                (found, places, numbered)
            };
            let (found, places, numbered) = count(max_bytes);
            prop_assert_eq!(&found, &count(usize::MAX).0);
            prop_assert_eq!(found.users, users.len() as u64);
            let n_missing = users.iter().filter(|(value, _)| *value == 0).count();
            prop_assert_eq!(found.missing, n_missing as u64);
            prop_assert!(found.largest.len() <= limit);
            prop_assert!(found.largest.is_sorted_by_key(|value| Reverse(value.users)));
            for (table, number, value) in numbered {
                let values: Vec<String> = found.largest.iter().map(|value| encode_values(&value.values)).collect();
                let place = match value {
                    0 => Some(values.len()),
                    value => values.iter().position(|known| *known == text(value)),
                };
                prop_assert_eq!(places.get(&(table, number)).map(|place| *place as usize), place);
            }
        }
    }
}
