//! Cases about orders, stock and keys that the ledger must pass on either database.

use std::collections::HashSet;

use bridge_idc::catalogue::import::stock::{ImportError, Imported, StockFile};
use bridge_idc::import_file::parts::{Progress, WAIT};
use bridge_idc::orders::planner::Request;
use bridge_idc::orders::store::{Ledger, NotReady, Question, RequestOutcome, Totals};
use bridge_idc::vault::KeyCheck;
use bridge_idc::vault::keyring::Keyring;
use bridge_protocol::domain::{Brand, Currency, Money, OrderId, Outcome, Sku};
use bridge_protocol::wire::order::Refusal;

use crate::database::{Database, connect};
use crate::shop::{
    PRICE, Shop, commit, commit_one, import, is_placed, now, order_id, order_of, personal, refused, settled,
    sold_out,
};

pub(crate) async fn an_order_is_placed_and_can_be_looked_up(database: &Database) {
    let ledger = &database.ledger;
    let shop = Shop::open(ledger, "acme", &[("SHOE-270", 10), ("BAG \"L\"", 10)]).await;
    let request = shop.place("k", &[("SHOE-270", 2), ("BAG \"L\"", 1)]);
    let order = order_of(&request);

    let RequestOutcome::Settled { receipt, replayed: false } = commit_one(ledger, request.clone()).await
    else {
        panic!()
    };
    assert_eq!((&receipt.brand, receipt.key, receipt.order), (&shop.brand, request.key, order));
    assert_eq!(receipt.outcome, Outcome::Placed);
    assert_eq!(shop.stock(ledger, "SHOE-270").await, (8, 2));

    let state = ledger.look_up(&shop.brand, order, None).await.unwrap().unwrap();
    assert_eq!((state.state.as_str(), state.position), ("placed", receipt.position));
    assert_eq!(state.committed_at_micros, receipt.committed_at.get());
    assert_eq!(state.order, order.as_bytes().as_slice());
    let terms = state.terms.clone().unwrap();
    let lines: Vec<_> =
        terms.lines.iter().map(|line| (line.sku.as_str(), line.quantity, line.unit_price)).collect();
    assert_eq!(lines, [("SHOE-270", 2, PRICE), ("BAG \"L\"", 1, PRICE)]);
    assert_eq!((terms.currency.as_str(), terms.shipping_fee, terms.total), ("KRW", 3_000, 3 * PRICE + 3_000));
    assert_eq!(terms.customer_reference, "c-8842");

    let by_key = ledger.look_up(&shop.brand, order_id(), Some(request.key)).await.unwrap();
    assert_eq!(by_key, Some(state.clone()), "the key finds the order, whatever order id the caller gives");
    let unknown_key = ledger.look_up(&shop.brand, order, Some(shop.key("other"))).await.unwrap();
    assert_eq!(unknown_key, Some(state), "the order is found by its id if the key is unknown");
    assert_eq!(ledger.look_up(&shop.brand, order_id(), None).await.unwrap(), None);
    let totals = Totals { placed: 1, cancelled: 0, rejected: 0, lines: 2, units: 3 };
    assert_eq!(ledger.totals().await.unwrap(), totals);
}

pub(crate) async fn the_same_request_again_is_replayed_and_changes_nothing(database: &Database) {
    let ledger = &database.ledger;
    let shop = Shop::open(ledger, "acme", &[("A", 10)]).await;
    let request = shop.place("k", &[("A", 3)]);
    let RequestOutcome::Settled { receipt: first, .. } = commit_one(ledger, request.clone()).await else {
        panic!()
    };

    // The cloud agent may give a retry another order id.
    let again = shop.place("k", &[("A", 3)]);
    assert_ne!(order_of(&again), order_of(&request));
    let RequestOutcome::Settled { receipt, replayed } = commit_one(ledger, again).await else { panic!() };
    assert_eq!((receipt, replayed), (first, true));
    assert_eq!(shop.stock(ledger, "A").await, (7, 3));
    assert_eq!(ledger.totals().await.unwrap().placed, 1);
}

pub(crate) async fn the_same_request_twice_in_a_batch_has_one_effect(database: &Database) {
    let ledger = &database.ledger;
    let shop = Shop::open(ledger, "acme", &[("A", 10)]).await;
    let request = shop.place("k", &[("A", 3)]);
    let answers = commit(ledger, vec![request.clone(), request]).await;
    assert_eq!(settled(&answers[0]), (Outcome::Placed, false));
    assert_eq!(settled(&answers[1]), (Outcome::Placed, true));
    assert_eq!(shop.stock(ledger, "A").await, (7, 3));
}

