//! A cloud agent: the real sender, sealing session and admission, and a simulated driver around
//! them.

use std::collections::BTreeMap;
use std::time::Duration;

use bridge_cloud::admission::{self, Load};
use bridge_protocol::domain::{IdempotencyKey, KeyDigest, UnixMicros};
use bridge_protocol::note::NoteVerifier;
use bridge_protocol::order_link::LinkId;
use bridge_protocol::order_link::fair_share::BrandIndex;
use bridge_protocol::order_link::sender::{
    BodyMark, CallerAnswer, Output, Rejected, RequestClass, RequestId, Sender, SenderLimits,
};
use bridge_protocol::receipt::Verifier;
use bridge_protocol::seal::manifest::SealingKey;
use bridge_protocol::seal::sealing::{Header, SealingSession};
use bridge_protocol::wire::order::{
    Ask, Cancel, Envelope, Refusal, Settled, State, ToCloud, to_cloud, to_idc,
};
use bytes::Bytes;

use super::super::options::Sabotage;
use super::super::reference;
use super::callers::{Attempt, Intent, Request};
use super::clocks::{Clock, Host};
use super::cloud_log::{AfterLogging, CloudLog};
use super::replies::{CallerReply, NoEffect};
use super::{Event, World, note, stored};

/// Longest use of a sealing session: a second by the agent's clock, which drifts.
const SESSION_AGE_MAX: Duration = Duration::from_millis(1_001);

/// Weights of the shop's brands in the cloud agents.
const WEIGHTS: [usize; 2] = [1, 3];

/// One cloud agent.
pub(super) struct Cloud {
    /// Number of the process, counted from 0.
    pub(super) life: u32,
    pub(super) up: bool,
    pub(super) sender: Sender,
    /// Start of the process. The sender's clock counts from here.
    born: Duration,
    /// The order link of payments, the attempt of each request, and the payment in each answer.
    pub(super) payments: Sender,
    pub(super) paying: BTreeMap<RequestId, usize>,
    pub(super) paid: BTreeMap<RequestId, reference::answer::Payment>,
    pub(super) pay_timer: Option<Duration>,
    session: Option<SealingSession>,
    /// The keys to seal to, the preferred one first, as computed at `keys_version`.
    pub(super) preferred: Vec<SealingKey>,
    pub(super) keys_version: u64,
    /// The keys in the last manifest of each data centre's agent.
    pub(super) keys_of: BTreeMap<usize, Vec<SealingKey>>,
    /// Start of the sealing session by a correct clock and by the agent's clock, and how often that
    /// clock was set before.
    session_began: (Duration, UnixMicros, u32),
    pub(super) log: CloudLog,
    pub(super) clock: Clock,
    receipts: Verifier,
    /// The attempt of each request that has a waiting caller.
    pub(super) waiting: BTreeMap<RequestId, usize>,
    /// Receipts that were given to callers, by their keys. Only a sabotaged agent reads them.
    remembers: BTreeMap<reference::Key, reference::Row>,
    /// The last answer to each waiting request, as the reference model decodes it.
    heard: BTreeMap<RequestId, reference::answer::DecodedAnswer>,
    /// Deadline of the sender's timer.
    timer: Option<Duration>,
    /// The last moment at which the sender may have dropped a settling request because its limit
    /// was reached.
    pub(super) overflowed_at: Option<Duration>,
}

impl Cloud {
    pub(super) fn new(limits: SenderLimits, sabotage: Option<Sabotage>, pinned: &NoteVerifier) -> Self {
        let limits = match sabotage {
            Some(Sabotage::ForgetUnsettled) => SenderLimits { settling_max: 0, ..limits },
            Some(Sabotage::OverfillQueues) => SenderLimits { queue_max: usize::MAX, ..limits },
            _ => limits,
        };
        Self {
            life: 0,
            up: true,
            sender: Sender::with_weights(limits, &WEIGHTS),
            born: Duration::ZERO,
            payments: Sender::with_weights(limits, &WEIGHTS),
            paying: BTreeMap::new(),
            paid: BTreeMap::new(),
            pay_timer: None,
            session: None,
            preferred: Vec::new(),
            keys_version: 0,
            keys_of: BTreeMap::new(),
            session_began: Default::default(),
            log: CloudLog::default(),
            clock: Clock::default(),
            receipts: Verifier::new(vec![pinned.clone()]),
            waiting: BTreeMap::new(),
            remembers: BTreeMap::new(),
            heard: BTreeMap::new(),
            timer: None,
            overflowed_at: None,
        }
    }
}

