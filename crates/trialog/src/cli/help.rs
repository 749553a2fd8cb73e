//! Builds the help: one page for the overview, pages of commands with their options before the
//! settings, and a page of settings.

use std::fmt::Write as _;

use clap::{Arg, ArgAction, Command, CommandFactory};
use trialog_model::nearest::there_are;

use super::Cli;
use crate::settings::{SETTINGS, Setting, find};

/// The output of `trialog` without arguments: at most a screen.
pub(crate) const OVERVIEW: &str = include_str!("overview.txt");

/// What `trialog help settings` is called.
const SETTINGS_PAGE: &str = "settings";

/// How wide the page of settings is.
const WIDTH: usize = 88;

/// Commands that use no setting.
const WITHOUT_SETTINGS: [&str; 6] = ["analyze", "power", "calc", "openapi", "user-id", "help"];

/// The settings that a command's help names: the ones that are given most.
const USUAL: [&str; 3] = ["data_dir", "server", "key"];

/// Those of commands that serve.
const SERVING: [&str; 4] = ["data_dir", "listen", "interval", "tls_cert"];

/// Returns the arguments, with help that fits each command.
pub(crate) fn command() -> Command {
    Cli::command()
        .override_help(OVERVIEW)
        .mut_subcommands(|subcommand| {
            let name = subcommand.get_name().to_owned();
            on_a_screen(subcommand, &name)
        })
}

/// Formats the help of `command`, and of those below it, with a line per option. What follows the
/// first sentence comes after the options, then the settings of `top`.
fn on_a_screen(command: Command, top: &str) -> Command {
    let about = command.get_about().map(ToString::to_string);
    let long = command.get_long_about().map(ToString::to_string);
    let more = long.as_deref().unwrap_or_default();
    let more = more.strip_prefix(about.as_deref().unwrap_or_default());
    let more = more.unwrap_or_default().trim_start_matches('.').trim();
    let settings = match WITHOUT_SETTINGS.contains(&top) {
        true => String::new(),
        false => pointer(top),
    };
    let parts = [wrapped(more, WIDTH).join("\n"), settings];
    let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    let command = command
        .after_help(parts.join("\n\n"))
        .mut_subcommands(|subcommand| on_a_screen(subcommand, top));
    let has_help = (command.get_arguments()).any(|argument| argument.get_id() == "help");
    match has_help {
        // It has a help of its own.
        true => command,
        false => command.disable_help_flag(true).arg(
            Arg::new("help")
                .short('h')
                .long("help")
                .action(ArgAction::HelpShort)
                .help("Print help"),
        ),
    }
}

/// The most usual settings of the command `top`, and where the others are.
fn pointer(top: &str) -> String {
    let keys: &[&str] = match top {
        "serve" | "demo" => &SERVING,
        _ => &USUAL,
    };
    let mut text = "Global options:\n".to_owned();
    let usual = keys.iter().filter_map(|key| find(key));
    for setting in usual {
        let flag = format!("--{} <{}>", setting.flag(), value_name(setting));
        // Writing to a String cannot fail.
        let _ = writeln!(text, "      {flag:<23}{}", short(setting, top));
    }
    let flag = "--config <FILE>";
    let _ = writeln!(text, "      {flag:<23}A TOML file with settings");
    let n_others = SETTINGS.len() - keys.len();
    let _ = write!(
        text,
        "  {n_others} more, with their variables and defaults: `trialog help settings`"
    );
    text
}

/// What `setting` does, in a few words, with its default for the command `top`.
fn short(setting: &Setting, top: &str) -> String {
    let meaning = setting.meaning.split(['.', ';', ',']).next();
    let default = match (setting.key, top) {
        ("data_dir", "demo") => super::DEMO_DIRECTORY,
        ("data_dir", _) | ("listen" | "interval", _) => setting.default_text(),
        _ => return meaning.unwrap_or_default().to_owned(),
    };
    format!("{} [default: {default}]", meaning.unwrap_or_default())
}

fn value_name(setting: &Setting) -> &'static str {
    match setting.key {
        "data_dir" => "DIRECTORY",
        "server" => "URL",
        "listen" => "ADDRESS",
        "tls_cert" => "FILE",
        "interval" => "LENGTH",
        "key" => "KEY",
        _ => "VALUE",
    }
}

/// Returns the page of all settings.
pub(crate) fn settings() -> String {
    let mut page =
        "Every command takes these settings: as an option, as a variable of the environment,\n\
        or as a key of the TOML file that --config (TRIALOG_CONFIG) names, called as the option\n\
        with _ for -. An option goes before a variable, a variable before the file.\n"
            .to_owned();
    for setting in SETTINGS {
        let option = format!("--{}", setting.flag());
        // Writing to a String cannot fail.
        let _ = writeln!(page, "\n  {option:<28}{}", setting.variable());
        let text = format!("{} [default: {}]", setting.meaning, setting.default_text());
        for line in wrapped(&text, WIDTH - 6) {
            let _ = writeln!(page, "      {line}");
        }
    }
    page
}

