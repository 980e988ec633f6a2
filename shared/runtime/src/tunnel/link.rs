//! One link from its connection to its end: the tasks on its lanes, its heartbeat, and the one place that decides why it
//! is over.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use bridge_protocol::wire::control::{Control, Goodbye, Heartbeat, Hello, Manifest, Refused, control};
use bridge_protocol::wire::frame::{self, CONTROL_FRAME_BYTES_MAX, FrameError, ORDER_FRAME_BYTES_MAX};
use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep_until, timeout_at};

use super::hello::{self, Agreed, HelloError};
use super::lanes::{FrameReader, Queues, ReadError, Traffic};
use super::links::Record;
use super::{Context, Greeting, LinkId, LinkUp, Phase, TunnelEvent, report};
use crate::telemetry::metrics::RefusalReason;
use crate::transport::credentials::unix_now;
use crate::transport::judge::Judge;
use crate::transport::refusal::printable;
use crate::transport::{self, CloseCode, Connection, Refusal};

/// Clocks further apart than this are warned about: validity, receipts and audit entries on both sides rely on them.
const SKEW_WARNING: Duration = Duration::from_secs(60);

/// A certificate that ends within this time is looked at again then.
const EXPIRY_CHECK_MAX: Duration = Duration::from_secs(24 * 3600);

/// Why a link has ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinkEnd {
    /// The peer closed it.
    #[error("the peer closed the link: {0}")]
    ByPeer(String),
    /// Nothing was heard for the idle timeout.
    #[error("nothing was heard from the peer for the idle timeout")]
    TimedOut,
    /// The peer has restarted.
    #[error("the peer has restarted")]
    PeerRestarted,
    /// The network or the transport failed.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// The peer sent what is not the protocol.
    #[error("{0}")]
    Violation(String),
    /// More waited for the peer than a link may hold.
    #[error("the peer does not read what it is sent")]
    NotReading,
    /// The peer's certificate is no longer good enough.
    #[error("the peer is no longer accepted: {sentence}")]
    Identity {
        /// What it is counted under.
        reason: RefusalReason,
        /// What is wrong and what to do.
        sentence: String,
    },
    /// This agent closed it.
    #[error("closed by this agent")]
    Here,
}

impl LinkEnd {
    fn close_code(&self) -> CloseCode {
        match self {
            Self::Violation(_) => CloseCode::Violation,
            Self::NotReading => CloseCode::NotReading,
            Self::Identity { .. } => CloseCode::Identity,
            Self::ByPeer(_) | Self::TimedOut | Self::PeerRestarted | Self::Broken(_) | Self::Here => {
                CloseCode::Done
            }
        }
    }
}

impl From<transport::Closed> for LinkEnd {
    fn from(closed: transport::Closed) -> Self {
        match closed {
            transport::Closed::ByPeer { sentence, .. } => Self::ByPeer(sentence),
            transport::Closed::RefusedByPeer(refusal) => Self::ByPeer(refusal.sentence),
            transport::Closed::TimedOut => Self::TimedOut,
            transport::Closed::Reset => Self::PeerRestarted,
            transport::Closed::Here => Self::Here,
            transport::Closed::Broken(why) => Self::Broken(why),
        }
    }
}

impl From<ReadError> for LinkEnd {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Frame(error) => error.into(),
            ReadError::Stream(_) => Self::Violation("a lane ended while the link was up".to_owned()),
        }
    }
}

impl From<FrameError> for LinkEnd {
    fn from(error: FrameError) -> Self {
        Self::Violation(error.to_string())
    }
}

/// Runs a link until it ends; how long it was up, or `None` if it never was.
pub(super) async fn run(
    context: &Arc<Context>,
    connection: Arc<dyn Connection>,
    dialled: bool,
) -> Option<Duration> {
    let greeted = tokio::select! {
        greeted = hello::exchange(context, &*connection, dialled) => greeted,
        () = context.reached(Phase::Closed) => return None,
    };
    match greeted {
        Ok(agreed) => {
            let up = Instant::now();
            Link::new(context.clone(), connection, dialled, &agreed).live(agreed).await;
            Some(up.elapsed())
        }
        Err(error) => {
            give_up(context, &*connection, &error);
            None
        }
    }
}

