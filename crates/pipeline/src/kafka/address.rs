//! Parses the address of a Kafka cluster with its topics and settings.

use std::fmt;

use rdkafka::ClientConfig;
use trialog_model::event::EventKind;
use trialog_model::percent::decode;

/// The names of the topics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topics {
    /// Assignment events.
    pub assignments: String,
    /// Metric events.
    pub metrics: String,
    /// Messages that are no events, with the reason.
    pub dead_letters: String,
}

impl Topics {
    /// Returns the topic of one kind of event.
    pub fn for_kind(&self, kind: EventKind) -> &str {
        match kind {
            EventKind::Assignment => &self.assignments,
            EventKind::Metric => &self.metrics,
        }
    }

    /// Returns all topics.
    pub fn all(&self) -> [&str; 3] {
        [&self.assignments, &self.metrics, &self.dead_letters]
    }
}

/// `kafka://host:9092,host:9092?key=value&...`.
///
/// The keys `topic_prefix` (`experiment.` unless given), `group` (`trialog`) and
/// `shards` (1) are ours: with `shards`, the events of an experiment are spread over
/// that many keys `experiment_id:shard`. Every other key is a setting of librdkafka,
/// such as `security.protocol`, `sasl.mechanism` or `ssl.ca.location`.
///
/// ```
/// # use trialog_pipeline::kafka::KafkaAddress;
/// let address: KafkaAddress = "kafka://a:9092,b:9092?sasl.password=x%26y".parse()?;
/// assert_eq!(address.to_string(), "kafka://a:9092,b:9092");
/// assert_eq!(address.topics().assignments, "experiment.assignments");
/// # Ok::<(), String>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct KafkaAddress {
    brokers: String,
    topics: Topics,
    group: String,
    shards: u16,
    settings: Vec<(String, String)>,
}

const SHAPE: &str = "give one such as kafka://broker:9092";

impl std::str::FromStr for KafkaAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = |what: &str| format!("`event_log` {what}: {SHAPE}");
        let rest = text
            .strip_prefix("kafka://")
            .ok_or_else(|| bad("does not begin with kafka://"))?;
        let (brokers, query) = rest.split_once('?').unwrap_or((rest, ""));
        let brokers = brokers.trim_end_matches('/');
        if brokers.is_empty() {
            return Err(bad("names no broker"));
        }
        if brokers.contains('@') {
            return Err(bad(
                "has a user before its brokers, which belongs into sasl.username and sasl.password after a `?`",
            ));
        }
        let (mut prefix, mut group, mut shards) =
            ("experiment.".to_owned(), "trialog".to_owned(), 1);
        let mut settings = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').ok_or_else(|| {
                bad("has a part without `=` after the `?`: write `&` within a value as %26")
            })?;
            let value =
                decode(value).ok_or_else(|| bad(&format!("has a `{key}` that cannot be read")))?;
            match key {
                "topic_prefix" => prefix = value,
                "group" => group = value,
                "shards" => {
                    shards = (value.parse().ok())
                        .filter(|shards| (1..=1_000).contains(shards))
                        .ok_or_else(|| bad("has a `shards` that is no number from 1 to 1000"))?;
                }
                _ => settings.push((key.to_owned(), value)),
            }
        }
        Ok(Self {
            brokers: brokers.to_owned(),
            topics: Topics {
                assignments: format!("{prefix}assignments"),
                metrics: format!("{prefix}metrics"),
                dead_letters: format!("{prefix}dead_letters"),
            },
            group,
            shards,
            settings,
        })
    }
}

impl fmt::Display for KafkaAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kafka://{}", self.brokers)
    }
}

impl fmt::Debug for KafkaAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl KafkaAddress {
    /// Returns the names of the topics.
    pub fn topics(&self) -> &Topics {
        &self.topics
    }

    /// Returns the consumer group of one kind of event.
    pub(crate) fn group(&self, kind: EventKind) -> String {
        format!("{}.{}", self.group, kind.plural())
    }

    /// Returns the number of keys over which the events of one experiment are spread.
    pub(crate) fn shards(&self) -> u16 {
        self.shards
    }

    /// Returns a client's settings: `client_settings`, overridden by those of the address.
    pub(crate) fn config(&self, client_settings: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.brokers)
            .set("client.id", "trialog");
        for (key, value) in client_settings {
            config.set(*key, *value);
        }
        for (key, value) in &self.settings {
            config.set(key, value);
        }
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_said_and_secrets_are_not_shown() {
        let address: KafkaAddress =
            "kafka://a:1?topic_prefix=x.&group=g&shards=4&sasl.password=s%26t"
                .parse()
                .unwrap();
        assert_eq!(
            address.topics().all(),
            ["x.assignments", "x.metrics", "x.dead_letters"]
        );
        assert_eq!(
            (address.group(EventKind::Metric).as_str(), address.shards()),
            ("g.metrics", 4)
        );
        assert_eq!(address.config(&[]).get("sasl.password"), Some("s&t"));
        assert!(!format!("{address:?} {address}").contains("s&t"));
        for (bad, what) in [
            ("host:9092", "does not begin"),
            ("kafka://", "no broker"),
            ("kafka://u:p@host", "sasl.username"),
            ("kafka://a?shards=0", "shards"),
            ("kafka://a?x", "without `=`"),
        ] {
            let error = bad.parse::<KafkaAddress>().unwrap_err();
            assert!(
                error.contains(what) && error.contains("event_log"),
                "{bad}: {error}"
            );
        }
    }
}
