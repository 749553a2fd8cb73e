//! Tests that one random table gives the same events in every format.
//!
//! `TRIALOG_TABLES` is how many tables are compared, `TRIALOG_SEED` the seed of the first
//! one. `scripts/tables` compares ten thousand.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::{
    ArrayRef, BooleanArray, Decimal128Array, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray, UInt64Array,
};
use encoding_rs::WINDOWS_1252;
use fastrand::Rng;
use trialog_model::cell::{boolean, is_no_value, is_number};
use trialog_model::event::{Event, EventError, EventKind, Rules};
use trialog_model::time::UnixMicros;
use trialog_model::wire;

use super::cells::Layout;
use super::columns::{Mapping, Origin};
use super::survey::survey;
use super::times::{Times, Unit, Zone};
use crate::cli::TableArgs;
use crate::table::decimal::Decimal;
use crate::table::encoding::Encoding;
use crate::table::{Options, Table};

const NOW: UnixMicros = UnixMicros(1_780_300_000_000_000);

/// What a column holds, and so how each form writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Texts,
    Integers,
    /// Whole numbers beyond BIGINT among others.
    Unsigned,
    Doubles,
    /// DECIMAL(38, 4).
    Decimals,
    Booleans,
    /// Points in time; as text in forms without such a type.
    Times,
    /// JSON objects and the like.
    Json,
}

#[derive(Debug, Clone)]
struct Column {
    name: &'static str,
    kind: Kind,
    /// The cells in the plainest spelling; `None` is missing.
    cells: Vec<Option<String>>,
}

/// A random table with the options for reading it.
#[derive(Debug)]
struct Sheet {
    event_kind: EventKind,
    columns: Vec<Column>,
    time_zone: Option<&'static str>,
    unit: Unit,
    skip_zero: bool,
    has_decimal_comma: bool,
}

fn pick<'t>(rng: &mut Rng, from: &[&'t str]) -> &'t str {
    from[rng.usize(..from.len())]
}

/// `n_rows` cells, one in `one_in` of them missing.
fn cells(
    rng: &mut Rng,
    n_rows: usize,
    one_in: usize,
    mut cell: impl FnMut(&mut Rng) -> String,
) -> Vec<Option<String>> {
    (0..n_rows)
        .map(|_| (rng.usize(..one_in) > 0).then(|| cell(rng)))
        .collect()
}

fn some_text(rng: &mut Rng) -> String {
    let texts = [
        "anna",
        "12e4a",
        "0072",
        "+1",
        "1e",
        "Zoë",
        "señor",
        "a,b;c|d",
        "say \"so\"",
        "\"",
        "x y",
        "7",
        "-3",
        "ffee12",
        "don't",
        "9223372036854775808",
        "1.0.2",
        "€5",
    ];
    match rng.u8(..3) {
        0 => format!("user-{}", rng.u16(..)),
        1 => format!("{:08x}", rng.u32(..)),
        _ => pick(rng, &texts).to_owned(),
    }
}

/// Ids, or names, of which a column of texts holds one that is no number.
fn ids(rng: &mut Rng, name: &'static str, n_rows: usize, is_name: bool) -> Column {
    let (kind, mut cells) = match rng.u8(..6) {
        0 => {
            let one_in = [3, 100][rng.usize(..2)];
            let words = ["null", "undefined", "NaN", "None", "\\N", "N/A"];
            let cells = cells(rng, n_rows, 20, |rng| match rng.usize(..one_in) {
                0 => pick(rng, &words).to_owned(),
                _ => rng.u32(..50).to_string(),
            });
            let is_plain = |cell: &Option<String>| cell.as_deref().is_none_or(is_number);
            // A column of numbers has no words in a table with types.
            let kind = if cells.iter().all(is_plain) {
                Kind::Integers
            } else {
                Kind::Texts
            };
            return Column { name, kind, cells };
        }
        1 => (
            Kind::Integers,
            cells(rng, n_rows, 9, |rng| match rng.u8(..3) {
                0 => rng.i64(..).to_string(),
                1 => ((1i64 << 53) + rng.i64(..100)).to_string(),
                _ => rng.i64(-9..99).to_string(),
            }),
        ),
        2 => (
            Kind::Unsigned,
            cells(rng, n_rows, 9, |rng| match rng.u8(..2) {
                0 => rng.u64(..).to_string(),
                _ => rng.u64(..99).to_string(),
            }),
        ),
        3 => (
            Kind::Doubles,
            cells(rng, n_rows, 5, |rng| match rng.u8(..4) {
                0 => ((1u64 << 53) as f64 * f64::from(rng.u8(1..)) * 64.0).to_string(),
                1 if !is_name => "NaN".to_owned(),
                _ => rng.i64(-9..9_999).to_string(),
            }),
        ),
        4 if is_name => (
            Kind::Booleans,
            cells(rng, n_rows, 9, |rng| rng.bool().to_string()),
        ),
        _ => (Kind::Texts, cells(rng, n_rows, 12, some_text)),
    };
    let is_text = |cell: &Option<String>| {
        (cell.as_deref())
            .is_some_and(|text| !is_number(text) && !is_no_value(text) && boolean(text).is_none())
    };
    if kind == Kind::Texts && !cells.iter().any(is_text) {
        cells[0] = Some("control".to_owned());
    }
    Column { name, kind, cells }
}

