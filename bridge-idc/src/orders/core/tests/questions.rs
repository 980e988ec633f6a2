//! Questions about orders: an answer waits for the audit log, and an order under way is never
//! called missing.

use super::*;

#[test]
fn look_ups_are_limited_and_a_pending_order_is_not_called_missing() {
    let mut world = world();
    let ask = |key: &str| {
        let order = Bytes::copy_from_slice(header(key).order.as_bytes());
        to_idc::Kind::Ask(Ask { brand: "shoes".into(), order, key: None })
    };
    world.place("k1", 1);
    let batch = world.batch();
    world.end(&batch, vec![RequestEnd::Waits(shoe())]);
    world.attempt();
    for key in ["k1", "k2", "k3"] {
        world.send(ask(key));
    }
    let mut tokens = Vec::new();
    while let Some(output) = world.poll() {
        let Output::LookUp { token, .. } = output else { panic!("{output:?}") };
        tokens.push(token);
    }
    assert_eq!(tokens.len(), 2, "two at a time");
    for token in tokens {
        world.input(Input::LookedUp { token, found: Ok(None) });
    }
    assert_eq!(world.refusal(), Refusal::Busy, "k1 waits, and may be there one day");
    assert_eq!(world.refusal(), Refusal::NotFound);
    assert!(matches!(world.poll(), Some(Output::LookUp { .. })), "then the third");
}

#[test]
fn a_question_that_waited_too_long_is_refused_without_look_up() {
    let mut world = world();
    for key in ["k1", "k2", "k3", "k4"] {
        let order = Bytes::copy_from_slice(header(key).order.as_bytes());
        world.send(to_idc::Kind::Ask(Ask { brand: "shoes".into(), order, key: None }));
    }
    let tokens = [(); 2].map(|()| match world.poll() {
        Some(Output::LookUp { token, .. }) => token,
        other => panic!("not looked up: {other:?}"),
    });
    // The database takes longer than a question may wait for two of the look-ups.
    let later = NOW.plus(QUESTION_WAITS_MAX + Duration::from_secs(1));
    world.agent.handle(Input::LookedUp { token: tokens[0], found: Ok(None) }, later, &mut rand::rng());
    let told: Vec<Refusal> = std::iter::from_fn(|| match world.agent.poll_output(later)? {
        Output::Send(Reply {
            message: ToCloud { kind: Some(to_cloud::Kind::Refused(refused)), .. }, ..
        }) => Some(refused.refusal()),
        other => panic!("not refused: {other:?}"),
    })
    .collect();
    assert_eq!(told, [Refusal::NotFound, Refusal::Busy, Refusal::Busy]);
}

#[test]
fn brands_take_turns_with_their_questions() {
    let mut world = world();
    for (number, brand) in ["shoes", "shoes", "shoes", "shoes", "socks"].into_iter().enumerate() {
        let order = Bytes::copy_from_slice(header(&format!("k{number}")).order.as_bytes());
        world.send(to_idc::Kind::Ask(Ask { brand: brand.into(), order, key: None }));
    }
    let looked_up = [(); 2].map(|()| match world.poll() {
        Some(Output::LookUp { brand, .. }) => brand.as_str().to_owned(),
        other => panic!("not looked up: {other:?}"),
    });
    assert_eq!(looked_up, ["shoes", "socks"]);
}

#[test]
fn a_commit_made_during_its_look_up_is_looked_up_again() {
    let mut world = world();
    world.place("k1", 1);
    let batch = world.batch();
    let order = Bytes::copy_from_slice(header("k1").order.as_bytes());
    world.send(to_idc::Kind::Ask(Ask { brand: "shoes".into(), order: order.clone(), key: None }));
    let Some(Output::LookUp { token, .. }) = world.poll() else { panic!("not looked up") };
    world.commit(&batch);
    world.receipt();
    // The database looked before the commit, and its answer arrives after the commit's end.
    world.input(Input::LookedUp { token, found: Ok(None) });
    let Some(Output::LookUp { token, .. }) = world.poll() else { panic!("it is not said to be missing") };
    world.input(Input::LookedUp { token, found: Ok(Some(State { order, ..State::default() })) });
    assert!(matches!(world.answer().kind, Some(to_cloud::Kind::State(_))));

    // An order without a request under way is missing.
    let order = Bytes::copy_from_slice(header("k2").order.as_bytes());
    world.send(to_idc::Kind::Ask(Ask { brand: "shoes".into(), order, key: None }));
    let Some(Output::LookUp { token, .. }) = world.poll() else { panic!("not looked up") };
    world.input(Input::LookedUp { token, found: Ok(None) });
    assert_eq!(world.refusal(), Refusal::NotFound);
}
