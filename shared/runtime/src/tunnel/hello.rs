//! Start of a link: opens and counts the lanes, exchanges hellos, and agrees on a protocol version.
//!
//! The dialler opens the control lane and its order lanes and sends its hello first. The listener
//! answers with its own hello, or with a sentence that says who must upgrade. If both hellos name
//! payments or the feed, the dialler then opens those lanes, in this order. All of this must take
//! at most five seconds.

use std::io;
use std::time::Duration;

use bridge_protocol::wire::control::{Control, Hello, Refused, message};
use bridge_protocol::wire::frame::{self, CONTROL_FRAME_BYTES_MAX, FrameError};
use bridge_protocol::wire::lane::{Lane, ORDER_LANES_MAX};
use bridge_protocol::wire::version::{Incompatible, Versions};
use bridge_protocol::wire::{feed, payment};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::context::Context;
use super::lanes::{FrameReader, ReadError};
use crate::clock;
use crate::transport::refusal::printable;
use crate::transport::{Closed, Connection, LaneError, LaneStream};

/// Time from the end of the handshake to the agreement.
const HELLO_TIME: Duration = Duration::from_secs(5);

/// Time for a refused peer to read the sentence.
const REFUSED_TIME: Duration = Duration::from_secs(1);

/// The control lane after the hello.
pub(super) struct ControlLane {
    pub(super) reader: FrameReader<Box<dyn AsyncRead + Send + Unpin>>,
    pub(super) writer: Box<dyn AsyncWrite + Send + Unpin>,
}

/// Result of the agreement.
pub(super) struct Negotiated {
    /// The peer's hello.
    pub(super) hello: Hello,
    /// Our hello.
    pub(super) said: Hello,
    /// The common version.
    pub(super) version: u32,
    /// The peer's clock minus ours, in microseconds.
    pub(super) skew: i64,
    pub(super) control: ControlLane,
    /// All order lanes, in the order of their index.
    pub(super) orders: Vec<LaneStream>,
    /// The feed lane; `None` if one side does not know it.
    pub(super) feed: Option<LaneStream>,
    /// The payment lane; `None` if one side does not know it.
    pub(super) payments: Option<LaneStream>,
}