pub(crate) async fn a_key_that_comes_back_with_another_body_is_refused(database: &Database) {
    let ledger = &database.ledger;
    let shop = Shop::open(ledger, "acme", &[("A", 10)]).await;
    let first = shop.place("k", &[("A", 3)]);
    let other = Request { fingerprint: [9; 32], ..shop.place("k", &[("A", 4)]) };
    let answers = commit(ledger, vec![first, other.clone()]).await;
    assert!(is_placed(&answers[0]));
    assert_eq!(answers[1], refused(Refusal::KeyReused), "in the same batch");
    assert_eq!(commit_one(ledger, other).await, refused(Refusal::KeyReused), "in a later batch");
    assert_eq!(shop.stock(ledger, "A").await, (7, 3));
}

pub(crate) async fn sold_out_is_an_outcome_and_sticks_to_its_key(database: &Database) {
    let ledger = &database.ledger;
    let shop = Shop::open(ledger, "acme", &[("A", 2)]).await;
    let request = shop.place("k", &[("A", 3)]);
    assert_eq!(settled(&commit_one(ledger, request.clone()).await), (sold_out("A"), false));

    import(ledger, &format!("brand,sku,unit_price,currency,quantity\nacme,A,{PRICE},KRW,100\n")).await;
    assert_eq!(
        settled(&commit_one(ledger, request.clone()).await),
        (sold_out("A"), true),
        "the key keeps its outcome"
    );
    assert!(is_placed(&commit_one(ledger, shop.place("another", &[("A", 3)])).await));
    let state = ledger.look_up(&shop.brand, order_of(&request), None).await.unwrap().unwrap();
    assert_eq!((state.state.as_str(), state.terms), ("sold-out", None));
}

pub(crate) async fn a_changed_price_is_named(database: &Database) {
    let ledger = &database.ledger;
    let shop = Shop::open(ledger, "acme", &[("A", 2)]).await;
    let request = shop.place_at("k", order_id(), PRICE - 1, "KRW", &[("A", 1)]);
    let price = Money::new(PRICE, Currency::new("KRW").unwrap()).unwrap();
    let outcome = Outcome::PriceChanged { sku: Sku::new("A").unwrap(), price };
    assert_eq!(settled(&commit_one(ledger, request.clone()).await), (outcome.clone(), false));
    assert_eq!(
        settled(&commit_one(ledger, request).await),
        (outcome, true),
        "the stored outcome has every detail"
    );
    assert_eq!(shop.stock(ledger, "A").await, (2, 0));
}

pub(crate) async fn an_unknown_sku_is_named(database: &Database) {
    let ledger = &database.ledger;
    let shop = Shop::open(ledger, "acme", &[("A", 2)]).await;
    let outcome = Outcome::UnknownSku { sku: Sku::new("B").unwrap() };
    let request = shop.place("k", &[("A", 1), ("B", 1)]);
    assert_eq!(settled(&commit_one(ledger, request.clone()).await), (outcome.clone(), false));
    assert_eq!(settled(&commit_one(ledger, request).await), (outcome, true));
}

pub(crate) async fn another_currency_is_rejected(database: &Database) {
    let ledger = &database.ledger;
    let shop = Shop::open(ledger, "acme", &[("A", 2)]).await;
    let request = shop.place_at("k", order_id(), PRICE, "JPY", &[("A", 1)]);
    assert_eq!(settled(&commit_one(ledger, request).await), (Outcome::WrongCurrency, false));
}

pub(crate) async fn an_unknown_brand_and_an_unknown_order_have_no_outcome(database: &Database) {
    let ledger = &database.ledger;
    let shop = Shop::open(ledger, "acme", &[("A", 2)]).await;
    let stranger = Shop { brand: Brand::new("stranger").unwrap() };
    let answers = commit(
        ledger,
        vec![stranger.place("k", &[("A", 1)]), shop.cancel("c", order_id()), shop.place("k", &[("A", 1)])],
    )
    .await;
    assert_eq!(answers[0], refused(Refusal::UnknownBrand));
    assert_eq!(answers[1], refused(Refusal::NotFound));
    assert!(is_placed(&answers[2]), "the others of the batch are committed");
    assert_eq!(database.count("SELECT count(*) FROM outcomes").await, 1);
}

