//! Holds the values of settings as text, with the source of each.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, anyhow, bail};
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command};
use trialog_model::duration::Window;
use trialog_model::nearest::there_are;
use trialog_model::text::without_passwords;

use crate::settings::{Default as Fallback, Kind, SETTINGS, Setting, find};

/// The source of a value. A flag overrides a variable, which overrides the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    Flag,
    Variable,
    File(PathBuf),
    Default,
}

impl Source {
    /// Describes the source of the value of `setting` to people.
    pub(crate) fn describe(&self, setting: &Setting) -> String {
        match self {
            Self::Flag => format!("--{}", setting.flag()),
            Self::Variable => setting.variable(),
            Self::File(path) => path.display().to_string(),
            Self::Default => "default".to_owned(),
        }
    }
}

/// The values that were set, by key.
#[derive(Debug, Clone, Default)]
pub(crate) struct Values {
    given: BTreeMap<&'static str, (String, Source)>,
}

impl Values {
    /// Adds the values of the TOML file at `path` that are not set yet.
    pub(crate) fn add_file(&mut self, path: &Path) -> anyhow::Result<()> {
        let shown = path.display();
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the configuration `{shown}`"))?;
        let table: toml::Table = toml::from_str(&text).map_err(|error| {
            let reason = not_toml(&text, &error);
            anyhow!("cannot use the configuration `{shown}`: {reason}")
        })?;
        for (key, value) in table {
            let Some(setting) = find(&key) else {
                let keys: Vec<_> = SETTINGS.iter().map(|setting| setting.key).collect();
                bail!(
                    "`{key}` in `{shown}` is no setting{}",
                    there_are(&key, &keys, false)
                )
            };
            let text = scalar(setting, value)
                .with_context(|| format!("cannot use the configuration `{shown}`"))?;
            let source = || (text, Source::File(path.to_owned()));
            self.given.entry(setting.key).or_insert_with(source);
        }
        Ok(())
    }

    /// Returns whether `key` is not set.
    pub(crate) fn is_default(&self, key: &str) -> bool {
        !self.given.contains_key(key)
    }

    /// Returns the value of `key` and its source; no value if only a description of the default
    /// exists.
    pub(crate) fn effective(&self, setting: &Setting) -> (Option<&str>, Source) {
        match (self.given.get(setting.key), setting.default) {
            (Some((text, source)), _) => (Some(text), source.clone()),
            (None, Fallback::Value(text)) => (Some(text), Source::Default),
            (None, Fallback::Described(_)) => (None, Source::Default),
        }
    }

    /// Returns the text of `key`.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        find(key).and_then(|setting| self.effective(setting).0)
    }

    /// Returns the number of `key`.
    pub(crate) fn number<N: FromStr>(&self, key: &str) -> anyhow::Result<Option<N>> {
        let parsed = self.text(key).map(|text| {
            text.parse().ok().with_context(|| {
                let shape = Kind::Number.shape();
                format!("`{text}` cannot be the value of `{key}`: give {shape}")
            })
        });
        parsed.transpose()
    }

    /// Returns whether `key` is set to true.
    pub(crate) fn switch(&self, key: &str) -> anyhow::Result<bool> {
        match self.text(key) {
            Some("true") => Ok(true),
            Some("false") | None => Ok(false),
            Some(other) => {
                let shape = Kind::Switch.shape();
                bail!("`{other}` cannot be the value of `{key}`: give {shape}")
            }
        }
    }

    /// Returns the duration of `key` in microseconds.
    pub(crate) fn micros(&self, key: &str) -> anyhow::Result<i64> {
        let text = self.text(key).unwrap_or_default();
        let window = Window::parse(text).with_context(|| format!("cannot use `{key}`"))?;
        window
            .micros()
            .with_context(|| format!("`{key}` is `none`: give {}", Kind::Length.shape()))
    }

    /// Returns the size of `key` in bytes.
    pub(crate) fn bytes(&self, key: &str) -> anyhow::Result<u64> {
        let text = self.text(key).unwrap_or_default();
        size(text).with_context(|| {
            let shape = Kind::Size.shape();
            format!("`{text}` cannot be the value of `{key}`: give {shape}")
        })
    }
}