impl Cloud {
    pub(super) fn born(&self) -> Duration {
        self.born
    }
}

impl World {
    /// Returns the time since the process started, which is its sender's clock.
    pub(super) fn cloud_now(&self, cloud: usize) -> Duration {
        self.now - self.clouds[cloud].born
    }

    /// Handles a caller's request: parses, admits and seals it, and hands it to the order link.
    pub(super) fn call(&mut self, attempt: usize) {
        let Attempt { cloud, request, .. } = self.attempts[attempt];
        let agent = &self.clouds[cloud];
        if !agent.up {
            return self.tell(attempt, CallerReply::Nothing(NoEffect::NobodyThere));
        }
        let (link_open, queued) = (agent.sender.has_open_link(), agent.sender.queued(RequestClass::Write));
        let load = Load { link_open, queued, audit_writable: self.cloud_log_is_writable(cloud) };
        let has_room = agent.sender.has_room(RequestClass::Write, self.brand_index(attempt));
        if !matches!(request, Request::Ask { .. })
            && let Err(refused) = admission::admit_write(load, has_room, false)
        {
            return self.tell(attempt, CallerReply::Nothing(NoEffect::NotAdmitted(refused)));
        }
        let Some(kind) = self.message(attempt) else {
            return self.tell(attempt, CallerReply::Nothing(NoEffect::NoSealingKey));
        };
        if let Some(receipt) = self.remembered(attempt) {
            return self.conclude(attempt, CallerReply::Receipt { receipt, replayed: true });
        }
        match request {
            Request::Ask { .. } => self.submit(attempt, kind, BodyMark::NONE),
            Request::Place { .. } | Request::Cancel | Request::CancelUnderPlacingKey => {
                let mark = if let Request::Place { body } = request { 2 + body as u64 } else { 1 };
                let (kind, mark) = (Box::new(kind), BodyMark(mark));
                self.log_at_cloud(cloud, AfterLogging::Send { attempt, kind, mark });
            }
        }
    }

    /// Returns the receipt from which a sabotaged agent answers.
    fn remembered(&self, attempt: usize) -> Option<reference::Row> {
        let Attempt { cloud, key, request, .. } = self.attempts[attempt];
        let remembers = self.sabotage == Some(Sabotage::RememberAnswers);
        let writes = remembers && matches!(request, Request::Place { .. } | Request::Cancel);
        self.clouds[cloud].remembers.get(&key?).filter(|_| writes).cloned()
    }

    /// Hands a request to the order link.
    pub(super) fn submit(&mut self, attempt: usize, kind: to_idc::Kind, mark: BodyMark) {
        let Attempt { cloud, order, .. } = self.attempts[attempt];
        let now = self.cloud_now(cloud);
        let brand = self.brand_index(attempt);
        match self.clouds[cloud].sender.submit(now, brand, order, kind, mark) {
            Ok(id) => {
                note!(self, "cloud {cloud} takes attempt {attempt} as request {}", id.0);
                self.clouds[cloud].waiting.insert(id, attempt);
            }
            Err(rejected) => self.conclude(attempt, CallerReply::rejected(rejected)),
        }
        self.do_cloud_outputs(cloud);
    }

    fn brand_index(&self, attempt: usize) -> BrandIndex {
        BrandIndex(self.writes[self.attempts[attempt].write].brand)
    }