pub(crate) async fn all_lines_are_allocated_or_none(database: &Database) {
    let ledger = &database.ledger;
    let shop = Shop::open(ledger, "acme", &[("A", 5), ("B", 1)]).await;
    let answers = commit(
        ledger,
        vec![
            shop.place("1", &[("A", 3), ("B", 2)]),
            shop.place("2", &[("A", 5)]),
            shop.place("3", &[("A", 1)]),
        ],
    )
    .await;
    assert_eq!(settled(&answers[0]), (sold_out("B"), false));
    assert!(is_placed(&answers[1]), "the first order took nothing of A");
    assert_eq!(settled(&answers[2]), (sold_out("A"), false));
    assert_eq!(shop.stock(ledger, "A").await, (0, 5));
    assert_eq!(shop.stock(ledger, "B").await, (1, 0));
}

pub(crate) async fn cancelling_gives_the_units_back_once_under_any_number_of_keys(database: &Database) {
    let ledger = &database.ledger;
    let shop = Shop::open(ledger, "acme", &[("A", 5), ("B", 5)]).await;
    let request = shop.place("k", &[("A", 3), ("B", 1)]);
    let order = order_of(&request);
    let placed = commit_one(ledger, request.clone()).await;
    assert_eq!(shop.stock(ledger, "A").await, (2, 3));

    let first = shop.cancel("c1", order);
    let answers = commit(ledger, vec![first.clone(), shop.cancel("c2", order)]).await;
    assert!(answers.iter().all(|answer| settled(answer) == (Outcome::Cancelled, false)), "{answers:?}");
    assert_eq!(settled(&commit_one(ledger, first).await), (Outcome::Cancelled, true));
    assert_eq!(settled(&commit_one(ledger, shop.cancel("c3", order)).await), (Outcome::Cancelled, false));
    assert_eq!(shop.stock(ledger, "A").await, (5, 0));
    assert_eq!(shop.stock(ledger, "B").await, (5, 0));

    let state = ledger.look_up(&shop.brand, order, None).await.unwrap().unwrap();
    assert_eq!((state.state.as_str(), state.terms.unwrap().lines.len()), ("cancelled", 2));
    let RequestOutcome::Settled { receipt: first, .. } = placed else { panic!() };
    let RequestOutcome::Settled { receipt, replayed } = commit_one(ledger, request).await else { panic!() };
    assert_eq!((receipt, replayed), (first, true), "the outcome of placing the order never changes");
    let totals = Totals { placed: 0, cancelled: 1, rejected: 0, lines: 0, units: 0 };
    assert_eq!(ledger.totals().await.unwrap(), totals);
}

pub(crate) async fn an_order_can_be_placed_and_cancelled_in_one_batch(database: &Database) {
    let ledger = &database.ledger;
    let shop = Shop::open(ledger, "acme", &[("A", 5)]).await;
    let request = shop.place("k", &[("A", 5)]);
    let cancel = shop.cancel("c", order_of(&request));
    let answers = commit(ledger, vec![request, cancel, shop.place("next", &[("A", 4)])]).await;
    assert_eq!(settled(&answers[1]), (Outcome::Cancelled, false));
    assert!(is_placed(&answers[2]), "units of a cancelled order are for sale in the same batch");
    assert_eq!(shop.stock(ledger, "A").await, (1, 4));
    assert_eq!(ledger.totals().await.unwrap().cancelled, 1);
}

pub(crate) async fn what_was_never_placed_is_not_cancellable(database: &Database) {
    let ledger = &database.ledger;
    let shop = Shop::open(ledger, "acme", &[("A", 1)]).await;
    let request = shop.place("k", &[("A", 2)]);
    let order = order_of(&request);
    let answers = commit(ledger, vec![request, shop.cancel("c1", order)]).await;
    assert_eq!(settled(&answers[1]), (Outcome::NotCancellable, false), "in the batch of the rejected order");
    let later = commit_one(ledger, shop.cancel("c2", order)).await;
    assert_eq!(settled(&later), (Outcome::NotCancellable, false), "in a later batch");
    assert_eq!(shop.stock(ledger, "A").await, (1, 0));
}

