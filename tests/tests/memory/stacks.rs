//! Tests that functions which handle clear text leave none of it on the stack (promise P5).

use std::hint::black_box;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use anyhow::{Context, Result, ensure};
use bridge_protocol::domain::{Brand, KeyDigest, OrderId, Personal, PersonalData, PersonalField, UnixMicros};
use bridge_protocol::order_link::LinkId;
use bridge_protocol::seal::manifest::Validity;
use bridge_protocol::seal::opening::{Opener, OpeningKey};
use bridge_protocol::seal::sealing::{Header, SealingSession};
use bridge_protocol::stack::wiped;
use bridge_tests::testkit::memory::search;
use bridge_tests::testkit::search::Needles;
use rustix::process::getpid;

const NOW: UnixMicros = UnixMicros::new(1_000_000);

#[test]
fn a_copy_on_the_stack_is_found_unless_wiped() -> Result<()> {
    let words = words();
    let text = words.join(" ");
    ensure!(left_on_the_stack(&words, || copied(text.as_bytes()))? > 0, "the search does not find a copy");
    ensure!(
        left_on_the_stack(&words, || wiped(|| copied(text.as_bytes())))? == 0,
        "the copy is still on the stack"
    );
    Ok(())
}

#[test]
fn sealing_and_opening_an_order_leave_nothing_on_the_stack() -> Result<()> {
    let words = words();
    let mut personal = PersonalData::default();
    personal.set(PersonalField::DeliveryAddress, Personal::new(words.join(" ")));
    let validity = Validity { not_before: UnixMicros::new(0), not_after: UnixMicros::new(i64::MAX) };
    let key = OpeningKey::new(&[7; 32], validity)?;
    let mut sealing =
        SealingSession::start(&key.sealing_key(), NOW, &mut rand::rng()).context("no session")?;
    let mut opener = Opener::new(vec![key], 1);
    let (link, order) = (LinkId(1), OrderId::new(NOW, [1; 10]));
    let header = Header {
        brand: Brand::new("shoes")?,
        order,
        key: KeyDigest::from_bytes(&[1; 32]).context("no digest")?,
    };
    let (mut sealed, mut opened) = (None, None);
    let seal = || sealed = wiped(|| sealing.seal(&header, "terms".into(), &personal));
    ensure!(left_on_the_stack(&words, seal)? == 0, "sealing left something");
    let envelope = sealed.context("the order was not sealed")?;
    let open = || opened = wiped(|| opener.open_at_once(link, &envelope, NOW)).ok();
    ensure!(left_on_the_stack(&words, open)? == 0, "opening left something");
    ensure!(opened.is_some_and(|opened| opened == personal), "the envelope was not opened");
    Ok(())
}

/// Returns random words. In total they are longer than what a cipher processes at once.
fn words() -> Vec<String> {
    (0..400).map(|_| (0..12).map(|_| char::from(rand::random_range(b'a'..=b'z'))).collect()).collect()
}

#[inline(never)]
fn copied(text: &[u8]) {
    let mut copy = [0_u8; 4_096];
    copy.copy_from_slice(&text[..4_096]);
    black_box(&mut copy);
}

/// Returns the number of hits on the stack of a thread that has done `work` and still runs.
fn left_on_the_stack(words: &[String], work: impl FnOnce() + Send) -> Result<u64> {
    let needles = Needles::new(words.iter().map(String::as_str));
    thread::scope(|scope| {
        let (at, is_at) = channel();
        let (go, may_go): (Sender<()>, Receiver<()>) = channel();
        scope.spawn(move || {
            work();
            let here = 0_u8;
            let _told = at.send((&raw const here).addr() as u64);
            let _gone = may_go.recv();
        });
        let address: u64 = is_at.recv()?;
        let found = search(&needles, getpid())?;
        drop(go);
        let stack = found.places.iter().filter(|place| place.holds(address));
        Ok(stack.map(|place| place.hits).sum())
    })
}
