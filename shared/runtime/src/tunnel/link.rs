//! One link from its connection to its end: the tasks on its lanes, and the only place that decides
//! why it ends.
//!
//! `hello` brings it up, `control` sends and watches heartbeats, and `lanes` moves frames.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bridge_protocol::wire::control::Hello;
use bridge_protocol::wire::frame::{FEED_FRAME_BYTES_MAX, ORDER_FRAME_BYTES_MAX};
use bytes::Bytes;
use tokio::io::AsyncRead;
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until};

use super::context::{Context, Phase};
use super::control::ControlReader;
use super::dialled::DialledAddress;
use super::end::LinkEnd;
use super::event::{FeedEvent, LinkUp, TunnelEvent};
use super::hello::{self, HelloError, Negotiated};
use super::lanes::FrameReader;
use super::links::Presence;
use super::live_link::Link;
use super::report;
use crate::clock::unix_now;
use crate::transport::peer_verifier::PeerVerifier;
use crate::transport::{self, CloseCode, Connection, Refusal};

/// Longest time between two checks of a peer's certificate. It is also checked at its end.
const EXPIRY_CHECK_MAX: Duration = Duration::from_secs(24 * 3600);

/// Time that an owner who has closed the tunnel gets to take the last events.
const DOWN_TIME: Duration = Duration::from_secs(1);

/// The dialling side of a link.
pub(super) struct Dialled<'a> {
    /// The target, as configured.
    pub(super) target: Arc<str>,
    /// The address's entry in the register.
    pub(super) address: &'a DialledAddress,
    /// Called when the link comes up. If it returns false, the link is not wanted any more.
    pub(super) is_up: &'a (dyn Fn() -> bool + Send + Sync),
}

/// Result of a link.
pub(super) struct Ended {
    /// Time that it was up; `None` if it never was.
    pub(super) lived: Option<Duration>,
    /// Reason of the end, for people.
    pub(super) why: String,
}

