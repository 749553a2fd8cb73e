//! Reads NDJSON: one JSON object per line.

use std::fmt;
use std::io::{BufRead, BufReader, Read};

use anyhow::bail;
use indicatif::ProgressBar;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use trialog_model::document::not_json;
use trialog_model::event::RawField;
use trialog_model::wire::{breaks_off as is_cut, raw_field};

use super::encoding::as_utf8;
use super::source::Source;
use super::{End, Options, Row, Take, Wanted, breaks_off};

/// A line beyond this is no event.
const MAX_LINE_BYTES: u64 = 1 << 20;

/// Returns the keys of all lines, in the order in which they are met.
pub(super) fn keys(source: &Source, options: &Options) -> anyhow::Result<Vec<String>> {
    let mut keys = Keys::default();
    let mut is_first = true;
    each_line(source, options, &ProgressBar::hidden(), &mut |line| {
        if let Some(line) = line {
            let begins = line.trim_ascii_start().first();
            if is_first && (begins == Some(&b'[') || line.trim_ascii() == b"{") {
                bail!(
                    "{} is one JSON document: give one object per line (`jq -c '.[]'` makes them of an array)",
                    source.shown()
                );
            }
            is_first = false;
            let mut object = serde_json::Deserializer::from_slice(line);
            // A line that is no object is refused when it is read as a row.
            let _ = (&mut object).deserialize_map(&mut keys);
        }
        Ok(())
    })?;
    Ok(keys.names)
}

/// Passes every line to `take` as a row.
pub(super) fn rows(
    source: &Source,
    options: &Options,
    wanted: &[Wanted],
    progress: &ProgressBar,
    take: &mut Take<'_>,
) -> anyhow::Result<End> {
    let mut n_rows = 0;
    each_line(source, options, progress, &mut |line| {
        n_rows += 1;
        let Some(line) = line else {
            return take(n_rows, Err("has more than 1 MiB".to_owned()));
        };
        match fields(line, wanted) {
            Ok(fields) => take(n_rows, Ok(Row::from_fields(&fields))),
            Err(reason) => take(n_rows, Err(reason)),
        }
    })?;
    Ok(End {
        n_rows,
        warnings: Vec::new(),
    })
}

/// Hands every line that is not blank to `take`, `None` for one that is too long.
fn each_line(
    source: &Source,
    options: &Options,
    progress: &ProgressBar,
    take: &mut dyn FnMut(Option<&[u8]>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut n_lines = 0;
    let bytes = source.bytes(progress)?;
    let text = match as_utf8(bytes, options.encoding) {
        Ok(text) => text,
        Err(error) => bail!(breaks_off(source, 0, &error)),
    };
    let mut reader = BufReader::with_capacity(256 * 1024, text);
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut limited = Read::take(&mut reader, MAX_LINE_BYTES);
        let n_read = match limited.read_until(b'\n', &mut line) {
            Ok(n_read) => n_read,
            Err(error) => bail!(breaks_off(source, n_lines, &error)),
        };
        if n_read == 0 {
            return Ok(());
        }
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let is_ended = line.ends_with(b"\n");
        if n_read as u64 == MAX_LINE_BYTES && !is_ended {
            if let Err(error) = skip_line(&mut reader) {
                bail!(breaks_off(source, n_lines, &error));
            }
            take(None)?;
        } else if !is_ended && is_cut(&line) {
            let reason = format!(
                "row {}, the last one, is not whole: the file was cut short",
                n_lines + 1
            );
            bail!(breaks_off(source, n_lines, &reason));
        } else {
            take(Some(&line))?;
        }
        n_lines += 1;
    }
}

/// Passes over the rest of a line, without keeping it.
fn skip_line(reader: &mut impl BufRead) -> std::io::Result<()> {
    loop {
        let buffer = reader.fill_buf()?;
        if buffer.is_empty() {
            return Ok(());
        }
        let end = buffer.iter().position(|&byte| byte == b'\n');
        let length = end.map_or(buffer.len(), |end| end + 1);
        reader.consume(length);
        if end.is_some() {
            return Ok(());
        }
    }
}

/// The fields in use; what is null is an empty cell, what has no key is absent.
fn fields<'l>(line: &'l [u8], wanted: &[Wanted]) -> Result<Vec<RawField<'l>>, String> {
    let mut values = Values {
        wanted,
        found: vec![None; wanted.len()],
        twice: None,
    };
    let mut object = serde_json::Deserializer::from_slice(line);
    let read = (&mut object)
        .deserialize_map(&mut values)
        .and_then(|()| object.end());
    if let Err(error) = read {
        return Err(if std::str::from_utf8(line).is_err() {
            "is not UTF-8: give the file's --encoding, such as windows-1252".to_owned()
        } else if line.trim_ascii_start().starts_with(b"{") {
            not_json(&error)
        } else {
            "is not a JSON object: give one object per line, with nothing around or between them"
                .to_owned()
        });
    }
    if let Some(column) = values.twice {
        let name = &wanted[column].name;
        return Err(format!("has the key `{name}` twice: leave one of them out"));
    }
    let field = |value: &Option<&'l RawValue>| match value {
        None => RawField::Absent,
        Some(raw) => match raw_field(Some(raw)) {
            RawField::Absent => RawField::Cell(""),
            field => field,
        },
    };
    Ok(values.found.iter().map(field).collect())
}

/// Takes the values of the keys that are wanted.
struct Values<'w, 'l> {
    wanted: &'w [Wanted],
    found: Vec<Option<&'l RawValue>>,
    /// A column whose key occurs twice.
    twice: Option<usize>,
}

impl<'l> Visitor<'l> for &mut Values<'_, 'l> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'l>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(column) = map.next_key_seed(Key(self.wanted))? {
            let Some(column) = column else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            if self.found[column].is_some() {
                self.twice = Some(column);
            }
            self.found[column] = Some(map.next_value()?);
        }
        Ok(())
    }
}

/// The column that a key names.
struct Key<'w>(&'w [Wanted]);

impl<'l> DeserializeSeed<'l> for Key<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'l>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().position(|wanted| wanted.name == key))
    }
}

/// The keys that were met.
#[derive(Default)]
struct Keys {
    names: Vec<String>,
    known: std::collections::HashSet<String>,
}

impl<'l> Visitor<'l> for &mut Keys {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'l>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<std::borrow::Cow<'l, str>>()? {
            if !self.known.contains(key.as_ref()) {
                self.known.insert(key.clone().into_owned());
                self.names.push(key.into_owned());
            }
            map.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }
}
