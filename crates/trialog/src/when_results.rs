//! Tells users when results of imported events will come, and how to compute them now.

use serde_json::Value;
use trialog_model::time::UnixMicros;

use crate::access::Access;
use crate::config::Config;

const MINUTE: i64 = 60_000_000;

/// Describes when results of what was stored through `access` will come, and how to run now.
pub(crate) fn line(config: &Config, access: &Access, now: UnixMicros) -> String {
    let command = format!("trialog aggregate{}", place(config));
    match access {
        Access::Directory(_) => without_server(&command),
        Access::Server { .. } => {
            // A key that may only ingest cannot read it: then the time is left out.
            let pipeline = access.get("/v1/pipeline").unwrap_or_default();
            with_server(&command, next_run(&pipeline), now)
        }
    }
}

/// The options by which a command finds the same data.
fn place(config: &Config) -> String {
    match &config.server {
        Some(address) => format!(" --server {}", quoted(address)),
        None if config.data_dir_is_default => String::new(),
        None => {
            let directory = config.data_dir.display().to_string();
            format!(" --data-dir {}", quoted(&directory))
        }
    }
}

fn next_run(pipeline: &Value) -> Option<UnixMicros> {
    let text = pipeline["next_run_at"].as_str()?;
    UnixMicros::parse_rfc3339(text.as_bytes()).ok()
}

fn without_server(command: &str) -> String {
    format!("no server is running; results are computed by `{command}`, and by `trialog serve`")
}

fn with_server(command: &str, next: Option<UnixMicros>, now: UnixMicros) -> String {
    let when = match next {
        Some(next) if next > now => {
            let at = next.to_rfc3339();
            let at = at.get(11..16).unwrap_or_default();
            format!(
                "at its next run, at {at} UTC ({})",
                wait(next.0.saturating_sub(now.0))
            )
        }
        Some(_) => "at its next run, which is due".to_owned(),
        None => "at its next run".to_owned(),
    };
    format!("results are computed by the server {when}; now: `{command}`")
}

/// A length of time, to the minute.
fn wait(micros: i64) -> String {
    match (micros + MINUTE / 2) / MINUTE {
        0 => "in less than a minute".to_owned(),
        1 => "in 1 minute".to_owned(),
        minutes @ 2..=119 => format!("in {minutes} minutes"),
        minutes => format!("in {} hours", (minutes + 30) / 60),
    }
}

/// `text` as one word of a shell.
fn quoted(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-:@%+=,".contains(&byte);
    if !text.is_empty() && text.bytes().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMicros = UnixMicros(1_788_000_000_000_000);

    #[test]
    fn the_next_run_is_told_with_its_time_and_the_wait() {
        let after = |minutes: i64| Some(UnixMicros(NOW.0 + minutes * MINUTE));
        for (next, expected) in [
            (
                after(23),
                "at its next run, at 11:03 UTC (in 23 minutes); now: `trialog aggregate`",
            ),
            (after(1), "(in 1 minute)"),
            (Some(UnixMicros(NOW.0 + 1)), "(in less than a minute)"),
            (after(600), "(in 10 hours)"),
            (after(-1), "at its next run, which is due; now"),
            (
                None,
                "by the server at its next run; now: `trialog aggregate`",
            ),
        ] {
            let said = with_server("trialog aggregate", next, NOW);
            assert!(said.contains(expected), "{said}");
        }
    }

    #[test]
    fn the_command_finds_the_same_data() {
        use clap::Parser;
        let place_of = |flags: &[&str]| {
            let arguments = ["trialog"].iter().chain(flags).chain(&["serve"]);
            let cli = crate::cli::Cli::parse_from(arguments);
            let values = crate::config::gather(&cli).unwrap();
            place(&crate::config::from_values(&values).unwrap())
        };
        assert_eq!(place_of(&[]), "");
        assert_eq!(place_of(&["--data-dir", "a b"]), " --data-dir 'a b'");
        assert_eq!(
            place_of(&["--server", "http://127.0.0.1:8080"]),
            " --server http://127.0.0.1:8080"
        );
    }

    #[test]
    fn words_of_the_shell_are_quoted() {
        assert_eq!(quoted("/srv/trialog-data"), "/srv/trialog-data");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
    }
}