/// Times, and the unit of those that are numbers.
fn times(rng: &mut Rng, name: &'static str, n_rows: usize, zone: bool, unit: Unit) -> Column {
    let micros = |rng: &mut Rng| match rng.u8(..12) {
        0 => rng.i64(0..900_000_000) * 1_000_000,
        1 => NOW.0 + rng.i64(86_400..9_000_000) * 1_000_000,
        _ => NOW.0 - rng.i64(0..900_000_000) * 100_000,
    };
    let per_unit = match unit {
        Unit::S => 1_000_000,
        Unit::Ms => 1_000,
        Unit::Us | Unit::Ns => 1,
    };
    let text = move |rng: &mut Rng| {
        let iso = UnixMicros(micros(rng)).to_rfc3339();
        let plain = iso.trim_end_matches('Z').to_owned();
        let spaced = plain.replace('T', " ");
        let minute = iso[..16].to_owned();
        match rng.u8(..if zone { 14 } else { 10 }) {
            0 => format!("{spaced} UTC"),
            1 => format!("{spaced}+02"),
            2 => format!("{plain}-0530"),
            3 => format!("{minute}Z"),
            4 => format!("{spaced} +01:00"),
            5 if rng.bool() => pick(
                rng,
                &[
                    "yesterday",
                    "2026-02-30T00:00:00Z",
                    "1",
                    "NaN",
                    "2026-01-01T25:00:00Z",
                ],
            )
            .to_owned(),
            10 => spaced,
            11 => plain,
            12 => minute,
            13 => iso[..10].to_owned(),
            _ => iso,
        }
    };
    let (kind, cells) = match rng.u8(..5) {
        0 => (
            Kind::Times,
            cells(rng, n_rows, 15, |rng| UnixMicros(micros(rng)).to_rfc3339()),
        ),
        1 => (
            Kind::Integers,
            cells(rng, n_rows, 15, |rng| (micros(rng) / per_unit).to_string()),
        ),
        2 => (
            Kind::Doubles,
            cells(rng, n_rows, 15, |rng| {
                ((micros(rng) / per_unit) as f64).to_string()
            }),
        ),
        _ => (Kind::Texts, cells(rng, n_rows, 15, text)),
    };
    Column { name, kind, cells }
}

fn values(rng: &mut Rng, name: &'static str, n_rows: usize) -> Column {
    let spellings = [
        "0",
        "0.00",
        "-0.0",
        "0e+00",
        "-0",
        "1e2",
        "12.5",
        "-3.25",
        "0.00001",
        "1e300",
        "-1e40",
        "1e-400",
        "7",
        "99999999999999",
        "0.1",
        "NaN",
        "Infinity",
        "-inf",
        "abc",
        "true",
        "1.2.3",
        "+5",
        ".5",
        "5.",
        "0x10",
    ];
    let (kind, cells) = match rng.u8(..5) {
        0 => (
            Kind::Integers,
            cells(rng, n_rows, 9, |rng| match rng.u8(..5) {
                0 => "0".to_owned(),
                1 => rng.i64(..).to_string(),
                _ => rng.i64(-99..999).to_string(),
            }),
        ),
        1 => (
            Kind::Decimals,
            cells(rng, n_rows, 9, |rng| match rng.u8(..4) {
                0 => "0.0000".to_owned(),
                _ => format!(
                    "{}{}.{:04}",
                    pick(rng, &["", "-"]),
                    rng.u16(..),
                    rng.u16(..10_000)
                ),
            }),
        ),
        2 => (
            Kind::Booleans,
            cells(rng, n_rows, 9, |rng| rng.bool().to_string()),
        ),
        3 => (
            Kind::Texts,
            cells(rng, n_rows, 9, |rng| pick(rng, &spellings).to_owned()),
        ),
        _ => (
            Kind::Doubles,
            cells(rng, n_rows, 9, |rng| {
                let number = match rng.u8(..9) {
                    0 => 0.0,
                    1 => -0.0,
                    2 => 1e-5,
                    3 => 1e300,
                    4 => f64::NAN,
                    5 => f64::from(rng.i16(..)),
                    _ => f64::from(rng.i32(..)) / 128.0,
                };
                number.to_string()
            }),
        ),
    };
    Column { name, kind, cells }
}

