//! Renders errors as pages: what happened, what to do, and where to go from here.

use askama::Template;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::dashboard::{assets, html};
use crate::problem::Problem;

/// An error on its way to a browser.
pub(crate) struct ErrorPage {
    problem: Problem,
    links: Vec<Link>,
}

struct Link {
    address: String,
    text: &'static str,
}

#[derive(Template)]
#[template(path = "error.html")]
struct Page<'a> {
    style: String,
    icon: String,
    status: u16,
    title: &'static str,
    detail: &'a str,
    field: Option<&'a str>,
    retry_after_s: Option<u32>,
    links: &'a [Link],
}

impl ErrorPage {
    /// Offers another page.
    pub(crate) fn or(mut self, address: String, text: &'static str) -> Self {
        self.links.push(Link { address, text });
        self
    }

    /// Whether it is the request that has to change.
    pub(crate) fn is_of_the_request(&self) -> bool {
        matches!(
            self.problem.status(),
            StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY
        )
    }
}

impl From<Problem> for ErrorPage {
    fn from(problem: Problem) -> Self {
        Self {
            problem,
            links: Vec::new(),
        }
    }
}

fn title(status: StatusCode) -> &'static str {
    match status {
        StatusCode::NOT_FOUND => "There is no such page",
        StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => {
            "This cannot be shown as asked"
        }
        StatusCode::TOO_MANY_REQUESTS => "Too much is being computed",
        StatusCode::SERVICE_UNAVAILABLE => "Not available now",
        _ => "The server failed",
    }
}

impl IntoResponse for ErrorPage {
    fn into_response(self) -> Response {
        let status = self.problem.status();
        let page = Page {
            style: assets::style_address(),
            icon: assets::icon_address(),
            status: status.as_u16(),
            title: title(status),
            detail: self.problem.detail(),
            field: self.problem.field(),
            retry_after_s: self.problem.retry_after_s(),
            links: &self.links,
        };
        let mut response = html(&page);
        *response.status_mut() = status;
        if let Some(seconds) = self.problem.retry_after_s() {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}