fn give_up(context: &Context, connection: &dyn Connection, error: &HelloError) {
    let code = match error {
        HelloError::Violation(_) => CloseCode::Violation,
        HelloError::Incompatible(_) | HelloError::RefusedByPeer(_) => CloseCode::Incompatible,
        HelloError::TooSlow => CloseCode::TooSlow,
        HelloError::Closed(_) => CloseCode::Done,
    };
    report::no_link(context, connection, error);
    connection.close(code, &error.to_string());
}

/// A link that is up, as its tasks share it.
struct Link {
    context: Arc<Context>,
    id: LinkId,
    record: Arc<Record>,
    queues: Arc<Queues>,
    traffic: Traffic,
}

impl Link {
    fn new(
        context: Arc<Context>,
        connection: Arc<dyn Connection>,
        dialled: bool,
        agreed: &Agreed,
    ) -> Arc<Self> {
        let lanes = u8::try_from(agreed.orders.len()).unwrap_or(u8::MAX);
        let record = Arc::new(Record {
            connection,
            agent: printable(&agreed.hello.agent),
            dialled,
            version: agreed.version,
            lanes,
            since: Instant::now(),
            silent: AtomicBool::new(false),
            skew: AtomicI64::new(agreed.skew),
        });
        let traffic = Traffic::of(&context.metrics);
        Arc::new(Self {
            id: context.links.new_id(),
            queues: Queues::new(lanes, traffic.clone()),
            traffic,
            record,
            context,
        })
    }

    /// Up, life, down.
    async fn live(self: &Arc<Self>, agreed: Agreed) {
        let connection = &self.record.connection;
        let mut end = self.come_up(&agreed.hello).await;
        if end.is_none() {
            let mut tasks = self.start(agreed);
            end = Some(self.ended(&mut tasks).await);
            // No frame may follow the link's end.
            tasks.shutdown().await;
        }
        let why = end.unwrap_or(LinkEnd::Here);
        self.queues.close();
        connection.close(why.close_code(), &why.to_string());
        self.context.links.remove(self.id);
        report::down(&self.context, self.id, &**connection, &why);
        // An owner that has gone wants no events.
        let _gone = self.context.events.send(TunnelEvent::Down { link: self.id, why }).await;
    }

    async fn come_up(&self, hello: &Hello) -> Option<LinkEnd> {
        report::up(&self.context, self.id, &self.record, hello);
        let skew = self.record.skew.load(Ordering::Relaxed);
        if u128::from(skew.unsigned_abs()) > SKEW_WARNING.as_micros() {
            let (peer, seconds) = (self.record.connection.peer().id(), skew / 1_000_000);
            tracing::warn!(link = %self.id, %peer, seconds, "the peer's clock differs from this one: set the one that is wrong");
        }
        self.context.links.insert(self.id, self.record.clone());
        let up = LinkUp {
            link: self.id,
            peer: self.record.connection.peer().id().clone(),
            agent: self.record.agent.clone(),
            hello: hello.clone(),
            version: self.record.version,
            lanes: self.record.lanes,
            sender: self.queues.sender(),
        };
        self.send_event(TunnelEvent::Up(up)).await.err()
    }

    /// A task for everything that goes on; the first to end decides why the link is over.
    fn start(self: &Arc<Self>, agreed: Agreed) -> JoinSet<LinkEnd> {
        let mut tasks = JoinSet::new();
        for (lane, stream) in (0..self.record.lanes).zip(agreed.orders) {
            let link = self.clone();
            tasks.spawn(async move { link.read_orders(lane, stream.reader).await });
            let queues = self.queues.clone();
            tasks.spawn(async move {
                let _failed = queues.write(lane, stream.writer).await;
                LinkEnd::Violation("an order lane was closed while the link was up".to_owned())
            });
        }
        let control = ControlReader {
            link: self.clone(),
            window: agreed.hello.window,
            silent: false,
            heard: Instant::now(),
        };
        tasks.spawn(control.read(agreed.control.reader));
        let (link, writer) = (self.clone(), agreed.control.writer);
        tasks.spawn(async move { link.write_control(writer).await });
        let link = self.clone();
        tasks.spawn(async move { link.watch_lanes().await });
        let link = self.clone();
        tasks.spawn(async move { link.watch_identity().await });
        tasks
    }

