//! Tests that no row of a file that was cut short or damaged vanishes silently.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};

use super::{As, End, Options, Table, Wanted};

const PLAIN: Options = Options {
    separator: None,
    encoding: None,
    is_strict: false,
};
const STRICT: Options = Options {
    is_strict: true,
    ..PLAIN
};
const NAMES: [&str; 3] = ["user_id", "note", "value"];
const NOTES: [&str; 4] = ["plain", "two\nlines", "say \"so\", ü", "5\" screen"];

/// Returns the rows of a file, and its end or the reason why it is rejected.
pub(super) fn read(path: &Path, options: Options) -> (Vec<String>, Result<End, String>) {
    let mut rows = Vec::new();
    let wanted = NAMES.map(|name| Wanted {
        name: name.to_owned(),
        read_as: As::Field,
    });
    let end = Table::open(path, None, "--format", options).and_then(|table| {
        table.rows(&wanted, &mut |_, row| {
            rows.push(match row {
                Ok(row) => format!("{:?}", row.fields),
                Err(reason) => format!("bad: {reason}"),
            });
            Ok(())
        })
    });
    (rows, end.map_err(|error| format!("{error:#}")))
}

pub(super) fn delimited(separator: char, line_break: &str) -> String {
    let separator = separator.to_string();
    let mut text = NAMES.join(&separator) + line_break;
    for (note, user) in NOTES.iter().zip(1..) {
        let note = match note.contains(['\n', ',']) {
            true => format!("\"{}\"", note.replace('"', "\"\"")),
            false => (*note).to_owned(),
        };
        text += &[user.to_string(), note, format!("{user}.5")].join(&separator);
        text += line_break;
    }
    text
}

pub(super) fn ndjson() -> String {
    let row = |(note, user): (&&str, i64)| {
        let note = serde_json::to_string(note).unwrap();
        format!("{{\"user_id\":{user},\"note\":{note},\"value\":{user}.5}}\n")
    };
    NOTES.iter().zip(1..).map(row).collect()
}

fn batch() -> RecordBatch {
    let users: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3, 4]));
    let notes: ArrayRef = Arc::new(StringArray::from(NOTES.to_vec()));
    let values: ArrayRef = Arc::new(StringArray::from(vec!["1.5", "2.5", "3.5", "4.5"]));
    RecordBatch::try_from_iter([(NAMES[0], users), (NAMES[1], notes), (NAMES[2], values)]).unwrap()
}

pub(super) fn parquet() -> Vec<u8> {
    let batch = batch();
    let mut bytes = Vec::new();
    let mut writer =
        parquet::arrow::ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    bytes
}

pub(super) fn feather() -> Vec<u8> {
    let batch = batch();
    let mut bytes = Vec::new();
    let mut writer = arrow_ipc::writer::FileWriter::try_new(&mut bytes, &batch.schema()).unwrap();
    writer.write(&batch).unwrap();
    writer.finish().unwrap();
    drop(writer);
    bytes
}

pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap()
}

/// Builds two frames with checksums, as `zstd` and `pzstd` write them.
pub(super) fn zstd(bytes: &[u8]) -> Vec<u8> {
    let frame = |part: &[u8]| {
        let mut writer = zstd::Encoder::new(Vec::new(), 3).unwrap();
        writer.include_checksum(true).unwrap();
        writer.write_all(part).unwrap();
        writer.finish().unwrap()
    };
    let (first, second) = bytes.split_at(bytes.len() / 2);
    [frame(first), frame(second)].concat()
}

/// Where the first of two frames ends: what is cut there is a whole file of fewer bytes.
fn end_of_first_frame(bytes: &[u8]) -> usize {
    let is_magic = |at: &usize| bytes[*at..].starts_with(&[0x28, 0xb5, 0x2f, 0xfd]);
    (1..bytes.len()).find(is_magic).unwrap()
}

/// Whether CSV that is cut at `length` is cut between quotes.
fn is_quoted(text: &[u8], separator: u8, length: usize) -> bool {
    let mut is_quoted = false;
    for at in 0..length {
        let opens = at == 0 || text[at - 1] == separator || text[at - 1] == b'\n';
        if text[at] == b'"' && (is_quoted || opens) {
            is_quoted = !is_quoted;
        }
    }
    is_quoted
}

