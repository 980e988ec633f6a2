//! The bare server: hyper's HTTP/1.1 on one current-thread runtime for each core, with one answer
//! to every request, or with another one to reads of the stock.
//!
//! Its cost of a read is the least that any server made of the same parts can have. It is built in
//! the same profile as the agents and has the same allocator. It is also the origin that fills the
//! caches. `measure serve-bare` runs it as a process, so that its CPU time can be measured alone.

use std::convert::Infallible;
use std::fs;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context, Result, anyhow};
use bytes::Bytes;
use http::header::{
    AGE, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, DATE, HeaderName, TRANSFER_ENCODING, VARY,
};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::Builder;

/// Connections that wait to be accepted. The benches never open as many.
const BACKLOG: u32 = 1_024;
/// Headers that a server adds by itself.
const WRITTEN_BY_ITSELF: [HeaderName; 4] = [DATE, CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING];
/// A cache may keep the answer for longer than any run, so that only the cache is measured.
const KEPT: &str = "public, max-age=3600";
/// Value of `Vary`. Bridge's own value also names a header of Bridge, and HAProxy keeps no answer
/// whose `Vary` names a header that it does not know.
const VARIES_IN: &str = "accept-encoding";
/// HAProxy does not keep an answer whose `Age` is 0.
const AGED: &str = "1";

/// Options of `serve-bare`.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Address to listen on.
    #[arg(long)]
    listen: SocketAddr,

    /// Number of serving threads.
    #[arg(long)]
    workers: NonZeroU16,

    /// JSON file with the answer.
    #[arg(long)]
    answer: PathBuf,

    /// JSON file with the answer to reads of the stock [default: the same].
    #[arg(long)]
    stock: Option<PathBuf>,
}

/// An answer as a serving thread keeps it.
#[derive(Clone)]
struct Kept {
    headers: HeaderMap,
    body: Bytes,
}

/// An answer that never changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FixedAnswer {
    headers: Vec<(String, String)>,
    /// The body of every response.
    pub body: String,
}

impl FixedAnswer {
    /// Copies an agent's answer, without the headers that every server adds by itself.
    ///
    /// # Errors
    ///
    /// Fails if the answer is not text.
    pub fn like(answer: &crate::testkit::http::HttpAnswer) -> Result<FixedAnswer> {
        let text = |value: &HeaderValue| value.to_str().map(ToOwned::to_owned);
        let mut headers = Vec::new();
        for (name, value) in answer.headers.iter().filter(|(name, _)| !WRITTEN_BY_ITSELF.contains(name)) {
            headers.push((name.as_str().to_owned(), text(value).context("read a header")?));
        }
        let body = String::from_utf8(answer.body.to_vec()).context("read the answer")?;
        Ok(FixedAnswer { headers, body })
    }

    /// Returns the answer for caches. Three headers have other values.
    #[must_use]
    pub fn for_caches(&self) -> FixedAnswer {
        let mut kept = self.clone();
        for (name, value) in &mut kept.headers {
            for (other, kept) in [(CACHE_CONTROL, KEPT), (VARY, VARIES_IN), (AGE, AGED)] {
                if *name == other.as_str() {
                    kept.clone_into(value);
                }
            }
        }
        kept
    }

    /// Makes up an answer about a product, with a body of `bytes` bytes and the headers of a
    /// catalogue read.
    #[must_use]
    pub fn made_up(bytes: usize) -> FixedAnswer {
        let (start, end) = ("{\"product\":\"made-up\",\"descriptions\":{\"en\":\"", "\"}}");
        let body = format!("{start}{}{end}", "x".repeat(bytes.saturating_sub(start.len() + end.len())));
        let headers = [
            ("content-type", "application/json"),
            ("etag", "\"0123456789abcdef\""),
            ("cache-control", "public, no-cache"),
            ("vary", "Accept-Encoding, Bridge-Min-Seq"),
            ("bridge-seq", "1"),
            ("age", "0"),
        ];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
        FixedAnswer { headers: headers.into(), body }
    }

    /// Writes the answer to a file for `serve-bare --answer FILE`.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be written.
    pub fn write(&self, file: &Path) -> Result<()> {
        let text = serde_json::to_vec(self).context("write an answer as JSON")?;
        fs::write(file, text).with_context(|| format!("write {}", file.display()))
    }

