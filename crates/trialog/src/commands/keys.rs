//! Runs `trialog keys`, which creates, lists and revokes API keys.

use std::process::ExitCode;

use anyhow::{Context, bail};
use serde_json::{Value, json};
use trialog_catalog::keys::Scope;
use trialog_model::duration::Window;
use trialog_model::nearest::there_are;
use trialog_model::time::UnixMicros;

use crate::access::{Access, encode};
use crate::cli::{Format, KeysCommand};
use crate::clock;
use crate::config::Config;
use crate::show::Table;

pub(crate) fn run(config: &Config, command: &KeysCommand) -> anyhow::Result<ExitCode> {
    let access = match command {
        KeysCommand::Create { .. } => Access::open_or_create(config)?,
        _ => Access::open(config)?,
    };
    match command {
        KeysCommand::Create {
            name,
            scope,
            expires,
            format,
        } => create(&access, name, scope, expires.as_deref(), *format)?,
        KeysCommand::List { format } => list(&access, *format)?,
        KeysCommand::Revoke { named, format } => revoke(&access, named, *format)?,
    }
    access.close();
    Ok(ExitCode::SUCCESS)
}

fn create(
    access: &Access,
    name: &str,
    scopes: &[Scope],
    expires: Option<&str>,
    format: Format,
) -> anyhow::Result<()> {
    let expires_at = expires.map(|text| end(text, clock::now())).transpose()?;
    let wanted = json!({ "name": name, "scopes": scopes, "expires_at": expires_at });
    let created = access.post("/v1/keys", Some(&wanted))?;
    match format {
        Format::Json => println!("{}", serde_json::to_string_pretty(&created)?),
        Format::Table => {
            println!("{}", created["key"].as_str().unwrap_or_default());
            eprintln!("created `{name}`: keep the key, it is not shown again");
        }
    }
    Ok(())
}

/// A length from now on, or a time.
fn end(text: &str, now: UnixMicros) -> anyhow::Result<String> {
    if let Ok(time) = UnixMicros::parse_rfc3339(text) {
        return Ok(time.to_rfc3339());
    }
    let window = Window::parse(text).with_context(|| {
        format!(
            "`{text}` is no end: give a length such as 90d, or a time such as 2030-01-31T00:00:00Z"
        )
    })?;
    let micros = window
        .micros()
        .context("`none` is no end: leave --expires out for a key that does not end")?;
    Ok(UnixMicros(now.0.saturating_add(micros)).to_rfc3339())
}

fn all(access: &Access) -> anyhow::Result<Vec<Value>> {
    let mut answer = access.get("/v1/keys")?;
    match answer["keys"].take() {
        Value::Array(keys) => Ok(keys),
        _ => bail!(
            "the answer of the server cannot be read by this version of trialog: use the version of the server"
        ),
    }
}

fn list(access: &Access, format: Format) -> anyhow::Result<()> {
    let keys = all(access)?;
    if format == Format::Json {
        println!("{}", serde_json::to_string_pretty(&keys)?);
        return Ok(());
    }
    let mut table = Table::new(&["id", "name", "scopes", "created", "last used", "ends"]);
    for key in &keys {
        let text = |field: &str| key[field].as_str().map(str::to_owned);
        let day = |field: &str| text(field).map(|time| time.chars().take(16).collect::<String>());
        let scopes: Vec<&str> = (key["scopes"].as_array().into_iter().flatten())
            .filter_map(Value::as_str)
            .collect();
        let ends = match day("revoked_at") {
            Some(time) => format!("revoked {time}"),
            None => day("expires_at").unwrap_or_else(|| "never".to_owned()),
        };
        table.row([
            text("id").unwrap_or_default(),
            text("name").unwrap_or_default(),
            scopes.join(" "),
            day("created_at").unwrap_or_default(),
            day("last_used_at").unwrap_or_else(|| "never".to_owned()),
            ends,
        ]);
    }
    print!("{}", table.text());
    Ok(())
}

fn revoke(access: &Access, named: &str, format: Format) -> anyhow::Result<()> {
    let keys = all(access)?;
    // A name may have had other keys before; the one in use is meant.
    let is_in_use = |key: &&Value| key["revoked_at"].is_null();
    let by_name = keys
        .iter()
        .filter(is_in_use)
        .find(|key| key["name"] == named);
    let Some(key) = keys.iter().find(|key| key["id"] == named).or(by_name) else {
        let names: Vec<&str> = (keys.iter())
            .filter(is_in_use)
            .filter_map(|key| key["name"].as_str())
            .collect();
        let there_are = there_are(named, &names, false);
        bail!("no key in use has the id or name `{named}`{there_are}");
    };
    let id = key["id"].as_str().unwrap_or_default();
    let revoked = access.delete(&format!("/v1/keys/{}", encode(id)))?;
    match format {
        Format::Json => println!("{}", serde_json::to_string_pretty(&revoked)?),
        Format::Table => {
            println!(
                "revoked `{}` ({id})",
                revoked["name"].as_str().unwrap_or_default()
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_a_length_or_a_time() {
        let now = UnixMicros::parse_rfc3339("2026-01-01T00:00:00Z").unwrap();
        assert_eq!(end("90d", now).unwrap(), "2026-04-01T00:00:00Z");
        let time = "2030-01-31T00:00:00Z";
        assert_eq!(end(time, now).unwrap(), time);
        for bad in ["none", "soon", "2030-01-31"] {
            assert!(end(bad, now).is_err(), "{bad}");
        }
    }
}