pub(crate) async fn no_brand_sees_or_cancels_another_brand_s_order(database: &Database) {
    let ledger = &database.ledger;
    let shop = Shop::open(ledger, "acme", &[("A", 5)]).await;
    let other = Shop::open(ledger, "other", &[("A", 5)]).await;
    let request = shop.place("k", &[("A", 5)]);
    let order = order_of(&request);
    commit_one(ledger, request.clone()).await;
    assert_eq!(commit_one(ledger, other.cancel("c", order)).await, refused(Refusal::NotFound));
    assert_eq!(ledger.look_up(&other.brand, order, None).await.unwrap(), None);
    assert_eq!(ledger.look_up(&other.brand, order, Some(request.key)).await.unwrap(), None);
    assert_eq!(other.stock(ledger, "A").await, (5, 0), "the other brand's stock is as before");
    assert!(
        is_placed(&commit_one(ledger, other.place("k", &[("A", 5)])).await),
        "each brand has its own keys"
    );
}

pub(crate) async fn orders_looked_up_together_are_each_answered_as_alone(database: &Database) {
    let ledger = &database.ledger;
    let shop = Shop::open(ledger, "acme", &[("A", 5), ("B", 5)]).await;
    let other = Shop::open(ledger, "other", &[("A", 5)]).await;
    let both = shop.place("k1", &[("B", 1), ("A", 2)]);
    let sold_out = shop.place("k2", &[("A", 9)]);
    let others = other.place("k1", &[("A", 3)]);
    let cancelled = shop.place("k3", &[("B", 4)]);
    for request in [&both, &sold_out, &others, &cancelled] {
        commit_one(ledger, request.clone()).await;
    }
    commit_one(ledger, shop.cancel("c", order_of(&cancelled))).await;
    let question = |shop: &Shop, order: OrderId, key| Question { brand: shop.brand.clone(), order, key };
    let questions = [
        question(&other, order_of(&both), None),
        question(&shop, order_of(&both), None),
        question(&shop, order_id(), None),
        question(&shop, order_id(), Some(sold_out.key)),
        question(&other, order_of(&others), Some(both.key)),
        question(&other, order_of(&others), Some(others.key)),
        question(&shop, order_of(&cancelled), Some(shop.key("never arrived"))),
        question(&shop, order_of(&both), Some(both.key)),
    ];
    let mut alone = Vec::new();
    for Question { brand, order, key } in &questions {
        alone.push(ledger.look_up(brand, *order, *key).await.unwrap());
    }
    assert_eq!(ledger.look_up_all(&questions).await.unwrap(), alone);
    let states: Vec<Option<&str>> =
        alone.iter().map(|found| found.as_ref().map(|state| state.state.as_str())).collect();
    let placed = Some("placed");
    assert_eq!(
        states,
        [None, placed, None, Some("sold-out"), None, placed, Some("cancelled"), placed],
        "neither another brand's order nor another brand's key is found"
    );
    let lines: Vec<usize> = alone
        .iter()
        .flatten()
        .map(|state| state.terms.as_ref().map_or(0, |terms| terms.lines.len()))
        .collect();
    assert_eq!(lines, [2, 0, 1, 1, 2]);
    assert_eq!(ledger.look_up_all(&[]).await.unwrap(), []);
}

pub(crate) async fn an_order_of_2000_lines_is_committed_and_read_back_in_order(database: &Database) {
    let ledger = &database.ledger;
    // The lines are neither in the file's order nor in alphabetical order.
    let names: Vec<String> = (0..2_000).map(|n| format!("SKU-{}", n * 7_919 % 2_000)).collect();
    let stock: Vec<(&str, i64)> = names.iter().rev().map(|name| (name.as_str(), 2)).collect();
    let shop = Shop::open(ledger, "acme", &stock).await;
    let lines: Vec<(&str, i64)> = names.iter().map(|name| (name.as_str(), 2)).collect();
    let request = shop.place("k", &lines);
    assert!(is_placed(&commit_one(ledger, request.clone()).await));
    let state = ledger.look_up(&shop.brand, order_of(&request), None).await.unwrap().unwrap();
    let read: Vec<String> = state.terms.unwrap().lines.into_iter().map(|line| line.sku).collect();
    assert_eq!(read, names);
    commit_one(ledger, shop.cancel("c", order_of(&request))).await;
    assert_eq!(shop.stock(ledger, "SKU-17").await, (2, 0));
}

