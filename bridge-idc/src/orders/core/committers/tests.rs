//! The committers: the choice of a committer for each request, and the requests that may be
//! committed side by side.

use bridge_protocol::domain::{
    Currency, IdempotencyKey, KeyDigest, Line, Money, OrderId, OrderTerms, Quantity, Sku,
};
use bridge_protocol::order_link::LinkId;
use bridge_protocol::order_link::receiver::{Received, Receiver, Token};
use bridge_protocol::wire::order::{Ask, ToIdc, to_idc};
use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::orders::planner::{Action, CustomerTag, Placement};
use crate::vault::PersonalAtRest;

const NOW: UnixMicros = UnixMicros::new(1_795_343_485_000_000);

fn committers(count: usize, requests: usize, lines: usize) -> Committers {
    Committers::new(count, BatchLimits { requests, lines }, &BrandWeights::default())
}

/// Returns a token. The queues pass it on and do not read it.
fn token() -> Token {
    let ask = Ask { brand: "shoes".into(), order: Bytes::copy_from_slice(id(0).as_bytes()), key: None };
    let message = ToIdc {
        request: 1,
        kind: Some(to_idc::Kind::Ask(ask)),
        sequence: 1,
        trace: None,
        remaining_millis: None,
    };
    match Receiver::new(8).handle_message(LinkId(1), 0, message) {
        Received::Deliver(token, _) => token,
        other => panic!("{other:?}"),
    }
}

fn id(order: u8) -> OrderId {
    OrderId::new(NOW, [order; 10])
}

fn key(brand: &Brand, key: u8) -> KeyDigest {
    IdempotencyKey::parse(format!("k{key}").as_bytes()).unwrap().digest(brand)
}

/// Returns an order of one unit of each of these SKUs. `number` gives its key and its id.
fn place(brand: &str, number: u8, skus: &[&str]) -> Request {
    let brand = Brand::new(brand).unwrap();
    let line =
        |sku: &&str| Line { sku: Sku::new(sku).unwrap(), quantity: Quantity::new(1).unwrap(), unit_price: 7 };
    let lines: Vec<Line> = skus.iter().map(line).collect();
    let money = |amount| Money::new(amount, Currency::new("KRW").unwrap()).unwrap();
    let total = money(7 * i64::try_from(lines.len()).unwrap());
    let placement = Placement {
        order: id(number),
        terms: OrderTerms::new(lines, money(0), total, "c".to_owned(), 2_000).unwrap(),
        customer: CustomerTag::from_bytes([1; 32]),
        personal: PersonalAtRest { key_version: 1, wrapped_key: Vec::new(), fields: Default::default() },
    };
    let key = key(&brand, number);
    Request { brand, key, fingerprint: [1; 32], action: Action::Place(Box::new(placement)) }
}

/// Returns a cancellation of an order. `number` gives its key.
fn cancel(brand: &str, number: u8, order: u8) -> Request {
    let brand = Brand::new(brand).unwrap();
    let key = key(&brand, number);
    Request { brand, key, fingerprint: [2; 32], action: Action::Cancel { order: id(order) } }
}

/// Returns the stock of a SKU of the brand `shoes`.
fn stock(sku: &str) -> Awaited {
    Awaited::Stock { brand: Brand::new("shoes").unwrap(), sku: Sku::new(sku).unwrap() }
}

impl Committers {
    fn queue(&mut self, request: Request) -> usize {
        let needs = self.needs_of(&request);
        let committer = self.owner(&needs);
        self.admit(Pending { token: token(), request, doubtful: false, since: NOW }, needs);
        committer
    }

    fn take_all_free(&mut self, committer: usize) -> Vec<Queued> {
        self.take_batch(committer, Some)
    }
}

/// Returns the last byte of each request's order id.
fn orders(batch: &[Queued]) -> Vec<u8> {
    batch.iter().map(|queued| queued.pending.request.action.order().as_bytes()[15]).collect()
}

fn end(committers: &mut Committers, batch: Vec<Queued>) {
    batch.into_iter().for_each(|queued| committers.leave(queued.ticket));
}

