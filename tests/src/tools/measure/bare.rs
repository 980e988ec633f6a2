//! The bare server: hyper's HTTP/1.1 on one current-thread runtime a core, with one answer to everything.
//!
//! What it takes for a read is what any server made of the same parts takes at least: it is built in the same profile as
//! the agents, and allocates as they do. It also stands behind the caches as the origin that fills them. `measure serve-bare`
//! is this as a process of its own, so that its CPU time is its own.

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
use http::{HeaderMap, HeaderValue, Response};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::Builder;

/// Connections that wait to be accepted; more than are ever opened here.
const BACKLOG: u32 = 1_024;
/// What a server writes by itself.
const WRITTEN_BY_ITSELF: [HeaderName; 4] = [DATE, CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING];
/// A cache may keep the answer for longer than any run, so that nothing but the cache is measured.
const KEPT: &str = "public, max-age=3600";
/// What the load may vary in. Bridge's own list also has a field of Bridge's, and HAProxy keeps no answer whose `Vary` names
/// a field that it does not know.
const VARIES_IN: &str = "accept-encoding";
/// HAProxy keeps no answer that is no second old.
const AGED: &str = "1";

/// What `serve-bare` is told.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Where to listen.
    #[arg(long)]
    listen: SocketAddr,

    /// Serving threads.
    #[arg(long)]
    workers: NonZeroU16,

    /// The file with the one answer, as JSON.
    #[arg(long)]
    answer: PathBuf,
}

/// An answer that never changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FixedAnswer {
    headers: Vec<(String, String)>,
    /// Its body.
    pub body: String,
}

impl FixedAnswer {
    /// What an agent answered, without what every server writes by itself.
    ///
    /// # Errors
    /// When it is not text.
    pub fn like(answer: &crate::testkit::http::HttpAnswer) -> Result<FixedAnswer> {
        let text = |value: &HeaderValue| value.to_str().map(ToOwned::to_owned);
        let mut headers = Vec::new();
        for (name, value) in answer.headers.iter().filter(|(name, _)| !WRITTEN_BY_ITSELF.contains(name)) {
            headers.push((name.as_str().to_owned(), text(value).context("read a header")?));
        }
        let body = String::from_utf8(answer.body.to_vec()).context("read the answer")?;
        Ok(FixedAnswer { headers, body })
    }

    /// The same, to be kept by caches: three headers have another value then.
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

    /// A product that nobody sells, with a body of `bytes` bytes and the headers of a catalogue read.
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

    /// Writes it for `serve-bare --answer FILE`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, file: &Path) -> Result<()> {
        let text = serde_json::to_vec(self).context("write an answer as JSON")?;
        fs::write(file, text).with_context(|| format!("write {}", file.display()))
    }

    fn read(file: &Path) -> Result<FixedAnswer> {
        let text = fs::read(file).with_context(|| format!("read {}", file.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("{} is no answer", file.display()))
    }

    /// Its headers, without what a server writes by itself.
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
/// When it cannot listen.
pub(super) fn serve(options: &Options) -> Result<()> {
    let answer = FixedAnswer::read(&options.answer)?;
    let headers = answer.headers()?;
    let mut workers = Vec::new();
    for _ in 0..options.workers.get() {
        // A copy for each thread: they share no count of references.
        let (listen, headers, body) = (options.listen, headers.clone(), Bytes::from(answer.body.clone()));
        workers.push(thread::spawn(move || work(listen, &headers, &body)));
    }
    for worker in workers {
        worker.join().map_err(|_| anyhow!("a serving thread ended"))??;
    }
    Ok(())
}

fn work(listen: SocketAddr, headers: &HeaderMap, body: &Bytes) -> Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build().context("start a runtime")?;
    runtime.block_on(async {
        let listener = bind(listen).with_context(|| format!("listen on {listen}"))?;
        loop {
            // An error is of the one connection that was to be accepted.
            let Ok((stream, _)) = listener.accept().await else { continue };
            stream.set_nodelay(true).context("set up a connection")?;
            let (headers, body) = (headers.clone(), body.clone());
            let service = service_fn(move |_| {
                let mut response = Response::new(Full::new(body.clone()));
                *response.headers_mut() = headers.clone();
                async { Ok::<_, Infallible>(response) }
            });
            // A caller that hangs up ends it, well or not.
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    })
}

/// Every worker listens on the same port, and the kernel spreads the connections over them.
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
