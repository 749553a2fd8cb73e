//! The warehouse: raw events in sorted Parquet runs, and the fold over them.
