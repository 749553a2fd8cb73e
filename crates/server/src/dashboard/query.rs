//! Converts the filter form of a browser to the query of the API.
//!
//! A page's address has the API's own query, so that both give the same
//! numbers. A form cannot send quite that: it sends its empty fields, one
//! `segment` as `key=value`, and times without a zone. [`canonical`] turns
//! these into the API's form, and the browser is sent to that address.

use crate::problem::{Answer, Problem};
use trialog_model::percent;

/// Names and values, in order.
pub(super) type Pairs = Vec<(String, String)>;

/// Converts `sent` to the form that the API accepts: without empty fields, times in UTC, a segment
/// under its key. The last value of a name counts.
pub(super) fn canonical(sent: &Pairs) -> Answer<Pairs> {
    let mut query = Pairs::new();
    for (name, value) in sent {
        let value = value.trim();
        if value.is_empty() {
            continue;
        }
        let (name, value) = match name.as_str() {
            "segment" => segment(value)?,
            "from" | "to" | "as_of" => (name.clone(), in_utc(value)),
            _ => (name.clone(), value.to_owned()),
        };
        query.retain(|(known, _)| *known != name);
        query.push((name, value));
    }
    Ok(query)
}

fn segment(text: &str) -> Answer<(String, String)> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() && !value.trim().is_empty() => {
            Ok((format!("segment.{}", key.trim()), value.trim().to_owned()))
        }
        _ => Err(Problem::bad_field(
            "segment",
            "is not of the form key=value, such as platform=ios",
        )),
    }
}

/// Reads a day or a time without a zone as UTC; returns anything else unchanged.
fn in_utc(text: &str) -> String {
    let is_form = |form: &str| {
        text.len() == form.len()
            && text
                .bytes()
                .zip(form.bytes())
                .all(|(byte, like)| match like {
                    b'0' => byte.is_ascii_digit(),
                    b'T' => byte == b'T' || byte == b' ',
                    other => byte == other,
                })
    };
    if is_form("0000-00-00") {
        format!("{text}T00:00:00Z")
    } else if is_form("0000-00-00T00:00") {
        format!("{}:00Z", text.replace(' ', "T"))
    } else if is_form("0000-00-00T00:00:00") {
        format!("{}Z", text.replace(' ', "T"))
    } else {
        text.to_owned()
    }
}

/// Encodes `pairs` as a query string.
pub(super) fn encode(pairs: &[(String, String)]) -> String {
    let pair = |(name, value): &(String, String)| {
        format!("{}={}", percent::encode(name), percent::encode(value))
    };
    pairs.iter().map(pair).collect::<Vec<_>>().join("&")
}

/// Returns `path`, with `pairs` as its query if there are any.
pub(super) fn address(path: &str, pairs: &[(String, String)]) -> String {
    if pairs.is_empty() {
        path.to_owned()
    } else {
        format!("{path}?{}", encode(pairs))
    }
}

/// Returns the value of `name`, or an empty text.
pub(super) fn value<'a>(pairs: &'a [(String, String)], name: &str) -> &'a str {
    let found = pairs.iter().find(|(known, _)| known == name);
    found.map_or("", |(_, value)| value.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &[(&str, &str)]) -> Pairs {
        text.iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn a_form_becomes_the_query_of_the_api() {
        let sent = pairs(&[
            ("metric", ""),
            ("alpha", "0.1 "),
            ("from", "2026-11-01"),
            ("to", "2026-11-02T10:30"),
            ("as_of", "2026-11-02T10:30:00+01:00"),
            ("segment.geo", "de"),
            ("segment.platform", "web"),
            ("segment", "platform = i=os"),
        ]);
        let query = canonical(&sent).unwrap();
        assert_eq!(
            encode(&query),
            "alpha=0.1&from=2026-11-01T00%3A00%3A00Z&to=2026-11-02T10%3A30%3A00Z&as_of=2026-11-02T10%3A30%3A00%2B01%3A00&segment.geo=de&segment.platform=i%3Dos"
        );
        assert_eq!(
            canonical(&query).unwrap(),
            query,
            "what is in the API's form stays"
        );
    }

    #[test]
    fn a_segment_without_a_key_or_a_value_is_refused() {
        for text in ["ios", "=ios", "platform="] {
            assert!(canonical(&pairs(&[("segment", text)])).is_err(), "{text}");
        }
    }
}