#[test]
fn a_hot_sku_stays_with_one_committer_and_leaves_others_alone() {
    let mut all = committers(3, 100, 100);
    let hot: Vec<usize> = (0..20).map(|number| all.queue(place("shoes", number, &["HOT"]))).collect();
    assert!(hot.iter().all(|committer| *committer == hot[0]), "{hot:?}");
    let batch = all.take_all_free(hot[0]);
    assert_eq!(batch.len(), 20);
    assert_eq!(all.queue(place("shoes", 20, &["HOT"])), hot[0], "also while it is committed");
    for number in 30..40 {
        let sku = format!("S{number}");
        assert_ne!(all.queue(place("socks", number, &[&sku])), hot[0]);
    }
    assert_ne!(
        all.queue(place("socks", 50, &["HOT"])),
        hot[0],
        "another brand's SKU of that name is another one"
    );
    end(&mut all, batch);
    assert_eq!(orders(&all.take_all_free(hot[0])), [20]);
}

#[test]
fn a_basket_goes_to_its_hottest_skus_committer_and_waits() {
    let mut all = committers(2, 100, 100);
    let hot = all.queue(place("shoes", 1, &["HOT"]));
    all.queue(place("shoes", 2, &["HOT"]));
    let cold = all.queue(place("shoes", 3, &["COLD"]));
    assert_ne!(hot, cold);
    let under_way = all.take_all_free(cold);
    assert_eq!(all.queue(place("shoes", 4, &["COLD", "HOT"])), hot);
    assert_eq!(
        all.queue(place("shoes", 5, &["COLD"])),
        hot,
        "behind the basket, that it does not wait for ever"
    );
    assert_eq!(all.queue(place("shoes", 6, &["HOT"])), hot);
    let batch = all.take_all_free(hot);
    assert_eq!(orders(&batch), [1, 2, 6], "who needs nothing of the other committer does not wait for it");
    assert!(all.take_all_free(hot).is_empty());
    end(&mut all, under_way);
    assert_eq!(orders(&all.take_all_free(hot)), [4, 5], "in the order of admission");
}

#[test]
fn requests_about_one_order_or_key_are_committed_by_one_in_order() {
    let mut all = committers(4, 100, 100);
    let other = all.queue(place("shoes", 7, &["B"]));
    let under_way = all.take_all_free(other);
    let first = all.queue(place("shoes", 8, &["A"]));
    assert_ne!(first, other);
    all.queue(place("shoes", 9, &["A"]));
    // Order 1 waits for the other committer. All requests about the same order or key wait behind
    // it.
    assert_eq!(all.queue(place("shoes", 1, &["A", "B"])), first);
    assert_eq!(all.queue(cancel("shoes", 20, 1)), first);
    let mut again = place("shoes", 2, &["C"]);
    again.key = key(&again.brand, 1);
    assert_eq!(all.queue(again), first, "the same key for another order, which needs other stock");
    let batch = all.take_all_free(first);
    assert_eq!(orders(&batch), [8, 9]);
    end(&mut all, batch);
    assert!((0..4).all(|committer| all.take_all_free(committer).is_empty()));
    end(&mut all, under_way);
    let batch = all.take_all_free(first);
    assert_eq!(orders(&batch), [1, 1, 2], "all in one batch, in the order of admission");
    end(&mut all, batch);
    assert!(all.claims.is_empty() && all.len() == 0);
}

#[test]
fn a_cancellation_goes_where_most_of_its_brand_is() {
    let mut all = committers(3, 100, 100);
    let socks = all.queue(place("socks", 1, &["S"]));
    let shoes = all.queue(place("shoes", 2, &["HOT"]));
    all.queue(place("shoes", 3, &["HOT"]));
    assert_ne!(socks, shoes);
    assert_eq!(all.queue(cancel("shoes", 4, 200)), shoes);
    assert_eq!(all.queue(cancel("socks", 5, 201)), socks);
    assert_eq!(all.queue(cancel("hats", 6, 202)), 2, "of a brand without any, where least is");
}

