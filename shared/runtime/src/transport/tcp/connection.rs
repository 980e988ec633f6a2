//! One link over TCP: its anchor and its lanes.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bridge_protocol::wire::lane::Lane;
use bridge_protocol::wire::tcp::{LinkKey, lane_opening};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsStream;

use super::Shared;
use super::anchor::{Closing, LinkState};
use super::handshake;
use super::joinable::Registered;
use crate::telemetry::metrics::TransportKind;
use crate::transport::refusal::printable;
use crate::transport::{
    BoxFuture, CUT_TIME, CloseCode, Closed, ConnectError, Connection, HANDSHAKE_TIME, LaneError, LaneStream,
    VerifiedPeer,
};

/// A link over TCP with a verified peer. Its anchor's task ends the link when this is dropped.
pub(super) struct TcpConnection {
    pub(super) peer: VerifiedPeer,
    pub(super) remote: SocketAddr,
    pub(super) state: Arc<LinkState>,
    pub(super) closing: watch::Sender<Closing>,
    /// Key of the link over QUIC that this one replaces.
    pub(super) replace: watch::Sender<Option<LinkKey>>,
    pub(super) lanes: Lanes,
}

/// Source of the lanes.
pub(super) enum Lanes {
    /// This side dials them.
    Dialled(LaneDialler),
    /// The peer dials them, and they join.
    Accepted(Mutex<JoinedLanes>),
}

/// Dials the lanes of one link.
#[derive(Clone)]
pub(super) struct LaneDialler {
    pub(super) shared: Arc<Shared>,
    pub(super) key: LinkKey,
}

/// The lanes that have joined a link. They come in any order, since each has a connection of its
/// own.
pub(super) struct JoinedLanes {
    pub(super) joined: mpsc::Receiver<LaneStream>,
    /// Lanes that came before the control lane. The register admits no more than a link has.
    pub(super) early: VecDeque<LaneStream>,
    pub(super) has_control: bool,
    /// Keeps the link in the register.
    pub(super) _registered: Registered,
}

impl Connection for TcpConnection {
    fn transport(&self) -> TransportKind {
        TransportKind::Tcp
    }

    fn peer(&self) -> &VerifiedPeer {
        &self.peer
    }

    fn remote(&self) -> SocketAddr {
        self.remote
    }

    fn open_lanes(&self, lanes: Vec<Lane>) -> BoxFuture<'_, Result<Vec<LaneStream>, LaneError>> {
        Box::pin(async move {
            let Lanes::Dialled(dialler) = &self.lanes else {
                return Err(broken("only the dialler opens lanes"));
            };
            // Each takes several round trips, so they are dialled at once.
            let mut dialling = JoinSet::new();
            for (place, lane) in lanes.into_iter().enumerate() {
                let (dialler, to, peer) = (dialler.clone(), self.remote, self.peer.clone());
                let state = self.state.clone();
                dialling.spawn(async move {
                    let dialled = timeout(HANDSHAKE_TIME, dialler.dial(lane, to, &peer, state)).await;
                    (place, dialled.unwrap_or(Err(ConnectError::NoAnswer(HANDSHAKE_TIME))))
                });
            }
            let mut open = Vec::new();
            loop {
                let dialled = tokio::select! {
                    dialled = dialling.join_next() => dialled,
                    closed = self.state.closed() => return Err(LaneError::Closed(closed)),
                };
                match dialled {
                    Some(Ok((place, Ok(lane)))) => open.push((place, lane)),
                    Some(Ok((_, Err(error)))) => return Err(self.not_opened(error).await),
                    Some(Err(error)) => return Err(broken(&format!("a task of this agent failed: {error}"))),
                    None => break,
                }
            }
            open.sort_by_key(|(place, _)| *place);
            Ok(open.into_iter().map(|(_, lane)| lane).collect())
        })
    }

    fn accept_lane(&self) -> BoxFuture<'_, Result<LaneStream, LaneError>> {
        Box::pin(async {
            let Lanes::Accepted(lanes) = &self.lanes else {
                return Err(LaneError::Closed(self.state.closed().await));
            };
            let mut lanes = lanes.lock().await;
            tokio::select! {
                lane = lanes.next() => lane.ok_or(LaneError::Closed(Closed::Here)),
                closed = self.state.closed() => Err(LaneError::Closed(closed)),
            }
        })
    }

    fn close(&self, code: CloseCode, sentence: &str) {
        self.closing.send_if_modified(|closing| {
            let is_first = closing.is_none();
            closing.get_or_insert_with(|| (code, printable(sentence)));
            is_first
        });
    }

    fn closed(&self) -> BoxFuture<'static, Closed> {
        let state = self.state.clone();
        Box::pin(async move { state.closed().await })
    }

    fn cut(&self) -> BoxFuture<'static, Option<Closed>> {
        let (state, closed) = (self.state.clone(), self.closed());
        Box::pin(async move {
            // A lane that broke ends its link. The anchor's task waits for the peer's own reason.
            if state.has_broken_lane() { Some(closed.await) } else { timeout(CUT_TIME, closed).await.ok() }
        })
    }

    fn replace(&self, quic: LinkKey) {
        self.replace.send_replace(Some(quic));
    }

    fn rtt(&self) -> Duration {
        self.state.rtt()
    }
}

