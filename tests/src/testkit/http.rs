//! A storefront's HTTP client: one keep-alive HTTP/1.1 connection, which is opened on demand, and
//! again after it broke.
//!
//! `load`, the demo and the end-to-end tests call the agents through it. It never retries by
//! itself, because only the caller knows if a request may be repeated.

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

/// A whole answer.
#[derive(Debug)]
pub struct HttpAnswer {
    /// Status of the answer.
    pub status: StatusCode,
    /// Headers of the answer.
    pub headers: HeaderMap,
    /// Body of the answer.
    pub body: Bytes,
}

/// The reason why there is no answer. The request may have arrived, except for
/// [`CallError::Connect`].
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No connection, so nothing was sent.
    #[error("cannot connect to {0}: {1}")]
    Connect(SocketAddr, io::Error),
    /// The path, token or key is not valid in a request.
    #[error("no valid request: {0}")]
    Request(#[from] http::Error),
    /// The connection broke before the answer was complete.
    #[error("no answer: {0}")]
    Lost(#[from] hyper::Error),
}

impl Client {
    /// Makes a client of the agent at `to`. It connects with the first request.
    #[must_use]
    pub fn new(to: SocketAddr) -> Client {
        Client { to, connection: None }
    }

    /// Sends `GET path`, with a brand's bearer token if there is one.
    ///
    /// # Errors
    ///
    /// Fails if there is no answer.
    pub async fn get(&mut self, path: &str, token: Option<&str>) -> Result<HttpAnswer, CallError> {
        self.call(Method::GET, path, token, None, Bytes::new()).await
    }

    /// Sends `POST path` with a JSON body, and a token and an `Idempotency-Key` if there are any.
    ///
    /// # Errors
    ///
    /// Fails if there is no answer.
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

    /// Sends any request without a change.
    ///
    /// # Errors
    ///
    /// Fails if there is no answer.
    pub async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<HttpAnswer, CallError> {
        let mut connection = self.connection().await?;
        let (head, body) = connection.send_request(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        // Only a connection whose last exchange succeeded is used again.
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
        // The task ends with the connection. Its error also reaches the request that waits.
        tokio::spawn(driver);
        Ok(connection)
    }
}

impl HttpAnswer {
    /// Returns the value of a header, if it exists and is text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Returns the wait that `Retry-After` asks for.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.header(RETRY_AFTER.as_str())?.parse().ok().map(Duration::from_secs)
    }

    /// Returns the body as JSON, or null if it is not JSON.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// Returns the name at the end of a problem's `type` (RFC 9457): `sold-out` for
    /// `/problems/sold-out`.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        let problem = self.json();
        let name = problem.get("type")?.as_str()?.rsplit('/').next()?;
        Some(name.to_owned())
    }
}

/// Encodes a text for a path's segment or a query's value: all characters but the unreserved ones
/// become `%XX`.
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

/// Sends pieces of bytes with `pause` between them. Returns the bytes that came back until the
/// other side closed or `patience` was over. It is for requests that no client library would send.
///
/// # Errors
///
/// Fails if the connection cannot be opened.
pub async fn raw(
    to: SocketAddr,
    pieces: &[&[u8]],
    pause: Duration,
    patience: Duration,
) -> io::Result<Vec<u8>> {
    let (mut read, mut write) = TcpStream::connect(to).await?.into_split();
    let sending = async {
        for piece in pieces {
            // The other side may close in the middle. Its earlier bytes are the answer.
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
    // Ends when the other side closes or the time is over.
    let _over = timeout(patience, async {
        tokio::select! {
            () = reading => {}
            () = sending => {}
        }
    })
    .await;
    Ok(answer)
}

/// Sends bytes, closes this direction, and returns the bytes that came back until the other side
/// closed.
///
/// # Errors
///
/// Fails if the connection cannot be opened, or reading ends in an error.
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