#[test]
fn a_cancellation_that_met_another_committers_stock_goes_behind_that_stock() {
    let mut all = committers(2, 100, 100);
    let cancels = all.queue(cancel("shoes", 1, 200));
    let owner = all.queue(place("shoes", 2, &["HOT"]));
    let other = all.queue(place("shoes", 3, &["B"]));
    assert_ne!(owner, other);
    let mut batch = all.take_all_free(cancels);
    let met = batch.remove(0);
    let hot = stock("HOT");
    assert!(met.ticket.needs.lacks(&hot));
    all.admit_again(met, &hot);
    let now = all.take_all_free(owner);
    assert!(now.iter().any(|queued| !queued.ticket.needs.lacks(&hot)), "{now:?}");
    assert_eq!(now.last().unwrap().pending.request.action.order(), id(200));
}

#[test]
fn orders_of_one_launch_go_to_one_committer_once_it_is_known() {
    let mut all = committers(2, 100, 100);
    let owner = all.queue(place("shoes", 1, &["S270"]));
    let other = all.queue(place("shoes", 2, &["S280"]));
    assert_ne!(owner, other, "nobody knows yet that one launch sells both");
    let launch = Awaited::Launch { brand: Brand::new("shoes").unwrap(), launch_id: 7 };
    for committer in [owner, other] {
        let met = all.take_all_free(committer).remove(0);
        assert!(met.ticket.needs.lacks(&launch));
        all.admit_again(met, &launch);
    }
    let now: Vec<usize> =
        (3..9).map(|n| all.queue(place("shoes", n, &[["S270", "S280"][n as usize % 2]]))).collect();
    assert!(now.iter().all(|committer| *committer == now[0]), "{now:?}");
    let batch = all.take_all_free(now[0]);
    assert_eq!(batch.len(), 8, "and all of them in one batch");
    assert!(batch.iter().all(|queued| !queued.ticket.needs.lacks(&launch)));
    let ordinary = all.queue(place("shoes", 9, &["SOCKS"]));
    assert_ne!(ordinary, now[0], "what the launch does not sell goes elsewhere");
}

#[test]
fn a_batch_is_bounded_in_requests_and_lines_but_takes_any_one() {
    for count in [1, 2] {
        let mut all = committers(count, 3, 4);
        all.queue(place("shoes", 1, &["A", "B", "C", "D", "E", "F"]));
        for number in 2..6 {
            all.queue(place("shoes", number, &["A"]));
        }
        all.queue(place("shoes", 6, &["A", "B", "C"]));
        all.queue(place("shoes", 7, &["A", "B"]));
        all.queue(cancel("shoes", 9, 7));
        let mut batches = Vec::new();
        while all.len() > 0 {
            let batch = all.take_all_free(0);
            batches.push(orders(&batch));
            end(&mut all, batch);
        }
        assert_eq!(batches, [vec![1], vec![2, 3, 4], vec![5, 6], vec![7, 7]], "{count} committers");
    }
}

#[test]
fn what_is_put_back_comes_first_and_keeps_what_it_needs() {
    let mut all = committers(2, 2, 100);
    let owner = all.queue(place("shoes", 1, &["A"]));
    for number in 2..4 {
        all.queue(place("shoes", number, &["A"]));
    }
    let batch = all.take_all_free(owner);
    assert_eq!(orders(&batch), [1, 2]);
    for mut queued in batch.into_iter().rev() {
        queued.pending.doubtful = true;
        all.put_back(queued);
    }
    let drained = all.drain_without_effect();
    assert_eq!((drained.len(), all.len()), (1, 2), "of the third it is certain that it had no effect");
    assert_eq!(all.queue(place("shoes", 4, &["A"])), owner);
    let batch = all.take_all_free(owner);
    assert_eq!(orders(&batch), [1, 2]);
    end(&mut all, batch);
    let batch = all.take_all_free(owner);
    assert_eq!(orders(&batch), [4]);
    end(&mut all, batch);
    assert!(all.claims.is_empty());
}

