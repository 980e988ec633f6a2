//! One connection from its first byte to its end, over HTTP/1.1 or HTTP/2, with limits of a head's
//! size and time.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::timeout;

use crate::config::StorefrontConfig;
use crate::storefront::connection::connections::{ConnectionActivity, Order};
use crate::storefront::connection::greeting::{Version, WatchedStream};
use crate::storefront::connection::lines::HEAD_BYTES_MAX;
use crate::storefront::connection::streams::Streams;
use crate::storefront::front::Service;

/// Time for a connection whose requests are given up to answer them.
const GIVEN_UP_WITHIN: Duration = Duration::from_secs(1);

/// Both versions of HTTP with their limits.
pub(super) struct Protocols {
    one: http1::Builder,
    two: http2::Builder<Streams>,
}

impl Protocols {
    pub(super) fn new(config: &StorefrontConfig, streams: Streams) -> Self {
        let mut one = http1::Builder::new();
        one.timer(TokioTimer::new())
            .header_read_timeout(config.header_timeout)
            .max_buf_size(HEAD_BYTES_MAX)
            // Copying an answer behind its head costs less than writing the two as parts.
            .writev(false);
        let mut two = http2::Builder::new(streams);
        two.timer(TokioTimer::new()).max_concurrent_streams(256).max_header_list_size(16 * 1024);
        Self { one, two }
    }
}

/// Serves one connection to its end.
pub(super) async fn converse(
    http: &Protocols,
    service: Service,
    activity: &ConnectionActivity,
    mut stream: WatchedStream,
) {
    let version = tokio::select! {
        version = stream.version() => version,
        _has_asked_for_nothing = poll_fn(|cx| activity.poll_order(cx)) => return,
    };
    match version {
        Ok(Version::One) => converse_by_one(http, service, activity, stream).await,
        Ok(Version::Two) => {
            let connection = pin!(http.two.serve_connection(TokioIo::new(stream), service));
            // A caller may cut its connection or speak no HTTP. hyper has answered as far as
            // possible.
            let _ended = to_its_end(connection, activity).await;
        }
        Err(_has_hung_up) => {}
    }
}

/// Does the same over HTTP/1.1. A request that hyper could not read is answered too.
async fn converse_by_one(
    http: &Protocols,
    service: Service,
    activity: &ConnectionActivity,
    stream: WatchedStream,
) {
    let Some((ended, mut parts)) = serve_by_one(&http.one, service, activity, stream).await else { return };
    if let Some(why) = ended.err().and_then(|error| parts.io.inner().refusal(&error)) {
        let mut stream = parts.io.into_inner();
        stream.refuse(why);
        let Some((_answered, rest)) = serve_by_one(&http.one, parts.service, activity, stream).await else {
            return;
        };
        parts = rest;
    }
    tokio::select! {
        () = parts.io.into_inner().end() => {}
        () = is_in_the_way(activity) => {}
    }
}

/// Waits until a connection that is ending must end now. An order to leave is ignored, because it
/// is already leaving. Its caller's data is read to the end, or the caller could lose its answer.
async fn is_in_the_way(activity: &ConnectionActivity) {
    while poll_fn(|cx| activity.poll_order(cx)).await == Order::Leave {}
}

type ByOne = http1::Parts<TokioIo<WatchedStream>, Service>;

/// Returns the remains of a connection after its end; `None` if it was cut.
async fn serve_by_one(
    builder: &http1::Builder,
    service: Service,
    activity: &ConnectionActivity,
    stream: WatchedStream,
) -> Option<(hyper::Result<()>, ByOne)> {
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    let mut connection = WithoutShutdown { connection, activity };
    let ended = to_its_end(Pin::new(&mut connection), activity).await?;
    Some((ended, connection.connection.into_parts()))
}

/// A connection of hyper, of either version.
trait Served {
    fn poll_served(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<hyper::Result<()>>;

    /// Ends it after its pending requests are answered.
    fn leave(self: Pin<&mut Self>);
}

impl Served for http2::Connection<TokioIo<WatchedStream>, Service, Streams> {
    fn poll_served(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        self.poll(cx)
    }

    fn leave(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// A connection whose stream is used again after its end.
struct WithoutShutdown<'pulse> {
    connection: http1::Connection<TokioIo<WatchedStream>, Service>,
    activity: &'pulse ConnectionActivity,
}

impl Served for WithoutShutdown<'_> {
    fn poll_served(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        let Self { connection, activity } = self.get_mut();
        let served = connection.poll_without_shutdown(cx);
        // After the answers that are held back comes one that is not ready yet.
        if served.is_pending() && activity.write_held() {
            return connection.poll_without_shutdown(cx);
        }
        served
    }

    fn leave(mut self: Pin<&mut Self>) {
        Pin::new(&mut self.connection).graceful_shutdown();
    }
}

/// Serves until the connection ends. Returns `None` if it is cut.
async fn to_its_end(
    mut connection: Pin<&mut impl Served>,
    activity: &ConnectionActivity,
) -> Option<hyper::Result<()>> {
    loop {
        let order = tokio::select! {
            biased;
            ended = poll_fn(|cx| connection.as_mut().poll_served(cx)) => return Some(ended),
            order = poll_fn(|cx| activity.poll_order(cx)) => order,
        };
        connection.as_mut().leave();
        match order {
            Order::Leave => {}
            Order::GiveUp => {
                let rest = poll_fn(|cx| connection.as_mut().poll_served(cx));
                return timeout(GIVEN_UP_WITHIN, rest).await.ok();
            }
            Order::Cut => {
                // It is polled once more, so that a listening caller is told.
                let _told_or_not = poll_fn(|cx| Poll::Ready(connection.as_mut().poll_served(cx))).await;
                return None;
            }
        }
    }
}
