//! API keys through the real binary: on a directory, beside a server, over
//! TLS; and that no key is ever written down in clear.

#![expect(clippy::unwrap_used, reason = "a failing helper fails its test")]

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

struct Fixture {
    directory: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_trialog"));
        command
            .current_dir(self.directory.path())
            .args(arguments.split(' '))
            .env("TRIALOG_DATA_DIR", "data");
        command
    }

    fn run(&self, arguments: &str) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// What a command that succeeds prints.
    fn out(&self, arguments: &str) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments}: {}", text(&output));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// What a command that fails says.
    fn error(&self, arguments: &str) -> String {
        let output = self.run(arguments);
        assert!(!output.status.success(), "{arguments}: {}", text(&output));
        text(&output)
    }

    /// A server, its log in the file `log`.
    fn serve(&self, arguments: &str) -> Server {
        let arguments = format!("--log trace {arguments}");
        let mut child = self
            .command(&arguments)
            .stdout(Stdio::piped())
            .stderr(File::create(self.path("log")).unwrap())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let url = line.trim().strip_prefix("listening on ").map(str::to_owned);
        let server = Server {
            child,
            url: url.clone().unwrap_or_default(),
        };
        assert!(url.is_some(), "the server did not start: {}", self.log());
        server
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap()
    }

    fn keys(&self) -> Value {
        serde_json::from_str(&self.out("keys list --format json")).unwrap()
    }
}

struct Server {
    child: Child,
    url: String,
}

impl Server {
    fn address(&self) -> &str {
        self.url.split_once("://").unwrap().1
    }

