//! Writes the configuration reference from the table of settings.

use std::fmt::Write;

use crate::settings::{Default, Kind, SETTINGS, Setting};

const HEAD: &str = "# Configuration

<!-- Written by `trialog config reference` from the table of settings in crates/trialog/src/settings.rs; a test compares the two. -->

Every setting can be given as a flag, as an environment variable, or as a key of a TOML file.
A flag goes before its variable, the variable before the file, the file before the default.
An empty variable counts as not given.
`--config FILE` (`TRIALOG_CONFIG`) names the file; without it no file is read.
A key that is not in this table, or a value of another type, is refused at start with the name of the key.
`trialog check` prints what is in effect and where each value came from.
`trialog help settings` prints this table; the help of a command has its own options, and the most usual settings.

| flag | variable | key | value | default | meaning |
| --- | --- | --- | --- | --- | --- |
";

const FILE: &str = "
Lengths are a whole number and `s`, `m`, `h` or `d`.
Sizes are a whole number of bytes, or one followed by `KiB`, `MiB` or `GiB`.
In the file, text, lengths and sizes stand in quotes; numbers, `true` and `false` do not.
A flag whose value is true or false may stand alone (`--insecure-http`) or with `=` (`--insecure-http=false`).

## A file with every setting

What is commented out has no fixed default; the rest are the defaults.

```toml
";

/// Returns the page docs/configuration.md.
pub(crate) fn page() -> String {
    let mut page = HEAD.to_owned();
    for setting in SETTINGS {
        // Writing to a String cannot fail.
        let _ = writeln!(page, "{}", row(setting));
    }
    page.push_str(FILE);
    page.push_str(&example());
    page.push_str("```\n");
    page
}

fn row(setting: &Setting) -> String {
    let default = match setting.default {
        Default::Value(text) => format!("`{text}`"),
        Default::Described(text) => text.to_owned(),
    };
    let value = match setting.kind {
        Kind::Text => "text",
        Kind::Number => "number",
        Kind::Length => "length",
        Kind::Size => "size",
        Kind::Switch => "true or false",
    };
    format!(
        "| `--{}` | `{}` | `{}` | {value} | {default} | {}. |",
        setting.flag(),
        setting.variable(),
        setting.key,
        setting.meaning
    )
}

/// Returns a file that sets every setting to its default.
fn example() -> String {
    let line = |setting: &Setting| match (setting.default, setting.kind) {
        (Default::Value(text), Kind::Number | Kind::Switch) => {
            format!("{} = {text}\n", setting.key)
        }
        (Default::Value(text), _) => format!("{} = \"{text}\"\n", setting.key),
        (Default::Described(text), _) => format!("# {} is not set: {text}\n", setting.key),
    };
    SETTINGS.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_in_docs_is_what_the_code_says() {
        let committed = include_str!("../../../../docs/configuration.md");
        assert!(
            committed == page(),
            "write it again: trialog config reference > docs/configuration.md"
        );
    }

    #[test]
    fn the_example_file_is_accepted_and_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("trialog.toml");
        std::fs::write(&path, example()).unwrap();
        let mut values = super::super::Values::default();
        values.add_file(&path).unwrap();
        let with_file = super::super::from_values(&values).unwrap();
        let without = super::super::from_values(&super::super::Values::default()).unwrap();
        let shown = |config: super::super::Config| {
            let super::super::Config {
                interval,
                aggregation,
                listen,
                data_dir,
                ..
            } = config;
            format!(
                "{interval:?} {aggregation:?} {listen} {}",
                data_dir.display()
            )
        };
        assert_eq!(shown(with_file), shown(without));
    }
}
