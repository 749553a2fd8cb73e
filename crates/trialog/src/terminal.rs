//! Prints every text of the commands to standard output and error.
//!
//! Names and texts come from every sender. A character that a terminal obeys
//! instead of showing it, or that nobody can see, is printed by its number, as `\u009b`,
//! which in a JSON document is the same text. The macros below stand in for those of the
//! standard library.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the one place that prints"
)]

use std::fmt::Arguments;
use std::io::{self, Write};

use trialog_model::text::{escaped, without_passwords};

macro_rules! print {
    ($($argument:tt)*) => { $crate::terminal::out(format_args!($($argument)*)) };
}

macro_rules! println {
    () => { $crate::terminal::out(format_args!("\n")) };
    ($($argument:tt)*) => {
        $crate::terminal::out(format_args!("{}\n", format_args!($($argument)*)))
    };
}

macro_rules! eprintln {
    ($($argument:tt)*) => { $crate::terminal::err(format_args!($($argument)*)) };
}

/// Prints to standard output.
pub(crate) fn out(arguments: Arguments<'_>) {
    std::print!("{}", escaped(&arguments.to_string(), true));
}

/// Prints a line to standard error, without the passwords of addresses.
pub(crate) fn err(arguments: Arguments<'_>) {
    let text = arguments.to_string();
    std::eprintln!("{}", escaped(&without_passwords(&text), true));
}

/// Prints a document that is not meant for a terminal, such as HTML, unchanged.
pub(crate) fn document(text: &str) {
    std::print!("{text}");
}

/// Writes the log to standard error, each line escaped and without passwords.
pub(crate) struct LogWriter;

impl Write for LogWriter {
    /// Writes a whole line of the log. A line break inside of it is escaped, so that no text can
    /// forge a line.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        let text = text.strip_suffix('\n').unwrap_or(&text);
        let mut shown = escaped(&without_passwords(text), false).into_owned();
        shown.push('\n');
        io::stderr().write_all(shown.as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