pub(crate) async fn a_batch_of_1000_on_one_hot_sku_never_oversells(database: &Database) {
    let ledger = &database.ledger;
    let shop = Shop::open(ledger, "acme", &[("HOT", 700)]).await;
    let requests: Vec<Request> = (0..1_000).map(|n| shop.place(&n.to_string(), &[("HOT", 1)])).collect();
    let answers = commit(ledger, requests.clone()).await;
    assert!(answers[..700].iter().all(is_placed), "the first 700 orders get the units");
    assert!(answers[700..].iter().all(|answer| settled(answer) == (sold_out("HOT"), false)));
    assert_eq!(shop.stock(ledger, "HOT").await, (0, 700));

    let positions: HashSet<i64> = answers.iter().map(position).collect();
    assert_eq!(positions.len(), 1_000, "no two outcomes share a position");
    let replayed = commit(ledger, requests).await;
    assert!(replayed.iter().zip(&answers).all(|(replayed, first)| position(replayed) == position(first)));
    let totals = Totals { placed: 700, cancelled: 0, rejected: 300, lines: 700, units: 700 };
    assert_eq!(ledger.totals().await.unwrap(), totals);
}

pub(crate) async fn committers_at_once_never_oversell(database: &Database) {
    let shop = Shop::open(&database.ledger, "acme", &[("HOT", 100), ("COLD", 1_000)]).await;
    let other = database.second_agent().await;
    let run = |ledger, name: &'static str, lines: [(&'static str, i64); 2]| {
        let shop = &shop;
        async move {
            let mut placed = 0;
            for round in 0..10 {
                let request = |n| shop.place(&format!("{name}-{round}-{n}"), &lines);
                let answers = commit(ledger, (0..8).map(request).collect()).await;
                placed += answers.iter().filter(|answer| is_placed(answer)).count();
            }
            placed
        }
    };
    // The two SKUs come in opposite orders. Writers that locked rows in order of arrival would
    // deadlock.
    let (a, b) = ([("HOT", 1), ("COLD", 1)], [("COLD", 1), ("HOT", 1)]);
    let (first, second, third) = tokio::join!(
        run(&database.ledger, "first", a),
        run(&other, "second", b),
        run(&database.ledger, "third", b)
    );
    assert_eq!(first + second + third, 100);
    assert_eq!(shop.stock(&other, "HOT").await, (0, 100));
    assert_eq!(shop.stock(&other, "COLD").await, (900, 100));
}

pub(crate) async fn cancellations_at_once_give_the_units_back_once(database: &Database) {
    let ledger = &database.ledger;
    let shop = Shop::open(ledger, "acme", &[("A", 50)]).await;
    let other = database.second_agent().await;
    for round in 0..10 {
        let request = shop.place(&format!("k{round}"), &[("A", 5)]);
        let order = order_of(&request);
        commit_one(ledger, request).await;
        let (first, second) = tokio::join!(
            commit_one(ledger, shop.cancel(&format!("c{round}"), order)),
            commit_one(&other, shop.cancel(&format!("d{round}"), order)),
        );
        assert_eq!(settled(&first), (Outcome::Cancelled, false));
        assert_eq!(settled(&second), (Outcome::Cancelled, false));
        assert_eq!(shop.stock(ledger, "A").await, (50, 0));
    }
}

pub(crate) async fn two_agents_that_send_the_same_keys_at_once_agree(database: &Database) {
    let ledger = &database.ledger;
    let shop = Shop::open(ledger, "acme", &[("A", 1_000), ("B", 1_000)]).await;
    let other = database.second_agent().await;
    for round in 0..10 {
        // Both agents send the same keys, in opposite orders. In odd rounds the SKUs differ, so the
        // two can meet only at the keys.
        let requests = |sku, body| -> Vec<Request> {
            let request = |n| shop.place(&format!("k{round}-{n}"), &[(sku, 1)]);
            (0..10).map(|n| Request { fingerprint: [body; 32], ..request(n) }).collect()
        };
        let (sku, body) = if round % 2 == 0 { ("A", 1) } else { ("B", 2) };
        let second = requests(sku, body).into_iter().rev().collect();
        let (first, second) = tokio::join!(commit(ledger, requests("A", 1)), commit(&other, second));
        for (first, second) in first.iter().zip(second.iter().rev()) {
            if body == 1 {
                assert_eq!(receipt(first), receipt(second), "each key has one outcome");
            } else {
                let refusals = [first, second].map(|answer| *answer == refused(Refusal::KeyReused));
                assert_eq!(refusals.iter().filter(|refused| **refused).count(), 1, "{first:?} {second:?}");
            }
        }
    }
    assert_eq!(ledger.totals().await.unwrap().placed, 100);
    let (a, b) = (shop.stock(ledger, "A").await.1, shop.stock(ledger, "B").await.1);
    assert_eq!(a + b, 100);
}

