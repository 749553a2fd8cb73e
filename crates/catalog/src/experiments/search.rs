//! Search: words that occur anywhere in id, owner or hypothesis, in any case.
//!
//! Each state of an experiment is a row of the full-text index
//! `experiment_search`, numbered by its change, so that a search meets the
//! last change first and stops when its page is full. What is indexed are the
//! text's grams of one to three characters, beside its status and owner;
//! SQLite's own trigram tokenizer cannot find what is shorter than three.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use trialog_model::experiment::{Definition, Status};
use trialog_model::hex::hex;
use trialog_model::murmur3::murmur3_x64_128;

use crate::database::{self, Connection, params};

use super::{Experiment, Listing};
use crate::documents::{self, Document};

/// The longest gram, in characters.
const LONGEST: usize = 3;
/// The most grams of a search that the index is asked for; the rest is left
/// to the comparison of the text itself.
const MAX_GRAMS: usize = 16;

/// Brings the index, and fills it with the experiments that are there.
pub(crate) fn create_index(transaction: &rusqlite::Transaction<'_>) -> rusqlite::Result<()> {
    transaction.execute_batch(
        "CREATE VIRTUAL TABLE experiment_search USING fts5(
            tokens, content='', contentless_delete=1, detail=none, tokenize='ascii'
        )",
    )?;
    database::sqlite::fill(transaction, |connection| {
        let sql = "SELECT change, status, definition FROM experiments";
        connection.each(sql, params![], |row| {
            let status: String = row.get(1)?;
            insert(
                connection,
                row.get(0)?,
                &status,
                &documents::definition(row, 2)?,
            )?;
            Ok(ControlFlow::Continue(()))
        })
    })
}

/// Makes `current` findable, instead of its state number `before`.
pub(super) fn index(
    connection: &Connection<'_>,
    before: Option<i64>,
    current: (i64, Status, &Definition),
) -> database::Result<()> {
    if let Some(before) = before {
        remove(connection, before)?;
    }
    let (change, status, definition) = current;
    insert(connection, change, status.as_str(), definition)
}

/// Removes the state number `change` from the index.
pub(super) fn remove(connection: &Connection<'_>, change: i64) -> database::Result<()> {
    let sql = connection.choose(
        "DELETE FROM experiment_search WHERE rowid = ?1",
        "DELETE FROM experiment_search WHERE change = ?1",
    );
    connection.execute(sql, [change])?;
    Ok(())
}

fn insert(
    connection: &Connection<'_>,
    change: i64,
    status: &str,
    definition: &Definition,
) -> database::Result<()> {
    let text = text(definition);
    let mut tokens = format!("s{status}");
    if let Some(owner) = &definition.owner {
        tokens.push(' ');
        tokens.push_str(&of_owner(owner));
    }
    for gram in grams(&text) {
        tokens.push(' ');
        tokens.push_str(&token(gram));
    }
    let sql = connection.choose(
        "INSERT INTO experiment_search (rowid, tokens) VALUES (?1, ?2)",
        "INSERT INTO experiment_search (change, tokens) VALUES (?1, string_to_array(?2, ' '))",
    );
    connection.execute(sql, params![change, tokens])?;
    Ok(())
}

/// What is searched, in small letters.
fn text(definition: &Definition) -> String {
    let of = |text: &Option<String>| text.as_deref().unwrap_or_default().to_lowercase();
    let id = definition.experiment_id.as_str().to_lowercase();
    format!(
        "{id}\n{}\n{}",
        of(&definition.owner),
        of(&definition.hypothesis)
    )
}

/// Every substring of one to three characters, once.
fn grams(text: &str) -> BTreeSet<&str> {
    let starts: Vec<usize> = (text.char_indices().map(|(at, _)| at))
        .chain([text.len()])
        .collect();
    (1..=LONGEST)
        .flat_map(|length| starts.windows(length + 1))
        .map(|window| &text[window[0]..window[window.len() - 1]])
        .collect()
}