#[test]
fn what_somebody_else_holds_leaves_its_committer_with_all_that_it_needs() {
    let mut all = committers(2, 100, 100);
    let owner = all.queue(place("shoes", 1, &["HELD", "A"]));
    all.queue(place("shoes", 2, &["A"]));
    let mut apart = Vec::new();
    let is_held = |pending: &Pending| pending.request.action.order() == id(1);
    let batch = all.take_batch(owner, |pending| {
        if !is_held(&pending) {
            return Some(pending);
        }
        apart.push(pending);
        None
    });
    assert_eq!((apart.len(), orders(&batch)), (1, vec![2]));
    end(&mut all, batch);
    assert!(all.claims.is_empty() && all.len() == 0);
}

#[test]
fn a_brands_flood_delays_another_brand_by_no_batch() {
    for [socks_weight, socks_first] in [[1, 2], [3, 3]] {
        let weights = [(Brand::new("socks").unwrap(), socks_weight)].into_iter().collect();
        let mut all = Committers::new(1, BatchLimits { requests: 4, lines: 100 }, &weights);
        for number in 0..20 {
            all.queue(place("shoes", number, &["HOT"]));
        }
        for number in 20..24 {
            all.queue(place("socks", number, &["S"]));
        }
        let batch = orders(&all.take_all_free(0));
        let socks: Vec<u8> = batch.iter().copied().filter(|order| *order >= 20).collect();
        assert_eq!((batch.len(), socks.len()), (4, socks_first), "{batch:?}");
        assert_eq!(orders(&all.take_all_free(0)).len(), 4);
        let rest: Vec<usize> =
            std::iter::from_fn(|| Some(all.take_all_free(0).len()).filter(|len| *len > 0)).collect();
        assert_eq!((rest, all.len()), (vec![4, 4, 4, 4], 0));
    }
}

#[test]
fn a_large_basket_takes_no_more_than_its_brands_share() {
    let mut all = committers(1, 100, 100);
    let skus: Vec<String> = (0..40).map(|number| format!("S{number}")).collect();
    let skus: Vec<&str> = skus.iter().map(String::as_str).collect();
    for number in 0..3 {
        all.queue(place("shoes", number, &skus));
    }
    for number in 10..30 {
        all.queue(place("socks", number, &["S"]));
    }
    let batch = orders(&all.take_all_free(0));
    // The second basket fits: each costs as much as six small orders.
    let baskets: Vec<usize> = (0..batch.len()).filter(|at| batch[*at] < 10).collect();
    assert_eq!(baskets, [0, 7], "{batch:?}");
}

/// Baskets that waited for another committer come back all at once.
#[test]
fn what_was_passed_over_takes_turns_with_another_brand() {
    let mut all = committers(2, 4, 100);
    let owner = all.queue(place("shoes", 1, &["HOT"]));
    let other = all.queue(place("shoes", 2, &["COLD", "C1", "C2", "C3", "C4"]));
    let slow = all.take_all_free(other);
    assert_eq!(all.queue(place("shoes", 3, &["HOT"])), owner);
    assert_eq!(all.queue(place("socks", 4, &["S"])), owner);
    for number in 10..30 {
        assert_eq!(all.queue(place("shoes", number, &["COLD", "HOT"])), owner);
    }
    let batch = all.take_all_free(owner);
    assert_eq!(orders(&batch), [1, 4, 3], "the baskets wait for the other committer");
    for number in 40..44 {
        assert_eq!(all.queue(place("socks", number, &["S"])), owner);
    }
    end(&mut all, batch);
    end(&mut all, slow);
    let mut batches = Vec::new();
    while all.len() > 0 {
        let batch = all.take_all_free(owner);
        batches.extend(orders(&batch));
        end(&mut all, batch);
    }
    let socks: Vec<usize> = (0..batches.len()).filter(|at| batches[*at] >= 40).collect();
    assert_eq!(socks, [0, 2, 4, 6], "{batches:?}");
    batches.retain(|order| *order < 40);
    assert_eq!(batches, Vec::from_iter(10..30), "in the order of admission");
    assert!(all.claims.is_empty());
}

