//! The task that owns the order link's state, and the handle by which requests reach it.
//!
//! Requests, frames and timers come in as inputs of the sans-IO `Sender`; what it puts out is sent or answered. Nothing
//! else touches it, so nothing is locked.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bridge_protocol::domain::OrderId;
use bridge_protocol::note::NoteVerifier;
use bridge_protocol::order_link::LinkId;
use bridge_protocol::order_link::sender::{Answer, Limits, Output, Rejected, RequestId, Sender};
use bridge_protocol::seal::manifest::Manifest;
use bridge_protocol::wire::frame::{self, ORDER_FRAME_BYTES_MAX};
use bridge_protocol::wire::order::{ToCloud, to_idc};
use bridge_runtime::audit_log::{AuditLog, Last};
use bridge_runtime::clock;
use bridge_runtime::telemetry::metrics::{Metrics, Queue};
use bridge_runtime::tunnel::{LinkSender, LinkUp, TunnelEvent};
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};

use crate::admission::Load;

/// Inputs of a kind taken at a time.
const TAKEN_AT_ONCE: usize = 256;

/// Reaches the order link from any thread.
#[derive(Clone)]
pub struct OrderLink {
    submissions: mpsc::Sender<Submission>,
    load: watch::Receiver<Load>,
}

/// Where new sealing keys are logged.
pub struct KeysLog {
    /// The audit log.
    pub log: AuditLog,
    /// What it was told last.
    pub last: Last,
}

struct Submission {
    order: OrderId,
    kind: to_idc::Kind,
    answer: oneshot::Sender<Result<Answer, Rejected>>,
}

impl OrderLink {
    /// How much is on the link now. Of the audit log it knows nothing.
    pub fn load(&self) -> Load {
        *self.load.borrow()
    }

    /// Hands a request over and waits for how it ends. A caller that stops waiting changes nothing about that.
    pub async fn submit(&self, order: OrderId, kind: to_idc::Kind) -> Result<Answer, Rejected> {
        let (answer, answered) = oneshot::channel();
        self.submissions.try_send(Submission { order, kind, answer }).map_err(|_full| Rejected::Full)?;
        // The owner ends only with the process, and then nobody can tell what became of it.
        answered.await.unwrap_or(Ok(Answer::Unknown))
    }
}

/// Where the newest verified manifest is found.
pub type ManifestWatch = watch::Receiver<Option<Arc<Manifest>>>;

/// Starts an order link over a tunnel: its handle, its manifest, and the future that runs it until the tunnel ends.
pub fn start(
    limits: Limits,
    pinned: Vec<NoteVerifier>,
    keys: KeysLog,
    tunnel: mpsc::Receiver<TunnelEvent>,
    metrics: Arc<Metrics>,
) -> (OrderLink, ManifestWatch, impl Future<Output = ()>) {
    let (submissions, submitted) = mpsc::channel(limits.queue_max);
    let (load, load_seen) = watch::channel(Load::default());
    let (manifest, manifest_seen) = watch::channel(None);
    metrics.set_queue_limit(Queue::Orders, limits.queue_max);
    metrics.set_queue_limit(Queue::Settling, limits.settling_max);
    let owner = Owner {
        sender: Sender::new(limits),
        started: Instant::now(),
        callers: HashMap::new(),
        links: HashMap::new(),
        pinned,
        keys,
        manifest,
        load,
        metrics,
    };
    (OrderLink { submissions, load: load_seen }, manifest_seen, owner.run(tunnel, submitted))
}

struct Owner {
    sender: Sender,
    /// The sender's clock counts from here.
    started: Instant,
    /// Who waits for a request; at most those that are not settled.
    callers: HashMap<RequestId, oneshot::Sender<Result<Answer, Rejected>>>,
    links: HashMap<LinkId, LinkSender>,
    /// The IDC keys that may sign a manifest.
    pinned: Vec<NoteVerifier>,
    keys: KeysLog,
    manifest: watch::Sender<Option<Arc<Manifest>>>,
    load: watch::Sender<Load>,
    metrics: Arc<Metrics>,
}

