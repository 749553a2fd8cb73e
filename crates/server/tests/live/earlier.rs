//! Results of a data directory that an earlier version wrote.

use std::path::Path;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use serde_json::{Map, Value};
use trialog_catalog::Catalog;
use trialog_model::time::UnixMicros;
use trialog_pipeline::aggregation::Settings as Aggregation;

use crate::harness::{Api, settings};

/// A time after the last run of the earlier version.
const LATER: UnixMicros = UnixMicros(1_796_100_000_000_000);

#[test]
fn a_directory_of_an_earlier_version_gives_the_same_results() {
    let fixture =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/directories/schema_21");
    let directory = tempfile::tempdir().unwrap();
    for name in [
        "catalog.sqlite",
        "warehouse.sqlite",
        "POSITION",
        "GENERATION",
    ] {
        std::fs::copy(fixture.join(name), directory.path().join(name)).unwrap();
    }
    let catalog = Catalog::open(directory.path()).unwrap();
    let api = Api::in_directory(
        directory,
        catalog,
        LATER,
        (settings(), Aggregation::default()),
    );
    let text = std::fs::read_to_string(fixture.join("results.json")).unwrap();
    let kept: Map<String, Value> = serde_json::from_str(&text).unwrap();
    assert_eq!(kept.len(), 8);
    for (path, expected) in &kept {
        let (status, report) = api.send(Request::get(path).body(Body::empty()).unwrap());
        assert_eq!(status, StatusCode::OK, "{path}: {report}");
        assert_eq!(&report, expected, "{path}");
    }
}
