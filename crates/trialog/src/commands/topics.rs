//! Runs `trialog topics`, which creates and lists the topics of the event log.

use std::process::ExitCode;

use anyhow::Context;
use serde_json::json;
use trialog_pipeline::kafka::topics::{self, Layout, Topic};

use crate::cli::{Format, TopicsCommand};
use crate::config::Config;
use crate::node::runtime;
use crate::show::Table;

/// A topic is missing.
const EXIT_MISSING: u8 = 2;

pub(crate) fn run(config: &Config, command: &TopicsCommand) -> anyhow::Result<ExitCode> {
    let address = config.storage.event_log.as_ref();
    let address =
        address.context("`event_log` is not set: give one such as kafka://broker:9092")?;
    let (topics, format) = match command {
        TopicsCommand::List { format } => (topics::list(address)?, *format),
        TopicsCommand::Create {
            partitions,
            replication,
            format,
        } => {
            let layout = Layout {
                partitions: i32::from(*partitions),
                replication: i32::from(*replication),
            };
            (
                runtime()?.block_on(topics::create(address, layout))?,
                *format,
            )
        }
    };
    match format {
        Format::Json => println!("{}", json!({ "topics": topics })),
        Format::Table => print(&topics),
    }
    let is_missing = topics.iter().any(|topic| topic.partitions == 0);
    Ok(if is_missing {
        ExitCode::from(EXIT_MISSING)
    } else {
        ExitCode::SUCCESS
    })
}

fn print(topics: &[Topic]) {
    let mut table = Table::new(&["topic", "partitions", ""]);
    for topic in topics {
        let state = match topic {
            Topic { created: true, .. } => "created",
            Topic { partitions: 0, .. } => "missing: trialog topics create",
            _ => "",
        };
        table.row(vec![
            topic.topic.clone(),
            topic.partitions.to_string(),
            state.to_owned(),
        ]);
    }
    print!("{}", table.text());
}