impl Owner {
    async fn run(
        mut self,
        mut tunnel: mpsc::Receiver<TunnelEvent>,
        mut submitted: mpsc::Receiver<Submission>,
    ) {
        let mut events = Vec::with_capacity(TAKEN_AT_ONCE);
        let mut submissions = Vec::with_capacity(TAKEN_AT_ONCE);
        loop {
            // Without a timer there is nothing to wait for but events; an hour stands for that.
            let timeout = self.sender.next_timeout().unwrap_or(self.now() + Duration::from_secs(3_600));
            tokio::select! {
                taken = tunnel.recv_many(&mut events, TAKEN_AT_ONCE) => {
                    if taken == 0 {
                        break;
                    }
                    events.drain(..).for_each(|event| self.handle_event(event));
                }
                _ = submitted.recv_many(&mut submissions, TAKEN_AT_ONCE) => {
                    submissions.drain(..).for_each(|submission| self.handle_submission(submission));
                }
                () = sleep_until(self.started + timeout) => self.sender.handle_timeout(self.now()),
            }
            self.do_outputs();
            self.report_load();
        }
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn handle_submission(&mut self, Submission { order, kind, answer }: Submission) {
        match self.sender.submit(self.now(), order, kind) {
            Ok(request) => {
                self.callers.insert(request, answer);
            }
            Err(rejected) => {
                let _caller_gone = answer.send(Err(rejected));
            }
        }
    }

    fn handle_event(&mut self, event: TunnelEvent) {
        let now = self.now();
        match event {
            TunnelEvent::Up(LinkUp { link, hello, lanes, sender, .. }) => {
                self.links.insert(link, sender);
                self.take_manifest(&hello.manifest);
                self.sender.handle_link_up(now, link, lanes, hello.window);
            }
            TunnelEvent::Frame { link, payload, .. } => match frame::decode::<ToCloud>(payload) {
                Ok(message) => self.sender.handle_answer(now, link, message),
                // The link's end is logged and counted where it ends.
                Err(error) => {
                    if let Some(sender) = self.links.get(&link) {
                        sender.refuse(&error);
                    }
                }
            },
            TunnelEvent::Window { link, window } => self.sender.handle_window(now, link, window),
            TunnelEvent::Manifest { note, .. } => self.take_manifest(&note),
            TunnelEvent::Silent { link } | TunnelEvent::Goodbye { link } => {
                self.sender.handle_link_open(now, link, false);
            }
            TunnelEvent::Heard { link } => self.sender.handle_link_open(now, link, true),
            TunnelEvent::Down { link, .. } => {
                self.links.remove(&link);
                self.sender.handle_link_down(now, link);
            }
        }
    }

    /// A manifest that a pinned key did not sign changes nothing: the keys known before stay in use.
    fn take_manifest(&self, note: &Bytes) {
        match Manifest::verify(note, &self.pinned, clock::now()) {
            Ok(manifest) => {
                self.manifest.send_if_modified(|known| {
                    let changed = known.as_deref() != Some(&manifest);
                    if changed {
                        tracing::info!(keys = manifest.keys.len(), "a new sealing-key manifest is in use");
                        let ids = manifest.keys.iter().map(|key| key.id.0.as_slice());
                        self.keys.last.keys(&self.keys.log, note, ids);
                        *known = Some(Arc::new(manifest));
                    }
                    changed
                });
            }
            Err(error) => tracing::warn!(%error, "refused a sealing-key manifest"),
        }
    }

    fn do_outputs(&mut self) {
        while let Some(output) = self.sender.poll_output() {
            match output {
                Output::Transmit { link, lane, message } => {
                    let Some(sender) = self.links.get(&link) else { continue };
                    match frame::to_bytes(&message, ORDER_FRAME_BYTES_MAX) {
                        Ok(bytes) => {
                            let _down_follows = sender.send(lane, bytes);
                        }
                        Err(error) => tracing::error!(%error, "a request does not fit into a frame"),
                    }
                }
                Output::Answer { request, answer } => {
                    if let Some(caller) = self.callers.remove(&request) {
                        let _caller_gone = caller.send(Ok(answer));
                    }
                }
            }
        }
    }

    fn report_load(&self) {
        let (link_open, queued) = (self.sender.has_open_link(), self.sender.queued());
        let load = Load { link_open, queued, audit_writable: true };
        self.load.send_if_modified(|known| std::mem::replace(known, load) != load);
        self.metrics.set_queue_depth(Queue::Orders, load.queued);
        self.metrics.set_queue_depth(Queue::InFlight, self.callers.len());
        let settling = self.sender.unsettled().saturating_sub(self.callers.len());
        self.metrics.set_queue_depth(Queue::Settling, settling);
    }
}
