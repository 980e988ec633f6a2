//! Messages of the feed lane: requests of a replica (`ToPublisher`) and data of the IDC agent
//! (`ToSubscriber`).
//!
//! A link has one subscription. Every change of the replica comes in a numbered page. The
//! subscriber acknowledges pages, and at most a window of them is unacknowledged. So neither side's
//! memory depends on the other's speed.

use bytes::Bytes;

use crate::domain::Brand;
use crate::domain::catalogue::{Code, EntityKey, EntityKind, Position};

/// Feature that both hellos must name for a link to have a feed lane.
pub const FEATURE: &str = "feed";

/// One frame from the cloud agent to the IDC agent.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ToPublisher {
    /// The request. `None` is a kind of a later version, which is ignored.
    #[prost(oneof = "to_publisher::Kind", tags = "1, 2, 3")]
    pub kind: Option<to_publisher::Kind>,
    /// The subscriber's clock when it sent this, in microseconds. [`Fresh`] sends it back; nothing
    /// else reads it.
    #[prost(uint64, optional, tag = "15")]
    pub clock_micros: Option<u64>,
}

/// The kinds of [`ToPublisher`].
pub mod to_publisher {
    /// A request.
    #[derive(Clone, PartialEq, prost::Oneof)]
    pub enum Kind {
        /// Begin, or begin again: everything pending on this link is forgotten.
        #[prost(message, tag = "1")]
        Subscribe(super::Subscribe),
        /// A page is in the replica.
        #[prost(message, tag = "2")]
        Applied(super::Applied),
        /// Send checksums of the source, for comparison.
        #[prost(message, tag = "3")]
        AskSums(super::AskSums),
    }
}

/// Asks for these brands from a position on.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Subscribe {
    /// The brands that the replica serves.
    #[prost(string, repeated, tag = "1")]
    pub brands: Vec<String>,
    /// Position of the replica; absent if it is empty.
    #[prost(message, optional, tag = "2")]
    pub position: Option<WirePosition>,
    /// Pages that may be unacknowledged, 1 to 64.
    #[prost(uint32, tag = "3")]
    pub window: u32,
    /// Number chosen by the subscriber, which [`Begin`] repeats. It separates answers from those to
    /// an earlier subscription.
    #[prost(uint64, tag = "4")]
    pub subscription: u64,
}

/// Acknowledges a page and all before it.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Applied {
    /// The page's number.
    #[prost(uint64, tag = "1")]
    pub page: u64,
}

/// Asks for the source's checksums.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct AskSums {}

/// One frame from the IDC agent to the cloud agent.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ToSubscriber {
    /// The content. `None` is a kind of a later version, which is ignored.
    #[prost(oneof = "to_subscriber::Kind", tags = "1, 2, 3, 4")]
    pub kind: Option<to_subscriber::Kind>,
}

/// The kinds of [`ToSubscriber`].
pub mod to_subscriber {
    /// Content of a frame.
    #[derive(Clone, PartialEq, prost::Oneof)]
    pub enum Kind {
        /// The answer to a subscription.
        #[prost(message, tag = "1")]
        Begin(super::Begin),
        /// Changed rows.
        #[prost(message, tag = "2")]
        Page(super::Page),
        /// Position of the source, sent at least with every heartbeat.
        #[prost(message, tag = "3")]
        Fresh(super::Fresh),
        /// Checksums of the source.
        #[prost(message, tag = "4")]
        Sums(super::Sums),
    }
}

/// Answer to a subscription.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Begin {
    /// Number of the subscription.
    #[prost(uint64, tag = "1")]
    pub subscription: u64,
    /// Set if the replica must start anew. The following pages then hold everything, and the
    /// replica serves its old state until a page says `complete`.
    #[prost(bool, tag = "2")]
    pub bootstrap: bool,
}

/// Rows in their latest state.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Page {
    /// Number of the page, from 1 in each subscription.
    #[prost(uint64, tag = "1")]
    pub number: u64,
    /// The rows, each key at most once.
    #[prost(message, repeated, tag = "2")]
    pub entries: Vec<Entry>,
    /// Position of the replica after this page; absent while a bootstrap has no position yet.
    #[prost(message, optional, tag = "3")]
    pub position: Option<WirePosition>,
    /// Set on the last page of a bootstrap. The new rows are served from then on.
    #[prost(bool, tag = "4")]
    pub complete: bool,
}

