//! Who may ask: this machine, or whoever has the token.

use super::HttpContext;
use super::answer::Refusal;
use crate::config::HostPort;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

/// Paths that orchestrators ask without a secret, and that say nothing but yes or no.
const OPEN: [&str; 2] = ["/health", "/ready"];

pub(super) async fn check(State(context): State<HttpContext>, request: Request, next: Next) -> Response {
    let open = OPEN.contains(&request.uri().path());
    let refusal = match &context.token {
        _ if open => None,
        Some(token) => check_token(token, request.headers()),
        None => check_host(request.headers()),
    };
    match refusal {
        Some(refusal) => refusal.into_response(),
        None => next.run(request).await,
    }
}

fn check_token(token: &str, headers: &HeaderMap) -> Option<Refusal> {
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let given = given.and_then(|value| value.strip_prefix("Bearer "));
    if given.is_some_and(|given| same(given.trim().as_bytes(), token.as_bytes())) {
        return None;
    }
    Some(Refusal::new(StatusCode::UNAUTHORIZED, "this needs the node's token: Authorization: Bearer TOKEN"))
}

/// Compares in a time that does not tell how much of the token was right.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |seen, (x, y)| seen | (x ^ y)) == 0
}

/// The listener is on a loopback address, so the peer is this machine; but a browser on it may act for a page from
/// anywhere. Such a page's requests carry its own name.
fn check_host(headers: &HeaderMap) -> Option<Refusal> {
    let host = headers.get(header::HOST).and_then(|value| value.to_str().ok()).unwrap_or("localhost");
    let host = if host.contains(':') { host.to_owned() } else { format!("{host}:80") };
    if host.parse::<HostPort>().is_ok_and(|host| host.is_loopback()) && !headers.contains_key(header::ORIGIN) {
        return None;
    }
    Some(Refusal::new(StatusCode::FORBIDDEN, "only this machine is served, under its loopback address"))
}