#[test]
fn compressed_and_columnar_files_that_were_cut_at_any_byte_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let texts = [
        ("csv", delimited(',', "\n")),
        ("tsv", delimited('\t', "\n")),
        ("ndjson", ndjson()),
    ];
    let mut files = vec![
        ("t.parquet".to_owned(), parquet(), None),
        ("t.feather".to_owned(), feather(), None),
    ];
    for (format, text) in &texts {
        let (gz, zst) = (gzip(text.as_bytes()), zstd(text.as_bytes()));
        files.push((format!("t.{format}.gz"), gz, None));
        let end = end_of_first_frame(&zst);
        files.push((format!("t.{format}.zst"), zst, Some(end)));
    }
    for (name, bytes, end_of_frame) in files {
        let path = directory.path().join(&name);
        fs::write(&path, &bytes).unwrap();
        let (rows, end) = read(&path, STRICT);
        assert_eq!(
            (rows.len(), end.map(|end| end.n_rows)),
            (4, Ok(4)),
            "{name}"
        );
        for length in 0..bytes.len() {
            fs::write(&path, &bytes[..length]).unwrap();
            if Some(length) == end_of_frame {
                // A whole file of half the text, which is cut within a row.
                let (_, end) = read(&path, STRICT);
                end.unwrap_err();
                continue;
            }
            let (rows, end) = read(&path, PLAIN);
            let error = end.expect_err(&format!("{name} cut at {length}: {rows:?}"));
            assert!(
                ["cut short", "ends early", "to its end", "cannot read"]
                    .iter()
                    .any(|words| error.contains(words)),
                "{name} cut at {length}: {error}"
            );
        }
    }
}

#[test]
fn compressed_files_with_any_byte_changed_are_refused_or_give_the_same_rows() {
    let directory = tempfile::tempdir().unwrap();
    for (format, text) in [("csv", delimited(',', "\n")), ("ndjson", ndjson())] {
        for (ending, bytes) in [
            ("gz", gzip(text.as_bytes())),
            ("zst", zstd(text.as_bytes())),
        ] {
            let path = directory.path().join(format!("t.{format}.{ending}"));
            fs::write(&path, &bytes).unwrap();
            let (sound, end) = read(&path, STRICT);
            assert_eq!(end.unwrap().n_rows, 4);
            let mut n_refused = 0;
            for at in 0..bytes.len() {
                for change in [0x01, 0x10, 0x80, 0xff] {
                    let mut damaged = bytes.clone();
                    damaged[at] ^= change;
                    fs::write(&path, &damaged).unwrap();
                    match read(&path, PLAIN) {
                        (rows, Ok(end)) => assert_eq!(
                            (&rows, end.warnings),
                            (&sound, Vec::new()),
                            "{format}.{ending}, byte {at} changed by {change:#x}"
                        ),
                        (_, Err(_)) => n_refused += 1,
                    }
                }
            }
            assert!(n_refused > bytes.len(), "{format}.{ending}: {n_refused}");
        }
    }
}

#[test]
fn json_lines_that_were_cut_within_a_line_are_refused_and_else_give_the_lines_before() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("t.ndjson");
    let text = ndjson();
    fs::write(&path, &text).unwrap();
    let (whole, _) = read(&path, STRICT);
    for length in 0..text.len() {
        let cut = &text.as_bytes()[..length];
        fs::write(&path, cut).unwrap();
        let n_whole = cut.iter().filter(|byte| **byte == b'\n').count();
        // A line is whole without its line break too.
        let n_whole = n_whole + usize::from(text.as_bytes()[length] == b'\n');
        let is_within =
            length > 0 && cut.last() != Some(&b'\n') && text.as_bytes()[length] != b'\n';
        let (rows, end) = read(&path, PLAIN);
        if is_within {
            let error = end.unwrap_err();
            assert!(error.contains("cut short"), "{length}: {error}");
            assert!(
                error.contains(&format!("row {}", n_whole + 1)),
                "{length}: {error}"
            );
        } else if n_whole > 0 {
            assert_eq!(
                (end.unwrap().n_rows, &rows[..]),
                (n_whole as u64, &whole[..n_whole]),
                "{length}"
            );
        }
    }
}