/// Grams that every text with `word` in it has.
fn needed(word: &str) -> Vec<&str> {
    let starts: Vec<usize> = (word.char_indices().map(|(at, _)| at))
        .chain([word.len()])
        .collect();
    let n_chars = starts.len() - 1;
    if n_chars <= LONGEST {
        return vec![word];
    }
    let last = n_chars - LONGEST;
    (0..last)
        .step_by(LONGEST)
        .chain([last])
        .map(|at| &word[starts[at]..starts[at + LONGEST]])
        .collect()
}

/// A gram as a word of the index, whose tokenizer knows letters and digits.
fn token(gram: &str) -> String {
    format!("g{}", hex(gram.as_bytes()))
}

fn of_owner(owner: &str) -> String {
    let (hash, _) = murmur3_x64_128(owner.as_bytes(), 0);
    format!("o{hash:016x}")
}

/// The page of `listing` whose experiments have each of `words` in their
/// text, last change first.
pub(super) fn search(
    connection: &Connection<'_>,
    listing: &Listing,
    words: &str,
) -> database::Result<Vec<Experiment>> {
    let folded = words.to_lowercase();
    let words: Vec<&str> = folded.split_whitespace().collect();
    let statuses = listing.statuses();
    let needed = needed_tokens(listing, &words);
    let of_status: Vec<String> = (statuses.iter())
        .map(|status| format!("s{}", status.as_str()))
        .collect();
    // Tokens are words of our own making, so nothing in them needs quotes.
    let query = connection
        .choose(
            &format!("{} AND ({})", needed.join(" AND "), of_status.join(" OR ")),
            &needed.join(" "),
        )
        .to_owned();
    let sql = connection
        .choose(SEARCH_SQLITE, SEARCH_POSTGRES)
        .replace("{COLUMNS}", &Experiment::TABLE.all_columns());
    let mut page = Vec::new();
    connection.each(&sql, params![query, listing.before()], |row| {
        let found: Experiment = documents::read_row(row)?;
        let is_owned = listing.owner.is_none() || listing.owner == found.definition.owner;
        // Grams are necessary, not sufficient: the text has the last word.
        let text = text(&found.definition);
        let has_words = words.iter().all(|word| text.contains(word));
        if is_owned && statuses.contains(&found.status) && has_words {
            page.push(found.complete(connection)?);
        }
        Ok(match page.len() < listing.limit as usize {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        })
    })?;
    Ok(page)
}

const SEARCH_SQLITE: &str = "SELECT {COLUMNS} FROM experiment_search
    JOIN experiments ON change = experiment_search.rowid
    WHERE experiment_search MATCH ?1 AND experiment_search.rowid < ?2
    ORDER BY experiment_search.rowid DESC";

const SEARCH_POSTGRES: &str =
    "SELECT {COLUMNS} FROM experiments JOIN experiment_search USING (change)
    WHERE tokens @> string_to_array(?1, ' ') AND change < ?2 ORDER BY change DESC";

/// The tokens that every state that is looked for has.
fn needed_tokens(listing: &Listing, words: &[&str]) -> Vec<String> {
    let grams: BTreeSet<&str> = words.iter().flat_map(|word| needed(word)).collect();
    let grams = grams.into_iter().take(MAX_GRAMS).map(token);
    grams
        .chain(listing.owner.as_deref().map(of_owner))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_search_needs_every_text_with_it_has() {
        let text = "größe-of-the-button\nteam ø\n";
        let has = grams(text);
        for (start, _) in text.char_indices() {
            for (end, _) in text.char_indices().filter(|(end, _)| *end > start) {
                let missing: Vec<&str> = (needed(&text[start..end]).into_iter())
                    .filter(|gram| !has.contains(gram))
                    .collect();
                assert!(missing.is_empty(), "{:?}: {missing:?}", &text[start..end]);
            }
        }
    }

    #[test]
    fn a_token_is_one_word() {
        assert_eq!(token("a-ß"), "g612dc39f");
    }
}
