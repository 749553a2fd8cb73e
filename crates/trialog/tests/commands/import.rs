//! Imports through the real binary: every format gives the same events, and
//! doing it again changes nothing.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use arrow_array::{
    ArrayRef, Decimal128Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use crate::fixture::{Fixture, SERVE, text};

const ASSIGNMENTS: &str = "user_id,experiment_id,variant,assigned_at,platform
1,gate,a,2026-01-01T00:00:00Z,ios
2,gate,a,2026-01-01T00:00:00Z,web
u3,gate,b,2026-01-01 00:00:00+00:00,ios
4,gate,b,1767225600000,web
";

/// A directory whose data has the assignments.
fn assigned() -> Fixture {
    let fixture = Fixture::empty();
    fixture.write("assignments.csv", ASSIGNMENTS);
    fixture.good("import assignments assignments.csv --context-column platform");
    fixture
}

/// The sums of `buy` by variant: users, events, total.
fn sums(fixture: &Fixture) -> Vec<(u64, u64, String)> {
    fixture.good("aggregate");
    let report = fixture.json("results gate --metric buy:sum");
    let rows = report["metrics"][0]["variants"].as_array().unwrap();
    let sums = rows.iter().map(|row| {
        (
            row["users"].as_u64().unwrap(),
            row["events"].as_u64().unwrap(),
            row["total"].as_str().unwrap().to_owned(),
        )
    });
    sums.collect()
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
        let fixture = assigned();
        fixture.write(name, content);
        for repetition in 0..2 {
            fixture.good(&format!("import metrics {name}"));
            assert_eq!(
                sums(&fixture),
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
        let fixture = assigned();
        parquet(&fixture.path("m.parquet"), compression);
        let refused = fixture.error("import metrics m.parquet --user-column who");
        assert!(
            refused.contains("give the zone of all such times with --time-zone"),
            "{refused}"
        );
        fixture.good("import metrics m.parquet --user-column who --time-zone Z");
        assert_eq!(sums(&fixture), expected(), "{compression}");
    }
}

#[test]
fn bad_rows_are_summarised_and_the_good_ones_kept() {
    let fixture = assigned();
    let bad = format!(
        "{CSV}4,gate,buy,much,2026-01-02T00:00:00Z\n4,gate,buy,1,2026-01-02T00:00:00\n4,gate\n"
    );
    fixture.write("bad.csv", bad);
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
    assert_eq!(sums(&fixture), expected());
    let refused = fixture.error("import metrics bad.csv --value-column price");
    assert!(
        refused.contains("has no column `price`; there are `user_id`"),
        "{refused}"
    );
}

#[test]
fn one_row_per_user_becomes_one_event_per_column_that_is_not_zero() {
    let fixture = assigned();
    fixture.write(
        "wide.csv",
        b"user_id,buy,spend\n1,TRUE,0\n2,FALSE,12.5\nu3,1,0.00\n4,0,\n",
    );
    for column in ["buy", "spend"] {
        fixture.good(&format!(
            "import metrics wide.csv --experiment gate --event {column} --value-column {column} --skip-zero --time 2026-01-02T00:00:00Z"
        ));
    }
    assert_eq!(
        sums(&fixture),
        [(2, 1, "1.0000".to_owned()), (2, 1, "1.0000".to_owned())]
    );
}

#[test]
fn an_import_beside_a_running_server_goes_through_it() {
    let fixture = assigned();
    fixture.write("m.csv", CSV);
    let server = fixture.serve(SERVE);
    assert!(
        server.url.starts_with("http://127.0.0.1:"),
        "{}",
        server.url
    );
    fixture.good("import metrics m.csv");
    assert_eq!(sums(&fixture), expected());
    let second = fixture.error(SERVE);
    assert!(
        second.contains(&format!("that serves {}", server.url)),
        "{second}"
    );
    drop(server);
    // The same file again, this time without the server.
    fixture.good("import metrics m.csv");
    assert_eq!(sums(&fixture), expected());
}
