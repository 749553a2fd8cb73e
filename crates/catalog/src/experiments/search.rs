//! Search: words that occur anywhere in id, owner or hypothesis, in any case.
//!
//! Each state of an experiment is a row of the full-text index
//! `experiment_search`, numbered by its change, so that a search meets the
//! last change first and stops when its page is full. What is indexed are the
//! text's grams of one to three characters, beside its status and owner;
//! SQLite's own trigram tokenizer cannot find what is shorter than three.

use std::collections::BTreeSet;

use rusqlite::{Connection, params};
use trialog_model::experiment::{Definition, Status};
use trialog_model::murmur3::murmur3_x64_128;

use super::{COLUMNS, Experiment, Listing, completed, experiment};
use crate::error::corrupt;

/// The longest gram, in characters.
const LONGEST: usize = 3;
/// The most grams of a search that the index is asked for; the rest is left
/// to the comparison of the text itself.
const MAX_GRAMS: usize = 16;

/// Brings the index, and fills it with the experiments that are there.
pub(crate) fn create_index(connection: &rusqlite::Transaction<'_>) -> rusqlite::Result<()> {
    connection.execute_batch(
        "CREATE VIRTUAL TABLE experiment_search USING fts5(tokens, content='', contentless_delete=1, detail=none, tokenize='ascii')",
    )?;
    let mut rows = connection.prepare("SELECT change, status, definition FROM experiments")?;
    let mut rows = rows.query([])?;
    while let Some(row) = rows.next()? {
        let status: String = row.get(1)?;
        let definition: String = row.get(2)?;
        let definition = serde_json::from_str(&definition)
            .map_err(|error| corrupt(format!("a definition cannot be read: {error}")))?;
        insert(connection, row.get(0)?, &status, &definition)?;
    }
    Ok(())
}

/// Makes `current` findable, instead of its state number `before`.
pub(super) fn index(
    connection: &Connection,
    before: Option<i64>,
    current: (i64, Status, &Definition),
) -> rusqlite::Result<()> {
    if let Some(before) = before {
        connection
            .prepare_cached("DELETE FROM experiment_search WHERE rowid = ?1")?
            .execute([before])?;
    }
    let (change, status, definition) = current;
    insert(connection, change, status.as_str(), definition)
}

fn insert(
    connection: &Connection,
    change: i64,
    status: &str,
    definition: &Definition,
) -> rusqlite::Result<()> {
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
    connection
        .prepare_cached("INSERT INTO experiment_search (rowid, tokens) VALUES (?1, ?2)")?
        .execute(params![change, tokens])?;
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
    let hex = gram.bytes().map(|byte| format!("{byte:02x}"));
    std::iter::once("g".to_owned()).chain(hex).collect()
}

fn of_owner(owner: &str) -> String {
    let (hash, _) = murmur3_x64_128(owner.as_bytes(), 0);
    format!("o{hash:016x}")
}

/// The page of `listing` whose experiments have each of `words` in their
/// text, last change first.
pub(super) fn search(
    connection: &Connection,
    listing: &Listing,
    words: &str,
) -> rusqlite::Result<Vec<Experiment>> {
    let folded = words.to_lowercase();
    let words: Vec<&str> = folded.split_whitespace().collect();
    let statuses = listing.statuses();
    let query = query(listing, &statuses, &words);
    let sql = format!(
        "SELECT {COLUMNS} FROM experiment_search JOIN experiments ON change = experiment_search.rowid
         WHERE experiment_search MATCH ?1 AND experiment_search.rowid < ?2 ORDER BY experiment_search.rowid DESC"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params![query, listing.before()])?;
    let mut page = Vec::new();
    while page.len() < listing.limit as usize {
        let Some(row) = rows.next()? else { break };
        let found = experiment(row)?;
        let is_owned = listing.owner.is_none() || listing.owner == found.definition.owner;
        // Grams are necessary, not sufficient: the text has the last word.
        let text = text(&found.definition);
        let has_words = words.iter().all(|word| text.contains(word));
        if is_owned && statuses.contains(&found.status) && has_words {
            page.push(completed(connection, found)?);
        }
    }
    Ok(page)
}

/// What the index is asked: words of our own making, so nothing needs quotes.
fn query(listing: &Listing, statuses: &[Status], words: &[&str]) -> String {
    let grams: BTreeSet<&str> = words.iter().flat_map(|word| needed(word)).collect();
    let mut parts: Vec<String> = grams.into_iter().take(MAX_GRAMS).map(token).collect();
    if let Some(owner) = &listing.owner {
        parts.push(of_owner(owner));
    }
    let any: Vec<String> = (statuses.iter())
        .map(|status| format!("s{}", status.as_str()))
        .collect();
    parts.push(format!("({})", any.join(" OR ")));
    parts.join(" AND ")
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