/// Reasons why a link did not come up.
#[derive(Debug, thiserror::Error)]
pub(super) enum HelloError {
    /// The peer broke the protocol.
    #[error("{0}")]
    Violation(String),
    /// This side found no common version.
    #[error(transparent)]
    Incompatible(#[from] Incompatible),
    /// The peer found no common version.
    #[error("refused by the peer: {0}")]
    RefusedByPeer(String),
    /// It took too long.
    #[error("no hello within {} s", HELLO_TIME.as_secs())]
    TooSlow,
    /// The connection ended.
    #[error("{0}")]
    Closed(Closed),
}

impl From<LaneError> for HelloError {
    fn from(error: LaneError) -> Self {
        match error {
            LaneError::Closed(closed) => Self::Closed(closed),
            LaneError::Preamble(_) | LaneError::Cut => Self::Violation(error.to_string()),
        }
    }
}

impl From<FrameError> for HelloError {
    fn from(error: FrameError) -> Self {
        Self::Violation(error.to_string())
    }
}

/// Brings the link up, on either side.
pub(super) async fn exchange(
    context: &Context,
    connection: &dyn Connection,
    dialled: bool,
) -> Result<Negotiated, HelloError> {
    let exchanged =
        async { if dialled { dial(context, connection).await } else { listen(context, connection).await } };
    timeout(HELLO_TIME, exchanged).await.unwrap_or(Err(HelloError::TooSlow))
}

async fn dial(context: &Context, connection: &dyn Connection) -> Result<Negotiated, HelloError> {
    let LaneStream { reader, mut writer, .. } = open_control(connection).await?;
    let ours = our_hello(context, context.order_lanes);
    write(connection, &mut writer, &ours.clone().into()).await?;
    let orders = connection.open_lanes((0..context.order_lanes).map(Lane::Order).collect()).await?;
    let mut reader = FrameReader::new(reader, CONTROL_FRAME_BYTES_MAX);
    let hello = read_hello(connection, &mut reader).await?;
    let skew = skew(hello.clock_micros, connection.rtt());
    let version = agree(connection, &mut writer, hello.versions()).await?;
    let [payments, feed] = by_kind(connection.open_lanes(optional_lanes(&ours, &hello)).await?);
    Ok(Negotiated {
        hello,
        said: ours,
        version,
        skew,
        control: ControlLane { reader, writer },
        orders,
        feed,
        payments,
    })
}

async fn listen(context: &Context, connection: &dyn Connection) -> Result<Negotiated, HelloError> {
    let first = connection.accept_lane().await?;
    let LaneStream { lane: Lane::Control, reader, mut writer } = first else {
        return Err(HelloError::Violation("the first lane is not the control lane".to_owned()));
    };
    let mut reader = FrameReader::new(reader, CONTROL_FRAME_BYTES_MAX);
    let hello = read_hello(connection, &mut reader).await?;
    let skew = skew(hello.clock_micros, connection.rtt());
    let version = agree(connection, &mut writer, hello.versions()).await?;
    let count = order_lanes(hello.order_lanes)?;
    let orders = accept_orders(connection, count).await?;
    let ours = our_hello(context, count);
    write(connection, &mut writer, &ours.clone().into()).await?;
    let [payments, feed] = by_kind(accept_optional(connection, optional_lanes(&ours, &hello)).await?);
    Ok(Negotiated {
        hello,
        said: ours,
        version,
        skew,
        control: ControlLane { reader, writer },
        orders,
        feed,
        payments,
    })
}

async fn open_control(connection: &dyn Connection) -> Result<LaneStream, LaneError> {
    let opened = connection.open_lanes(vec![Lane::Control]).await?;
    opened.into_iter().next().ok_or(LaneError::Cut)
}

/// Returns the optional lanes that both sides know, in the order in which they are opened.
fn optional_lanes(ours: &Hello, theirs: &Hello) -> Vec<Lane> {
    let both =
        |name: &str| [ours, theirs].iter().all(|hello| hello.features.iter().any(|feature| feature == name));
    let known = [(payment::FEATURE, Lane::Payment), (feed::FEATURE, Lane::Feed)];
    known.into_iter().filter(|(feature, _)| both(feature)).map(|(_, lane)| lane).collect()
}

/// Accepts these lanes, each once, in any order.
async fn accept_optional(
    connection: &dyn Connection,
    mut missing: Vec<Lane>,
) -> Result<Vec<LaneStream>, HelloError> {
    let mut open = Vec::new();
    while !missing.is_empty() {
        let stream = connection.accept_lane().await?;
        let Some(place) = missing.iter().position(|lane| *lane == stream.lane) else {
            return Err(HelloError::Violation(format!(
                "{:?} was opened instead of {missing:?}",
                stream.lane
            )));
        };
        missing.remove(place);
        open.push(stream);
    }
    Ok(open)
}

/// Returns the payment lane and the feed lane, if they are open.
fn by_kind(open: Vec<LaneStream>) -> [Option<LaneStream>; 2] {
    let mut kinds = [None, None];
    for stream in open {
        match stream.lane {
            Lane::Payment => kinds[0] = Some(stream),
            _ => kinds[1] = Some(stream),
        }
    }
    kinds
}

fn our_hello(context: &Context, order_lanes: u8) -> Hello {
    let greeting = context.greeting.borrow().clone();
    Hello {
        heartbeat_millis: u32::try_from(context.heartbeat.as_millis()).unwrap_or(u32::MAX),
        features: greeting.features.clone(),
        clock_micros: clock::now().get(),
        order_lanes: u32::from(order_lanes),
        window: greeting.window,
        payment_window: greeting.payment_window,
        manifest: greeting.manifest.clone(),
        ..Hello::of_this_build(&greeting.agent)
    }
}

fn order_lanes(announced: u32) -> Result<u8, HelloError> {
    u8::try_from(announced).ok().filter(|count| (1..=ORDER_LANES_MAX).contains(count)).ok_or_else(|| {
        HelloError::Violation(format!(
            "{announced} order lanes were announced, 1 to {ORDER_LANES_MAX} are possible"
        ))
    })
}

/// Accepts the announced order lanes, each once, in any order.
async fn accept_orders(connection: &dyn Connection, count: u8) -> Result<Vec<LaneStream>, HelloError> {
    let mut orders: Vec<Option<LaneStream>> =
        std::iter::repeat_with(|| None).take(usize::from(count)).collect();
    for _ in 0..count {
        let stream = connection.accept_lane().await?;
        let slot = match stream.lane {
            Lane::Order(index) => orders.get_mut(usize::from(index)).filter(|slot| slot.is_none()),
            Lane::Control | Lane::Feed | Lane::Payment => None,
        };
        let Some(slot) = slot else {
            return Err(HelloError::Violation(format!(
                "{:?} was opened, which was not announced or is open already",
                stream.lane
            )));
        };
        *slot = Some(stream);
    }
    Ok(orders.into_iter().flatten().collect())
}

async fn read_hello<R: AsyncRead + Unpin>(
    connection: &dyn Connection,
    reader: &mut FrameReader<R>,
) -> Result<Hello, HelloError> {
    let payload = match reader.next().await {
        Ok(payload) => payload,
        Err(ReadError::Frame(error)) => return Err(error.into()),
        Err(ReadError::Stream(_)) => return Err(cut(connection).await),
    };
    match frame::decode::<Control>(payload)?.kind {
        Some(message::Kind::Hello(hello)) => Ok(hello),
        Some(message::Kind::Refused(Refused { reason })) => {
            Err(HelloError::RefusedByPeer(printable(&reason)))
        }
        _ => Err(HelloError::Violation("the control lane does not open with a hello".to_owned())),
    }
}

/// Agrees on a version. If there is none, tells the peer why and gives it time to read this.
async fn agree(
    connection: &dyn Connection,
    writer: &mut Box<dyn AsyncWrite + Send + Unpin>,
    theirs: Versions,
) -> Result<u32, HelloError> {
    match Versions::OURS.agree(theirs) {
        Ok(version) => Ok(version),
        Err(incompatible) => {
            let reason = as_the_peer_reads_it(incompatible);
            write(connection, writer, &Refused { reason }.into()).await?;
            let _gone_or_not = timeout(REFUSED_TIME, connection.closed()).await;
            Err(incompatible.into())
        }
    }
}

/// Exchanges the two sides in a message. `who` is named from the speaker's point of view.
fn as_the_peer_reads_it(incompatible: Incompatible) -> String {
    let who = if incompatible.who == "the peer" { "this agent" } else { "the peer" };
    Incompatible { who, ..incompatible }.to_string()
}

async fn write(
    connection: &dyn Connection,
    writer: &mut Box<dyn AsyncWrite + Send + Unpin>,
    message: &Control,
) -> Result<(), HelloError> {
    let bytes = frame::to_bytes(message, CONTROL_FRAME_BYTES_MAX).map_err(|error| {
        HelloError::Closed(Closed::Broken(format!("this agent's hello does not fit a frame: {error}")))
    })?;
    let written = async {
        writer.write_all(&bytes).await?;
        writer.flush().await
    };
    let written: io::Result<()> = written.await;
    if written.is_err() {
        return Err(cut(connection).await);
    }
    Ok(())
}

async fn cut(connection: &dyn Connection) -> HelloError {
    let lane_only = || HelloError::Violation("the control lane ended".to_owned());
    connection.cut().await.map_or_else(lane_only, HelloError::Closed)
}

/// Returns the peer's clock minus ours in microseconds, if its message took half a round trip.
pub(super) fn skew(their_clock_micros: i64, rtt: Duration) -> i64 {
    let way = i64::try_from((rtt / 2).as_micros()).unwrap_or(0);
    their_clock_micros.saturating_add(way).saturating_sub(clock::now().get())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_who_must_upgrade_from_its_readers_view() {
        let ours = Versions { oldest: 3, newest: 4 };
        let incompatible = ours.agree(Versions { oldest: 1, newest: 2 }).unwrap_err();
        assert!(incompatible.to_string().ends_with("upgrade the peer"));
        assert!(as_the_peer_reads_it(incompatible).ends_with("upgrade this agent"));
    }

    #[test]
    fn only_one_to_sixteen_order_lanes_are_accepted() {
        assert!(order_lanes(0).is_err());
        assert_eq!(order_lanes(16).unwrap(), 16);
        assert!(order_lanes(17).is_err());
        assert!(order_lanes(256 + 4).is_err());
    }
}
