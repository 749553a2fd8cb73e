//! Explains invalid arguments in plain words, with suggestions.

use std::error::Error as _;
use std::num::{ParseFloatError, ParseIntError};
use std::process::ExitCode;

use clap::Command;
use clap::error::{ContextKind, ContextValue, Error, ErrorKind};
use trialog_model::nearest::{listed, nearest, question, there_are};

use super::help::subcommands;
use crate::settings::SETTINGS;

/// What a command line that cannot be used exits with.
const EXIT_USAGE: u8 = 2;

/// Prints `error`, or the requested help.
pub(crate) fn report(command: &Command, error: &Error, arguments: &[String]) -> ExitCode {
    let place = place(command, arguments);
    match plain(place, error) {
        Some(text) => {
            let name = way(command, arguments);
            eprintln!("error: {text}\n\nFor more information, try `{name} --help`.");
            ExitCode::from(EXIT_USAGE)
        }
        None => {
            let text = error.to_string();
            match error.use_stderr() {
                true => eprintln!("{}", text.trim_end()),
                false => print!("{text}"),
            }
            ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(EXIT_USAGE))
        }
    }
}

/// The names of subcommands that `arguments` begin with.
fn named<'a>(command: &Command, arguments: &'a [String]) -> Vec<&'a str> {
    let mut names = Vec::new();
    let mut here = command;
    for argument in arguments {
        if let Some(found) = here.find_subcommand(argument) {
            here = found;
            names.push(argument.as_str());
        }
    }
    names
}

fn way(command: &Command, arguments: &[String]) -> String {
    [&["trialog"], named(command, arguments).as_slice()]
        .concat()
        .join(" ")
}

/// Returns the subcommand that `arguments` name, as far as they do.
fn place<'a>(command: &'a Command, arguments: &[String]) -> &'a Command {
    let names = named(command, arguments);
    names.into_iter().fold(command, |here, name| {
        here.find_subcommand(name).unwrap_or(here)
    })
}

/// Our words for `error`; `None` where clap's are good.
fn plain(place: &Command, error: &Error) -> Option<String> {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    match error.kind() {
        ErrorKind::InvalidSubcommand => {
            let name = context(ContextKind::InvalidSubcommand)?;
            let known = subcommands(place);
            Some(format!(
                "there is no command `{name}`{}",
                there_are(name, &known, false)
            ))
        }
        ErrorKind::UnknownArgument => {
            let name = context(ContextKind::InvalidArg)?;
            if !name.starts_with("--") {
                return None;
            }
            Some(unknown_option(place, name))
        }
        ErrorKind::ValueValidation => {
            let (argument, value) = (
                context(ContextKind::InvalidArg)?,
                context(ContextKind::InvalidValue)?,
            );
            let source = error.source()?;
            let reason = if source.is::<ParseIntError>() {
                "give a whole number such as 100".to_owned()
            } else if source.is::<ParseFloatError>() {
                "give a number such as 0.5".to_owned()
            } else {
                source.to_string()
            };
            Some(format!(
                "`{value}` cannot be the value of `{argument}`: {reason}"
            ))
        }
        _ => None,
    }
}

/// Lists the options of `place`; the nearest may be a setting, too.
fn unknown_option(place: &Command, name: &str) -> String {
    let options = |is_global: bool| -> Vec<String> {
        (place.get_arguments())
            .filter(|option| option.is_global_set() == is_global && !option.is_hide_set())
            .filter(|option| !["help", "version"].contains(&option.get_id().as_str()))
            .filter_map(|option| Some(format!("--{}", option.get_long()?)))
            .collect()
    };
    let local = options(false);
    let settings: Vec<String> = (SETTINGS.iter())
        .map(|setting| format!("--{}", setting.flag()))
        .collect();
    let near =
        |known: &[String]| nearest(name, known.iter().map(String::as_str)).map(str::to_owned);
    let nearest = near(&local).or_else(|| near(&settings));
    format!(
        "there is no option `{name}` here{}{}",
        listed(name, &local, false),
        question(nearest.as_deref())
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::help::command;

    fn said(line: &str) -> String {
        let arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let mut whole = command();
        let error = whole
            .try_get_matches_from_mut(std::iter::once("trialog").chain(line.split_whitespace()))
            .unwrap_err();
        plain(place(&whole, &arguments), &error).unwrap_or_else(|| error.to_string())
    }

    #[test]
    fn what_does_not_exist_is_told_with_what_does() {
        for (line, expected) in [
            ("reslts gate", "there is no command `reslts`; there are "),
            ("reslts gate", "did you mean `results`?"),
            (
                "experiments aply x.json",
                "there are `apply`, `diff`, `list`, `show`",
            ),
            ("experiments aply x.json", "did you mean `apply`?"),
            ("results gate --metrics x", "there are `--metric`, `--kind`"),
            ("results gate --metrics x", "did you mean `--metric`?"),
            ("results gate --datadir x", "did you mean `--data-dir`?"),
            (
                "results gate --format xml",
                "[possible values: table, json]",
            ),
        ] {
            let said = said(line);
            assert!(said.contains(expected), "{line}: {said}");
        }
    }

    #[test]
    fn numbers_that_cannot_be_read_are_told_in_plain_words() {
        for (line, expected) in [
            (
                "demo --seed x",
                "`x` cannot be the value of `--seed <SEED>`: give a whole number",
            ),
            ("aggregate --attempts -1.5", ""),
            (
                "power --rate ten",
                "give a fraction such as 0.1, or a percentage such as 10%",
            ),
            ("power --daily-users many", "give a number such as 0.5"),
            ("power --mde 5percent", "give a difference: absolute"),
        ] {
            let said = said(line);
            assert!(said.contains(expected), "{line}: {said}");
            for word in [
                "invalid digit",
                "invalid float",
                "literal",
                "struct",
                "parse",
            ] {
                assert!(!said.contains(word), "{line}: {said}");
            }
        }
    }
}
