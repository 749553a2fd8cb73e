//! Connections over real sockets: slow clients, limits, TLS, shutdown.
//!
//! Nothing here sleeps: a test waits until its socket has something or is
//! closed, whenever that is.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use trialog_server::Settings;
use trialog_server::serving::{Connections, Listener, serve};
use trialog_server::tls::Tls;

use crate::harness::{Api, settings};

const SOON: Duration = Duration::from_millis(100);
/// What no test waits for.
const NEVER: Duration = Duration::from_secs(3_600);

/// Timeouts that do not come.
fn patient() -> Connections {
    Connections {
        header_timeout: NEVER,
        idle_timeout: NEVER,
        write_timeout: NEVER,
        ..Connections::default()
    }
}

struct Running {
    api: Api,
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    served: JoinHandle<std::io::Result<()>>,
}

impl Running {
    fn new(connections: Connections) -> Self {
        Self::with(
            Settings {
                connections,
                ..settings()
            },
            None,
        )
    }

    fn with(settings: Settings, tls: Option<Arc<Tls>>) -> Self {
        let api = Api::with(settings);
        let socket = api
            .runtime
            .block_on(TcpListener::bind("127.0.0.1:0"))
            .unwrap();
        let address = socket.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let app = Arc::clone(&api.app);
        let served = api
            .runtime
            .spawn(serve(vec![Listener { socket, tls }], app, async {
                let _ = stopped.await;
            }));
        Self {
            api,
            address,
            stop: Some(stop),
            served,
        }
    }

    fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).unwrap()
    }

    /// Asks the server to stop.
    fn stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    /// Waits until the server has stopped.
    fn stopped(self) {
        self.api.runtime.block_on(self.served).unwrap().unwrap();
    }
}

fn send(mut stream: &TcpStream, text: &str) {
    stream.write_all(text.as_bytes()).unwrap();
}

/// One answer with its body, as it says how long it is.
fn one_answer(mut stream: impl Read) -> String {
    let mut answer = String::new();
    let mut byte = [0];
    while !answer.ends_with("\r\n\r\n") {
        assert_eq!(
            stream.read(&mut byte).unwrap(),
            1,
            "closed after {answer:?}"
        );
        answer.push(char::from(byte[0]));
    }
    let length = answer
        .lines()
        .find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).unwrap();
    answer + &String::from_utf8(body).unwrap()
}