    /// Returns the digest of an attempt's key on the wire.
    fn digest(&self, attempt: usize) -> Option<KeyDigest> {
        let Attempt { write, .. } = self.attempts[attempt];
        let write = &self.writes[write];
        let brand = self.shop.brands().get(write.brand)?;
        let mut key = write.key.clone();
        if self.sabotage == Some(Sabotage::ForgetKeys) {
            key += &format!("#{attempt}");
        }
        Some(IdempotencyKey::parse(key.as_bytes()).ok()?.digest(brand))
    }

    /// Returns the message of an attempt.
    fn message(&mut self, attempt: usize) -> Option<to_idc::Kind> {
        let key = self.digest(attempt)?;
        let Attempt { write, cloud, request, order, .. } = self.attempts[attempt];
        let brand = self.shop.brands().get(self.writes[write].brand)?.clone();
        self.attempts[attempt].key = Some(*key.as_bytes());
        let bytes = Bytes::copy_from_slice(order.as_bytes());
        let digest = Bytes::copy_from_slice(key.as_bytes());
        Some(match request {
            Request::Place { body } => {
                to_idc::Kind::Place(self.seal(cloud, &Header { brand, order, key }, attempt, body)?)
            }
            Request::Cancel | Request::CancelUnderPlacingKey => {
                let found = self.history.find(brand.as_str(), *order.as_bytes(), None);
                self.attempts[attempt].existed = found.is_some();
                to_idc::Kind::Cancel(Cancel { brand: brand.as_str().to_owned(), order: bytes, key: digest })
            }
            Request::Ask { by_key } => {
                let key = by_key.then_some(key.as_bytes());
                let found = self.history.find(brand.as_str(), *order.as_bytes(), key);
                self.attempts[attempt].existed = found.is_some();
                let key = by_key.then_some(digest);
                to_idc::Kind::Ask(Ask { brand: brand.as_str().to_owned(), order: bytes, key })
            }
        })
    }

    /// Seals an order again to a key that the links open now. Its caller has the order until it is
    /// answered.
    fn seal_again(&mut self, cloud: usize, request: RequestId) {
        self.counts.sealed_again += 1;
        let attempt = self.clouds[cloud].waiting.get(&request).copied();
        let Some(attempt) = attempt else { return self.sealed(cloud, request, None) };
        note!(self, "cloud {cloud} has attempt {attempt} sealed again");
        let once = self.sabotage == Some(Sabotage::SealOnce);
        let Some(kind) = self.message(attempt).filter(|_| !once) else {
            self.attempts[attempt].sealable |= self.could_seal(cloud);
            return self.sealed(cloud, request, None);
        };
        self.log_at_cloud(cloud, AfterLogging::SendAgain { request, attempt, kind: Box::new(kind) });
    }

    /// Passes the newly sealed order to the order link, or `None` if it could not be sealed.
    pub(super) fn sealed(&mut self, cloud: usize, request: RequestId, sealed: Option<to_idc::Kind>) {
        let now = self.cloud_now(cloud);
        self.clouds[cloud].sender.handle_sealed(now, request, sealed);
        self.do_cloud_outputs(cloud);
    }

    fn seal(&mut self, cloud: usize, header: &Header, attempt: usize, body: usize) -> Option<Envelope> {
        let now: UnixMicros = self.clock(Host::Cloud(cloud));
        let Some(key) = self.sealing_key(cloud) else {
            self.check_sealed(cloud, None);
            return None;
        };
        let Attempt { write, sealed_to, .. } = &mut self.attempts[attempt];
        let write = *write;
        sealed_to.push(key.id);
        let session = &mut self.clouds[cloud].session;
        if session.as_ref().is_none_or(|session| session.is_spent(now) || *session.key() != key) {
            *session = SealingSession::start(&key, now, self.dice.rng());
            self.clouds[cloud].session_began = (self.now, now, self.clouds[cloud].clock.steps);
            self.counts.sealing_sessions += 1;
            self.check_sealed(cloud, Some(key.id));
        }
        let (began, began_at, steps) = self.clouds[cloud].session_began;
        let is_old = self.clouds[cloud].clock.steps == steps && self.now > began + SESSION_AGE_MAX;
        if is_old || now < began_at {
            self.violate("P5", format!("cloud {cloud} goes on with a sealing session that is too old"));
        }
        let Intent::Place(bodies) = &self.writes[write].intent else { return None };
        let body = bodies.get(body)?;
        let others = match &self.writes[write.saturating_sub(1)].intent {
            Intent::Place(others) if self.sabotage == Some(Sabotage::SealAnothersData) => others.first(),
            _ => None,
        };
        let personal = others.map_or(&body.personal, |others| &others.personal);
        let session = self.clouds[cloud].session.as_mut()?;
        session.seal(header, body.bytes.clone(), personal)
    }