#[test]
fn csv_that_was_cut_says_so_unless_a_line_ends_there() {
    let directory = tempfile::tempdir().unwrap();
    for (name, separator, line_break) in [
        ("t.csv", ',', "\n"),
        ("crlf.csv", ';', "\r\n"),
        ("t.tsv", '\t', "\n"),
    ] {
        let path = directory.path().join(name);
        let text = delimited(separator, line_break);
        fs::write(&path, &text).unwrap();
        let (whole, end) = read(&path, STRICT);
        assert_eq!(
            (whole.len(), end.map(|end| end.warnings)),
            (4, Ok(Vec::new()))
        );
        for length in 0..text.len() {
            let cut = &text.as_bytes()[..length];
            fs::write(&path, cut).unwrap();
            let at = format!("{name} cut at {length}");
            let is_open = is_quoted(text.as_bytes(), separator as u8, length);
            let (rows, end) = read(&path, PLAIN);
            let is_line = !is_open && cut.last().is_some_and(|byte| b"\r\n".contains(byte));
            if is_open {
                let error = end.expect_err(&at);
                assert!(
                    error.contains("quote") && error.contains("row "),
                    "{at}: {error}"
                );
            } else if is_line {
                assert_eq!(end.expect(&at).warnings, [""; 0], "{at}");
                assert_eq!(rows, whole[..rows.len()], "{at}");
            } else if let Ok(end) = end {
                let [warning] = &end.warnings[..] else {
                    panic!("{at}: {:?}", end.warnings)
                };
                let last = format!("after row {}, the last one", end.n_rows);
                let is_named = end.n_rows == 0 || warning.contains(&last);
                assert!(is_named, "{at}: {warning}");
                let before = rows.len().saturating_sub(1);
                assert_eq!(rows[..before], whole[..before], "{at}");
            }
            if !is_line {
                read(&path, STRICT).1.expect_err(&at);
            }
        }
    }
}

#[test]
fn utf_16_that_was_cut_within_a_unit_or_a_pair_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("t.csv");
    let text = "user_id,note,value\r\n1,\u{1f600},2\r\n3,x,4\r\n";
    for is_big in [false, true] {
        let unit = |unit: u16| {
            if is_big {
                unit.to_be_bytes()
            } else {
                unit.to_le_bytes()
            }
        };
        let bytes: Vec<u8> = ("\u{feff}".to_owned() + text)
            .encode_utf16()
            .flat_map(unit)
            .collect();
        fs::write(&path, &bytes).unwrap();
        assert_eq!(read(&path, STRICT).1.map(|end| end.n_rows), Ok(2));
        let pair = 2 + 2 * text.find('\u{1f600}').unwrap();
        for length in (1..bytes.len()).filter(|length| length % 2 == 1 || *length == pair + 2) {
            fs::write(&path, &bytes[..length]).unwrap();
            let (rows, end) = read(&path, PLAIN);
            let error = end.expect_err(&format!("{length}: {rows:?}"));
            assert!(
                length < 3 || error.contains("cut short"),
                "{length}: {error}"
            );
        }
    }
}

#[test]
fn a_stray_quote_is_refused_with_its_row_and_line() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("t.csv");
    let head = "user_id,note,value\n1,x,1\n2,\"two\nlines\",1\n";
    for (rest, place, n_before) in [
        // It is open until a later quoted cell, or to the end.
        (
            "3,\"oops,1\n4,y,1\n5,\"fine\",1\n6,z,1\n",
            "row 3 (line 5)",
            2,
        ),
        ("3,\"oops,1\n4,y,1\n5,\"\",1\n6,z,1\n", "row 3 (line 5)", 2),
        ("3,x,1\n4,y,\"1\n5,z,1\n", "row 4 (line 6)", 3),
        // Other line breaks than LF count as lines too.
        ("3,x,1\r4,y,1\r5,\"oops,1\r6,z,1\r", "row 5 (line 7)", 4),
        (
            "3,x,1\r\n4,y,1\r\n5,\"oops,1\r\n6,z,1\r\n",
            "row 5 (line 7)",
            4,
        ),
    ] {
        fs::write(&path, format!("{head}{rest}")).unwrap();
        let (rows, end) = read(&path, PLAIN);
        let error = end.expect_err(rest);
        assert!(error.contains(place), "{rest:?}: {error}");
        assert!(
            error.contains(&format!("only {n_before} rows")),
            "{rest:?}: {error}"
        );
        assert_eq!(rows.len(), n_before, "{rest:?}");
    }
    fs::write(&path, "user_id,\"note,value\n1,x,1\n2,y,1\n").unwrap();
    let error = read(&path, PLAIN).1.unwrap_err();
    assert!(error.contains("the header (line 1)"), "{error}");
}

