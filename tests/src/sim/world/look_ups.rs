//! Look-ups: the agents' real code queries the database, and other transactions run between two of
//! its statements.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bridge_idc::orders::core::Input;
use bridge_idc::orders::store::LedgerError;
use bridge_protocol::domain::{Brand, KeyDigest, OrderId};
use bridge_protocol::order_link::receiver::Token;
use bridge_protocol::wire::order::{Refusal, State};

use super::super::options::Sabotage;
use super::{Event, World};

/// A question of an agent to the database.
pub(super) struct Question {
    pub(super) token: Token,
    pub(super) brand: Brand,
    pub(super) order: OrderId,
    pub(super) key: Option<KeyDigest>,
}

/// A look-up that the database runs.
pub(super) struct LookUp {
    idc: usize,
    /// Number of the process that asked.
    life: u32,
    token: Token,
    work: Pin<Box<dyn Future<Output = Result<Option<State>, LedgerError>>>>,
}

impl World {
    /// Starts a look-up.
    pub(super) fn look_up(&mut self, idc: usize, life: u32, question: Question) {
        let Question { token, brand, order, key } = question;
        let key = key.filter(|_| self.sabotage != Some(Sabotage::LookUpByIdAlone));
        let ledger = self.ledger.clone();
        let work = Box::pin(async move { ledger.look_up(&brand, order, key).await });
        self.look_ups_made += 1;
        self.look_ups.insert(self.look_ups_made, LookUp { idc, life, token, work });
        self.look_up_goes(self.look_ups_made);
    }

    /// Runs the next statement of a look-up, unless its agent was killed meanwhile.
    pub(super) fn look_up_goes(&mut self, id: u64) {
        let Some(look_up) = self.look_ups.get_mut(&id) else { return };
        let (idc, life, token) = (look_up.idc, look_up.life, look_up.token);
        if self.idcs[idc].life != life {
            self.look_ups.remove(&id);
            return;
        }
        self.ledger.set_now(self.now, Default::default(), false);
        let fails = self.dice.happens(self.fault_rates.look_up_fails);
        let found = match look_up.work.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            _ if fails => Err(Refusal::DatabaseDown),
            Poll::Ready(found) => found.map_err(|_| Refusal::DatabaseDown),
            Poll::Pending => {
                let delay = self.dice.micros(20..=3_000);
                return self.after(delay, Event::LookUpGoes(id));
            }
        };
        self.look_ups.remove(&id);
        self.counts.look_ups_failed += u64::from(found.is_err());
        self.tell_idc(idc, Input::LookedUp { token, found });
    }
}