/// Runs a link until it ends. `dialled` is set if this side dialled.
pub(super) async fn run(
    context: &Arc<Context>,
    connection: Arc<dyn Connection>,
    dialled: Option<Dialled<'_>>,
    presence: Arc<Presence>,
) -> Ended {
    let greeted = tokio::select! {
        greeted = hello::exchange(context, &*connection, dialled.is_some()) => greeted,
        () = context.reached(Phase::Closed) => return Ended { lived: None, why: LinkEnd::Here.to_string() },
    };
    match greeted {
        Ok(agreed) => {
            let up = Instant::now();
            let target = dialled.as_ref().map(|dialled| dialled.target.clone());
            if let Some(dialled) = &dialled {
                if !(dialled.is_up)() {
                    return Ended { lived: None, why: LinkEnd::Here.to_string() };
                }
                dialled.address.linked();
            }
            let why = Link::new(context.clone(), connection, target, presence, &agreed).live(agreed).await;
            let why = why.to_string();
            dialled.inspect(|dialled| dialled.address.unlinked(&why));
            Ended { lived: Some(up.elapsed()), why }
        }
        Err(error) => {
            let why = error.to_string();
            dialled.inspect(|dialled| dialled.address.failed(&why));
            give_up(context, &*connection, &error);
            Ended { lived: None, why }
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

impl Link {
    /// Announces the link, runs its tasks, and reports its end, which it returns.
    async fn live(self: &Arc<Self>, agreed: Negotiated) -> LinkEnd {
        report::up(&self.context, self.id, &self.record, &agreed.hello);
        self.context.links.insert(self.id, self.record.clone());
        let announced = tokio::select! {
            sent = self.announce(self.up(&agreed.hello)) => sent,
            () = self.context.reached(Phase::Closed) => Err(LinkEnd::Here),
        };
        let was_announced = announced.is_ok();
        let why = match announced {
            Ok(()) => {
                let mut tasks = self.start(agreed);
                let why = self.ended(&mut tasks).await;
                // This comes before the tasks end: otherwise a dropped lane would look to the peer
                // as if only that lane had ended.
                self.close(&why);
                // This comes before the event: no frame may follow the link's end.
                tasks.shutdown().await;
                why
            }
            Err(why) => {
                self.close(&why);
                why
            }
        };
        self.context.links.remove(self.id);
        report::down(&self.context, self.id, &*self.record.connection, &why);
        if was_announced {
            self.take_down(why.clone()).await;
        }
        why
    }

    fn close(&self, why: &LinkEnd) {
        self.queues.close();
        self.record.connection.close(why.close_code(), &why.to_string());
    }

    /// Reports the end to the owner. If the owner has closed the tunnel and takes no more events,
    /// this waits only for a short time.
    async fn take_down(&self, why: LinkEnd) {
        let abandoned = async {
            self.context.reached(Phase::Closed).await;
            sleep(DOWN_TIME).await;
        };
        let told = async {
            if self.record.feed {
                let _nobody_follows = self.send_feed(FeedEvent::Down { link: self.id }).await;
            }
            self.send_event(TunnelEvent::Down { link: self.id, why }, None).await
        };
        tokio::select! {
            _sent = told => {}
            () = abandoned => tracing::warn!(link = %self.id, "nobody takes the tunnel's events, so the link's end is not reported"),
        }
    }

    async fn announce(&self, up: TunnelEvent) -> Result<(), LinkEnd> {
        self.send_event(up, None).await?;
        if !self.record.feed {
            return Ok(());
        }
        let (peer, sender) = (self.record.connection.peer().id().clone(), self.queues.feed_sender());
        self.send_feed(FeedEvent::Up { link: self.id, peer, sender }).await
    }

    fn up(&self, hello: &Hello) -> TunnelEvent {
        TunnelEvent::Up(LinkUp {
            link: self.id,
            peer: self.record.connection.peer().id().clone(),
            agent: self.record.agent.clone(),
            target: self.record.target.clone(),
            hello: Box::new(hello.clone()),
            version: self.record.version,
            lanes: self.record.lanes,
            payments: self.record.payments,
            round_trip: self.record.connection.rtt(),
            sender: self.queues.sender(),
        })
    }

    /// Starts a task for each activity. The first one that ends decides why the link ends.
    fn start(self: &Arc<Self>, agreed: Negotiated) -> JoinSet<LinkEnd> {
        let mut tasks = JoinSet::new();
        for (lane, stream) in (0..self.record.lanes).zip(agreed.orders) {
            let link = self.clone();
            tasks.spawn(async move {
                let event = |payload| TunnelEvent::Frame { link: link.id, lane, payload };
                link.read_events(stream.reader, event).await
            });
            let link = self.clone();
            tasks.spawn(async move {
                match link.queues.write_orders(lane, stream.writer).await {
                    Ok(()) => LinkEnd::Here,
                    Err(error) => link.cut(error.into()).await,
                }
            });
        }
        if let Some(stream) = agreed.feed {
            let link = self.clone();
            tasks.spawn(async move { link.read_feed(stream.reader).await });
            let link = self.clone();
            tasks.spawn(async move {
                match link.queues.write_feed(stream.writer).await {
                    Ok(()) => LinkEnd::Here,
                    Err(error) => link.cut(error.into()).await,
                }
            });
        }
        if let Some(stream) = agreed.payments {
            let link = self.clone();
            tasks.spawn(async move {
                let event = |payload| TunnelEvent::PaymentFrame { link: link.id, payload };
                link.read_events(stream.reader, event).await
            });
            let link = self.clone();
            tasks.spawn(async move {
                match link.queues.write_payments(stream.writer).await {
                    Ok(()) => LinkEnd::Here,
                    Err(error) => link.cut(error.into()).await,
                }
            });
        }
        let control = ControlReader::new(self.clone(), &agreed.hello);
        tasks.spawn(control.read(agreed.control.reader));
        let (link, writer) = (self.clone(), agreed.control.writer);
        tasks.spawn(async move { link.write_control(writer, &agreed.said, &agreed.hello).await });
        let link = self.clone();
        tasks.spawn(async move { link.watch_lanes().await });
        let link = self.clone();
        tasks.spawn(async move { link.watch_identity().await });
        tasks
    }

    async fn ended(&self, tasks: &mut JoinSet<LinkEnd>) -> LinkEnd {
        let connection = &self.record.connection;
        tokio::select! {
            biased;
            closed = connection.closed() => closed.into(),
            end = self.queues.condemned() => end,
            replaced = self.record.presence.ended() => replaced,
            () = self.context.reached(Phase::Closed) => LinkEnd::Here,
            ended = tasks.join_next() => match ended {
                Some(Ok(end)) => end,
                Some(Err(error)) => LinkEnd::Broken(format!("a task of this agent failed: {error}")),
                None => LinkEnd::Here,
            },
        }
    }

    /// Reads a lane of requests and answers. Each frame becomes an event.
    async fn read_events(
        &self,
        stream: impl AsyncRead + Unpin,
        event: impl Fn(Bytes) -> TunnelEvent,
    ) -> LinkEnd {
        let mut frames = FrameReader::new(stream, ORDER_FRAME_BYTES_MAX);
        loop {
            // The share is taken before the frame is whole, so that unread data waits with the
            // peer.
            let share = match frames.announced().await {
                Ok(bytes) => self.room.share(bytes).await,
                Err(error) => return self.cut(error).await,
            };
            let sent = match self.next(&mut frames).await {
                Ok(payload) => self.send_event(event(payload), share).await,
                Err(end) => Err(end),
            };
            if let Err(end) = sent {
                return end;
            }
        }
    }

    async fn read_feed(&self, stream: impl AsyncRead + Unpin) -> LinkEnd {
        let mut frames = FrameReader::new(stream, FEED_FRAME_BYTES_MAX);
        loop {
            let sent = match self.next(&mut frames).await {
                Ok(payload) => self.send_feed(FeedEvent::Frame { link: self.id, payload }).await,
                Err(end) => Err(end),
            };
            if let Err(end) = sent {
                return end;
            }
        }
    }

    async fn next<R: AsyncRead + Unpin>(&self, frames: &mut FrameReader<R>) -> Result<Bytes, LinkEnd> {
        match frames.next().await {
            Ok(payload) => {
                self.traffic.received(payload.len());
                Ok(payload)
            }
            Err(error) => Err(self.cut(error).await),
        }
    }

    /// Ends the link if the peer opens another lane. The set of lanes was complete with the hello.
    async fn watch_lanes(&self) -> LinkEnd {
        match self.record.connection.accept_lane().await {
            Ok(stream) => LinkEnd::Violation(format!("{:?} was opened beyond those announced", stream.lane)),
            Err(transport::LaneError::Closed(closed)) => closed.into(),
            Err(error) => LinkEnd::Violation(error.to_string()),
        }
    }

    /// Verifies the peer again when our CA or revocation list changes, and when its certificate
    /// expires.
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
            let judge =
                PeerVerifier::new(credentials.borrow_and_update().clone(), self.context.allow.clone());
            if let Err(Refusal { reason, sentence, .. }) = judge.verify_again(peer) {
                return LinkEnd::Identity { reason, sentence };
            }
        }
    }
}