fn forced(rng: &mut Rng, name: &'static str, n_rows: usize) -> Column {
    let (kind, cells) = match rng.u8(..3) {
        0 => (
            Kind::Booleans,
            cells(rng, n_rows, 3, |rng| rng.bool().to_string()),
        ),
        1 => (
            Kind::Integers,
            cells(rng, n_rows, 3, |rng| rng.u8(..3).to_string()),
        ),
        _ => (
            Kind::Doubles,
            cells(rng, n_rows, 3, |rng| {
                pick(rng, &["0", "1", "2", "0.5"]).to_owned()
            }),
        ),
    };
    Column { name, kind, cells }
}

fn contexts(rng: &mut Rng, n_rows: usize) -> Column {
    let many: Vec<String> = (0..65).map(|key| format!("\"k{key}\":{key}")).collect();
    let many = format!("{{{}}}", many.join(","));
    let long = format!("{{\"a\":\"{}\"}}", "x".repeat(5_000));
    let objects = [
        "{}",
        "{\"country\":\"DE\"}",
        "{\"n\":1.50,\"deep\":{\"a\":[1,2]}}",
        "{\"q\":\"say \\\"so\\\", é\"}",
        "[1]",
        "3",
        &many,
        &long,
        "{\"country\":\"DE\",\"age\":null}",
    ];
    let cells = cells(rng, n_rows, 3, |rng| pick(rng, &objects).to_owned());
    Column {
        name: "context",
        kind: Kind::Json,
        cells,
    }
}

impl Sheet {
    fn random(rng: &mut Rng) -> Self {
        let event_kind = EventKind::ALL[rng.usize(..2)];
        let n_rows = rng.usize(1..12);
        let time_zone = match rng.u8(..4) {
            0 => Some(pick(rng, &["Europe/Berlin", "+05:30", "UTC"])),
            _ => None,
        };
        let unit = match rng.u8(..4) {
            0 => Unit::S,
            1 => Unit::Us,
            _ => Unit::Ms,
        };
        let is_local = time_zone.is_some() || rng.u8(..8) == 0;
        let mut columns = vec![
            ids(rng, "user_id", n_rows, false),
            ids(rng, "experiment_id", n_rows, true),
            ids(rng, event_kind.name_field(), n_rows, true),
            times(rng, event_kind.time_field(), n_rows, is_local, unit),
        ];
        let is_metric = event_kind == EventKind::Metric;
        if rng.u8(..5) > 0 {
            let name = event_kind.value_field();
            columns.push(if is_metric {
                values(rng, name, n_rows)
            } else {
                forced(rng, name, n_rows)
            });
        }
        if rng.bool() {
            columns.push(ids(rng, "event_id", n_rows, false));
        }
        if !is_metric && rng.bool() {
            columns.push(contexts(rng, n_rows));
        }
        if rng.bool() {
            let cells = cells(rng, n_rows, 4, |rng| {
                pick(rng, &["a\nb", "x\r\n\"y\"", "1", ",;|", "it\"s"]).to_owned()
            });
            columns.push(Column {
                name: "note",
                kind: Kind::Texts,
                cells,
            });
        }
        rng.shuffle(&mut columns);
        Self {
            event_kind,
            columns,
            time_zone,
            unit,
            skip_zero: is_metric && rng.u8(..4) == 0,
            has_decimal_comma: rng.u8(..4) == 0,
        }
    }

    fn n_rows(&self) -> usize {
        self.columns[0].cells.len()
    }

    fn texts(&self) -> impl Iterator<Item = &str> {
        self.columns
            .iter()
            .flat_map(|column| column.cells.iter().flatten())
            .map(String::as_str)
    }