/// One row.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Entry {
    /// [`EntityKind::number`].
    #[prost(uint32, tag = "1")]
    pub kind: u32,
    /// Brand of the row.
    #[prost(string, tag = "2")]
    pub brand: String,
    /// Code of the row.
    #[prost(string, tag = "3")]
    pub code: String,
    /// Content of the row, as the message of `wire::catalogue` for its kind; absent if the row was
    /// deleted.
    #[prost(bytes = "bytes", optional, tag = "4")]
    pub row: Option<Bytes>,
}

/// Position and age of the source.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Fresh {
    /// The last number that was given.
    #[prost(message, optional, tag = "1")]
    pub head: Option<WirePosition>,
    /// Age of the state at `head`, in microseconds: so long ago, every committed change had its
    /// number.
    #[prost(uint64, tag = "2")]
    pub age_micros: u64,
    /// The subscriber's clock as the publisher heard it last; absent from an agent of the previous
    /// release.
    #[prost(message, optional, tag = "3")]
    pub heard: Option<Heard>,
}

/// The subscriber's own clock, sent back to it.
///
/// When the publisher sent this, the subscriber's clock was at least the sum of the two values,
/// however long the messages were on the way. So the computed age is never too small, and no clocks
/// of two hosts are compared.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Heard {
    /// The clock's value, in microseconds.
    #[prost(uint64, tag = "1")]
    pub clock_micros: u64,
    /// Time since the publisher heard it, in microseconds.
    #[prost(uint64, tag = "2")]
    pub ago_micros: u64,
}

/// Checksums of the source's rows of the subscribed brands, as `feed::sums` computes them.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Sums {
    /// The last number that was given when the rows were read.
    #[prost(message, optional, tag = "1")]
    pub head: Option<WirePosition>,
    /// One sum for each bucket.
    #[prost(fixed64, repeated, tag = "2")]
    pub buckets: Vec<u64>,
    /// Buckets with a change that had no number yet. Their sums cannot be compared.
    #[prost(uint32, repeated, tag = "3")]
    pub unsettled: Vec<u32>,
}

/// A [`Position`] on the wire.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct WirePosition {
    /// [`Position::seq`].
    #[prost(uint64, tag = "1")]
    pub seq: u64,
    /// [`Position::mark`].
    #[prost(int64, tag = "2")]
    pub mark: i64,
}

impl From<Position> for WirePosition {
    fn from(Position { seq, mark }: Position) -> Self {
        Self { seq, mark }
    }
}

impl From<WirePosition> for Position {
    fn from(WirePosition { seq, mark }: WirePosition) -> Self {
        Self { seq, mark }
    }
}

impl Entry {
    /// Makes an entry of a row under its key.
    pub fn new(key: &EntityKey, row: Option<Bytes>) -> Self {
        Self {
            kind: u32::from(key.kind.number()),
            brand: key.brand.as_str().to_owned(),
            code: key.code.as_str().to_owned(),
            row,
        }
    }

    /// Returns its key, or `None` for a kind of a later version or an invalid name.
    pub fn key(&self) -> Option<EntityKey> {
        let kind = EntityKind::from_number(self.kind)?;
        Some(EntityKey { kind, brand: Brand::new(&self.brand).ok()?, code: Code::new(&self.code).ok()? })
    }
}

impl ToPublisher {
    fn of(kind: to_publisher::Kind) -> Self {
        Self { kind: Some(kind), clock_micros: None }
    }
}

impl ToSubscriber {
    fn of(kind: to_subscriber::Kind) -> Self {
        Self { kind: Some(kind) }
    }
}

macro_rules! message_from {
    ($whole:ident, $module:ident: $($kind:ident),*) => { $(
        impl From<$kind> for $whole {
            fn from(message: $kind) -> Self {
                Self::of($module::Kind::$kind(message))
            }
        }
    )* };
}
message_from!(ToPublisher, to_publisher: Subscribe, Applied, AskSums);
message_from!(ToSubscriber, to_subscriber: Begin, Page, Fresh, Sums);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_found_under_the_key_it_was_made_with() {
        for kind in EntityKind::ALL {
            let key = EntityKey {
                kind,
                brand: Brand::new("shoes").unwrap(),
                code: Code::new("BANK CHARGES").unwrap(),
            };
            assert_eq!(Entry::new(&key, None).key(), Some(key));
        }
        let later = Entry { kind: 99, brand: "shoes".to_owned(), code: "A".to_owned(), row: None };
        assert_eq!(later.key(), None);
    }
}
