//! Ids, events, experiments, definitions and hashing: pure, no I/O.
