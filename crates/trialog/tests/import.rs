//! Imports through the real binary: every format gives the same events, and
//! doing it again changes nothing.

#![expect(clippy::unwrap_used, reason = "a failing helper fails its test")]

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;

use arrow_array::{
    ArrayRef, Decimal128Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use serde_json::Value;

const ASSIGNMENTS: &str = "user_id,experiment_id,variant,assigned_at,platform
1,gate,a,2026-01-01T00:00:00Z,ios
2,gate,a,2026-01-01T00:00:00Z,web
u3,gate,b,2026-01-01 00:00:00+00:00,ios
4,gate,b,1767225600000,web
";

struct Fixture {
    directory: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        let fixture = Self {
            directory: tempfile::tempdir().unwrap(),
        };
        fixture.write("assignments.csv", ASSIGNMENTS.as_bytes());
        let output = fixture.run("import assignments assignments.csv --context-column platform");
        assert!(output.status.success(), "{}", text(&output));
        fixture
    }

    fn write(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.directory.path().join(name);
        File::create(&path).unwrap().write_all(content).unwrap();
        path
    }

    fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_trialog"));
        command
            .current_dir(self.directory.path())
            .args(arguments.split(' '))
            .env("TRIALOG_DATA_DIR", "data");
        command
    }

    fn run(&self, arguments: &str) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// The sums of `buy` by variant: users, events, total.
    fn sums(&self) -> Vec<(u64, u64, String)> {
        assert!(self.run("aggregate").status.success());
        let output = self.run("results gate --metric buy:sum --format json");
        let report: Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output)));
        let rows = report["metrics"][0]["variants"].as_array().unwrap().clone();
        let sums = rows.iter().map(|row| {
            (
                row["users"].as_u64().unwrap(),
                row["events"].as_u64().unwrap(),
                row["total"].as_str().unwrap().to_owned(),
            )
        });
        sums.collect()
    }
}

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// What the metric files below come to.
fn expected() -> Vec<(u64, u64, String)> {
    vec![(2, 3, "7.7500".to_owned()), (2, 1, "-2.0001".to_owned())]
}

const CSV: &str = "user_id,experiment_id,event_type,value,timestamp
1,gate,buy,2.5,2026-01-02T00:00:00Z
1,gate,buy,2.50,2026-01-02T00:00:00Z
2,gate,buy,2.75,2026-01-02T00:00:00Z
u3,gate,buy,-2.0001,2026-01-02T00:00:00Z
";

fn ndjson() -> String {
    let mut lines = CSV.lines().skip(1).map(|line| {
        let cells: Vec<&str> = line.split(',').collect();
        format!(
            "{{\"user_id\":\"{}\",\"experiment_id\":\"{}\",\"event_type\":\"{}\",\"value\":{},\"timestamp\":\"{}\"}}\n",
            cells[0], cells[1], cells[2], cells[3], cells[4]
        )
    });
    lines.by_ref().collect()
}

