//! Tests of the form of entries, and of bytes that are no entry.

use super::*;

const NOW: UnixMicros = UnixMicros::new(1_795_343_485_000_000);

/// Returns an entry of each form.
pub(crate) fn some() -> Vec<Entry> {
    let (brand, key) = (Brand::new("shoes").unwrap(), KeyDigest::from_array([7; 32]));
    let order = OrderId::new(NOW, [9; 10]);
    let word = |text| Word::new(text).unwrap();
    let carried = Carried {
        action: word("place"),
        brand: brand.clone(),
        bytes: 272,
        ciphertext: Some(Digest::of(b"c")),
        key,
        order,
        payment: None,
    };
    let ended = Ended {
        brand,
        key,
        order,
        outcome: word("placed"),
        payment: Some(word("p-1")),
        position: Some(-3),
        replayed: false,
    };
    let peer = word("spiffe://bridge.internal/idc/seoul-1");
    let certificate = Digest::of(b"der");
    let opened = Opened {
        certificate,
        group: word("X25519MLKEM768"),
        link: 1,
        peer: peer.clone(),
        suite: word("TLS13_AES_256_GCM_SHA384"),
        transport: Some(word("tcp")),
    };
    [
        Event::AgentStarted(Started { build: word("0.1.0"), name: word("front-1") }),
        Event::AgentStopped(Stopped { reason: word("signal") }),
        Event::ConfigurationChanged(Configuration { digest: certificate }),
        Event::keys_changed(b"note", [&[1u8, 2][..], &[255]].into_iter()),
        Event::TunnelOpened(opened),
        Event::TunnelClosed(Closed { link: 1, peer, reason: word("silent") }),
        Event::TunnelRefused(Refused {
            certificate: None,
            peer: None,
            reason: word("not-allowed"),
            times: 3,
        }),
        Event::TunnelSwitched(Switched {
            from: word("quic"),
            lost: Some(55),
            millis: None,
            peer: word("spiffe://bridge.internal/idc/seoul-1"),
            reason: word("lossy"),
            sent: Some(70),
            to: word("tcp"),
        }),
        Event::OrderSent(carried.clone()),
        Event::OrderReceived(Carried { ciphertext: None, ..carried.clone() }),
        Event::OrderCommitted(Ended { payment: None, ..ended.clone() }),
        Event::OrderAnswered(Ended { position: None, ..ended.clone() }),
        Event::PaymentSent(carried.clone()),
        Event::PaymentReceived(carried),
        Event::PaymentCommitted(ended.clone()),
        Event::PaymentAnswered(ended),
        Event::PaymentResolved(Resolved {
            brand: Some(word("shoes")),
            key: Some(certificate),
            order,
            outcome: word("refused"),
            payment: word("p-1"),
            reason: word("TICKET_4711"),
            refund: Some(word("r-1")),
            who: word("dba"),
        }),
        Event::PersonalShown(Shown { order, purpose: word("ticket-4711"), who: word("dba") }),
    ]
    .map(|event| Entry::new(NOW, event))
    .into()
}

#[test]
fn every_kind_is_decoded_from_its_bytes_and_named() {
    let names = some().iter().map(|entry| entry.event.kind()).collect::<Vec<_>>();
    assert_eq!(names, Event::KINDS);
    for entry in some() {
        let bytes = entry.encode().unwrap();
        assert_eq!(Entry::parse(&bytes), Ok(entry.clone()), "{}", String::from_utf8_lossy(&bytes));
        let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(value["event"], entry.event.kind());
    }
}

#[test]
fn what_is_written_by_hand_is_what_serde_writes() {
    let mut by_hand = 0;
    for entry in some() {
        let mut bytes = b"before".to_vec();
        if line::write(&entry, &mut bytes) {
            by_hand += 1;
            assert_eq!(bytes.split_off(6), serde_json::to_vec(&entry).unwrap());
        }
        assert_eq!(bytes, b"before");
    }
    assert_eq!(by_hand, 8, "every form is among them, with and without what it may leave out");
}

/// An entry of an earlier version, which did not log brand and key.
#[test]
fn an_operators_entry_without_a_key_is_still_read() {
    let order = OrderId::new(NOW, [9; 10]);
    let text = format!(
        r#"{{"at":1795343485000000,"event":"payment-resolved","facts":{{"order":"{order}","outcome":"not_paid","payment":"p-1","reason":"T_1","who":"dba"}}}}"#
    );
    let entry = Entry::parse(text.as_bytes()).unwrap();
    let Event::PaymentResolved(said) = &entry.event else { panic!("{entry:?}") };
    assert_eq!((&said.brand, &said.key, &said.refund), (&None, &None, &None));
    assert_eq!(entry.encode().unwrap(), text.as_bytes());
}

#[test]
fn members_are_sorted_and_nothing_stands_between_them() {
    for entry in some() {
        let bytes = entry.encode().unwrap();
        let sorted: std::collections::BTreeMap<String, serde_json::Value> =
            serde_json::from_slice(&bytes).unwrap();
        let facts: std::collections::BTreeMap<String, serde_json::Value> =
            serde_json::from_value(sorted["facts"].clone()).unwrap();
        let again = format!(
            r#"{{"at":{},"event":{},"facts":{}}}"#,
            sorted["at"],
            sorted["event"],
            serde_json::to_string(&facts).unwrap()
        );
        assert_eq!(again.as_bytes(), bytes);
    }
}

#[test]
fn no_other_bytes_of_the_same_meaning_are_an_entry() {
    let sent = some().into_iter().find(|entry| entry.event.kind() == "order-sent").unwrap();
    let canonical = String::from_utf8(sent.encode().unwrap()).unwrap();
    let others = [
        canonical.replace(":", ": "),
        format!("{canonical} "),
        canonical.replace("\"bytes\":272", "\"bytes\":2.72e2"),
        canonical.replace("\"bytes\":272,", ""),
        canonical.replace("\"bytes\":272", "\"bytes\":272,\"note\":\"x\""),
        canonical.replace("order-sent", "order-lost"),
        canonical.replace("shoes", "sh\\u006fes"),
        canonical.replace("shoes", "Shoes and more"),
        canonical.replace("0707", "0A07"),
        canonical.to_uppercase(),
        String::new(),
    ];
    for other in others {
        assert_eq!(Entry::parse(other.as_bytes()), Err(EntryError::Malformed), "{other}");
    }
    assert_eq!(Entry::parse(&[b' '; ENTRY_BYTES_MAX + 1]), Err(EntryError::TooLong));
}

#[test]
fn the_longest_words_fit_and_what_is_no_word_becomes_one() {
    let word = Word::of(&"x".repeat(300));
    let opened = Opened {
        certificate: Digest::of(b""),
        group: word.clone(),
        link: u64::MAX,
        peer: word.clone(),
        suite: word.clone(),
        transport: Some(word.clone()),
    };
    assert!(Entry::new(NOW, Event::TunnelOpened(opened)).encode().unwrap().len() <= ENTRY_BYTES_MAX);
    let ids = vec![[255u8; 8]; 100];
    let keys = Event::keys_changed(b"", ids.iter().map(<[u8; 8]>::as_slice));
    assert!(Entry::new(NOW, keys).encode().is_ok());
    assert_eq!(Word::of("a \"b\"\n\u{e9}").as_str(), "a--b---");
    assert_eq!(Word::of("").as_str(), "-");
    for bad in ["", "two words", "quote\"", "back\\slash", "\u{e9}"] {
        assert_eq!(Word::new(bad), Err(NotAWord));
    }
}