fn size(text: &str) -> Option<u64> {
    let units = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1u64 << 30)];
    let (digits, unit) = units
        .into_iter()
        .find_map(|(name, unit)| Some((text.strip_suffix(name)?, unit)))
        .unwrap_or((text, 1));
    digits.trim().parse::<u64>().ok()?.checked_mul(unit)
}

/// Says where `text` stops being TOML, and what is wrong there.
fn not_toml(text: &str, error: &toml::de::Error) -> String {
    let at = error.span().map_or(0, |span| span.start).min(text.len());
    let before = text.get(..at).unwrap_or_default();
    let number = before.matches('\n').count() + 1;
    let line = shown_line(text.lines().nth(number - 1).unwrap_or_default());
    if error.message().contains("duplicate key") {
        return format!("line {number}{line} gives a key that stands there already");
    }
    format!(
        "line {number}{line} is not TOML: write key = value, with text, lengths and sizes in quotes, such as interval = \"1h\""
    )
}

/// Returns a line of the file if it shows no secret, that is, if its setting can be recognised and
/// is not secret. Otherwise returns its key, or nothing.
fn shown_line(line: &str) -> String {
    let line = line.trim();
    let key = line.split(['=', ' ']).next().unwrap_or_default();
    match find(key) {
        Some(setting) if setting.is_secret => format!(", which sets `{key}`,"),
        Some(_) => format!(", `{}`,", without_passwords(line)),
        None => String::new(),
    }
}

/// The name of a TOML value's kind.
fn kind_of(value: &toml::Value) -> &'static str {
    match value {
        toml::Value::String(_) => "a text",
        toml::Value::Integer(_) | toml::Value::Float(_) => "a number",
        toml::Value::Boolean(_) => "true or false",
        toml::Value::Datetime(_) => "a time",
        toml::Value::Array(_) => "a list",
        toml::Value::Table(_) => "a table",
    }
}

/// A TOML value as the text that a flag would carry.
fn scalar(setting: &Setting, value: toml::Value) -> anyhow::Result<String> {
    match (value, setting.kind) {
        (toml::Value::String(text), Kind::Text | Kind::Length | Kind::Size) => Ok(text),
        (toml::Value::Boolean(value), Kind::Switch) => Ok(value.to_string()),
        (toml::Value::Integer(number), Kind::Number | Kind::Size) => Ok(number.to_string()),
        (value, kind) => bail!(
            "`{}` is {}: give {}{}",
            setting.key,
            kind_of(&value),
            kind.shape(),
            if [Kind::Number, Kind::Switch].contains(&kind) {
                ", without quotes"
            } else {
                ", in quotes"
            }
        ),
    }
}

impl clap::Args for Values {
    fn augment_args(command: Command) -> Command {
        SETTINGS.iter().fold(command, |command, setting| {
            let help = format!("{} [default: {}]", setting.meaning, setting.default_text());
            let argument = Arg::new(setting.key)
                .long(setting.flag())
                .env(setting.variable())
                .hide_env_values(setting.is_secret)
                .global(true)
                // `trialog help settings` has them, so that a command's own stand out.
                .hide(true)
                .help(help);
            command.arg(match setting.kind {
                // What follows a switch alone is not its value.
                Kind::Switch => argument
                    .num_args(0..=1)
                    .require_equals(true)
                    .default_missing_value("true"),
                _ => argument,
            })
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for Values {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = SETTINGS.iter().filter_map(|setting| {
            let text = matches.get_one::<String>(setting.key)?.clone();
            match matches.value_source(setting.key)? {
                // An empty variable is how compose files and units leave one out.
                ValueSource::EnvVariable if text.is_empty() => None,
                ValueSource::EnvVariable => Some((setting.key, (text, Source::Variable))),
                _ => Some((setting.key, (text, Source::Flag))),
            }
        });
        Ok(Self {
            given: given.collect(),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_bytes_or_carry_a_binary_unit() {
        let sizes = ["0", "17", "2KiB", "512MiB", "1 GiB"].map(size);
        assert_eq!(
            sizes,
            [
                Some(0),
                Some(17),
                Some(2048),
                Some(512 << 20),
                Some(1 << 30)
            ]
        );
        for bad in ["", "MiB", "-1", "1.5GiB", "1GB", "99999999999GiB"] {
            assert_eq!(size(bad), None, "{bad}");
        }
    }
}