/// The same rows with native types, and times without a zone.
fn parquet(path: &Path, compression: Compression) {
    let users: ArrayRef = Arc::new(StringArray::from(vec!["1", "1", "2", "u3"]));
    let experiments: ArrayRef = Arc::new(StringArray::from(vec!["gate"; 4]));
    let types: ArrayRef = Arc::new(StringArray::from(vec!["buy"; 4]));
    let values = Decimal128Array::from(vec![25_000, 25_000, 27_500, -20_001]);
    let values: ArrayRef = Arc::new(values.with_precision_and_scale(18, 4).unwrap());
    let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![
        1_767_312_000_000_000;
        4
    ]));
    let unused: ArrayRef = Arc::new(Int64Array::from(vec![0; 4]));
    let columns = [
        ("who", users),
        ("experiment_id", experiments),
        ("event_type", types),
        ("value", values),
        ("timestamp", times),
        ("unused", unused),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let properties = WriterProperties::builder()
        .set_compression(compression)
        .build();
    let mut writer = ArrowWriter::try_new(
        File::create(path).unwrap(),
        batch.schema(),
        Some(properties),
    )
    .unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

#[test]
fn every_format_gives_the_same_events() {
    let gzip = |content: &str| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(content.as_bytes()).unwrap();
        encoder.finish().unwrap()
    };
    let zstd = |content: &str| {
        ruzstd::encoding::compress_to_vec(
            content.as_bytes(),
            ruzstd::encoding::CompressionLevel::Fastest,
        )
    };
    let files = [
        ("m.csv", CSV.as_bytes().to_vec()),
        ("m.csv.gz", gzip(CSV)),
        ("m.csv.zst", zstd(CSV)),
        ("m.ndjson", ndjson().into_bytes()),
        ("m.jsonl.gz", gzip(&ndjson())),
    ];
    for (name, content) in files {
        let fixture = Fixture::new();
        fixture.write(name, &content);
        for repetition in 0..2 {
            let output = fixture.run(&format!("import metrics {name}"));
            assert!(output.status.success(), "{name}: {}", text(&output));
            assert_eq!(
                fixture.sums(),
                expected(),
                "{name}, repetition {repetition}"
            );
        }
    }
    for compression in [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::ZSTD(ZstdLevel::default()),
        Compression::LZ4_RAW,
    ] {
        let fixture = Fixture::new();
        parquet(&fixture.directory.path().join("m.parquet"), compression);
        let refused = fixture.run("import metrics m.parquet --user-column who");
        assert!(
            text(&refused).contains("give the zone of all such times with --time-zone"),
            "{}",
            text(&refused)
        );
        let output = fixture.run("import metrics m.parquet --user-column who --time-zone Z");
        assert!(output.status.success(), "{compression}: {}", text(&output));
        assert_eq!(fixture.sums(), expected(), "{compression}");
    }
}

#[test]
fn bad_rows_are_summarised_and_the_good_ones_kept() {
    let fixture = Fixture::new();
    let bad = format!(
        "{CSV}4,gate,buy,much,2026-01-02T00:00:00Z\n4,gate,buy,1,2026-01-02T00:00:00\n4,gate\n"
    );
    fixture.write("bad.csv", bad.as_bytes());
    let output = fixture.run("import metrics bad.csv");
    assert_eq!(output.status.code(), Some(3), "{}", text(&output));
    for part in [
        "4 metrics accepted",
        "3 rows rejected",
        "row 5: value",
        "row 6: timestamp",
        "row 7: row has 2 cells",
    ] {
        assert!(text(&output).contains(part), "{part}: {}", text(&output));
    }
    assert_eq!(fixture.sums(), expected());
    let output = fixture.run("import metrics bad.csv --value-column price");
    assert!(
        text(&output).contains("has no column `price`; there are `user_id`"),
        "{}",
        text(&output)
    );
}

#[test]
fn one_row_per_user_becomes_one_event_per_column_that_is_not_zero() {
    let fixture = Fixture::new();
    fixture.write(
        "wide.csv",
        b"user_id,buy,spend\n1,TRUE,0\n2,FALSE,12.5\nu3,1,0.00\n4,0,\n",
    );
    for column in ["buy", "spend"] {
        let output = fixture.run(&format!(
            "import metrics wide.csv --experiment gate --event {column} --value-column {column} --skip-zero --time 2026-01-02T00:00:00Z"
        ));
        assert!(output.status.success(), "{}", text(&output));
    }
    assert_eq!(
        fixture.sums(),
        [(2, 1, "1.0000".to_owned()), (2, 1, "1.0000".to_owned())]
    );
}

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself, which the test has noticed then.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn an_import_beside_a_running_server_goes_through_it() {
    let fixture = Fixture::new();
    fixture.write("m.csv", CSV.as_bytes());
    let mut serve = fixture.command("serve --listen 127.0.0.1:0");
    let mut server = Server(
        serve
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let mut line = String::new();
    BufReader::new(server.0.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert!(line.starts_with("listening on http://127.0.0.1:"), "{line}");
    let output = fixture.run("import metrics m.csv");
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(fixture.sums(), expected());
    let second = fixture.run("serve --listen 127.0.0.1:0");
    assert!(
        text(&second).contains(&format!(
            "that serves {}",
            line.trim().trim_start_matches("listening on ")
        )),
        "{}",
        text(&second)
    );
    drop(server);
    // The same file again, this time without the server.
    assert!(fixture.run("import metrics m.csv").status.success());
    assert_eq!(fixture.sums(), expected());
}
