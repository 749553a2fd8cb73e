//! The trialog command.
fn main() {}
