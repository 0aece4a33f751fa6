//! Talking to a running broker's HTTP port.

use super::arguments::Connection;
use super::fault::Fault;
use crate::http::ErrorAnswer;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::time::Duration;
use ureq::http::{Request, StatusCode};

/// The longest that anything takes: compiling a large component is the slowest.
const TIMEOUT: Duration = Duration::from_secs(120);
/// The largest answer that is read.
const MAX_ANSWER: u64 = 64 << 20;

/// From here on a body is sent only once the broker wants it: one that refuses by the head alone would hang up in the middle
/// of it, and what it had to say would be lost.
const LARGE_BODY: usize = 16 << 10;

/// A broker's HTTP port.
#[derive(Debug)]
pub struct Client {
    agent: ureq::Agent,
    broker: String,
    token: Option<String>,
}

impl Client {
    /// A client for the port that the command line names.
    ///
    /// # Errors
    /// The token's file cannot be read.
    pub fn new(connection: &Connection) -> Result<Self, Fault> {
        let token = match &connection.token_file {
            None => None,
            Some(path) => Some(read_token(path)?),
        };
        let config = ureq::config::Config::builder()
            .http_status_as_error(false)
            .timeout_global(Some(TIMEOUT))
            .proxy(None)
            .build();
        let broker = connection.broker.trim_start_matches("http://").trim_end_matches('/').to_owned();
        Ok(Self { agent: ureq::Agent::new_with_config(config), broker, token })
    }

    /// GET, and the answer as JSON.
    ///
    /// # Errors
    /// The broker is not there, or refuses.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Fault> {
        parse(&self.send("GET", path, "application/json", Vec::new())?)
    }

    /// POST of JSON, and the answer as JSON.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Fault> {
        let body = serde_json::to_vec(body).map_err(|error| Fault::new(error.to_string()))?;
        parse(&self.send("POST", path, "application/json", body)?)
    }

    /// PUT of bytes.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub fn put(&self, path: &str, body: Vec<u8>) -> Result<Vec<u8>, Fault> {
        self.send("PUT", path, "application/wasm", body)
    }

    /// PUT of bytes about which nothing but themselves can be wrong: then that comes back, and is no fault of the command's.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub fn put_checked(&self, path: &str, body: Vec<u8>) -> Result<Result<(), String>, Fault> {
        let (status, bytes) = self.exchange("PUT", path, "application/wasm", body)?;
        match serde_json::from_slice::<ErrorAnswer>(&bytes) {
            Ok(answer) if status == StatusCode::UNPROCESSABLE_ENTITY => Ok(Err(answer.error)),
            _ if status.is_success() => Ok(Ok(())),
            _ => Err(refused(status, &bytes)),
        }
    }

    fn send(&self, method: &str, path: &str, kind: &str, body: Vec<u8>) -> Result<Vec<u8>, Fault> {
        let (status, bytes) = self.exchange(method, path, kind, body)?;
        if status.is_success() { Ok(bytes) } else { Err(refused(status, &bytes)) }
    }

    fn exchange(&self, method: &str, path: &str, kind: &str, body: Vec<u8>) -> Result<(StatusCode, Vec<u8>), Fault> {
        let uri = format!("http://{}{path}", self.broker);
        let mut request = Request::builder().method(method).uri(uri).header("content-type", kind);
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let wrong = |error: &dyn std::fmt::Display| {
            Fault::new(format!("{} is not the address of an HTTP port: {error}", self.broker))
                .next("name the broker's HTTP port with --broker HOST:PORT")
        };
        if body.len() > LARGE_BODY {
            request = request.header("expect", "100-continue");
        }
        let request = request.body(body).map_err(|error| wrong(&error))?;
        let mut answer = self.agent.run(request).map_err(|error| self.unreachable(&error))?;
        let status = answer.status();
        let bytes = answer
            .body_mut()
            .with_config()
            .limit(MAX_ANSWER)
            .read_to_vec()
            .map_err(|error| self.unreachable(&error))?;
        Ok((status, bytes))
    }

    fn unreachable(&self, error: &ureq::Error) -> Fault {
        Fault::new(format!("no broker answers at {}: {error}", self.broker)).next(
            "start one with `millrace serve`, or name its HTTP port with --broker HOST:PORT (the line \"http\" at its start)",
        )
    }
}

/// The first line of a token's file.
///
/// # Errors
/// It cannot be read, or there is nothing in it.
pub fn read_token(path: &std::path::Path) -> Result<String, Fault> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| Fault::new(format!("{shown}: {error}")))?;
    match text.lines().next().map(str::trim) {
        Some(token) if !token.is_empty() => Ok(token.to_owned()),
        _ => Err(Fault::new(format!("{shown} holds no token")).next("write a long random text into its first line")),
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Fault> {
    serde_json::from_slice(bytes).map_err(|error| {
        Fault::new(format!("what answered is not a Millrace broker, or one of another version: {error}"))
            .next("check the address given with --broker")
    })
}

fn refused(status: StatusCode, bytes: &[u8]) -> Fault {
    let Ok(answer) = serde_json::from_slice::<ErrorAnswer>(bytes) else {
        let text: String = String::from_utf8_lossy(bytes).chars().take(300).collect();
        return Fault::new(format!("the broker answers {status}: {}", text.trim()));
    };
    let mut what = answer.error;
    for problem in &answer.problems {
        let line = if problem.line > 0 { format!(":{}", problem.line) } else { String::new() };
        let key = if problem.key.is_empty() { String::new() } else { format!("{}: ", problem.key) };
        what.push_str(&format!("\n{}{line}: {key}{}", problem.file, problem.reason));
    }
    let fault = Fault::new(what);
    match status {
        StatusCode::UNAUTHORIZED => fault.next("give the file with the broker's token: --token-file FILE"),
        _ => fault,
    }
}