    fn read(file: &Path) -> Result<FixedAnswer> {
        let text = fs::read(file).with_context(|| format!("read {}", file.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("{} is no answer", file.display()))
    }

    fn kept(&self) -> Result<Kept> {
        Ok(Kept { headers: self.headers()?, body: Bytes::from(self.body.clone()) })
    }

    /// Returns the headers, without those that a server adds by itself.
    pub(super) fn headers(&self) -> Result<HeaderMap> {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            let name: HeaderName = name.parse().context("a header's name")?;
            headers.append(name, value.parse().context("a header's value")?);
        }
        Ok(headers)
    }
}

/// Serves until it is killed.
///
/// # Errors
///
/// Fails if the server cannot listen.
pub(super) fn serve(options: &Options) -> Result<()> {
    let answer = FixedAnswer::read(&options.answer)?;
    let stock = options.stock.as_deref().map(FixedAnswer::read).transpose()?;
    let mut workers = Vec::new();
    for _ in 0..options.workers.get() {
        // Each thread has copies, so that threads share no reference count.
        let (listen, answer) = (options.listen, answer.kept()?);
        let stock = stock.as_ref().map(FixedAnswer::kept).transpose()?;
        workers.push(thread::spawn(move || work(listen, &answer, stock.as_ref())));
    }
    for worker in workers {
        worker.join().map_err(|_| anyhow!("a serving thread ended"))??;
    }
    Ok(())
}

fn work(listen: SocketAddr, answer: &Kept, stock: Option<&Kept>) -> Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build().context("start a runtime")?;
    runtime.block_on(async {
        let listener = bind(listen).with_context(|| format!("listen on {listen}"))?;
        loop {
            // An error concerns only the connection that was to be accepted.
            let Ok((stream, _)) = listener.accept().await else { continue };
            stream.set_nodelay(true).context("set up a connection")?;
            let (answer, stock) = (answer.clone(), stock.cloned());
            let service = service_fn(move |request: Request<Incoming>| {
                let stock = stock.as_ref().filter(|_| request.uri().path().ends_with("/stock"));
                let Kept { headers, body } = stock.unwrap_or(&answer);
                let mut response = Response::new(Full::new(body.clone()));
                *response.headers_mut() = headers.clone();
                async { Ok::<_, Infallible>(response) }
            });
            // A connection ends when its caller closes it. Errors do not matter.
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    })
}

/// Binds a listener. Every worker listens on the same port, and the kernel spreads the connections
/// over them.
fn bind(listen: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if listen.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    socket.bind(listen)?;
    socket.listen(BACKLOG)
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    #[test]
    fn a_copied_answer_omits_the_servers_own_headers_and_keeps_caching_ones() {
        let mut headers = HeaderMap::new();
        for (name, value) in [("date", "now"), ("content-length", "2"), ("etag", "\"e\""), ("age", "0")] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=1"));
        headers.insert(VARY, HeaderValue::from_static("Accept-Encoding, Bridge-Min-Seq"));
        let answer = crate::testkit::http::HttpAnswer {
            status: StatusCode::OK,
            headers,
            body: Bytes::from_static(b"{}"),
        };
        let copy = FixedAnswer::like(&answer).expect("text");
        let answer = |cache_control, vary, age| {
            let headers = [("etag", "\"e\""), ("age", age), ("cache-control", cache_control), ("vary", vary)];
            let headers = headers.map(|(name, value): (&str, &str)| (name.to_owned(), value.to_owned()));
            FixedAnswer { headers: headers.into(), body: "{}".to_owned() }
        };
        assert_eq!(copy, answer("public, max-age=1", "Accept-Encoding, Bridge-Min-Seq", "0"));
        assert_eq!(copy.for_caches(), answer(KEPT, VARIES_IN, AGED));
    }

    #[test]
    fn a_generated_answer_has_the_asked_length_and_survives_its_file() {
        let answer = FixedAnswer::made_up(1_400);
        assert_eq!(answer.body.len(), 1_400);
        assert!(serde_json::from_str::<serde_json::Value>(&answer.body).is_ok());
        let dir = tempfile::tempdir().expect("temporary folder");
        let file = dir.path().join("answer.json");
        answer.write(&file).expect("written");
        assert_eq!(FixedAnswer::read(&file).expect("read"), answer);
        assert_eq!(answer.headers().expect("valid").len(), 6);
    }
}