#[test]
fn a_row_of_more_than_8_mib_is_refused_whether_quoted_or_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("t.csv");
    let long = "x".repeat(9 << 20);
    for (cell, says) in [
        (long.clone(), "a row has more than 8 MiB"),
        (format!("\"{long}\""), "row 2 (line 3)"),
    ] {
        fs::write(&path, format!("user_id,note,value\n1,x,1\n2,{cell},1\n")).unwrap();
        let error = read(&path, PLAIN).1.unwrap_err();
        assert!(
            error.contains(says) && error.contains("only 1 row"),
            "{error}"
        );
    }
}

#[test]
fn rows_between_stray_quotes_are_told_and_texts_of_several_lines_are_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("t.csv");
    for (rows, n_rows, lines) in [
        // A quote opened in one row and closed at the end of another.
        ("1,a,\"b\n2,a,b\n3,a,b\"\n4,a,b\n", 2, Some("2 lines")),
        ("1,\"a,b\n2,a\",b\n3,a,b\n", 2, Some("1 line")),
        ("1,\"a,b\r\n2,a\",b\r\n", 1, Some("1 line")),
        // Texts of several lines.
        ("1,\"a\nb\",c\n2,\"a, b\nc\n\nd\",e\n", 2, None),
        ("1,\"{\"\"a\"\":1,\n\"\"b\"\":2}\",c\n", 1, None),
    ] {
        fs::write(&path, NAMES.join(",") + "\n" + rows).unwrap();
        let end = read(&path, PLAIN).1.unwrap();
        assert_eq!(end.n_rows, n_rows, "{rows}");
        match (lines, &end.warnings[..]) {
            (None, []) => {}
            (Some(lines), [warning]) => {
                assert!(
                    warning.contains(lines) && warning.contains("row 1 "),
                    "{warning}"
                );
                read(&path, STRICT).1.expect_err(rows);
            }
            (_, warnings) => panic!("{rows}: {warnings:?}"),
        }
    }
}

#[test]
fn a_feather_file_with_any_byte_changed_is_refused_or_read_and_never_ends_the_program() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("t.feather");
    let bytes = feather();
    let mut n_refused = 0;
    for at in 0..bytes.len() {
        for change in [0x01, 0x55, 0x80] {
            let mut damaged = bytes.clone();
            damaged[at] ^= change;
            fs::write(&path, &damaged).unwrap();
            // It has no checksums: a changed letter is another letter.
            if let (_, Err(error)) = read(&path, PLAIN) {
                n_refused += 1;
                for word in ["panicked", "Parser error", "Io error", "Ipc"] {
                    assert!(!error.contains(word), "{at} {change}: {error}");
                }
            }
        }
    }
    assert!(n_refused > bytes.len() / 4, "{n_refused}");
}

#[test]
fn ids_that_are_rounded_doubles_are_told() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("t.parquet");
    for (ids, is_told) in [
        (vec![1.0, 2.0], false),
        (vec![1.0, 9_007_199_254_740_992.0], true),
    ] {
        let users: ArrayRef = Arc::new(arrow_array::Float64Array::from(ids));
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["a", "b"]));
        let columns = [
            (NAMES[0], users),
            (NAMES[1], texts.clone()),
            (NAMES[2], texts),
        ];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let mut bytes = Vec::new();
        let mut writer =
            parquet::arrow::ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        fs::write(&path, &bytes).unwrap();
        let end = read(&path, PLAIN).1.unwrap();
        let told = end
            .warnings
            .iter()
            .any(|warning| warning.contains("`user_id`") && warning.contains("one"));
        assert_eq!(told, is_told, "{:?}", end.warnings);
    }
}