pub(crate) async fn a_request_that_the_database_refuses_is_found_and_refused_alone(database: &Database) {
    let ledger = &database.ledger;
    let shop = Shop::open(ledger, "acme", &[("A", 1_000)]).await;
    database
        .run(
            "ALTER TABLE order_lines ADD CONSTRAINT planted CHECK (quantity <> 13)",
            "CREATE TRIGGER planted BEFORE INSERT ON order_lines WHEN new.quantity = 13 \
             BEGIN SELECT RAISE(ABORT, 'planted'); END",
        )
        .await;
    let units = |n| if [3, 40, 41].contains(&n) { 13 } else { 1 };
    let requests: Vec<Request> = (0..50).map(|n| shop.place(&n.to_string(), &[("A", units(n))])).collect();
    let answers = commit(ledger, requests.clone()).await;
    for (n, answer) in answers.iter().enumerate() {
        match units(n) {
            13 => assert_eq!(*answer, refused(Refusal::Failed)),
            _ => assert!(is_placed(answer), "{n}: {answer:?}"),
        }
    }
    assert_eq!(shop.stock(ledger, "A").await, (953, 47));
    assert_eq!(
        database.count("SELECT count(*) FROM outcomes").await,
        47,
        "the refused requests left no outcome"
    );

    database.run("ALTER TABLE order_lines DROP CONSTRAINT planted", "DROP TRIGGER planted").await;
    assert!(is_placed(&commit_one(ledger, requests[3].clone()).await), "the failed request settled its key");
}

pub(crate) async fn an_order_id_is_placed_once_whatever_its_key(database: &Database) {
    let ledger = &database.ledger;
    let shop = Shop::open(ledger, "acme", &[("A", 10)]).await;
    let order = order_id();
    let place = |key| shop.place_at(key, order, PRICE, "KRW", &[("A", 1)]);
    let answers = commit(ledger, vec![place("1"), place("2")]).await;
    assert!(is_placed(&answers[0]));
    assert_eq!(answers[1], refused(Refusal::Failed));
    assert_eq!(shop.stock(ledger, "A").await, (9, 1));
}

/// An agent of a later release may write outcomes that this one does not know. They are refusals.
pub(crate) async fn a_later_releases_outcome_is_a_refusal_that_keeps_its_key(database: &Database) {
    let ledger = &database.ledger;
    let shop = Shop::open(ledger, "acme", &[("A", 1), ("B", 10)]).await;
    let refused_later = shop.place("1", &[("A", 2)]);
    assert_eq!(settled(&commit_one(ledger, refused_later.clone()).await).0, sold_out("A"));
    for (key, columns, sku) in [
        ("2", "outcome = 'held-for-review'", Some("A")),
        ("3", "price = 7, currency = 'KRW', opens_at = 1, customer_limit = 2, bought = 3", Some("A")),
        ("4", "sku = NULL", None),
    ] {
        let later = format!("UPDATE outcomes SET {columns} WHERE outcome <> 'placed'");
        database.run(&later, &later).await;
        let others = shop.place(key, &[("B", 1)]);
        let answers = commit(ledger, vec![refused_later.clone(), others]).await;
        let (outcome, replayed) = settled(&answers[0]);
        assert!(matches!(outcome, Outcome::Later { .. }), "{outcome:?}");
        assert_eq!(
            (outcome.code(), outcome.sku().map(Sku::as_str), replayed),
            ("held-for-review", sku, true)
        );
        assert_eq!(settled(&answers[1]).0.code(), "placed");
    }
    let order = order_of(&refused_later);
    let mut other_body = refused_later.clone();
    other_body.fingerprint = [9; 32];
    assert_eq!(commit_one(ledger, other_body).await, refused(Refusal::KeyReused));
    let cancelled = commit_one(ledger, shop.cancel("c", order)).await;
    assert_eq!(settled(&cancelled), (Outcome::NotCancellable, false));
    let state = ledger.look_up(&shop.brand, order, None).await.unwrap().unwrap();
    assert_eq!((state.state.as_str(), state.terms), ("held-for-review", None));
}

