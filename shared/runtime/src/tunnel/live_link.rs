//! A live link as its tasks share it: their common state, and their way to the owner.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Instant;

use super::context::Context;
use super::end::LinkEnd;
use super::event::{FeedEvent, LinkId, TunnelEvent};
use super::hello::Negotiated;
use super::inbox::{PeerBudget, Share};
use super::lanes::{Queues, ReadError, Traffic};
use super::links::{LinkRecord, Presence};
use crate::transport::Connection;
use crate::transport::refusal::printable;

/// A live link as its tasks share it.
pub(super) struct Link {
    pub(super) context: Arc<Context>,
    pub(super) id: LinkId,
    pub(super) record: Arc<LinkRecord>,
    pub(super) traffic: Traffic,
    /// Budget of its frames that wait for the owner.
    pub(super) room: PeerBudget,
    pub(super) queues: Arc<Queues>,
}

impl Link {
    pub(super) fn new(
        context: Arc<Context>,
        connection: Arc<dyn Connection>,
        target: Option<Arc<str>>,
        presence: Arc<Presence>,
        agreed: &Negotiated,
    ) -> Arc<Self> {
        let lanes = u8::try_from(agreed.orders.len()).unwrap_or(u8::MAX);
        let record = Arc::new(LinkRecord {
            connection,
            agent: printable(&agreed.hello.agent),
            target,
            version: agreed.version,
            lanes,
            feed: agreed.feed.is_some(),
            payments: agreed.payments.is_some(),
            since: Instant::now(),
            presence,
            skew: AtomicI64::new(agreed.skew),
        });
        let traffic = Traffic::of(&context.metrics);
        Arc::new(Self {
            id: context.links.new_id(),
            room: context.rooms.of(record.connection.peer().id()),
            queues: Queues::new(lanes, context.idle_timeout, traffic.clone()),
            traffic,
            record,
            context,
        })
    }

    /// Returns the reason for a link's end after one of its lanes failed.
    pub(super) async fn cut(&self, error: ReadError) -> LinkEnd {
        match error {
            ReadError::Frame(error) => error.into(),
            ReadError::Stream(_) => {
                let lane_only = || LinkEnd::Violation("a lane ended while the link was up".to_owned());
                self.record.connection.cut().await.map_or_else(lane_only, LinkEnd::from)
            }
        }
    }

    pub(super) async fn send_event(&self, event: TunnelEvent, share: Option<Share>) -> Result<(), LinkEnd> {
        self.context.events.send(event, share).await.map_err(|_| LinkEnd::Here)
    }

    pub(super) async fn send_feed(&self, event: FeedEvent) -> Result<(), LinkEnd> {
        self.context.feed.send(event).await.map_err(|_| LinkEnd::Here)
    }
}