    async fn ended(&self, tasks: &mut JoinSet<LinkEnd>) -> LinkEnd {
        let connection = &self.record.connection;
        let end = tokio::select! {
            biased;
            closed = connection.closed() => closed.into(),
            () = self.queues.overflowed() => LinkEnd::NotReading,
            () = self.context.reached(Phase::Closed) => LinkEnd::Here,
            ended = tasks.join_next() => match ended {
                Some(Ok(end)) => end,
                Some(Err(error)) => LinkEnd::Broken(format!("a task of this agent failed: {error}")),
                None => LinkEnd::Here,
            },
        };
        // A lane that broke is mostly a connection that did, and its reason says more.
        match end {
            LinkEnd::Violation(_) => connection.ended().map_or(end, LinkEnd::from),
            end => end,
        }
    }

    async fn send_event(&self, event: TunnelEvent) -> Result<(), LinkEnd> {
        self.context.events.send(event).await.map_err(|_| LinkEnd::Here)
    }

    async fn read_orders(&self, lane: u8, stream: impl AsyncRead + Unpin) -> LinkEnd {
        let mut frames = FrameReader::new(stream, ORDER_FRAME_BYTES_MAX);
        loop {
            let payload = match frames.next().await {
                Ok(payload) => payload,
                Err(error) => return error.into(),
            };
            self.traffic.received(payload.len());
            if let Err(end) = self.send_event(TunnelEvent::Frame { link: self.id, lane, payload }).await {
                return end;
            }
        }
    }

    /// The set of lanes was complete with the hello: one more is against the protocol.
    async fn watch_lanes(&self) -> LinkEnd {
        match self.record.connection.accept_lane().await {
            Ok(stream) => LinkEnd::Violation(format!("{:?} was opened beyond those announced", stream.lane)),
            Err(transport::LaneError::Closed(closed)) => closed.into(),
            Err(error) => LinkEnd::Violation(error.to_string()),
        }
    }

    /// Judges the peer again when our CA or revocation list changes, and when its certificate ends.
    async fn watch_identity(&self) -> LinkEnd {
        let peer = self.record.connection.peer();
        let mut credentials = self.context.identity.subscribe();
        loop {
            let left = u64::try_from(peer.not_after().saturating_sub(unix_now())).unwrap_or(0);
            let look = tokio::time::Instant::now() + Duration::from_secs(left + 1).min(EXPIRY_CHECK_MAX);
            tokio::select! {
                changed = credentials.changed() => if changed.is_err() { return LinkEnd::Here },
                () = sleep_until(look) => {}
            }
            let judge = Judge::new(credentials.borrow_and_update().clone(), self.context.allow.clone());
            if let Err(Refusal { reason, sentence, .. }) = judge.judge_again(peer) {
                return LinkEnd::Identity { reason, sentence };
            }
        }
    }

    async fn write_control(&self, mut writer: impl AsyncWrite + Unpin) -> LinkEnd {
        let mut greeting = self.context.greeting.clone();
        let mut manifest = greeting.borrow_and_update().manifest.clone();
        let mut beat = interval(self.context.heartbeat);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut said_goodbye = false;
        loop {
            let message = tokio::select! {
                _ = beat.tick() => self.heartbeat(),
                () = self.context.reached(Phase::Draining), if !said_goodbye => {
                    said_goodbye = true;
                    Goodbye { reason: "this agent is stopping".to_owned() }.into()
                }
                () = changed(&mut greeting) => {
                    let note = greeting.borrow_and_update().manifest.clone();
                    if note == manifest {
                        self.heartbeat()
                    } else {
                        manifest.clone_from(&note);
                        Manifest { note }.into()
                    }
                }
            };
            if let Err(end) = self.write(&mut writer, &message).await {
                return end;
            }
        }
    }