    fn mapping(&self, decimal: Option<Decimal>) -> Mapping {
        let column = |name: &str| Origin::Column(name.to_owned());
        let optional = |name: &str| Origin::Optional(name.to_owned());
        Mapping {
            kind: self.event_kind,
            user: column("user_id"),
            experiment: column("experiment_id"),
            name: column(self.event_kind.name_field()),
            time: column(self.event_kind.time_field()),
            value: optional(self.event_kind.value_field()),
            event_id: optional("event_id"),
            event_fingerprint: optional("event_fingerprint"),
            context: match self.event_kind {
                EventKind::Assignment => optional("context"),
                EventKind::Metric => Origin::Nothing,
            },
            context_columns: Vec::new(),
            time_zone: self.time_zone.map(|zone| Zone::new(zone).unwrap()),
            time_unit: self.unit,
            skip_zero: self.skip_zero,
            ids: None,
            decimal,
            allows_placeholder_ids: false,
        }
    }

    /// Returns whether a body over HTTP can express the same: a request has no options, so its
    /// times name their zone, numbers count milliseconds, and every value is an event.
    fn is_sayable_over_http(&self) -> bool {
        self.time_zone.is_none() && self.unit == Unit::Ms && !self.skip_zero
    }
}

/// A number in one of the spellings that JSON and CSV have for it.
fn spelled(rng: &mut Rng, column: &Column, text: &str) -> String {
    if column.kind != Kind::Doubles {
        return text.to_owned();
    }
    let number: f64 = text.parse().unwrap();
    if !number.is_finite() {
        return text.to_owned();
    }
    match rng.u8(..3) {
        0 => format!("{number:e}"),
        1 => format!("{number:?}"),
        _ => text.to_owned(),
    }
}

/// How a text in cells is divided.
#[derive(Debug, Clone, Copy)]
struct Style {
    separator: char,
    line_break: &'static str,
    quotes_all: bool,
    has_end: bool,
    decimal_comma: bool,
}

impl Style {
    fn random(rng: &mut Rng, sheet: &Sheet) -> Self {
        let separator = [',', ';', '\t', '|'][rng.usize(..4)];
        Self {
            separator,
            line_break: ["\n", "\r\n"][rng.usize(..2)],
            quotes_all: rng.u8(..3) == 0,
            has_end: rng.u8(..4) > 0,
            decimal_comma: separator == ';' && sheet.has_decimal_comma,
        }
    }

    fn decimal(self) -> Option<Decimal> {
        match self.decimal_comma {
            true => Some(Decimal::Comma),
            false => Some(Decimal::Point),
        }
    }
}

fn csv(rng: &mut Rng, sheet: &Sheet, style: Style) -> String {
    let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
    let mut rows = vec![];
    let header: Vec<String> = (sheet.columns.iter())
        .map(|column| {
            if style.quotes_all {
                quoted(column.name)
            } else {
                column.name.to_owned()
            }
        })
        .collect();
    rows.push(header.join(&style.separator.to_string()));
    for row in 0..sheet.n_rows() {
        let mut cells = Vec::new();
        for column in &sheet.columns {
            let Some(text) = &column.cells[row] else {
                cells.push(String::new());
                continue;
            };
            let mut text = spelled(rng, column, text);
            if style.decimal_comma && column.name == "value" {
                text = text.replace('.', ",");
            }
            let must = text.contains([style.separator, '\n', '\r']) || text.starts_with('"');
            let is_quoted = must || style.quotes_all || rng.u8(..6) == 0;
            cells.push(if is_quoted { quoted(&text) } else { text });
        }
        rows.push(cells.join(&style.separator.to_string()));
    }
    let mut text = rows.join(style.line_break);
    if style.has_end {
        text += style.line_break;
    }
    text
}

fn ndjson(rng: &mut Rng, sheet: &Sheet) -> String {
    let mut text = String::new();
    for row in 0..sheet.n_rows() {
        let mut members = Vec::new();
        for column in &sheet.columns {
            let cell = match &column.cells[row] {
                // Without the member a metric event counts 1; and each name stands in one row.
                None if row == 0 || column.name == "value" || rng.bool() => "null".to_owned(),
                None => continue,
                Some(text) => match column.kind {
                    Kind::Texts | Kind::Times => serde_json::to_string(text).unwrap(),
                    Kind::Doubles if text == "NaN" => "\"NaN\"".to_owned(),
                    _ => spelled(rng, column, text),
                },
            };
            members.push(format!("\"{}\":{cell}", column.name));
        }
        text += &format!("{{{}}}\n", members.join(pick(rng, &[",", ", "])));
    }
    text
}

