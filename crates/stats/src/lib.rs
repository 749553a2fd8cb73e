//! From sufficient statistics to inference: pure, no I/O.
