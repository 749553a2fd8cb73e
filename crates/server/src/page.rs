//! Pages through lists: how long a page is, and where the next one begins.

use trialog_catalog::documents::Listing;

use crate::problem::{Answer, Problem};
use crate::query::pairs;

/// The default and maximum length of a page.
pub(crate) const PAGE: u32 = 100;
pub(crate) const MAX_PAGE: u32 = 1_000;
/// The maximum length of a search, in characters.
pub(crate) const MAX_SEARCH: usize = 200;

/// Parses the parameter `limit`.
pub(crate) fn limit(value: &str) -> Answer<u32> {
    let limit = value.parse().ok();
    limit
        .filter(|limit| (1..=MAX_PAGE).contains(limit))
        .ok_or_else(|| Problem::bad_field("limit", "is not a number from 1 to 1000"))
}

/// Parses the parameter `q`.
pub(crate) fn search(value: String) -> Answer<String> {
    if value.chars().count() > MAX_SEARCH {
        return Err(Problem::bad_field("q", "has more than 200 characters"));
    }
    Ok(value)
}

/// Returns the key of a full page's last element, after which the next page begins.
pub(crate) fn next<T>(page: &[T], limit: u32, key: impl Fn(&T) -> String) -> Option<String> {
    let is_full = page.len() as u64 >= u64::from(limit);
    page.last().filter(|_| is_full).map(key)
}

/// Parses the parameters of a list in the order of names; `q` is one where it `is_searched`.
pub(crate) fn listing(query: &str, is_searched: bool) -> Answer<Listing> {
    let mut listing = Listing {
        limit: PAGE,
        ..Listing::default()
    };
    for (name, value) in pairs(query)? {
        match name.as_str() {
            "q" if is_searched => listing.search = Some(search(value)?),
            "after" => listing.after = Some(value),
            "limit" => listing.limit = limit(&value)?,
            other => {
                let search = if is_searched { "q, " } else { "" };
                let reason = format!("is no parameter here: use {search}after or limit");
                return Err(Problem::bad_field(other, &reason));
            }
        }
    }
    Ok(listing)
}
