//! Starts the `trialog` command: reads arguments, opens what they name, runs a command.
#![forbid(unsafe_code)]

// First, as its macros print for all the others.
#[macro_use]
mod terminal;

mod access;
mod cli;
mod clock;
mod commands;
mod config;
mod front;
mod http;
mod import;
mod log;
mod node;
mod secret;
mod settings;
mod show;
mod stop;
mod storage;
mod table;
mod when_results;

use std::process::ExitCode;

use clap::FromArgMatches;

use crate::cli::{Cli, Command, ConfigCommand};

/// Threads that come and go leave their memory in pieces with the system's allocator.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    end_quietly_on_closed_pipe();
    let arguments: Vec<String> = (std::env::args_os().skip(1))
        .map(|argument| argument.to_string_lossy().into_owned())
        .collect();
    if arguments.is_empty() {
        // As docker, kubectl, gh and cargo do.
        print!("{}", cli::help::OVERVIEW);
        return ExitCode::SUCCESS;
    }
    let mut command = cli::help::command();
    let parsed = (command.try_get_matches_from_mut(std::env::args_os()))
        .and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => return cli::refused::report(&command, &error, &arguments),
    };
    match run(cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {}", without_codes(&format!("{error:#}")));
            ExitCode::FAILURE
        }
    }
}

/// Removes the error numbers of the system from `text`, which repeats them in words.
fn without_codes(text: &str) -> String {
    let mut parts = text.split(" (os error ");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.trim_start_matches(|character: char| character.is_ascii_digit());
        plain.push_str(rest.strip_prefix(')').unwrap_or(rest));
    }
    plain
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    // What needs no setting, so that none can be wrong.
    match &cli.command {
        Command::Analyze(options) => return commands::analyze::run(options),
        Command::Power(options) => return commands::power::run(options),
        Command::Calc(options) => return commands::calc::run(options),
        Command::Help { topic } => return commands::help(topic),
        _ => {}
    }
    // Whatever is written from here on holds people's data: directories become 0700, files 0600.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let values = config::gather(&cli);
    if let Command::Check(options) = &cli.command {
        // It reports on settings that cannot be used.
        return commands::check::run(values, options);
    }
    let values = values?;
    let config = config::from_values(&values)?;
    log::start(&config, matches!(cli.command, Command::Serve))?;
    match cli.command {
        Command::Serve => commands::serve::run(&config),
        Command::Demo(demo) => commands::demo::run(config, &demo),
        Command::Import(what) => commands::import::run(&config, &what),
        Command::Aggregate(options) => commands::aggregate::run(&config, &options),
        Command::Results(query) => commands::results::run(&config, &query),
        Command::Context(query) => commands::context::run(&config, &query),
        Command::Cohorts(query) => commands::cohorts::run(&config, &query),
        Command::Timeline(query) => commands::timeline::run(&config, &query),
        Command::Funnel(query) => commands::funnel::run(&config, &query),
        Command::Experiments(action) => commands::experiments::run(&config, &action),
        Command::Backup(options) => commands::backup::backup(&config, &options),
        Command::Restore(options) => commands::backup::restore_command(&config, &options),
        Command::Verify(options) => commands::verify::run(&config, &options),
        Command::Pipeline(options) => commands::pipeline::run(&config, &options),
        Command::Check(options) => commands::check::run(Ok(values), &options),
        Command::Config(ConfigCommand::Reference) => {
            print!("{}", config::reference::page());
            Ok(ExitCode::SUCCESS)
        }
        Command::Export(options) => commands::export::run(&config, &options),
        Command::Forget(options) => commands::forget::run(&config, &options),
        Command::Retention(command) => commands::retention::run(&config, &command),
        Command::Keys(action) => commands::keys::run(&config, &action),
        Command::Metrics(action) => commands::metrics::run(&config, &action),
        #[cfg(feature = "kafka")]
        Command::Topics(action) => commands::topics::run(&config, &action),
        Command::Layers(action) => commands::layers::run(&config, &action),
        Command::Holdouts(action) => commands::holdouts::run(&config, &action),
        Command::Decide(args) => commands::experiments::decide(&config, &args),
        Command::Assign(args) => commands::assign::run(&config, &args),
        Command::UserId { text } => {
            println!("{}", trialog_model::user_id::user_id_from_text(text.trim()));
            Ok(ExitCode::SUCCESS)
        }
        Command::Analyze(options) => commands::analyze::run(&options),
        Command::Power(options) => commands::power::run(&options),
        Command::Calc(options) => commands::calc::run(&options),
        Command::Help { topic } => commands::help(&topic),
        Command::Openapi => {
            print!("{}", trialog_server::openapi::text());
            Ok(ExitCode::SUCCESS)
        }
        Command::Bench(bench) => commands::bench::run(&config, &bench),
    }
}

/// A reader such as `head` that closes the pipe ends the command without a
/// backtrace; every other panic is reported as usual.
fn end_quietly_on_closed_pipe() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let text = panic.payload_as_str().unwrap_or_default();
        if text.contains("failed printing to stdout") {
            std::process::exit(0);
        }
        if !table::guard::is_decoding() {
            report(panic);
        }
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_system_are_told_in_words_only() {
        let error = std::io::Error::from_raw_os_error(2);
        let said = without_codes(&format!("cannot read `x`: {error}"));
        assert_eq!(said, "cannot read `x`: No such file or directory");
        assert_eq!(without_codes("plain"), "plain");
    }
}