/// A step of the property test.
#[derive(Debug, Clone)]
enum Step {
    Place {
        brand: bool,
        skus: Vec<u8>,
    },
    Cancel {
        order: u8,
    },
    /// A committer takes a batch if it has none.
    Take(usize),
    /// A committer's batch ends.
    End(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let skus = prop::collection::btree_set(0..6_u8, 1..4);
    prop_oneof![
        4 => (any::<bool>(), skus).prop_map(|(brand, skus)| Step::Place { brand, skus: skus.into_iter().collect() }),
        1 => any::<u8>().prop_map(|order| Step::Cancel { order }),
        3 => (0..4_usize).prop_map(Step::Take),
        3 => (0..4_usize).prop_map(Step::End),
    ]
}

proptest! {
    /// No two committers have requests with a common need under way. Requests of a brand about one
    /// order end in the order of admission. All requests end.
    #[test]
    fn no_two_committers_ever_need_the_same_and_everything_ends(
        count in 1..5_usize,
        lines in 1..8_usize,
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut all = committers(count, 5, lines);
        let mut under_way: Vec<Vec<Queued>> = (0..count).map(|_| Vec::new()).collect();
        let (mut admitted, mut ended): (Vec<Request>, Vec<Request>) = (Vec::new(), Vec::new());
        let drain = (0..200).flat_map(|round| [Step::End(round % count), Step::Take(round % count)]);
        for step in steps.into_iter().chain(drain) {
            match step {
                Step::Place { brand, skus } => {
                    let skus: Vec<String> = skus.iter().map(|sku| format!("S{sku}")).collect();
                    let skus: Vec<&str> = skus.iter().map(String::as_str).collect();
                    let number = u8::try_from(admitted.len()).unwrap();
                    admitted.push(place(if brand { "shoes" } else { "socks" }, number, &skus));
                    all.queue(admitted[usize::from(number)].clone());
                }
                Step::Cancel { order } => {
                    let number = u8::try_from(admitted.len()).unwrap();
                    admitted.push(cancel("shoes", number, order % (number + 1)));
                    all.queue(admitted[usize::from(number)].clone());
                }
                Step::Take(committer) if committer < count && under_way[committer].is_empty() => {
                    let batch = all.take_all_free(committer);
                    prop_assert!(batch.len() <= 5);
                    let held: usize = batch.iter().map(|queued| queued.ticket.lines).sum();
                    prop_assert!(held <= lines || batch.len() == 1);
                    under_way[committer] = batch;
                    for (one, others) in under_way.iter().enumerate() {
                        for other in &under_way[one + 1..] {
                            let shares = |a: &Queued, b: &Queued| {
                                let needs = &b.ticket.needs;
                                a.ticket.needs.all().any(|need| needs.all().any(|other| other == need))
                            };
                            let both = others.iter().any(|a| other.iter().any(|b| shares(a, b)));
                            prop_assert!(!both, "{under_way:?}");
                        }
                    }
                }
                Step::End(committer) if committer < count => {
                    let batch = std::mem::take(&mut under_way[committer]);
                    ended.extend(batch.iter().map(|queued| queued.pending.request.clone()));
                    end(&mut all, batch);
                }
                Step::Take(_) | Step::End(_) => {}
            }
        }
        prop_assert_eq!(all.len(), 0);
        prop_assert!(count == 1 || all.claims.is_empty());
        for request in &admitted {
            let about = |list: &[Request]| {
                let same = list.iter().filter(|other| other.brand == request.brand);
                let same = same.filter(|other| other.action.order() == request.action.order());
                Vec::from_iter(same.map(|other| other.key))
            };
            prop_assert_eq!(about(&admitted), about(&ended));
        }
    }
}

/// A step of the property test with a database that fails at times.
#[derive(Debug, Clone)]
enum DoubtStep {
    /// Queues an order of a brand with one of few keys.
    Place {
        brand: usize,
        key: u8,
        skus: Vec<u8>,
    },
    Cancel {
        brand: usize,
        order: u8,
    },
    /// Queues an order in doubt that waited for a held row.
    Doubtful {
        brand: usize,
        key: u8,
        skus: Vec<u8>,
    },
    Take(usize),
    /// Ends the batch of a committer, with the end of each request.
    End(usize, Vec<RequestStep>),
}

#[derive(Debug, Clone)]
enum RequestStep {
    Ends,
    /// Its outcome is unknown.
    Unknown,
    /// It turned out to need this stock too.
    Needs(u8),
}

/// Brands of the property test, of the same weight.
const BRANDS: [&str; 3] = ["shoes", "socks", "hats"];

fn doubt_step() -> impl Strategy<Value = DoubtStep> {
    let skus = || prop::collection::btree_set(0..4_u8, 1..3).prop_map(Vec::from_iter);
    // Most requests are of one brand, so that they often need the same.
    let brand = || prop_oneof![3 => Just(0), 1 => 0..BRANDS.len()];
    let ends = prop_oneof![
        4 => Just(RequestStep::Ends),
        1 => Just(RequestStep::Unknown),
        1 => (0..4_u8).prop_map(RequestStep::Needs),
    ];
    prop_oneof![
        4 => (brand(), 0..4_u8, skus()).prop_map(|(brand, key, skus)| DoubtStep::Place { brand, key, skus }),
        1 => (brand(), any::<u8>()).prop_map(|(brand, order)| DoubtStep::Cancel { brand, order }),
        2 => (brand(), 0..4_u8, skus()).prop_map(|(brand, key, skus)| DoubtStep::Doubtful { brand, key, skus }),
        3 => (0..4_usize).prop_map(DoubtStep::Take),
        3 => ((0..4_usize), prop::collection::vec(ends, 5)).prop_map(|(committer, ends)| DoubtStep::End(committer, ends)),
    ]
}

impl Committers {
    /// Ends a batch as the order core does.
    fn end_so(&mut self, batch: Vec<Queued>, ends: Vec<RequestStep>) {
        let mut unknown = Vec::new();
        for (mut queued, end) in batch.into_iter().zip(ends) {
            let brand = queued.pending.request.brand.clone();
            let sku = |sku: u8| {
                let sku = Sku::new(&format!("S{sku}")).unwrap();
                Awaited::Stock { brand: brand.clone(), sku }
            };
            match end {
                RequestStep::Unknown => {
                    queued.pending.doubtful = true;
                    unknown.push(queued);
                }
                RequestStep::Needs(more) if queued.ticket.needs.lacks(&sku(more)) => {
                    self.admit_again(queued, &sku(more));
                }
                RequestStep::Ends | RequestStep::Needs(_) => self.leave(queued.ticket),
            }
        }
        if !unknown.is_empty() {
            unknown.into_iter().rev().for_each(|queued| self.put_back(queued));
            self.drain_without_effect();
        }
    }

