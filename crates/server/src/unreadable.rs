//! Answers clients whose requests cannot be parsed.
//!
//! hyper answers such a request by itself, with a status and nothing else,
//! before anything of ours sees it. On its way out that answer is replaced by
//! a problem document.

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};

use crate::headers::put_headers;
use crate::problem::Problem;

/// Returns the response in place of `head`, if that is one of hyper's: a client error without the
/// id that every response of ours carries.
pub(crate) fn answer_instead_of(head: &[u8], is_tls: bool) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(head).ok()?;
    let (version, rest) = text.split_once(' ')?;
    let status: StatusCode = rest.get(..3)?.parse().ok()?;
    let is_own = ["HTTP/1.1", "HTTP/1.0"].contains(&version)
        && status.is_client_error()
        && text.ends_with("\r\n\r\n")
        && !text.contains("\r\nx-request-id:");
    is_own.then(|| answer(version, status, is_tls))
}

fn answer(version: &str, status: StatusCode, is_tls: bool) -> Vec<u8> {
    let detail = match status {
        StatusCode::URI_TOO_LONG => "the address is too long: send a shorter query",
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => {
            "the headers are too large or too many: send fewer and shorter ones, or raise the server's `max_header`"
        }
        _ => {
            "the request cannot be read as HTTP/1.1: check its first line, its headers and the form of its body"
        }
    };
    let body = serde_json::Value::Object(Problem::new(status, detail).document()).to_string();
    let mut headers = HeaderMap::new();
    let fixed = |text| HeaderValue::from_static(text);
    headers.insert(header::CONTENT_TYPE, fixed("application/problem+json"));
    headers.insert(header::CONTENT_LENGTH, body.len().into());
    headers.insert(header::CONNECTION, fixed("close"));
    put_headers(&mut headers, is_tls);
    let mut answer = format!("{version} {status}\r\n").into_bytes();
    for (name, value) in &headers {
        answer.extend_from_slice(name.as_str().as_bytes());
        answer.extend_from_slice(b": ");
        answer.extend_from_slice(value.as_bytes());
        answer.extend_from_slice(b"\r\n");
    }
    answer.extend_from_slice(b"\r\n");
    answer.extend_from_slice(body.as_bytes());
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_of_hyper_becomes_a_problem_document() {
        let head = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\n\r\n";
        let answer = String::from_utf8(answer_instead_of(head, false).unwrap()).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 431 Request Header Fields Too Large\r\n"));
        assert!(head.contains("content-type: application/problem+json"));
        assert!(head.contains("connection: close"));
        assert!(head.contains(&format!("content-length: {}", body.len())));
        let problem: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(problem["status"], 431);
        assert_eq!(problem["title"], "Request Header Fields Too Large");
    }

    #[test]
    fn an_answer_of_ours_stays_as_it_is() {
        for head in [
            "HTTP/1.1 404 Not Found\r\nx-request-id: 1-0\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 100 Continue\r\n\r\n",
            "HTTP/1.1 404 Not Found\r\n\r\n{}",
            "{\"accepted\":1}",
            "HTTP/1.1 4ä",
            "",
        ] {
            assert_eq!(answer_instead_of(head.as_bytes(), false), None, "{head}");
        }
    }
}