/// What comes until the server closes; a reset is a close as well.
fn until_closed(mut stream: &TcpStream) -> String {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

const HEALTH: &str = "GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n";

#[test]
fn a_client_that_says_nothing_is_cut() {
    let server = Running::new(Connections {
        header_timeout: SOON,
        ..patient()
    });
    assert_eq!(until_closed(&server.connect()), "");
}

#[test]
fn a_client_that_never_ends_its_head_is_cut() {
    let server = Running::new(Connections {
        header_timeout: SOON,
        ..patient()
    });
    let stream = server.connect();
    send(&stream, "GET /healthz HTTP/1.1\r\nhost: local");
    assert_eq!(until_closed(&stream), "");
}

#[test]
fn a_second_head_that_never_ends_is_cut_as_well() {
    let server = Running::new(Connections {
        header_timeout: SOON,
        ..patient()
    });
    let stream = server.connect();
    send(&stream, HEALTH);
    assert!(one_answer(&stream).starts_with("HTTP/1.1 200"));
    send(&stream, "GET /healthz HTT");
    assert_eq!(until_closed(&stream), "");
}

#[test]
fn an_idle_connection_is_closed_after_its_own_time() {
    let server = Running::new(Connections {
        idle_timeout: SOON,
        ..patient()
    });
    let stream = server.connect();
    send(&stream, HEALTH);
    assert!(one_answer(&stream).starts_with("HTTP/1.1 200"));
    assert_eq!(until_closed(&stream), "");
}

#[test]
fn a_body_that_does_not_come_is_answered_with_408() {
    for path in ["/v1/events/metrics", "/v1/experiments"] {
        let settings = Settings {
            body_timeout: SOON,
            connections: patient(),
            ..settings()
        };
        let server = Running::with(settings, None);
        let stream = server.connect();
        send(
            &stream,
            &format!("POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\n["),
        );
        let answer = one_answer(&stream);
        assert!(answer.starts_with("HTTP/1.1 408"), "{path}: {answer}");
        assert!(
            answer.contains("did not arrive in time"),
            "{path}: {answer}"
        );
    }
}

#[test]
fn a_client_whose_body_is_refused_can_send_it_all_and_reads_the_answer() {
    const N_BYTES: usize = 8 << 20;
    let small = Settings {
        max_body_bytes: 1 << 20,
        connections: patient(),
        ..settings()
    };
    let server = Running::with(small, None);
    let body = vec![b' '; N_BYTES];
    for (header, status) in [
        ("x-api-key: tlk_unknown_key\r\n", "401"),
        ("x-other: 1\r\n", "413"),
    ] {
        let mut stream = server.connect();
        let head = format!(
            "POST /v1/events/metrics HTTP/1.1\r\nhost: localhost\r\n{header}content-length: {N_BYTES}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        // What is written after the server has closed is answered with a reset.
        stream.write_all(&body).unwrap();
        assert!(one_answer(&stream).starts_with(&format!("HTTP/1.1 {status}")));
    }
}

#[test]
fn a_client_that_takes_nothing_of_its_answers_is_cut() {
    let server = Running::new(Connections {
        write_timeout: SOON,
        ..patient()
    });
    let stream = server.connect();
    // More answers than the sockets hold: at some point sending fails, since
    // the server reads nothing more and then closes.
    let requests = "GET /v1/nowhere HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(1_000);
    let failed = loop {
        if let Err(error) = (&stream).write_all(requests.as_bytes()) {
            break error;
        }
    };
    use std::io::ErrorKind::{BrokenPipe, ConnectionReset};
    assert!(
        [BrokenPipe, ConnectionReset].contains(&failed.kind()),
        "{failed}"
    );
}

#[test]
fn a_head_that_is_too_large_is_answered_with_431() {
    let server = Running::new(Connections {
        max_header_bytes: 1_024,
        ..patient()
    });
    let stream = server.connect();
    let long = "x".repeat(2_000);
    send(
        &stream,
        &format!("GET /healthz HTTP/1.1\r\nhost: localhost\r\nlong: {long}\r\n\r\n"),
    );
    let answer = until_closed(&stream);
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
}

/// Begins a request whose body the server waits for.
fn begin_request(stream: &TcpStream, headers: &str) {
    send(
        stream,
        &format!(
            "POST /v1/events/metrics HTTP/1.1\r\nhost: localhost\r\n{headers}content-length: 2\r\nexpect: 100-continue\r\n\r\n"
        ),
    );
    assert!(one_answer(stream).starts_with("HTTP/1.1 100"));
}

#[test]
fn a_connection_too_many_is_told_so_and_one_that_ends_makes_room() {
    const LIST: &str = "GET /v1/experiments HTTP/1.1\r\nhost: localhost\r\n";
    let server = Running::new(Connections {
        max: 1,
        ..patient()
    });
    let first = server.connect();
    begin_request(&first, "");
    let second = server.connect();
    send(&second, &format!("{LIST}\r\n"));
    let answer = until_closed(&second);
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(
        answer.contains("retry-after: 1") && answer.contains("--max-connections"),
        "{answer}"
    );
    // Health checks are answered all the same.
    let third = server.connect();
    send(&third, HEALTH);
    let answer = until_closed(&third);
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("connection: close"));
    send(&first, "[]");
    assert!(one_answer(&first).starts_with("HTTP/1.1 202"));
    // The first is idle now, and gives way.
    let fourth = server.connect();
    send(&fourth, &format!("{LIST}\r\n"));
    assert!(one_answer(&fourth).starts_with("HTTP/1.1 200"));
    assert_eq!(until_closed(&first), "");
}

#[test]
fn who_has_a_key_gets_in_whatever_is_idle_and_whatever_is_in_work() {
    let server = Running::new(Connections {
        max: 2,
        ..patient()
    });
    let [ops, a, b] = ["ops", "a", "b"].map(|name| {
        let key = server.api.make_key(name, &["admin"]);
        format!("authorization: Bearer {key}\r\n")
    });
    let ask = || {
        let stream = server.connect();
        send(
            &stream,
            &format!("GET /v1/experiments HTTP/1.1\r\nhost: localhost\r\n{ops}\r\n"),
        );
        one_answer(&stream)
    };
    let idle: Vec<TcpStream> = (0..20)
        .map(|_| {
            let stream = server.connect();
            send(&stream, HEALTH);
            assert!(one_answer(&stream).starts_with("HTTP/1.1 200"));
            stream
        })
        .collect();
    assert!(ask().starts_with("HTTP/1.1 200"));
    assert_eq!(until_closed(&idle[0]), "");
    // One after the other: as long as nothing is known of a connection, it gives way.
    let busy = [&a, &b].map(|key| {
        let stream = server.connect();
        begin_request(&stream, key);
        stream
    });
    assert!(ask().starts_with("HTTP/1.1 200"));
    for stream in &busy {
        send(stream, "[]");
        assert!(one_answer(stream).starts_with("HTTP/1.1 202"));
    }
}

#[test]
fn a_request_under_way_is_finished_at_shutdown_and_an_idle_connection_closed() {
    let mut server = Running::new(patient());
    let (busy, idle) = (server.connect(), server.connect());
    send(&idle, HEALTH);
    assert!(one_answer(&idle).starts_with("HTTP/1.1 200"));
    send(
        &busy,
        "POST /v1/events/metrics HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n",
    );
    // The server asks for the body, so it has begun with the request.
    assert!(one_answer(&busy).starts_with("HTTP/1.1 100"));
    server.stop();
    assert_eq!(until_closed(&idle), "");
    send(&busy, "[]");
    let answer = until_closed(&busy);
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    server.stopped();
}

/// A certificate for `localhost` in two files, and its PEM.
fn certificate(directory: &std::path::Path) -> String {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let pem = made.cert.pem();
    std::fs::write(directory.join("cert.pem"), &pem).unwrap();
    std::fs::write(directory.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    pem
}

mod client {
    //! A TLS client that trusts one certificate.

    use std::net::{SocketAddr, TcpStream};
    use std::sync::Arc;

    use tokio_rustls::rustls::crypto::ring;
    use tokio_rustls::rustls::pki_types::CertificateDer;
    use tokio_rustls::rustls::pki_types::pem::PemObject;
    use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

    pub(crate) fn connect(
        address: SocketAddr,
        trusted: &str,
    ) -> StreamOwned<ClientConnection, TcpStream> {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(trusted.as_bytes()).unwrap())
            .unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = "localhost".try_into().unwrap();
        let connection = ClientConnection::new(Arc::new(config), name).unwrap();
        StreamOwned::new(connection, TcpStream::connect(address).unwrap())
    }
}

#[test]
fn tls_serves_with_a_certificate_that_can_be_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let files = ["cert.pem", "key.pem"].map(|name| directory.path().join(name));
    let first = certificate(directory.path());
    let tls = Arc::new(Tls::open(&files[0], &files[1]).unwrap());
    let settings = Settings {
        connections: patient(),
        ..settings()
    };
    let server = Running::with(settings, Some(Arc::clone(&tls)));
    let ask = |trusted: &str| {
        let mut stream = client::connect(server.address, trusted);
        stream.write_all(HEALTH.as_bytes())?;
        Ok::<_, std::io::Error>(one_answer(&mut stream))
    };
    let answer = ask(&first).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(
        answer.contains("strict-transport-security: max-age="),
        "{answer}"
    );

    let second = certificate(directory.path());
    assert!(
        ask(&second).is_err(),
        "the new certificate is not in use yet"
    );
    tls.reload().unwrap();
    assert!(ask(&second).is_ok());
    assert!(ask(&first).is_err());

    std::fs::write(&files[1], "no key").unwrap();
    let error = tls.reload().unwrap_err().to_string();
    assert!(
        error.contains("private key") && error.contains("key.pem"),
        "{error}"
    );
    assert!(ask(&second).is_ok(), "the certificate in use stays");
}

