//! Where the configuration comes from, and what keeps it fresh.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use serde_json::json;
use trialog_sdk::{Client, Context, MemoryTransport, Observer, Outcome};

use crate::LONG;

/// A server of configurations: the text to answer with, and the tags that it was asked with.
#[derive(Default)]
struct Source {
    text: Mutex<Option<String>>,
    asked: Mutex<Vec<Option<String>>>,
    changed: Condvar,
}

impl Source {
    fn start() -> (Arc<Self>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let source = Arc::new(Self::default());
        let served = Arc::clone(&source);
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let tag = BufReader::new(stream.try_clone().unwrap())
                    .lines()
                    .map_while(Result::ok)
                    .take_while(|line| !line.is_empty())
                    .filter_map(|line| line.strip_prefix("if-none-match: ").map(str::to_owned))
                    .last();
                let answer = served.answer(tag.as_deref());
                served.asked.lock().unwrap().push(tag);
                served.changed.notify_all();
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        (source, address)
    }

    fn answer(&self, tag: Option<&str>) -> String {
        let text = self.text.lock().unwrap().clone();
        let Some(text) = text else {
            return "HTTP/1.1 500 x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_owned();
        };
        let etag = format!("\"{}\"", text.len());
        if tag == Some(&etag) {
            return format!("HTTP/1.1 304 x\r\netag: {etag}\r\nconnection: close\r\n\r\n");
        }
        let length = text.len();
        format!(
            "HTTP/1.1 200 x\r\netag: {etag}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{text}"
        )
    }

    fn set(&self, text: &impl ToString) {
        *self.text.lock().unwrap() = Some(text.to_string());
    }

    /// Waits for that many requests, and gives their tags.
    fn wait(&self, n: usize) -> Vec<Option<String>> {
        let asked = self.asked.lock().unwrap();
        self.changed
            .wait_while(asked, |asked| asked.len() < n)
            .unwrap()
            .clone()
    }
}

fn running(id: &str) -> serde_json::Value {
    json!({"experiments": [{"experiment_id": id, "variants": [{"variant": "a"}]}]})
}

#[derive(Default)]
struct Heard(Mutex<Vec<String>>, Condvar);

impl Heard {
    fn hear(&self, what: String) {
        self.0.lock().unwrap().push(what);
        self.1.notify_all();
    }

    /// Waits for something that contains `text`.
    fn wait(&self, text: &str) {
        let heard = self.0.lock().unwrap();
        drop(
            self.1
                .wait_while(heard, |heard| {
                    !heard.iter().any(|message| message.contains(text))
                })
                .unwrap(),
        );
    }
}

impl Observer for Heard {
    fn configured(&self, n_experiments: usize) {
        self.hear(format!("configured {n_experiments}"));
    }
    fn configuration_failed(&self, reason: &str) {
        self.hear(reason.to_owned());
    }
}

fn client(address: &str, heard: &Arc<Heard>) -> trialog_sdk::Builder {
    Client::builder()
        .server(address)
        .transport(MemoryTransport::new())
        .poll_interval(Duration::from_millis(20))
        .observer(Arc::clone(heard) as Arc<dyn Observer>)
}

#[test]
fn a_configuration_is_fetched_with_its_tag_and_replaced_whole() {
    let (source, address) = Source::start();
    let heard = Arc::new(Heard::default());
    let client = client(&address, &heard).build().unwrap();
    let outcome = |experiment: &str| client.assign("1", experiment, &Context::new()).outcome();
    assert_eq!(
        outcome("first"),
        Outcome::NotReady,
        "a start waits for nothing"
    );
    heard.wait("answers 500");
    assert!(!client.wait_until_ready(Duration::from_millis(1)));
    source.set(&running("first"));
    assert!(client.wait_until_ready(LONG));
    assert_eq!(
        (outcome("first"), outcome("other")),
        (Outcome::Assigned, Outcome::NotRunning)
    );
    let n = source.asked.lock().unwrap().len();
    assert!(
        source.wait(n + 2).last().unwrap().is_some(),
        "it says what it has"
    );
    assert_eq!(
        client.counters().configurations,
        1,
        "what is the same is not taken over"
    );
    source.set(&"no configuration");
    heard.wait("cannot be read");
    assert_eq!(
        outcome("first"),
        Outcome::Assigned,
        "the last good one stays"
    );
    source.set(&json!({"experiments": []}));
    heard.wait("configured 0");
    assert_eq!(outcome("first"), Outcome::NotRunning);
}

#[test]
fn a_start_without_a_network_uses_the_last_good_copy() {
    let directory = tempfile::tempdir().unwrap();
    let copy = directory.path().join("trialog.json");
    let (source, address) = Source::start();
    source.set(&running("first"));
    let heard = Arc::new(Heard::default());
    let first = client(&address, &heard).cache_file(&copy).build().unwrap();
    assert!(first.wait_until_ready(LONG));
    let n = source.asked.lock().unwrap().len();
    source.wait(n + 1);
    drop(first);
    let offline = client("http://127.0.0.1:1", &heard)
        .cache_file(&copy)
        .build()
        .unwrap();
    assert_eq!(
        offline.assign("1", "first", &Context::new()).outcome(),
        Outcome::Assigned
    );
    let n = source.asked.lock().unwrap().len();
    let online = client(&address, &heard).cache_file(&copy).build().unwrap();
    assert!(source.wait(n + 1)[n].is_some(), "the copy has its tag");
    drop(online);
    std::fs::write(&copy, "{").unwrap();
    let broken = client("http://127.0.0.1:1", &heard)
        .cache_file(&copy)
        .build()
        .unwrap();
    heard.wait("is not used");
    assert_eq!(
        broken.assign("1", "first", &Context::new()).outcome(),
        Outcome::NotReady
    );
}

#[test]
fn a_copy_that_cannot_be_written_costs_nothing_but_the_copy() {
    let (source, address) = Source::start();
    source.set(&running("first"));
    let heard = Arc::new(Heard::default());
    let client = client(&address, &heard)
        .cache_file("/proc/none/trialog.json")
        .build()
        .unwrap();
    assert!(client.wait_until_ready(LONG));
    heard.wait("cannot keep a copy");
    assert_eq!(
        client.assign("1", "first", &Context::new()).outcome(),
        Outcome::Assigned
    );
}

#[test]
fn an_experiment_that_a_later_version_made_is_left_out_and_told() {
    let (source, address) = Source::start();
    let mut rules = running("first");
    let later = json!({"experiment_id": "later", "variants": [{"variant": "a"}], "targeting": [{"key": "geo", "op": "near", "value": 1}]});
    rules["experiments"].as_array_mut().unwrap().push(later);
    source.set(&rules);
    let heard = Arc::new(Heard::default());
    let client = client(&address, &heard).build().unwrap();
    heard.wait("near");
    assert!(client.wait_until_ready(LONG));
    assert_eq!(
        client.assign("1", "first", &Context::new()).outcome(),
        Outcome::Assigned
    );
    assert_eq!(
        client.assign("1", "later", &Context::new()).outcome(),
        Outcome::NotRunning
    );
}

#[test]
fn a_refresh_does_not_wait_for_the_interval() {
    let (source, address) = Source::start();
    source.set(&running("first"));
    let heard = Arc::new(Heard::default());
    let client = client(&address, &heard)
        .poll_interval(LONG)
        .build()
        .unwrap();
    assert!(client.wait_until_ready(LONG));
    source.wait(1);
    client.refresh();
    source.wait(2);
}