impl TcpConnection {
    /// Returns why a lane could not be opened: the link's own end if it has ended.
    async fn not_opened(&self, error: ConnectError) -> LaneError {
        let closed = match (timeout(CUT_TIME, self.state.closed()).await, error) {
            (Ok(closed), _) => closed,
            (Err(_), ConnectError::RefusedByPeer(refusal)) => Closed::RefusedByPeer(refusal),
            (Err(_), error) => Closed::Broken(format!("a lane could not be opened: {error}")),
        };
        LaneError::Closed(closed)
    }
}

fn broken(why: &str) -> LaneError {
    LaneError::Closed(Closed::Broken(why.to_owned()))
}

impl JoinedLanes {
    /// Returns the next lane, the control lane first. Cancelling it loses nothing.
    async fn next(&mut self) -> Option<LaneStream> {
        loop {
            if self.has_control
                && let Some(lane) = self.early.pop_front()
            {
                return Some(lane);
            }
            let lane = self.joined.recv().await?;
            if self.has_control || lane.lane == Lane::Control {
                self.has_control = true;
                return Some(lane);
            }
            self.early.push_back(lane);
        }
    }
}

impl LaneDialler {
    async fn dial(
        self,
        lane: Lane,
        to: SocketAddr,
        peer: &VerifiedPeer,
        state: Arc<LinkState>,
    ) -> Result<LaneStream, ConnectError> {
        let stream = self.shared.connect(to).await?;
        let mut established = handshake::dial(&self.shared.tls, stream).await?;
        // Something in between may send each connection to another agent.
        if established.peer.certificate_digest() != peer.certificate_digest() {
            let other = established.peer.id();
            return Err(ConnectError::Broken(format!(
                "{other} answered with another certificate than the link's"
            )));
        }
        let opening = lane_opening(lane, self.key);
        let written = async {
            established.stream.write_all(&opening).await?;
            established.stream.flush().await
        };
        written.await.map_err(|error: io::Error| ConnectError::Broken(error.to_string()))?;
        Ok(lane_stream(lane, established.stream, state))
    }
}

/// Returns the two directions of a lane, behind its opening.
pub(super) fn lane_stream(lane: Lane, stream: TlsStream<TcpStream>, state: Arc<LinkState>) -> LaneStream {
    let (reader, writer) = tokio::io::split(stream);
    LaneStream {
        lane,
        reader: Box::new(Watched { io: reader, state: state.clone() }),
        writer: Box::new(Watched { io: writer, state }),
    }
}

/// One direction of a lane. If its connection breaks, the link is told.
struct Watched<T> {
    io: T,
    state: Arc<LinkState>,
}

impl<T> Watched<T> {
    fn note<R>(&self, polled: Poll<io::Result<R>>) -> Poll<io::Result<R>> {
        if let Poll::Ready(Err(error)) = &polled {
            self.state.lane_broke(error);
        }
        polled
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.io).poll_read(cx, buffer);
        self.note(polled)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.note(polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.io).poll_flush(cx);
        self.note(polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.io).poll_shutdown(cx);
        self.note(polled)
    }
}