#[test]
fn a_client_that_does_not_agree_on_tls_is_cut() {
    let directory = tempfile::tempdir().unwrap();
    certificate(directory.path());
    let files = ["cert.pem", "key.pem"].map(|name| directory.path().join(name));
    let tls = Arc::new(Tls::open(&files[0], &files[1]).unwrap());
    let connections = Connections {
        header_timeout: SOON,
        ..patient()
    };
    let settings = Settings {
        connections,
        ..settings()
    };
    let server = Running::with(settings, Some(tls));
    assert_eq!(until_closed(&server.connect()), "");
}

#[test]
fn bodies_that_are_announced_and_do_not_come_keep_nobody_waiting() {
    let server = Running::with(
        Settings {
            connections: patient(),
            body_timeout: NEVER,
            max_body_bytes: 1 << 20,
            max_bodies_bytes: 4 << 20,
            ..settings()
        },
        None,
    );
    let [bad, quiet] = ["bad", "quiet"].map(|name| server.api.make_key(name, &["ingest"]));
    let head = |key: &str, length: usize| {
        format!(
            "POST /v1/events/metrics HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {key}\r\ncontent-length: {length}\r\n"
        )
    };
    let announced: Vec<_> = (0..8)
        .map(|_| {
            let stream = server.connect();
            send(
                &stream,
                &format!("{}expect: 100-continue\r\n\r\n", head(&bad, 1 << 20)),
            );
            // It is said once the body is waited for.
            assert!(one_answer(&stream).starts_with("HTTP/1.1 100"));
            stream
        })
        .collect();
    let event =
        r#"{"user_id":1,"experiment_id":"gate","event_type":"buy","timestamp":1759990000000}"#;
    let served = |key: &str| {
        let stream = server.connect();
        send(&stream, &format!("{}\r\n{event}", head(key, event.len())));
        one_answer(&stream)
    };
    assert!(served(&quiet).starts_with("HTTP/1.1 202"));
    assert!(
        served(&bad).starts_with("HTTP/1.1 202"),
        "it has a share as well"
    );
    // Those that send all but the end hold what they sent, up to the share of their key.
    let most = " ".repeat((1 << 20) - 1);
    for stream in &announced {
        send(stream, &most);
    }
    let answer = served(&quiet);
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
}