pub(crate) async fn personal_data_is_stored_as_it_came_and_its_reading_is_recorded(database: &Database) {
    let ledger = &database.ledger;
    let shop = Shop::open(ledger, "acme", &[("A", 10)]).await;
    let requests: Vec<Request> = (0..3).map(|n| shop.place(&n.to_string(), &[("A", 1)])).collect();
    commit(ledger, requests.clone()).await;
    for request in &requests {
        let order = order_of(request);
        assert_eq!(ledger.personal(order).await.unwrap(), Some((shop.brand.clone(), personal(order))));
    }
    assert_eq!(ledger.personal(order_id()).await.unwrap(), None);
    ledger.record_personal_access(order_of(&requests[0]), "a parcel came back", "dba", now()).await.unwrap();
    let recorded =
        "SELECT count(*) FROM personal_access WHERE who = 'dba' AND purpose = 'a parcel came back'";
    assert_eq!(database.count(recorded).await, 1);
}

pub(crate) async fn stock_is_imported_and_imported_again(database: &Database) {
    let ledger = &database.ledger;
    let shop = Shop::open(ledger, "acme", &[("A", 10), ("B", 10)]).await;
    commit_one(ledger, shop.place("k", &[("A", 4)])).await;
    let file = "brand,sku,unit_price,currency,quantity\nacme,A,7,KRW,100\nacme,C,7,KRW,0\nnew,A,7,GBP,1\n";
    assert_eq!(import(ledger, file).await, Imported { brands: 1, skus_new: 2, skus_updated: 1 });

    assert_eq!(
        shop.stock(ledger, "A").await,
        (100, 4),
        "the import sets the available units, and sold units stay sold"
    );
    assert_eq!(shop.stock(ledger, "B").await, (10, 0), "a SKU that is not in the file keeps its stock");
    assert_eq!(shop.stock(ledger, "C").await, (0, 0));
    let at_the_new_price = shop.place_at("k2", order_id(), 7, "KRW", &[("A", 1)]);
    assert!(is_placed(&commit_one(ledger, at_the_new_price).await));
    assert_eq!(import(ledger, file).await, Imported { brands: 0, skus_new: 0, skus_updated: 3 });
}

pub(crate) async fn a_second_currency_for_a_brand_is_refused_and_nothing_is_imported(database: &Database) {
    let ledger = &database.ledger;
    let shop = Shop::open(ledger, "acme", &[("A", 10)]).await;
    let file = "brand,sku,unit_price,currency,quantity\nnew,N,1,GBP,1\nacme,B,1,USD,1\n";
    let file = StockFile::read(file.as_bytes()).unwrap();
    let error = ledger.import_stock(&file, WAIT, |_| {}).await.unwrap_err();
    assert!(matches!(error, ImportError::Mistakes(_)));
    assert!(
        error.to_string().ends_with("line 3: currency: is USD, but acme sells in KRW in this ledger"),
        "{error}"
    );
    assert_eq!(ledger.stock_sums(&shop.brand).await.unwrap().len(), 1);
    assert_eq!(database.count("SELECT count(*) FROM brands").await, 1);
}

pub(crate) async fn a_hundred_thousand_skus_are_imported_at_once(database: &Database) {
    let ledger = &database.ledger;
    let rows = (0..100_000).map(|n| format!("acme,SKU-{n},{n},KRW,{n}\n"));
    let csv: String =
        std::iter::once("brand,sku,unit_price,currency,quantity\n".to_owned()).chain(rows).collect();
    let file = StockFile::read(csv.as_bytes()).unwrap();
    let mut steps = Vec::new();
    let progress = |told: Progress<'_>| {
        if let Progress::Done(done) = told {
            steps.push(done);
        }
    };
    let imported = ledger.import_stock(&file, WAIT, progress).await.unwrap();
    assert_eq!(imported, Imported { brands: 1, skus_new: 100_000, skus_updated: 0 });
    assert!(steps.is_sorted() && steps.last() == Some(&100_000));
    assert_eq!(import(ledger, &csv).await, Imported { brands: 0, skus_new: 0, skus_updated: 100_000 });
    let shop = Shop { brand: Brand::new("acme").unwrap() };
    assert_eq!(shop.stock(ledger, "SKU-77777").await, (77_777, 0));
}

