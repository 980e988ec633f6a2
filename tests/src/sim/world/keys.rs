//! Sealing keys that expire and rotate. An operator makes a key on some data centre's host, copies
//! it to the others, and removes old ones. Agents announce their keys, and cloud agents choose
//! among them, with the real code.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bridge_idc::orders::core::Input;
use bridge_idc::vault::keyring::Keyring;
use bridge_protocol::domain::{OrderId, UnixMicros};
use bridge_protocol::note::NoteVerifier;
use bridge_protocol::order_link::LinkId;
use bridge_protocol::seal::KeyId;
use bridge_protocol::seal::manifest::{Manifest, ManifestError, SealingKey, Validity};
use bridge_protocol::seal::preference;
use bytes::Bytes;
use rand::RngExt as _;

use super::super::dice::Dice;
use super::super::options::Sabotage;
use super::clocks::Host;
use super::{EPOCH_MICROS, Event, World, note};

/// A key is valid from this long before it was made, as with `keys rotate`.
const BACKDATED: Duration = Duration::from_secs(300);

/// Validity of a key that does not expire within a schedule.
const LASTS: Duration = Duration::from_secs(90 * 86_400);

/// Most keys that a schedule makes.
const KEYS_MAX: usize = 6;

/// Fewest keys that a host keeps.
const KEYS_KEPT: usize = 1;

/// A sealing key as its file has it.
struct Made {
    secret: [u8; 32],
    validity: Validity,
}

/// The key folder of one data centre's host.
pub(super) struct Folder {
    /// Numbers of the keys in the folder, the newest first.
    numbers: Vec<usize>,
    ids: Vec<KeyId>,
    pub(super) ring: Arc<Keyring>,
    manifest: Manifest,
}

/// All sealing keys, and the folders of all hosts.
pub(super) struct Keys {
    made: Vec<Made>,
    pub(super) folders: Vec<Folder>,
    pub(super) pinned: NoteVerifier,
}

impl Keys {
    /// Makes one key and puts it on every host.
    pub(super) fn new(dice: &mut Dice, hosts: usize, ends: Duration) -> Self {
        let ring = Keyring::for_tests(1);
        let pinned = ring.verifier().clone();
        let empty = || Folder {
            numbers: Vec::new(),
            ids: Vec::new(),
            ring: Keyring::for_tests(1).into(),
            manifest: Manifest { keys: Vec::new() },
        };
        let folders = std::iter::repeat_with(empty).take(hosts).collect();
        let mut keys = Self { made: Vec::new(), folders, pinned };
        let first = keys.make(dice, UnixMicros::new(EPOCH_MICROS), ends);
        (0..hosts).for_each(|host| keys.put(host, first));
        keys
    }

    fn make(&mut self, dice: &mut Dice, now: UnixMicros, ends: Duration) -> usize {
        let backdated = i64::try_from(BACKDATED.as_micros()).unwrap_or(0);
        let validity =
            Validity { not_before: UnixMicros::new(now.get() - backdated), not_after: now.plus(ends) };
        self.made.push(Made { secret: dice.rng().random(), validity });
        self.made.len() - 1
    }

    fn put(&mut self, host: usize, number: usize) {
        self.folders[host].numbers.insert(0, number);
        self.read_again(host);
    }

    fn take_away(&mut self, host: usize, number: usize) {
        self.folders[host].numbers.retain(|known| *known != number);
        self.read_again(host);
    }

    fn read_again(&mut self, host: usize) {
        let made = self.folders[host].numbers.iter().filter_map(|number| self.made.get(*number));
        let ring = Keyring::for_tests(1).with_sealing(made.map(|key| (key.secret, key.validity)));
        let folder = &mut self.folders[host];
        folder.manifest = ring.manifest();
        folder.ids = folder.manifest.keys.iter().map(|key| key.id).collect();
        folder.ring = ring.into();
    }

    /// Returns the signed manifest of a host's keys.
    fn note(&self, host: usize, now: UnixMicros) -> Bytes {
        let Folder { ring, manifest, .. } = &self.folders[host];
        manifest.clone().told_at(now).sign(ring.signer()).unwrap_or_default()
    }

    /// Returns true if every host has the key.
    fn is_copied(&self, number: usize) -> bool {
        self.folders.iter().all(|folder| folder.numbers.contains(&number))
    }