    /// Handles an answer from the IDC.
    pub(super) fn cloud_answered(&mut self, cloud: usize, link: LinkId, payload: &[u8], message: ToCloud) {
        note!(self, "cloud {cloud} is answered request {}, link {}", message.request, link.0);
        let Some(heard) = reference::answer::read(payload) else {
            return self.violate("FRAMES", "an answer cannot be decoded".to_owned());
        };
        let request = RequestId(message.request);
        if heard != reference::answer::DecodedAnswer::Other
            && self.clouds[cloud].waiting.contains_key(&request)
        {
            self.clouds[cloud].heard.insert(request, heard);
        }
        if self.sabotage == Some(Sabotage::FinalRefusals)
            && let Some(to_cloud::Kind::Refused(refused)) = &message.kind
            && refused.refusal() != Refusal::SessionUnknown
            && let Some(attempt) = self.clouds[cloud].waiting.remove(&RequestId(message.request))
        {
            self.answer(attempt, CallerAnswer::Refused(refused.refusal()), None);
        }
        let now = self.cloud_now(cloud);
        self.clouds[cloud].sender.handle_answer(now, link, message);
        self.do_cloud_outputs(cloud);
    }

    /// Handles the sender's timer, unless it was set again meanwhile.
    pub(super) fn cloud_timer(&mut self, cloud: usize, at: Duration) {
        if self.clouds[cloud].up && self.clouds[cloud].timer == Some(at) {
            self.clouds[cloud].timer = None;
            let now = self.cloud_now(cloud);
            self.clouds[cloud].sender.handle_timeout(now);
            self.do_cloud_outputs(cloud);
        }
    }

    /// Carries out the sender's outputs, then sets its timer.
    pub(super) fn do_cloud_outputs(&mut self, cloud: usize) {
        while let Some(output) = self.clouds[cloud].sender.poll_output() {
            match output {
                Output::Transmit { link, lane, message } => {
                    self.check_logged_send(cloud, message.kind.as_ref());
                    self.send_request(link, lane, &message);
                }
                Output::Answer { request, answer } => {
                    let heard = self.clouds[cloud].heard.remove(&request);
                    if let Some(attempt) = self.clouds[cloud].waiting.remove(&request) {
                        self.answer(attempt, answer, heard);
                    }
                }
                Output::PushedOut { request } => {
                    if let Some(attempt) = self.clouds[cloud].waiting.remove(&request) {
                        self.conclude(attempt, CallerReply::rejected(Rejected::Full));
                    }
                }
                Output::SealAgain { request } => self.seal_again(cloud, request),
            }
        }
        let agent = &self.clouds[cloud];
        if let Some(at) = agent.sender.next_timeout().map(|at| agent.born + at)
            && agent.timer != Some(at)
        {
            self.clouds[cloud].timer = Some(at);
            self.at(at.max(self.now), Event::Timer { cloud, at });
        }
    }

    /// Turns an answer of the order link into a caller's answer. `heard` is the same answer as the
    /// reference model decodes it.
    fn answer(
        &mut self,
        attempt: usize,
        answer: CallerAnswer,
        heard: Option<reference::answer::DecodedAnswer>,
    ) {
        let told = match answer {
            CallerAnswer::Settled(settled) => self.verified(attempt, &settled, heard),
            CallerAnswer::State(state) => self.read_state(attempt, &state, heard),
            other => {
                CallerReply::answer(other, matches!(self.attempts[attempt].request, Request::Ask { .. }))
            }
        };
        self.conclude(attempt, told);
    }