    fn heartbeat(&self) -> Control {
        let window = self.context.greeting.borrow().window;
        Heartbeat { clock_micros: hello::clock_micros(), window }.into()
    }

    async fn write(&self, writer: &mut (impl AsyncWrite + Unpin), message: &Control) -> Result<(), LinkEnd> {
        let bytes = frame::to_bytes(message, CONTROL_FRAME_BYTES_MAX).map_err(|error| {
            LinkEnd::Broken(format!("this agent's greeting does not fit a frame: {error}"))
        })?;
        let written = async {
            writer.write_all(&bytes).await?;
            writer.flush().await
        };
        written.await.map_err(|_| {
            LinkEnd::Violation("the control lane was closed while the link was up".to_owned())
        })?;
        self.traffic.sent(bytes.len());
        Ok(())
    }
}

/// Waits for a change; for ever once nobody is left to make one.
async fn changed(greeting: &mut watch::Receiver<Greeting>) {
    if greeting.changed().await.is_err() {
        std::future::pending().await
    }
}

/// What the control lane brings, and the silence when it brings nothing.
struct ControlReader {
    link: Arc<Link>,
    /// As the peer last said it.
    window: u32,
    silent: bool,
    heard: Instant,
}

impl ControlReader {
    async fn read(mut self, mut frames: FrameReader<impl AsyncRead + Unpin>) -> LinkEnd {
        loop {
            let deadline = self.heard + self.link.context.silent_after;
            let handled = if self.silent {
                self.handle(frames.next().await).await
            } else {
                match timeout_at(deadline.into(), frames.next()).await {
                    Ok(read) => self.handle(read).await,
                    Err(_) => self.set_silent(true).await,
                }
            };
            if let Err(end) = handled {
                return end;
            }
        }
    }

    async fn handle(&mut self, read: Result<Bytes, ReadError>) -> Result<(), LinkEnd> {
        let payload = read?;
        self.link.traffic.received(payload.len());
        let id = self.link.id;
        match frame::decode::<Control>(payload)?.kind {
            Some(control::Kind::Heartbeat(heartbeat)) => self.on_heartbeat(heartbeat).await,
            Some(control::Kind::Manifest(Manifest { note })) => {
                self.link.send_event(TunnelEvent::Manifest { link: id, note }).await
            }
            Some(control::Kind::Goodbye(Goodbye { reason })) => {
                tracing::info!(link = %id, reason = printable(&reason), "the peer says goodbye");
                self.link.send_event(TunnelEvent::Goodbye { link: id }).await
            }
            Some(control::Kind::Hello(_)) => Err(LinkEnd::Violation("a second hello came".to_owned())),
            Some(control::Kind::Refused(Refused { reason })) => Err(LinkEnd::ByPeer(printable(&reason))),
            // A later version's message, which this one may ignore.
            None => Ok(()),
        }
    }

    async fn on_heartbeat(&mut self, heartbeat: Heartbeat) -> Result<(), LinkEnd> {
        self.heard = Instant::now();
        let skew = hello::skew(heartbeat.clock_micros, self.link.record.connection.rtt());
        self.link.record.skew.store(skew, Ordering::Relaxed);
        if self.silent {
            self.set_silent(false).await?;
        }
        if heartbeat.window != self.window {
            self.window = heartbeat.window;
            self.link.send_event(TunnelEvent::Window { link: self.link.id, window: self.window }).await?;
        }
        Ok(())
    }

    async fn set_silent(&mut self, silent: bool) -> Result<(), LinkEnd> {
        self.silent = silent;
        self.link.record.silent.store(silent, Ordering::Relaxed);
        let (link, peer) = (self.link.id, self.link.record.connection.peer().id());
        let event = if silent {
            let after = self.link.context.silent_after;
            tracing::warn!(%link, %peer, ?after, "no heartbeat from the peer: the link gets no new requests");
            TunnelEvent::Silent { link }
        } else {
            tracing::info!(%link, %peer, "the silent peer is heard again");
            TunnelEvent::Heard { link }
        };
        self.link.send_event(event).await
    }
}