    /// Returns true if a host has all of these keys.
    pub(super) fn has_all(&self, host: usize, keys: &[KeyId]) -> bool {
        keys.iter().all(|key| self.folders[host].ids.contains(key))
    }
}

impl World {
    /// Schedules the rotations: none in some schedules, a few in others. A key that expires has a
    /// successor before its end.
    pub(super) fn plan_rotations(&mut self, ends: Duration) {
        if ends < LASTS {
            self.rotate_before(ends);
        }
        for _ in 0..self.dice.index(4) {
            let until = u64::try_from(self.faults_until.as_micros()).unwrap_or(0);
            let at = self.dice.micros(0..=until);
            self.at(at, Event::Rotate);
        }
    }

    /// Draws the validity of a key. Some are short-lived.
    pub(super) fn life(dice: &mut Dice) -> Duration {
        if dice.happens(4_000) { dice.millis(600..=3_000) } else { LASTS }
    }

    fn rotate_before(&mut self, ends: Duration) {
        let percent = u32::try_from(self.dice.between(20..=60)).unwrap_or(20);
        self.after(ends * percent / 100, Event::Rotate);
    }

    /// Makes a key on one host, and schedules its copies to the others before the previous key
    /// expires.
    pub(super) fn rotate(&mut self) {
        let number = self.keys.made.len();
        let ends = if number + 1 < KEYS_MAX { Self::life(&mut self.dice) } else { LASTS };
        let first = self.dice.index(self.idcs.len());
        let now = self.clock(Host::Idc(first));
        self.keys.make(&mut self.dice, now, ends);
        self.counts.rotations += 1;
        note!(self, "the operator makes sealing key {number}");
        for host in 0..self.idcs.len() {
            let delay = if host == first { Duration::ZERO } else { self.dice.millis(0..=200) };
            self.after(delay, Event::KeyComes { host, number });
        }
        if ends < LASTS {
            self.rotate_before(ends);
        }
    }

    pub(super) fn key_comes(&mut self, host: usize, number: usize) {
        note!(self, "the host of idc {host} gets sealing key {number}");
        self.keys.put(host, number);
        self.keys_changed(host);
        if !self.keys.is_copied(number) {
            return;
        }
        // Every host has the key. Some operators remove the previous one at once, some later, some
        // never.
        for host in 0..self.idcs.len() {
            if self.dice.happens(6_000) {
                let delay = if self.dice.happens(5_000) { 0 } else { self.dice.between(1..=400) };
                self.after(Duration::from_millis(delay), Event::KeyGoes { host, number });
            }
        }
    }

    /// Removes a key that is older than this one from a host.
    pub(super) fn key_goes(&mut self, host: usize, number: usize) {
        let numbers = self.keys.folders[host].numbers.clone();
        let Some(older) = numbers.into_iter().find(|known| *known < number) else { return };
        // A key that expires soon is no replacement.
        let now = self.clock(Host::Idc(host));
        let stays = self.keys.made.get(number).is_some_and(|made| made.validity.not_after > now);
        if !stays || self.keys.folders[host].numbers.len() <= KEYS_KEPT {
            return;
        }
        self.counts.keys_retired += 1;
        note!(self, "the operator takes sealing key {older} away from idc {host}");
        self.keys.take_away(host, older);
        self.keys_changed(host);
    }

    /// Lets a running agent read its folder and announce its keys on its links.
    fn keys_changed(&mut self, idc: usize) {
        if !self.idcs[idc].up {
            return;
        }
        let ring = self.keys.folders[idc].ring.clone();
        let note = self.keys.note(idc, self.clock(Host::Idc(idc)));
        self.tell_idc(idc, Input::Keys(ring));
        for link in self.live_links() {
            if self.idc_of(link) == Some(idc) {
                let delay = self.dice.micros(500..=4_000);
                let at = self.told_at(link, self.now + delay);
                self.at(at, Event::Manifest { link, note: note.clone() });
            }
        }
    }