    /// Passes an answer to the caller. The answer to a write must first be durable in the log.
    fn conclude(&mut self, attempt: usize, told: CallerReply) {
        let Attempt { cloud, request, .. } = self.attempts[attempt];
        match request {
            Request::Ask { .. } => self.tell(attempt, told),
            _ => self.log_at_cloud(cloud, AfterLogging::Tell { attempt, told: Box::new(told) }),
        }
    }

    /// Verifies a receipt. It must also belong to this request.
    fn verified(
        &mut self,
        attempt: usize,
        settled: &Settled,
        heard: Option<reference::answer::DecodedAnswer>,
    ) -> CallerReply {
        let Attempt { cloud, key, .. } = self.attempts[attempt];
        let verified = settled.receipt.as_ref().map(|wire| self.clouds[cloud].receipts.verify(wire));
        let verified = verified.and_then(Result::ok).map(|verified| stored::certified(verified.receipt()));
        let read = match heard {
            Some(reference::answer::DecodedAnswer::Settled { receipt, replayed })
                if replayed == settled.replayed =>
            {
                self.receipts.read(&receipt)
            }
            _ => None,
        };
        match verified {
            Some(receipt) if read.as_ref() == Some(&receipt) && Some(receipt.key) == key => {
                self.clouds[cloud].remembers.insert(receipt.key, receipt.clone());
                CallerReply::Receipt { receipt, replayed: settled.replayed }
            }
            verified => {
                let what =
                    format!("attempt {attempt} has a receipt that is not its own: {verified:?}, {read:?}");
                self.violate("RECEIPTS", what);
                CallerReply::Unknown
            }
        }
    }

    fn read_state(
        &mut self,
        attempt: usize,
        state: &State,
        heard: Option<reference::answer::DecodedAnswer>,
    ) -> CallerReply {
        match heard {
            Some(reference::answer::DecodedAnswer::State(read)) if read.state == state.state => {
                CallerReply::State(read)
            }
            heard => {
                self.violate("ANSWERS", format!("attempt {attempt} is told {state:?} in place of {heard:?}"));
                CallerReply::Unknown
            }
        }
    }

    /// Kills the process: its callers' connections break, its links die, its sender is lost.
    pub(super) fn kill_cloud(&mut self, cloud: usize) {
        self.counts.cloud_restarts += 1;
        note!(self, "cloud {cloud} is killed");
        for slot in 0..self.slots.len() {
            if self.slots[slot].cloud == cloud
                && let Some(link) = self.slots[slot].link
            {
                self.kill_link(link);
                self.redial(slot);
            }
        }
        let life = self.clouds[cloud].life + 1;
        let dead = std::mem::replace(
            &mut self.clouds[cloud],
            Cloud::new(self.sender_limits, self.sabotage, &self.keys.pinned),
        );
        self.clouds[cloud].life = life;
        self.clouds[cloud].up = false;
        self.clouds[cloud].clock = dead.clock;
        self.clouds[cloud].log.refuses_until = dead.log.refuses_until;
        let mut log = dead.log;
        self.clouds[cloud].log.book = std::mem::take(&mut log.book);
        let (callers, payers) = log.into_callers();
        for attempt in dead.waiting.into_values().chain(callers) {
            self.tell(attempt, CallerReply::Lost);
        }
        for attempt in dead.paying.into_values().chain(payers) {
            self.tell_payer(attempt, &CallerReply::Lost, None);
        }
        let delay = self.downtime();
        self.after(delay, Event::CloudStarts(cloud));
    }

    pub(super) fn cloud_starts(&mut self, cloud: usize) {
        note!(self, "cloud {cloud} starts");
        self.clouds[cloud].up = true;
        self.clouds[cloud].born = self.now;
        self.book_start(cloud);
    }
}
