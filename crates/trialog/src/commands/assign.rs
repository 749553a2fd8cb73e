//! Runs `trialog assign`: which variant a user gets, and why.

use std::process::ExitCode;

use anyhow::Context;
use serde_json::{Map, Value, json};

use crate::access::Access;
use crate::cli::{AssignArgs, Format};
use crate::config::Config;
use crate::show;

pub(crate) fn run(config: &Config, args: &AssignArgs) -> anyhow::Result<ExitCode> {
    let context = context(&args.context)?;
    let access = Access::open(config)?;
    let asked = json!({
        "user_id": args.user, "experiment_id": args.experiment, "context": context, "why": args.why,
    });
    let answer = access.post("/v1/assign", Some(&asked))?;
    match args.format {
        Format::Json => println!("{}", serde_json::to_string_pretty(&answer)?),
        Format::Table => {
            let all = answer["assignments"].as_array().cloned();
            let all = all.unwrap_or_else(|| vec![answer]);
            print!("{}", show::assignments(&all));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// `KEY=VALUE` pairs as an object; a value that is no JSON is a text.
fn context(pairs: &[String]) -> anyhow::Result<Map<String, Value>> {
    let parse = |pair: &String| {
        let (key, value) = (pair.split_once('='))
            .with_context(|| format!("`{pair}` is no KEY=VALUE: give such as platform=ios"))?;
        let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
        Ok((key.to_owned(), value))
    };
    pairs.iter().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_json_or_text() {
        let pairs = ["age=31", "platform=ios", "beta=true", "version=\"2\""].map(str::to_owned);
        let context = context(&pairs).unwrap();
        assert_eq!(
            Value::Object(context),
            json!({"age": 31, "platform": "ios", "beta": true, "version": "2"})
        );
        assert!(super::context(&["age".to_owned()]).is_err());
    }
}