    /// Returns the requests in the queue of a committer.
    fn queued_at(&self, committer: usize) -> impl Iterator<Item = &Queued> {
        let queue = &self.queues[committer];
        queue.passed_over.iter().chain(queue.waiting.iter())
    }

    /// Returns true if a request of the brand could be taken: it and all earlier ones about its key
    /// or order need no row of another committer.
    fn has_ready(&self, committer: usize, brand: &str) -> bool {
        let mut queued: Vec<&Queued> = self.queued_at(committer).collect();
        queued.sort_by_key(|queued| queued.ticket.number);
        let mut wait: Vec<&Queued> = Vec::new();
        queued.into_iter().any(|queued| {
            let is_ready = self.claims.is_ready(&queued.ticket.needs, queued.ticket.number)
                && !wait.iter().any(|other| goes_before(other, queued));
            if !is_ready {
                wait.push(queued);
            }
            is_ready && queued.brand().as_str() == brand
        })
    }
}

/// Returns true if two requests are about the same key or order, and the first was admitted first.
fn goes_before(first: &Queued, second: &Queued) -> bool {
    let [one, other] = [first, second].map(|queued| queued.ticket.needs.identities());
    first.ticket.number < second.ticket.number && one.iter().any(|about| other.contains(about))
}

/// For each brand with a request that could be taken: requests of each brand that a committer has
/// taken since this brand's last turn.
type Overtaken = [[usize; BRANDS.len()]; BRANDS.len()];

/// Checks the sequence of a batch, and that no brand waits while another one has two turns.
fn check_turns(all: &Committers, committer: usize, batch: &[Queued], overtaken: &mut Overtaken) {
    for (at, queued) in batch.iter().enumerate() {
        let is_early = |other: &Queued| other.brand() == queued.brand() && goes_before(other, queued);
        assert!(!all.queued_at(committer).any(is_early), "{queued:?} overtakes");
        assert!(!batch[at + 1..].iter().any(is_early), "{queued:?} overtakes in its batch");
        let brand = BRANDS.iter().position(|brand| *brand == queued.brand().as_str()).unwrap();
        overtaken.iter_mut().for_each(|of_a_brand| of_a_brand[brand] += 1);
        overtaken[brand] = [0; BRANDS.len()];
    }
    for (brand, name) in BRANDS.iter().enumerate() {
        if !all.has_ready(committer, name) {
            overtaken[brand] = [0; BRANDS.len()];
        }
    }
    assert!(overtaken.as_flattened().iter().all(|turns| *turns <= 1), "{overtaken:?} {all:?}");
}

proptest! {
    /// Every request ends, also with keys used twice, requests in doubt, and needs that come up
    /// late. Requests of a brand about one key or order are taken in the order of admission. Brands
    /// take turns.
    #[test]
    fn everything_ends_whatever_is_in_doubt_or_needs_more(
        count in 2..5_usize,
        lines in 1..8_usize,
        steps in prop::collection::vec(doubt_step(), 1..80),
    ) {
        let mut all = committers(count, 5, lines);
        let mut under_way: Vec<Vec<Queued>> = (0..count).map(|_| Vec::new()).collect();
        let mut overtaken = [Overtaken::default(); 4];
        let mut number = 0_u8;
        let mut keyed = |brand: usize, keyed: u8, skus: &[u8]| {
            number += 1;
            let skus: Vec<String> = skus.iter().map(|sku| format!("S{sku}")).collect();
            let skus: Vec<&str> = skus.iter().map(String::as_str).collect();
            let request = place(BRANDS[brand], number, &skus);
            Request { key: key(&request.brand, keyed), ..request }
        };
        let end = |committer| DoubtStep::End(committer, vec![RequestStep::Ends; 5]);
        let drain = (0..400).flat_map(|round| [end(round % count), DoubtStep::Take(round % count)]);
        for step in steps.into_iter().chain(drain) {
            match step {
                DoubtStep::Place { brand, key, skus } => drop(all.queue(keyed(brand, key, &skus))),
                DoubtStep::Cancel { brand, order } => drop(all.queue(cancel(BRANDS[brand], 9, order % 80))),
                DoubtStep::Doubtful { brand, key, skus } => {
                    let request = keyed(brand, key, &skus);
                    let needs = all.needs_of(&request);
                    all.admit(Pending { token: token(), request, doubtful: true, since: NOW }, needs);
                    all.drain_without_effect();
                    overtaken = Default::default();
                }
                DoubtStep::Take(committer) if committer < count && under_way[committer].is_empty() => {
                    let batch = all.take_all_free(committer);
                    check_turns(&all, committer, &batch, &mut overtaken[committer]);
                    under_way[committer] = batch;
                }
                DoubtStep::End(committer, ends) if committer < count => {
                    // After a failure the turns begin anew, with what is in doubt.
                    if ends.iter().any(|end| matches!(end, RequestStep::Unknown)) {
                        overtaken = Default::default();
                    }
                    all.end_so(std::mem::take(&mut under_way[committer]), ends);
                }
                DoubtStep::Take(_) | DoubtStep::End(..) => {}
            }
        }
        prop_assert_eq!(all.len(), 0, "{:?}", all);
        prop_assert!(all.claims.is_empty());
    }
}