fn batch(sheet: &Sheet) -> RecordBatch {
    fn parsed<T: std::str::FromStr<Err: std::fmt::Debug>>(column: &Column) -> Vec<Option<T>> {
        let parse = |cell: &Option<String>| cell.as_ref().map(|text| text.parse().unwrap());
        column.cells.iter().map(parse).collect()
    }
    let array = |column: &Column| -> ArrayRef {
        match column.kind {
            Kind::Texts | Kind::Json => Arc::new(StringArray::from(column.cells.clone())),
            Kind::Integers => Arc::new(Int64Array::from(parsed::<i64>(column))),
            Kind::Unsigned => Arc::new(UInt64Array::from(parsed::<u64>(column))),
            Kind::Doubles => Arc::new(Float64Array::from(parsed::<f64>(column))),
            Kind::Booleans => Arc::new(BooleanArray::from(parsed::<bool>(column))),
            Kind::Decimals => {
                let digits = |cell: &Option<String>| {
                    cell.as_ref()
                        .map(|text| text.replace('.', "").parse().unwrap())
                };
                let digits: Decimal128Array = column.cells.iter().map(digits).collect();
                Arc::new(digits.with_precision_and_scale(38, 4).unwrap())
            }
            Kind::Times => {
                let micros = |cell: &Option<String>| {
                    cell.as_ref()
                        .map(|text| UnixMicros::parse_rfc3339(text).unwrap().0)
                };
                let micros: TimestampMicrosecondArray = column.cells.iter().map(micros).collect();
                Arc::new(micros.with_timezone("UTC"))
            }
        }
    };
    let named = sheet
        .columns
        .iter()
        .map(|column| (column.name, array(column), true));
    RecordBatch::try_from_iter_with_nullable(named).unwrap()
}

fn parquet(batch: &RecordBatch) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer =
        parquet::arrow::ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
    bytes
}

fn feather(batch: &RecordBatch) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = arrow_ipc::writer::FileWriter::try_new(&mut bytes, &batch.schema()).unwrap();
    writer.write(batch).unwrap();
    writer.finish().unwrap();
    drop(writer);
    bytes
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut compressed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut compressed, bytes).unwrap();
    compressed.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

/// What became of a row, in a form that compares.
fn outcome(event: Result<Option<Event<'_>>, EventError>) -> String {
    match event {
        Ok(Some(event)) => format!("{event:?}"),
        Ok(None) => "no event".to_owned(),
        Err(error) => format!("{} is refused: {}", error.field, error.fault.as_str()),
    }
}

fn rules() -> Rules {
    Rules {
        defaults_time: false,
        ..NOW.into()
    }
}

fn imported(
    path: &Path,
    mapping: &Mapping,
    encoding: Option<Encoding>,
) -> anyhow::Result<Vec<String>> {
    let args = TableArgs {
        separator: None,
        encoding,
        decimal: None,
        strict: false,
    };
    let table = Table::open(path, None, "--format", Options::from(&args))?;
    let wanted = mapping.wanted(&table)?;
    let survey = survey(&table, mapping, &wanted)?;
    let times = Times::new(mapping.time_zone.clone(), mapping.time_unit);
    let layout = Layout::new(mapping, &wanted, &survey.decisions, &times, rules());
    let mut outcomes = Vec::new();
    table.rows(&wanted, &mut |_, row| {
        outcomes.push(outcome(layout.event(row)));
        Ok(())
    })?;
    Ok(outcomes)
}

fn sent(body: &str, kind: EventKind) -> Vec<String> {
    let mut outcomes = Vec::new();
    wire::decode(
        kind,
        body.as_bytes(),
        wire::Layout::Lines,
        rules(),
        |_, event| {
            outcomes.push(outcome(event.map(Some)));
        },
    )
    .unwrap();
    outcomes
}

/// A form of a table: its file's name, the bytes, and how they are to be read.
struct Form {
    name: &'static str,
    bytes: Vec<u8>,
    encoding: Option<Encoding>,
    decimal: Option<Decimal>,
}

