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

impl World {
    /// Asks about an order of this brand on a link.
    fn ask_on(&mut self, link: LinkId, brand: &str) {
        self.sequence += 1;
        let order = Bytes::copy_from_slice(header("k1").order.as_bytes());
        let kind = Some(to_idc::Kind::Ask(Ask { brand: brand.into(), order, key: None }));
        let message = ToIdc {
            request: self.sequence,
            kind,
            sequence: self.sequence,
            trace: None,
            remaining_millis: None,
        };
        self.input(Input::Message { link, lane: 0, message });
    }

    /// Returns the links whose questions were refused as busy, and the brands that are looked up.
    fn refused_and_looked_up(&mut self) -> (Vec<LinkId>, Vec<String>) {
        let (mut refused, mut looked_up) = (Vec::new(), Vec::new());
        while let Some(output) = self.poll() {
            match output {
                Output::Send(Reply { link, message: ToCloud { kind, .. }, .. }) => {
                    assert_eq!(kind, Some(to_cloud::Kind::Refused(Refusal::Busy.into())));
                    refused.push(link);
                }
                Output::LookUp { brand, .. } => looked_up.push(brand.as_str().to_owned()),
                other => panic!("{other:?}"),
            }
        }
        (refused, looked_up)
    }
}

/// Creates a world with room for many questions, of which this many are looked up at a time.
fn world_of_questions(look_ups_at_once: usize) -> World {
    let world = world();
    let limits = OrderLimits { window_max: 8 * QUESTIONS_MAX, look_ups_at_once, ..world.agent.limits };
    World { agent: OrderCore::new(limits, Keyring::for_tests(1)), ..world }
}

const OTHER_LINK: LinkId = LinkId(2);

#[test]
fn an_agent_that_invents_brands_refuses_and_delays_no_other_agent() {
    let mut world = world_of_questions(6);
    for number in 0..QUESTIONS_MAX + 10 {
        world.ask_on(OTHER_LINK, &format!("invented-{number}"));
    }
    let brands = ["shoes", "shoes", "socks"];
    for brand in brands {
        world.ask_on(LINK, brand);
    }
    assert_eq!(world.agent.questions(), QUESTIONS_MAX);
    let (refused, looked_up) = world.refused_and_looked_up();
    assert_eq!(refused, [OTHER_LINK; 13], "ten were too many, and three made room");
    let known: Vec<&str> =
        looked_up.iter().map(String::as_str).filter(|brand| brands.contains(brand)).collect();
    assert_eq!((looked_up.len(), known), (6, vec!["shoes", "socks", "shoes"]), "links take turns");
    // The part of a link is half of the whole, for its brands alike.
    let half = QUESTIONS_MAX / 2;
    for _ in 0..QUESTIONS_MAX {
        world.ask_on(LINK, "shoes");
    }
    let (refused, _) = world.refused_and_looked_up();
    let count = |link| refused.iter().filter(|refused| **refused == link).count();
    assert_eq!((count(LINK), count(OTHER_LINK)), (half, half - 6), "six are looked up");
    world.ask_on(LINK, "socks");
    assert_eq!(world.refused_and_looked_up().0, [LINK], "the other brand of the same link makes room");
    assert_eq!(world.agent.questions(), QUESTIONS_MAX);
}

#[test]
fn questions_of_a_link_that_is_gone_are_not_looked_up() {
    let mut world = world_of_questions(1);
    world.ask_on(OTHER_LINK, "shoes");
    let Some(Output::LookUp { token, .. }) = world.poll() else { panic!("not looked up") };
    for link in [OTHER_LINK, LINK, OTHER_LINK] {
        world.ask_on(link, "shoes");
    }
    world.input(Input::LinkDown(OTHER_LINK));
    world.input(Input::LookedUp { token, found: Ok(None) });
    let (refused, looked_up) = world.refused_and_looked_up();
    assert_eq!((refused.len(), looked_up.len(), world.agent.questions()), (0, 1, 0));
    assert_eq!(world.agent.under_way(), 1, "the others are forgotten");
}
