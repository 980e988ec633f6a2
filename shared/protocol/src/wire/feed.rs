//! The feed lane's messages: what a replica asks (`ToPublisher`) and what the IDC publishes (`ToSubscriber`).
//!
//! One subscription a link. Everything that changes the replica is a numbered page; the subscriber says which pages it
//! has applied, and no more than its window are under way, so that neither side's memory depends on the other's speed.

use bytes::Bytes;

use crate::domain::Brand;
use crate::domain::catalogue::{Code, EntityKey, EntityKind, Position};

/// The feature by which two agents find that both know this lane.
pub const FEATURE: &str = "feed";

/// One frame from the cloud to the IDC.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ToPublisher {
    /// What is asked; `None` is a kind that a later version added, to be ignored.
    #[prost(oneof = "to_publisher::Kind", tags = "1, 2, 3")]
    pub kind: Option<to_publisher::Kind>,
    /// The subscriber's own clock when it said this, in microseconds; told back in [`Fresh`], and read by nobody else.
    #[prost(uint64, optional, tag = "15")]
    pub clock_micros: Option<u64>,
}

/// The kinds of [`ToPublisher`].
pub mod to_publisher {
    /// What is asked.
    #[derive(Clone, PartialEq, prost::Oneof)]
    pub enum Kind {
        /// Begin, or begin again: whatever was under way on this link is forgotten.
        #[prost(message, tag = "1")]
        Subscribe(super::Subscribe),
        /// A page is in the replica.
        #[prost(message, tag = "2")]
        Applied(super::Applied),
        /// Say what the source holds, for comparison.
        #[prost(message, tag = "3")]
        AskSums(super::AskSums),
    }
}

/// "Send me these brands from here on."
#[derive(Clone, PartialEq, prost::Message)]
pub struct Subscribe {
    /// The brands that the replica serves.
    #[prost(string, repeated, tag = "1")]
    pub brands: Vec<String>,
    /// How far the replica is; absent if it holds nothing.
    #[prost(message, optional, tag = "2")]
    pub position: Option<WirePosition>,
    /// Pages that may be under way, 1 to 64.
    #[prost(uint32, tag = "3")]
    pub window: u32,
    /// Chosen by the subscriber, told back in [`Begin`]: answers to an earlier subscription are known by it.
    #[prost(uint64, tag = "4")]
    pub subscription: u64,
}

/// "Page so-and-so and all before it are applied."
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Applied {
    /// The page's number.
    #[prost(uint64, tag = "1")]
    pub page: u64,
}

/// "What do you hold?"
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct AskSums {}

/// One frame from the IDC to the cloud.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ToSubscriber {
    /// What is said; `None` is a kind that a later version added, to be ignored.
    #[prost(oneof = "to_subscriber::Kind", tags = "1, 2, 3, 4")]
    pub kind: Option<to_subscriber::Kind>,
}

/// The kinds of [`ToSubscriber`].
pub mod to_subscriber {
    /// What is said.
    #[derive(Clone, PartialEq, prost::Oneof)]
    pub enum Kind {
        /// The answer to a subscription.
        #[prost(message, tag = "1")]
        Begin(super::Begin),
        /// Rows.
        #[prost(message, tag = "2")]
        Page(super::Page),
        /// Where the source is, at least every heartbeat.
        #[prost(message, tag = "3")]
        Fresh(super::Fresh),
        /// What the source holds.
        #[prost(message, tag = "4")]
        Sums(super::Sums),
    }
}

/// How a subscription goes on.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Begin {
    /// Which subscription.
    #[prost(uint64, tag = "1")]
    pub subscription: u64,
    /// Whether the replica must start anew: the pages that follow hold everything, and until one says `complete` the
    /// replica goes on to serve what it has.
    #[prost(bool, tag = "2")]
    pub bootstrap: bool,
}

/// Rows in their last state.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Page {
    /// Counts from 1 in each subscription.
    #[prost(uint64, tag = "1")]
    pub number: u64,
    /// The rows; a key at most once a page.
    #[prost(message, repeated, tag = "2")]
    pub entries: Vec<Entry>,
    /// How far the replica is once this page is applied; absent while a bootstrap has no position yet.
    #[prost(message, optional, tag = "3")]
    pub position: Option<WirePosition>,
    /// Set on the page that ends a bootstrap: from here on the new rows are served.
    #[prost(bool, tag = "4")]
    pub complete: bool,
}

/// One row.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Entry {
    /// [`EntityKind::number`].
    #[prost(uint32, tag = "1")]
    pub kind: u32,
    /// Whose.
    #[prost(string, tag = "2")]
    pub brand: String,
    /// Which one.
    #[prost(string, tag = "3")]
    pub code: String,
    /// What it holds, as the message of `wire::catalogue` for its kind; absent if there is no such row any more.
    #[prost(bytes = "bytes", optional, tag = "4")]
    pub row: Option<Bytes>,
}

/// Where the source is.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Fresh {
    /// The last number given.
    #[prost(message, optional, tag = "1")]
    pub head: Option<WirePosition>,
    /// So long ago, in microseconds, everything committed had its number: a replica at `head` is as old as that.
    #[prost(uint64, tag = "2")]
    pub age_micros: u64,
    /// What the publisher heard last of the subscriber's clock; absent from an agent of the release before.
    #[prost(message, optional, tag = "3")]
    pub heard: Option<Heard>,
}

/// The subscriber's own clock, told back to it. Whatever was under way for however long, its clock stood at the sum of the
/// two or later when this was sent: so no age is told too small, and no two clocks are compared.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Heard {
    /// What it said.
    #[prost(uint64, tag = "1")]
    pub clock_micros: u64,
    /// How long ago, when this is sent, in microseconds.
    #[prost(uint64, tag = "2")]
    pub ago_micros: u64,
}

/// What the source holds of the subscribed brands, as `feed::sums` adds it up.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Sums {
    /// The last number given when the rows were read.
    #[prost(message, optional, tag = "1")]
    pub head: Option<WirePosition>,
    /// One sum a bucket.
    #[prost(fixed64, repeated, tag = "2")]
    pub buckets: Vec<u64>,
    /// Buckets in which a change had no number yet: nothing is known of these.
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
    /// A row under its key.
    pub fn new(key: &EntityKey, row: Option<Bytes>) -> Self {
        Self {
            kind: u32::from(key.kind.number()),
            brand: key.brand.as_str().to_owned(),
            code: key.code.as_str().to_owned(),
            row,
        }
    }

    /// Its key; `None` for a kind that a later version added, or a name that is none.
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
