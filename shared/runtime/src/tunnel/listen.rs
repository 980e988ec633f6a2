//! The accepting side: every peer that knocks gets a task, and the number of those still in the handshake is bounded.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::{Context, Phase, link, report};

/// Handshakes under way at a time. One costs a signature and a key encapsulation, so a flood of them is a queue, not a fire.
const HANDSHAKES_MAX: usize = 64;

/// Accepts until the tunnel drains, and returns when the last link has ended.
pub(super) async fn keep_accepting(context: Arc<Context>) {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    let mut links = JoinSet::new();
    loop {
        let next = async {
            let permit = handshakes.clone().acquire_owned().await.ok()?;
            Some((context.transport.accept().await?, permit))
        };
        let (incoming, permit) = tokio::select! {
            next = next => match next {
                Some(next) => next,
                None => break,
            },
            Some(_) = links.join_next() => continue,
            () = context.reached(Phase::Draining) => break,
        };
        let context = context.clone();
        links.spawn(async move {
            let connected = incoming.handshake.await;
            drop(permit);
            match connected {
                Ok(connection) => drop(link::run(&context, connection, false).await),
                Err(error) => report::not_admitted(&context, incoming.from, &error),
            }
        });
    }
    // Who knocks now is turned away at once, by dropping it, and tries elsewhere.
    loop {
        tokio::select! {
            ended = links.join_next() => if ended.is_none() { break },
            Some(_turned_away) = context.transport.accept() => {}
        }
    }
}
