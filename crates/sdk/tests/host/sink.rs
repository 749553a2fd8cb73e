//! A server that behaves as a test wishes: what a network may do to a client.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use serde_json::Value;

/// What the server does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    /// Takes every event.
    Well,
    /// Takes every event but those of the type `bad`.
    Picky,
    /// Takes at most so many events of a request.
    Small(usize),
    /// Answers with this status and a page.
    Status(u16),
    /// Answers 202 with something that no Trialog server says.
    Garbage,
    /// Says nothing that is HTTP.
    Noise,
    /// Ends the connection after the request was read.
    HangsUp,
    /// Never answers.
    Silent,
}

#[derive(Default)]
struct Taken {
    /// Every event id, with how often it came.
    ids: BTreeSet<String>,
    events: Vec<Value>,
    n_requests: usize,
}

pub(crate) struct Sink {
    pub(crate) address: String,
    mood: Arc<Mutex<Mood>>,
    taken: Arc<(Mutex<Taken>, Condvar)>,
    is_over: Arc<AtomicBool>,
}

impl Sink {
    pub(crate) fn new(mood: Mood) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let sink = Self {
            address: format!("http://{address}"),
            mood: Arc::new(Mutex::new(mood)),
            taken: Arc::default(),
            is_over: Arc::default(),
        };
        let (mood, taken) = (Arc::clone(&sink.mood), Arc::clone(&sink.taken));
        let is_over = Arc::clone(&sink.is_over);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if is_over.load(Ordering::SeqCst) {
                    return;
                }
                let (mood, taken) = (Arc::clone(&mood), Arc::clone(&taken));
                std::thread::spawn(move || serve(stream, &mood, &taken));
            }
        });
        sink
    }

    pub(crate) fn be(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    /// The events that were taken, copies of one left out.
    pub(crate) fn events(&self) -> Vec<Value> {
        self.taken.0.lock().unwrap().events.clone()
    }

    /// Waits until so many requests came.
    pub(crate) fn wait_for_requests(&self, n: usize) {
        let (taken, changed) = &*self.taken;
        let taken = taken.lock().unwrap();
        drop(
            changed
                .wait_while(taken, |taken| taken.n_requests < n)
                .unwrap(),
        );
    }

    /// Waits until so many events came.
    pub(crate) fn wait_for_events(&self, n: usize) {
        let (taken, changed) = &*self.taken;
        let taken = taken.lock().unwrap();
        drop(
            changed
                .wait_while(taken, |taken| taken.events.len() < n)
                .unwrap(),
        );
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address.trim_start_matches("http://"));
    }
}

fn serve(stream: TcpStream, mood: &Mutex<Mood>, taken: &(Mutex<Taken>, Condvar)) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut stream = stream;
    while let Some(body) = request(&mut reader) {
        let mood = *mood.lock().unwrap();
        let answer = answer(mood, &body, taken);
        {
            taken.0.lock().unwrap().n_requests += 1;
            taken.1.notify_all();
        }
        match answer {
            Some(answer) => {
                if stream.write_all(answer.as_bytes()).is_err() {
                    return;
                }
            }
            None if mood == Mood::Silent => {
                // Until the client gives up.
                let _ = reader.read(&mut [0]);
                return;
            }
            None => return,
        }
    }
}

/// The body of the next request.
fn request(reader: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(body)
}

fn answer(mood: Mood, body: &[u8], taken: &(Mutex<Taken>, Condvar)) -> Option<String> {
    let events: Vec<Value> = body
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect();
    let respond = |status: u16, more: &str, body: &str| {
        format!(
            "HTTP/1.1 {status} x\r\ncontent-length: {}\r\n{more}\r\n{body}",
            body.len()
        )
    };
    match mood {
        Mood::Small(most) if events.len() > most => Some(respond(413, "", "")),
        Mood::Well | Mood::Picky | Mood::Small(_) => {
            let is_bad = |event: &Value| mood == Mood::Picky && event["event_type"] == "bad";
            let mut rejected = Vec::new();
            let mut taken = taken.0.lock().unwrap();
            for (index, event) in events.into_iter().enumerate() {
                if is_bad(&event) {
                    rejected.push(serde_json::json!({"index": index, "field": "event_type", "reason": "is bad"}));
                } else if taken
                    .ids
                    .insert(event["event_id"].as_str().unwrap().to_owned())
                {
                    taken.events.push(event);
                }
            }
            let n_accepted = body
                .split(|byte| *byte == b'\n')
                .filter(|line| !line.is_empty())
                .count()
                - rejected.len();
            let status = if n_accepted == 0 { 422 } else { 202 };
            let judged = serde_json::json!({"accepted": n_accepted, "rejected": rejected});
            Some(respond(status, "", &judged.to_string()))
        }
        Mood::Status(429) => Some(respond(429, "retry-after: 0\r\n", "slow down")),
        Mood::Status(status) => Some(respond(status, "", "<html>no</html>")),
        Mood::Garbage => Some(respond(202, "", "{\"accepted\": \"all\"}")),
        Mood::Noise => Some("SSH-2.0-OpenSSH\r\n\r\n".to_owned()),
        Mood::HangsUp | Mood::Silent => None,
    }
}
