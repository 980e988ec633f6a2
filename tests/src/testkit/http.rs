//! A storefront's HTTP client: one keep-alive HTTP/1.1 connection, opened when needed and again after it broke.
//!
//! `load`, the demo and the end-to-end tests call the agents through it. It never retries by itself: whether a lost
//! answer may be asked for again is the caller's business.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, RETRY_AFTER};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// One caller's connection to an agent.
#[derive(Debug)]
pub struct Client {
    to: SocketAddr,
    connection: Option<SendRequest<Full<Bytes>>>,
}

/// An answer, read whole.
#[derive(Debug)]
pub struct HttpAnswer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

/// Why there is no answer. Whether the request arrived is not known, except for [`CallError::Connect`].
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No connection, so nothing was sent.
    #[error("cannot connect to {0}: {1}")]
    Connect(SocketAddr, io::Error),
    /// The path, token or key cannot stand in a request.
    #[error("no valid request: {0}")]
    Request(#[from] http::Error),
    /// The connection broke before the answer was complete.
    #[error("no answer: {0}")]
    Lost(#[from] hyper::Error),
}

impl Client {
    /// A client of the agent at `to`; it connects with the first request.
    #[must_use]
    pub fn new(to: SocketAddr) -> Client {
        Client { to, connection: None }
    }

    /// `GET path`, with a brand's bearer token if there is one.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn get(&mut self, path: &str, token: Option<&str>) -> Result<HttpAnswer, CallError> {
        self.call(Method::GET, path, token, None, Bytes::new()).await
    }

    /// `POST path` with a JSON body and an `Idempotency-Key`, each if there is one.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn post(
        &mut self,
        path: &str,
        token: Option<&str>,
        key: Option<&str>,
        body: Bytes,
    ) -> Result<HttpAnswer, CallError> {
        self.call(Method::POST, path, token, key, body).await
    }

    async fn call(
        &mut self,
        method: Method,
        path: &str,
        token: Option<&str>,
        key: Option<&str>,
        body: Bytes,
    ) -> Result<HttpAnswer, CallError> {
        let mut request = Request::builder().method(method).uri(path).header(HOST, "bridge");
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        self.send(request.body(Full::new(body))?).await
    }

    /// Any other request, as it is given.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<HttpAnswer, CallError> {
        let mut connection = self.connection().await?;
        let (head, body) = connection.send_request(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        // Only a connection whose last exchange went well is used again.
        self.connection = Some(connection);
        Ok(HttpAnswer { status: head.status, headers: head.headers, body })
    }

    async fn connection(&mut self) -> Result<SendRequest<Full<Bytes>>, CallError> {
        if let Some(mut open) = self.connection.take()
            && open.ready().await.is_ok()
        {
            return Ok(open);
        }
        let refused = |error| CallError::Connect(self.to, error);
        let stream = TcpStream::connect(self.to).await.map_err(refused)?;
        stream.set_nodelay(true).map_err(refused)?;
        let (connection, driver) = handshake(TokioIo::new(stream)).await?;
        // It ends with the connection; what went wrong in it reaches the request that waits.
        tokio::spawn(driver);
        Ok(connection)
    }
}

impl HttpAnswer {
    /// The value of a header, if it is there and text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// How long `Retry-After` asks to wait.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.header(RETRY_AFTER.as_str())?.parse().ok().map(Duration::from_secs)
    }

    /// The body as JSON; null when it is none.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The name at the end of an RFC 9457 problem's `type`: `sold-out` for `/problems/sold-out`.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        let problem = self.json();
        let name = problem.get("type")?.as_str()?.rsplit('/').next()?;
        Some(name.to_owned())
    }
}

/// The text as it may stand in a path's segment or a query's value: all but unreserved characters as `%XX`.
#[must_use]
pub fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte))
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// Sends bytes as they are, `pause` apart, and returns what came back until the other side closed or `patience` was
/// over. For requests that no client library would send.
///
/// # Errors
/// When the connection cannot be opened.
pub async fn raw(
    to: SocketAddr,
    pieces: &[&[u8]],
    pause: Duration,
    patience: Duration,
) -> io::Result<Vec<u8>> {
    let (mut read, mut write) = TcpStream::connect(to).await?.into_split();
    let sending = async {
        for piece in pieces {
            // The other side may well hang up in the middle: what it said before is the answer.
            if write.write_all(piece).await.is_err() {
                break;
            }
            sleep(pause).await;
        }
        std::future::pending::<()>().await;
    };
    let mut answer = Vec::new();
    let reading = async {
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = read.read(&mut buffer).await {
            answer.extend_from_slice(&buffer[..length]);
        }
    };
    // Whichever ends first: reading (the other side closed) or the time.
    let _over = timeout(patience, async {
        tokio::select! {
            () = reading => {}
            () = sending => {}
        }
    })
    .await;
    Ok(answer)
}

/// Sends bytes as they are, ends what it sends, and returns what came back until the other side closed.
///
/// # Errors
/// When the connection cannot be opened, or what came back ends in an error.
pub async fn raw_and_end(to: SocketAddr, bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(to).await?;
    stream.write_all(bytes).await?;
    stream.shutdown().await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_unreserved_is_encoded_byte_by_byte() {
        assert_eq!(percent_encoded("85123A@2.95"), "85123A%402.95");
        assert_eq!(percent_encoded("a b,/?\u{d55c}~"), "a%20b%2C%2F%3F%ED%95%9C~");
    }
}
