//! Counts the exposed users who have each key in the context of their exposure.

use std::collections::HashMap;

use crate::analysis::Analysis;
use crate::error::FoldError;
use crate::fold::split::{Cells, context_keys};
use crate::fold::{Accumulator, Exposure, Folded, Plan, Row, Status};

/// Keys that are told apart; users may send any number of them.
const MAX_KEYS: usize = 10_000;
/// Combinations of keys that are remembered between two users.
const MAX_SETS: usize = 1 << 12;

/// A key of contexts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyUsers {
    /// The key.
    pub key: String,
    /// Exposed users who have a value of it.
    pub users: u64,
}

/// The keys of the contexts of exposed users.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FoundKeys {
    /// Those that somebody has, the most users first, and among equals in the order of their
    /// texts.
    pub keys: Vec<KeyUsers>,
    /// Exposed users.
    pub users: u64,
    /// Whether there are more than the 10,000 keys that are told apart.
    pub has_more: bool,
}

/// Counts users by key.
#[derive(Debug, Default)]
pub struct Keys {
    numbers: HashMap<String, u32>,
    users_of: Vec<u64>,
    /// The combinations of keys of contexts, whose numbers stand for them while a user is judged.
    sets: HashMap<Vec<u32>, u32>,
    by_number: Vec<Vec<u32>>,
    users: u64,
    has_more: bool,
}

impl Keys {
    /// The number of a key; none beyond the keys that are told apart.
    fn number(&mut self, key: &str) -> Option<u32> {
        if let Some(number) = self.numbers.get(key) {
            return Some(*number);
        }
        if self.users_of.len() == MAX_KEYS {
            self.has_more = true;
            return None;
        }
        let number = self.users_of.len() as u32;
        self.numbers.insert(key.to_owned(), number);
        self.users_of.push(0);
        Some(number)
    }

    /// Forgets the combinations if there are many. No number of one is in use any more.
    fn clear_if_many(&mut self) {
        if self.by_number.len() > MAX_SETS {
            self.sets.clear();
            self.by_number.clear();
        }
    }

    fn into_found(self) -> FoundKeys {
        let counted = self.numbers.into_iter();
        let counted = counted.map(|(key, number)| KeyUsers {
            key,
            users: self.users_of[number as usize],
        });
        // Users who do not count may have keys that no exposed user has.
        let mut keys: Vec<KeyUsers> = counted.filter(|key| key.users > 0).collect();
        keys.sort_by(|a, b| (b.users, &a.key).cmp(&(a.users, &b.key)));
        FoundKeys {
            keys,
            users: self.users,
            has_more: self.has_more,
        }
    }
}

impl Analysis for Keys {
    type Question = ();
    type Answer = FoundKeys;

    fn for_plan(_plan: &Plan, _question: &()) -> Self {
        Self::default()
    }

    fn answer(folded: Folded<Self>) -> FoundKeys {
        folded.accumulator.into_found()
    }
}

impl Cells for Keys {
    fn cell(&mut self, context: &str) -> u32 {
        let keys = context_keys(context);
        let mut set: Vec<u32> = keys.iter().filter_map(|key| self.number(key)).collect();
        set.sort_unstable();
        set.dedup();
        if let Some(number) = self.sets.get(&set) {
            return *number;
        }
        let number = self.by_number.len() as u32;
        self.by_number.push(set.clone());
        self.sets.insert(set, number);
        number
    }
}

impl Accumulator for Keys {
    fn reads_events(&self) -> bool {
        false
    }

    fn cells(&mut self) -> Option<&mut dyn Cells> {
        Some(self)
    }

    fn horizon(&self, exposure: i64) -> i64 {
        exposure
    }

    fn assigned(&mut self, _user: i64, status: &Status) {
        // Of an exposed user the number is still in use.
        if !matches!(status, Status::Exposed(_)) {
            self.clear_if_many();
        }
    }

    fn begin(&mut self, exposure: &Exposure) {
        self.users += 1;
        for key in &self.by_number[exposure.cell as usize] {
            self.users_of[*key as usize] += 1;
        }
    }

    fn events(&mut self, _events: &[Row]) {}

    fn end(&mut self) -> Result<(), FoldError> {
        self.clear_if_many();
        Ok(())
    }

    fn merge(&mut self, other: Self) -> Result<(), FoldError> {
        self.users += other.users;
        self.has_more |= other.has_more;
        for (key, number) in other.numbers {
            if let Some(known) = self.number(&key) {
                self.users_of[known as usize] += other.users_of[number as usize];
            }
        }
        Ok(())
    }
}