/// `text` in lines of at most `width` characters, unless a word is longer.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// Returns the help on `topic`: the overview if it is empty, the settings, a command, or one below
/// it.
///
/// # Errors
///
/// There is no such command.
pub(crate) fn topic(topic: &[String]) -> anyhow::Result<String> {
    if topic == [SETTINGS_PAGE] {
        return Ok(settings());
    }
    let mut whole = command();
    // Gives subcommands their whole names.
    whole.build();
    let mut found = &mut whole;
    for name in topic {
        let names = subcommands(found);
        let place = found.get_bin_name().unwrap_or("trialog").to_owned();
        found = match found.find_subcommand_mut(name) {
            Some(found) => found,
            None => anyhow::bail!(
                "`{place}` has no command `{name}`{}",
                there_are(name, &names, false)
            ),
        };
    }
    Ok(found.render_help().to_string())
}

/// Returns the commands below `command` that its help shows.
pub(super) fn subcommands(command: &Command) -> Vec<String> {
    (command.get_subcommands())
        .filter(|subcommand| !subcommand.is_hide_set() && subcommand.get_name() != "help")
        .map(|subcommand| subcommand.get_name().to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines of a high window: importing has the most options.
    const SCREEN: usize = 54;

    /// Every command that help shows, by the way to it.
    fn ways(command: &Command, way: &[String], found: &mut Vec<Vec<String>>) {
        for name in subcommands(command) {
            let way = [way, std::slice::from_ref(&name)].concat();
            if let Some(subcommand) = command.find_subcommand(&name) {
                ways(subcommand, &way, found);
            }
            found.push(way);
        }
    }

    #[test]
    fn the_overview_names_every_command_and_fits_a_screen() {
        assert!(OVERVIEW.lines().count() <= 40);
        assert!(OVERVIEW.lines().all(|line| line.chars().count() <= 80));
        let named: Vec<&str> = (OVERVIEW.lines())
            .filter_map(|line| line.strip_prefix("  "))
            .flat_map(|line| line.split("  ").next().unwrap_or_default().split(", "))
            .collect();
        for name in subcommands(&command()) {
            assert!(named.contains(&name.as_str()), "{name}: {named:?}");
        }
    }

    #[test]
    fn own_options_stand_before_the_global_ones_and_fit_a_screen() {
        let mut found = Vec::new();
        let whole = command();
        ways(&whole, &[], &mut found);
        assert!(found.len() > 50);
        for way in found {
            let page = topic(&way).unwrap();
            let (local, global) = page.split_once("Global options").unwrap_or((&page, ""));
            for setting in SETTINGS {
                let flag = format!("--{} ", setting.flag());
                let stands = local
                    .lines()
                    .any(|line| line.trim_start().starts_with(&flag));
                assert!(!stands, "{way:?} has {flag} among its own options");
            }
            let mut command = &whole;
            for name in &way {
                command = command.find_subcommand(name).unwrap();
            }
            for option in command
                .get_arguments()
                .filter(|option| !option.is_global_set())
            {
                if let Some(long) = option.get_long() {
                    assert!(local.contains(&format!("--{long}")), "{way:?} --{long}");
                }
            }
            assert!(local.lines().count() <= SCREEN, "{way:?}: {local}");
            assert!(global.lines().count() <= 8, "{way:?}: {global}");
            let has_pointer = global.contains("trialog help settings");
            assert_eq!(has_pointer, !WITHOUT_SETTINGS.contains(&way[0].as_str()));
        }
    }

    #[test]
    fn the_page_of_settings_has_every_setting_and_fits_the_width() {
        let page = settings();
        for setting in SETTINGS {
            assert!(page.contains(&format!("\n  --{} ", setting.flag())));
            assert!(page.contains(&setting.variable()));
        }
        for line in page.lines() {
            let n_chars = line.chars().count();
            assert!(n_chars <= WIDTH || !line.trim().contains(' '), "{line}");
        }
    }

    #[test]
    fn help_on_what_does_not_exist_names_the_nearest() {
        let wrong = topic(&["experiments".into(), "aply".into()]).unwrap_err();
        let said = wrong.to_string();
        assert!(
            said.contains("`trialog experiments` has no command `aply`"),
            "{said}"
        );
        assert!(said.contains("did you mean `apply`?"), "{said}");
    }
}