/// The table in all forms but HTTP, `json` among them.
fn forms(rng: &mut Rng, sheet: &Sheet, json: &str) -> Vec<Form> {
    let batch = batch(sheet);
    let plain = |name, bytes| Form {
        name,
        bytes,
        encoding: None,
        decimal: None,
    };
    let mut forms = vec![
        plain("t.ndjson", json.as_bytes().to_vec()),
        plain("t.parquet", parquet(&batch)),
        plain("t.feather", feather(&batch)),
    ];
    if rng.bool() {
        forms.push(plain("t.jsonl.gz", gzip(json.as_bytes())));
    } else {
        forms.push(plain("t.jsonl.zst", zstd(json.as_bytes())));
    }
    let mut delimited = |name, encode: &dyn Fn(&str) -> Vec<u8>, encoding| {
        let style = Style::random(rng, sheet);
        let bytes = encode(&csv(rng, sheet, style));
        forms.push(Form {
            name,
            bytes,
            encoding,
            decimal: style.decimal(),
        });
    };
    let utf16 = |text: &str| {
        ("\u{feff}".to_owned() + text)
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect()
    };
    delimited("t.csv", &|text| text.as_bytes().to_vec(), None);
    delimited(
        "bom.csv",
        &|text| format!("\u{feff}{text}").into_bytes(),
        None,
    );
    delimited("t.csv.gz", &|text| gzip(text.as_bytes()), None);
    delimited("t.csv.zst", &|text| zstd(text.as_bytes()), None);
    delimited("utf16.csv", &utf16, None);
    if sheet.texts().all(|text| !WINDOWS_1252.encode(text).2) {
        let latin = |text: &str| WINDOWS_1252.encode(text).0.into_owned();
        delimited("latin.csv", &latin, Some(Encoding::Windows1252));
    }
    forms
}

fn number_from(variable: &str, default: u64) -> u64 {
    #[expect(clippy::disallowed_methods, reason = "the size of a test")]
    let given = std::env::var(variable).ok();
    given.map_or(default, |text| text.parse().unwrap())
}

#[test]
fn the_same_table_gives_the_same_events_in_every_form() {
    let directory = tempfile::tempdir().unwrap();
    let first = number_from("TRIALOG_SEED", 13_000_000);
    let n_tables = number_from("TRIALOG_TABLES", 1_000);
    let (mut n_forms, mut n_sent, mut n_events, mut n_rows) = (0u64, 0u64, 0u64, 0u64);
    let mut failures = Vec::new();
    for seed in first..first + n_tables {
        let rng = &mut Rng::with_seed(seed);
        let sheet = Sheet::random(rng);
        let json = ndjson(rng, &sheet);
        let mut expected: Option<Vec<String>> = None;
        let mut check = |name: &str, found: Vec<String>| {
            let expected = expected.get_or_insert_with(|| found.clone());
            if *expected != found {
                let row = expected
                    .iter()
                    .zip(&found)
                    .position(|(left, right)| left != right);
                let row = row.unwrap_or_default();
                let cells: Vec<_> = (sheet.columns.iter())
                    .map(|column| (column.name, column.kind, column.cells.get(row)))
                    .collect();
                failures.push(format!(
                    "seed {seed}, {name}, row {row}:\n  first form: {:?}\n  this form: {:?}\n  {cells:?}\n",
                    expected.get(row),
                    found.get(row)
                ));
            }
        };
        for form in forms(rng, &sheet, &json) {
            let path: PathBuf = directory.path().join(form.name);
            fs::write(&path, &form.bytes).unwrap();
            let mapping = sheet.mapping(form.decimal);
            let found = imported(&path, &mapping, form.encoding);
            n_forms += 1;
            let found =
                found.unwrap_or_else(|error| vec![format!("the file is refused: {error:#}")]);
            if form.name == "t.ndjson" {
                n_rows += found.len() as u64;
                n_events += found
                    .iter()
                    .filter(|outcome| outcome.starts_with("Event"))
                    .count() as u64;
            }
            check(form.name, found);
        }
        if sheet.is_sayable_over_http() {
            n_sent += 1;
            check("over HTTP", sent(&json, sheet.event_kind));
        }
    }
    println!(
        "{n_tables} tables from seed {first}: {n_forms} files, {n_sent} bodies, {n_rows} rows, {n_events} events, {} differ",
        failures.len()
    );
    assert!(
        failures.is_empty(),
        "{} differ\n{}",
        failures.len(),
        failures[..failures.len().min(12)].concat()
    );
    // A generator that makes no events, or nothing else, would compare nothing.
    assert!(n_events * 10 > n_rows && n_events < n_rows && n_sent * 10 > n_tables);
}