    fn get(&self, path: &str, headers: &str) -> String {
        get(self.address(), path, headers)
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args([name, &id])
                .status()
                .unwrap()
                .success()
        );
    }

    fn stop(mut self) {
        self.signal("-TERM");
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The whole answer to `GET path` with `headers`.
fn get(address: &str, path: &str, headers: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let request =
        format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

#[test]
fn keys_are_made_listed_and_revoked_on_a_directory() {
    let fixture = Fixture::new();
    let key = fixture.out("keys create ci --scope ingest --scope read --expires 90d");
    assert!(
        key.starts_with("tlk_") && !key.contains(char::is_whitespace),
        "{key}"
    );
    let listed = fixture.keys();
    assert_eq!(listed[0]["name"], "ci");
    assert_eq!(listed[0]["created_by"], "local");
    assert!(listed[0]["expires_at"].is_string());
    let table = fixture.out("keys list");
    assert!(
        table.contains("ci") && table.contains("ingest read") && !table.contains(&key),
        "{table}"
    );
    assert!(
        fixture
            .error("keys create ci --scope read")
            .contains("already")
    );
    assert!(
        fixture
            .error("keys create x --scope root")
            .contains("`root` is no scope")
    );
    assert!(
        fixture
            .error("keys create x --scope read --expires soon")
            .contains("90d")
    );
    fixture.out("keys revoke ci");
    assert!(fixture.keys()[0]["revoked_at"].is_string());
    assert!(fixture.error("keys revoke ci").contains("no key in use"));
    let again: Value =
        serde_json::from_str(&fixture.out("keys create ci --scope read --format json")).unwrap();
    assert!(again["key"].as_str().unwrap().starts_with("tlk_"));
}

#[test]
fn commands_of_the_same_user_go_on_beside_a_server_with_keys() {
    let fixture = Fixture::new();
    let server = fixture.serve("--listen 127.0.0.1:0 serve");
    assert!(
        server
            .get("/v1/experiments", "")
            .starts_with("HTTP/1.1 200")
    );
    let reader = fixture.out("keys create reader --scope read");
    assert!(
        server
            .get("/v1/experiments", "")
            .starts_with("HTTP/1.1 401")
    );

    let local_key = fixture.path("data/LOCAL_KEY");
    let mode = std::fs::metadata(&local_key).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    fixture.out("aggregate");
    fixture.out("experiments list");
    let events = "user_id,experiment_id,variant,assigned_at\n1,gate,a,2026-01-01T00:00:00Z\n";
    std::fs::write(fixture.path("a.csv"), events).unwrap();
    assert!(
        fixture
            .out("import assignments a.csv")
            .contains("1 assignments accepted")
    );

    // Whoever cannot read that file needs a key, as one from afar does.
    std::fs::rename(&local_key, fixture.path("away")).unwrap();
    assert!(fixture.error("aggregate").contains("takes an API key"));
    let with = |key: &str, arguments: &str| {
        fixture
            .command(arguments)
            .env("TRIALOG_KEY", key)
            .output()
            .unwrap()
    };
    let remote = format!("--server {} experiments list", server.url);
    assert!(with(&reader, &remote).status.success());
    let refused = text(&with(&reader, "aggregate"));
    assert!(
        refused.contains("the scope `admin`") && refused.contains("`reader`"),
        "{refused}"
    );
    std::fs::rename(fixture.path("away"), &local_key).unwrap();
    server.stop();
    assert!(!local_key.exists(), "it goes with its process");
}

#[test]
fn no_key_is_written_down_in_clear() {
    let fixture = Fixture::new();
    let server = fixture.serve("--listen 127.0.0.1:0 serve");
    let key = fixture.out("keys create reader --scope read");
    let local = std::fs::read_to_string(fixture.path("data/LOCAL_KEY")).unwrap();
    let wrong = format!("{}{}", &key[..key.len() - 6], "00c0de");
    let shown: Vec<String> = [
        server.get(
            "/v1/experiments",
            &format!("authorization: Bearer {key}\r\n"),
        ),
        server.get("/v1/experiments", &format!("x-api-key: {wrong}\r\n")),
        server.get(
            "/v1/experiments",
            &format!("authorization: Digest {wrong}\r\n"),
        ),
        server.get(&format!("/v1/experiments?api_key={key}"), ""),
        server.get(&format!("/{key}"), &format!("x-request-id: {key}\r\n")),
        server.get("/v1/keys", &format!("authorization: Bearer {key}\r\n")),
    ]
    .into();
    let statuses: Vec<&str> = shown.iter().map(|answer| &answer[9..12]).collect();
    assert_eq!(statuses, ["200", "401", "401", "400", "400", "403"]);
    let listed = fixture.out("keys list --format json");
    let refused = text(
        &fixture
            .command("aggregate")
            .env("TRIALOG_KEY", &wrong)
            .output()
            .unwrap(),
    );
    assert!(refused.contains("there is no such API key"), "{refused}");
    // While it runs, so that the log of the catalog is there as well.
    let files: Vec<(String, Vec<u8>)> = [
        "data/catalog.sqlite",
        "data/catalog.sqlite-wal",
        "data/LOCK",
    ]
    .iter()
    .map(|name| {
        (
            (*name).to_owned(),
            std::fs::read(fixture.path(name)).unwrap(),
        )
    })
    .collect();
    server.stop();
    let mut texts = files;
    let after = std::fs::read(fixture.path("data/catalog.sqlite")).unwrap();
    texts.push(("the catalog after the end".to_owned(), after));
    texts.push(("the log".to_owned(), fixture.log().into_bytes()));
    texts.push(("answers".to_owned(), shown.concat().into_bytes()));
    texts.push((
        "what commands print".to_owned(),
        (listed + &refused).into_bytes(),
    ));
    assert!(
        fixture.log().contains("created an API key"),
        "the log was captured"
    );
    for secret in [&key, &wrong, &local] {
        // The id before the last `_` is no secret.
        let secret = secret.rsplit_once('_').unwrap().1;
        for (name, bytes) in &texts {
            let found = bytes
                .windows(secret.len())
                .any(|window| window == secret.as_bytes());
            assert!(!found, "a secret stands in {name}");
        }
    }
}

#[test]
fn other_machines_are_let_in_only_with_keys_and_tls() {
    let fixture = Fixture::new();
    let everywhere = "--listen 0.0.0.0:0 serve";
    let refused = fixture.error(everywhere);
    assert!(
        refused.contains("keys create NAME --scope admin"),
        "{refused}"
    );
    let key = fixture.out("keys create ops --scope admin");
    let refused = fixture.error(everywhere);
    assert!(
        refused.contains("travel in clear") && refused.contains("--insecure-http"),
        "{refused}"
    );
    let server = fixture.serve(&format!("{everywhere} --insecure-http"));
    let port = server.address().rsplit_once(':').unwrap().1.to_owned();
    let near = |headers: &str| get(&format!("127.0.0.1:{port}"), "/v1/experiments", headers);
    assert!(near("").starts_with("HTTP/1.1 401"));
    let answer = near(&format!("x-api-key: {key}\r\n"));
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    fixture.out("aggregate");
    // The last key is revoked: nobody gets in, the commands beside it do.
    fixture.out("keys revoke ops");
    let answer = near(&format!("x-api-key: {key}\r\n"));
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    fixture.out("keys create other --scope admin");
    server.stop();
    fixture.out("keys revoke other");
    assert!(fixture.error(everywhere).contains("there is no API key"));
}

/// A certificate for this machine in `cert.pem` and `key.pem`.
fn certificate(fixture: &Fixture) {
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    std::fs::write(fixture.path("cert.pem"), made.cert.pem()).unwrap();
    std::fs::write(fixture.path("key.pem"), made.signing_key.serialize_pem()).unwrap();
}

#[test]
fn commands_speak_tls_and_a_new_certificate_is_taken_at_hangup() {
    let fixture = Fixture::new();
    certificate(&fixture);
    let key = fixture.out("keys create reader --scope read");
    let tls = "--tls-cert cert.pem --tls-key key.pem";
    let server = fixture.serve(&format!("--listen 127.0.0.1:0 serve {tls}"));
    assert!(
        server.url.starts_with("https://127.0.0.1:"),
        "{}",
        server.url
    );
    let list = |authority: &str| {
        let arguments = format!("--server {} {authority}experiments list", server.url);
        fixture
            .command(&arguments)
            .env("TRIALOG_KEY", &key)
            .output()
            .unwrap()
    };
    let refused = list("");
    assert!(
        !refused.status.success(),
        "nobody vouches for the certificate: {}",
        text(&refused)
    );
    let listed = list("--tls-ca cert.pem ");
    assert!(listed.status.success(), "{}", text(&listed));
    // A command beside the server needs neither a key nor an authority.
    fixture.out("aggregate");

    std::fs::copy(fixture.path("cert.pem"), fixture.path("old.pem")).unwrap();
    certificate(&fixture);
    assert!(
        !list("--tls-ca cert.pem ").status.success(),
        "it is not in use yet"
    );
    server.signal("-HUP");
    while !list("--tls-ca cert.pem ").status.success() {}
    assert!(!list("--tls-ca old.pem ").status.success());
    server.stop();
}

#[test]
fn settings_that_cannot_be_are_refused_with_the_mend() {
    let fixture = Fixture::new();
    for (arguments, remedy) in [
        ("serve --tls-cert a.pem", "`tls_key`"),
        (
            "--listen 127.0.0.1:0 serve --tls-cert a.pem --tls-key b.pem",
            "takes a PEM file",
        ),
        ("serve --max-connections 0", "give 1 to"),
        ("serve --header-timeout soon", "header_timeout"),
        ("serve --cors-origins shop.example", "https://shop.example"),
        ("--server ftp://x experiments list", "http://127.0.0.1:8080"),
        (
            "--server https://127.0.0.1:1 --tls-ca none.pem experiments list",
            "none.pem",
        ),
    ] {
        let error = fixture.error(arguments);
        assert!(error.contains(remedy), "{arguments}: {error}");
    }
}
