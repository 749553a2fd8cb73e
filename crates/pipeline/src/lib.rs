//! Ingest, aggregation and schedule.