    /// Handles a manifest, which arrives on a link's control lane or with its hello.
    pub(super) fn manifest_comes(&mut self, link: LinkId, note: &Bytes) {
        let (Some(cloud), Some(idc)) = (self.cloud_of(link), self.peer_of(link)) else { return };
        let (now, pinned) = (self.clock(Host::Cloud(cloud)), std::slice::from_ref(&self.keys.pinned));
        match Manifest::verify(note, pinned, now) {
            Ok(Manifest { keys }) => drop(self.clouds[cloud].keys_of.insert(idc, keys)),
            // By a wrong clock no key is valid. Then the agent's earlier manifest stays in use.
            Err(ManifestError::NoValidKey) => {}
            Err(error) => self.violate("SEALING", format!("an honest manifest is refused: {error}")),
        }
        let keys = self.clouds[cloud].keys_of.get(&idc).cloned().unwrap_or_default();
        self.set_told_keys(link, keys);
        let ids = self.told_keys(link).iter().map(|key| key.id).collect();
        let now = self.cloud_now(cloud);
        self.clouds[cloud].sender.handle_keys(now, link, ids);
        self.do_cloud_outputs(cloud);
    }

    /// Passes the manifest of an agent's hello to the cloud agent.
    pub(super) fn hello(&mut self, link: LinkId, idc: usize) {
        let note = self.keys.note(idc, self.clock(Host::Idc(idc)));
        self.manifest_comes(link, &note);
    }

    /// Returns the key that a cloud agent seals to now.
    pub(super) fn sealing_key(&mut self, cloud: usize) -> Option<SealingKey> {
        let now = self.clock(Host::Cloud(cloud));
        let agent = &self.clouds[cloud];
        let version = agent.sender.keys_version();
        if agent.keys_version != version && agent.sender.has_open_link() {
            let opened = agent.sender.opened().map(|(link, ids)| {
                let keys = self.told_keys(link).iter();
                keys.filter(|key| ids.contains(&key.id)).collect::<Vec<&SealingKey>>()
            });
            let mut preferred = preference::by_preference(&Vec::from_iter(opened));
            if self.sabotage == Some(Sabotage::PreferNewestKeys) {
                preferred.sort_by_key(|key| Reverse(key.validity.not_before));
            }
            let agent = &mut self.clouds[cloud];
            (agent.preferred, agent.keys_version) = (preferred, version);
        }
        self.clouds[cloud].preferred.iter().find(|key| key.validity.holds_at(now)).cloned()
    }

    /// Returns two sets of keys to which a cloud agent can seal: those that all open links open,
    /// and those that at least one opens.
    fn sealable(&self, cloud: usize) -> (BTreeSet<KeyId>, BTreeSet<KeyId>) {
        let now = self.clock(Host::Cloud(cloud));
        let links = self.clouds[cloud].sender.opened();
        let links = links.map(|(link, ids)| {
            let keys = self.told_keys(link).iter().filter(|key| key.validity.holds_at(now));
            Vec::from_iter(keys.map(|key| key.id).filter(|key| ids.contains(key)))
        });
        let links = Vec::from_iter(links);
        let some = BTreeSet::from_iter(links.concat());
        let every = some.iter().filter(|key| links.iter().all(|link| link.contains(key)));
        (every.copied().collect(), some)
    }

    /// P11: if there is a key that all links open, a session must seal to such a key.
    pub(super) fn check_sealed(&mut self, cloud: usize, key: Option<KeyId>) {
        let (every, some) = self.sealable(cloud);
        let fits = match key {
            Some(key) if every.is_empty() => some.contains(&key),
            Some(key) => every.contains(&key),
            None => some.is_empty(),
        };
        if !fits {
            let what = format!("cloud {cloud} seals to {key:?}, its links all open {every:?}, some {some:?}");
            self.violate("P11", what);
        }
    }

    /// Handles an order that an agent cannot open. The agent must lack a key that the order was
    /// sealed to.
    pub(super) fn check_unknown_key(&mut self, idc: usize, order: OrderId) {
        self.counts.keys_unknown += 1;
        let attempt = self.orders.get(&order).map(|attempt| &self.attempts[*attempt]);
        if attempt.is_none_or(|attempt| self.keys.has_all(idc, &attempt.sealed_to)) {
            self.violate("SEALING", format!("idc {idc} has the key of order {order}, and does not open it"));
        }
    }

    /// Returns true if at least one open link opens a key that is valid now.
    pub(super) fn could_seal(&self, cloud: usize) -> bool {
        !self.sealable(cloud).1.is_empty()
    }
}
