//! The bare server: hyper's HTTP/1.1 on one current-thread runtime a core, with one answer to everything.
//!
//! What it takes for a read is what any server made of the same parts takes at least. It also stands behind the caches
//! as the origin that fills them. `measure serve-bare` is this as a process of its own, so that its CPU time is its own.

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
/// What a server writes by itself, or what tells of one moment.
const OF_THE_MOMENT: [HeaderName; 5] = [DATE, AGE, CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING];
/// A cache may keep the answer for longer than any run, so that nothing but the cache is measured.
const KEPT: &str = "public, max-age=3600";
/// What the load may vary in. Bridge's own list also has a field of Bridge's, and HAProxy keeps no answer whose `Vary` names
/// a field that it does not know.
const VARIES_IN: &str = "accept-encoding";

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
pub struct Answer {
    headers: Vec<(String, String)>,
    /// Its body.
    pub body: String,
}

impl Answer {
    /// What an agent answered, without what tells of the moment, and to be kept by caches.
    ///
    /// # Errors
    /// When it is not text.
    pub fn like(answer: &crate::http::Answer) -> Result<Answer> {
        let text = |value: &HeaderValue| value.to_str().map(ToOwned::to_owned);
        let mut headers = Vec::new();
        for (name, value) in answer.headers.iter().filter(|(name, _)| !OF_THE_MOMENT.contains(name)) {
            let value = match *name {
                CACHE_CONTROL => KEPT.to_owned(),
                VARY => VARIES_IN.to_owned(),
                _ => text(value).context("read a header")?,
            };
            headers.push((name.as_str().to_owned(), value));
        }
        let body = String::from_utf8(answer.body.to_vec()).context("read the answer")?;
        Ok(Answer { headers, body })
    }

    /// A product that nobody sells, with a body of `bytes` bytes and the headers of a catalogue read.
    #[must_use]
    pub fn made_up(bytes: usize) -> Answer {
        let (start, end) = ("{\"product\":\"made-up\",\"descriptions\":{\"en\":\"", "\"}}");
        let body = format!("{start}{}{end}", "x".repeat(bytes.saturating_sub(start.len() + end.len())));
        let headers = [
            ("content-type", "application/json"),
            ("etag", "\"0123456789abcdef\""),
            ("cache-control", KEPT),
            ("bridge-seq", "1"),
            ("vary", VARIES_IN),
        ];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Answer { headers: headers.into(), body }
    }

    /// Writes it for `serve-bare --answer FILE`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, file: &Path) -> Result<()> {
        let text = serde_json::to_vec(self).context("write an answer as JSON")?;
        fs::write(file, text).with_context(|| format!("write {}", file.display()))
    }

    fn read(file: &Path) -> Result<Answer> {
        let text = fs::read(file).with_context(|| format!("read {}", file.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("{} is no answer", file.display()))
    }

    fn headers(&self) -> Result<HeaderMap> {
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
    let answer = Answer::read(&options.answer)?;
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
    fn an_answer_is_copied_without_what_tells_of_the_moment() {
        let mut headers = HeaderMap::new();
        for (name, value) in [("date", "now"), ("age", "1"), ("content-length", "2"), ("etag", "\"e\"")] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=1"));
        headers.insert(VARY, HeaderValue::from_static("Accept-Encoding, Bridge-Min-Seq"));
        let answer = crate::http::Answer { status: StatusCode::OK, headers, body: Bytes::from_static(b"{}") };
        let copy = Answer::like(&answer).expect("text");
        let expected = [("etag", "\"e\""), ("cache-control", KEPT), ("vary", VARIES_IN)];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(copy, Answer { headers: expected.into(), body: "{}".to_owned() });
    }

    #[test]
    fn a_made_up_answer_is_as_long_as_asked_and_survives_its_file() {
        let answer = Answer::made_up(1_400);
        assert_eq!(answer.body.len(), 1_400);
        assert!(serde_json::from_str::<serde_json::Value>(&answer.body).is_ok());
        let dir = tempfile::tempdir().expect("temporary folder");
        let file = dir.path().join("answer.json");
        answer.write(&file).expect("written");
        assert_eq!(Answer::read(&file).expect("read"), answer);
        assert_eq!(answer.headers().expect("valid").len(), 5);
    }
}
