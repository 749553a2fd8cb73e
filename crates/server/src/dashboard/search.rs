//! Searching the list: an id, a hypothesis or an owner that holds the words.

use trialog_catalog::Catalog;
use trialog_catalog::experiments::{Experiment, Listing};

use crate::problem::Answer;

/// Experiments that are looked at between two turns of other readers.
const STRIDE: u32 = 1_000;

/// The first experiments of `listing` that match `words`, all of them where
/// there are no words; and the id after which the next page begins.
pub(super) fn search(
    catalog: &Catalog,
    listing: &Listing,
    words: &str,
) -> Answer<(Vec<Experiment>, Option<String>)> {
    let words: Vec<String> = words.split_whitespace().map(str::to_lowercase).collect();
    let n_wanted = listing.limit as usize;
    let mut found: Vec<Experiment> = Vec::new();
    let mut stride = listing.clone();
    if !words.is_empty() {
        stride.limit = STRIDE;
    }
    loop {
        let looked_at = catalog.list_experiments(&stride)?;
        let is_last = looked_at.len() < stride.limit as usize;
        stride.after = looked_at
            .last()
            .map(|own| own.definition.experiment_id.to_string());
        found.extend(looked_at.into_iter().filter(|own| matches(own, &words)));
        if found.len() >= n_wanted {
            let has_more = found.len() > n_wanted || !is_last;
            found.truncate(n_wanted);
            let last = found
                .last()
                .map(|own| own.definition.experiment_id.to_string());
            return Ok((found, last.filter(|_| has_more)));
        }
        if is_last {
            return Ok((found, None));
        }
    }
}

/// Whether each word occurs, in whatever case.
fn matches(experiment: &Experiment, words: &[String]) -> bool {
    let definition = &experiment.definition;
    let own = [
        definition.experiment_id.as_str(),
        definition.hypothesis.as_deref().unwrap_or_default(),
        definition.owner.as_deref().unwrap_or_default(),
    ];
    let own = own.map(str::to_lowercase);
    words
        .iter()
        .all(|word| own.iter().any(|text| text.contains(word.as_str())))
}