pub(crate) async fn migrations_are_applied_once_and_said_to_be_missing_before(database: &Database) {
    let ledger = &database.ledger;
    ledger.ready().await.unwrap();
    assert_eq!(ledger.migrate().await.unwrap(), [], "a migration was left");
    let newer = "UPDATE schema_migrations SET version = 11 WHERE version = 10";
    database.run(newer, newer).await;
    assert!(matches!(ledger.ready().await, Err(NotReady::New { found: 11, needed: 10 })));
    assert!(ledger.migrate().await.is_err(), "a migration must not change a newer build's tables");
    database.run("DROP TABLE schema_migrations", "DROP TABLE schema_migrations").await;
    let fresh: Ledger = connect(database.url()).await;
    assert!(matches!(fresh.ready().await, Err(NotReady::Empty)));
    assert!(matches!(ledger.ready().await, Err(NotReady::Empty)));
    ledger.ping().await.unwrap();
    assert!(commit(ledger, Vec::new()).await.is_empty());
}

pub(crate) async fn agents_on_one_ledger_must_have_the_same_keys(database: &Database) {
    let (first, second) = (&database.ledger, connect(database.url()).await);
    let [ours, theirs] = [1, 2].map(|seed| Keyring::for_tests(seed).checks());
    let other = |files: &str| format!("{:?}", Err::<(), _>(NotReady::OtherKeys(files.to_owned())));
    let checked =
        async |ledger: &Ledger, checks: &[KeyCheck]| format!("{:?}", ledger.check_keys(checks, now()).await);
    for ledger in [first, &second, first] {
        assert_eq!(checked(ledger, &ours).await, "Ok(())");
    }
    assert_eq!(checked(&second, &theirs).await, other("fingerprint.key, kek-1.key"));

    // The next epoch of the key-encryption key. The second agent gets that key later, after it has
    // made one itself.
    let named = |name: &str, value| vec![KeyCheck { name: name.to_owned(), value: [value; 32] }];
    let next = [ours.clone(), named("kek-2", 1)].concat();
    assert_eq!(first.newer_keys(&ours).await.unwrap(), Vec::<String>::new());
    assert_eq!(checked(first, &next).await, "Ok(())");
    assert_eq!(checked(&second, &ours).await, "Ok(())");
    assert_eq!(second.newer_keys(&ours).await.unwrap(), ["kek-2.key"], "only the first agent has it");
    assert_eq!(first.newer_keys(&next).await.unwrap(), Vec::<String>::new());
    // The first epoch's key was deleted, so that its personal data cannot be read any more.
    let without_first: Vec<_> = next.iter().filter(|check| check.name != "kek-1").cloned().collect();
    assert_eq!(first.newer_keys(&without_first).await.unwrap(), Vec::<String>::new());
    let made = [ours.clone(), named("kek-2", 2), named("kek-3", 2)].concat();
    assert_eq!(checked(&second, &made).await, other("kek-2.key"));
    assert_eq!(
        checked(first, &[next, named("kek-3", 1)].concat()).await,
        "Ok(())",
        "the refused key was noted"
    );
}

pub(crate) async fn of_two_agents_that_begin_at_once_with_other_keys_one_begins(database: &Database) {
    let (first, second) = (&database.ledger, connect(database.url()).await);
    let [ours, theirs] = [1, 2].map(|seed| Keyring::for_tests(seed).checks());
    let checked = tokio::join!(first.check_keys(&ours, now()), second.check_keys(&theirs, now()));
    // The two agents have different values of both keys. Each may be first with one key, and then
    // neither agent starts.
    assert!(!matches!(checked, (Ok(()), Ok(()))), "{checked:?}");
    assert_eq!(database.count("SELECT count(*) FROM key_checks").await, 2);
}

fn receipt(answer: &RequestOutcome) -> &bridge_protocol::receipt::Receipt {
    match answer {
        RequestOutcome::Settled { receipt, .. } => receipt,
        RequestOutcome::Refused(refusal) => panic!("refused: {refusal:?}"),
    }
}

fn position(answer: &RequestOutcome) -> i64 {
    receipt(answer).position
}
