//! Tests of the reserve in the links' windows. A brand with little in flight waits for nobody.

use super::*;

const SHOES: BrandIndex = BrandIndex(0);
const TEA: BrandIndex = BrandIndex(1);

pub(super) fn sender_of(weights: &[usize], windows: &[u32]) -> Sender {
    let limits = SenderLimits { queue_max: 10_000, ..limits() };
    let mut sender = Sender::with_weights(limits, weights);
    for (link, window) in windows.iter().enumerate() {
        sender.handle_link_up(at(0), LinkId(1 + link as u64), 1, *window);
    }
    sender
}

/// Submits this many cancellations of a brand.
pub(super) fn flood(sender: &mut Sender, brand: BrandIndex, count: usize) {
    for _ in 0..count {
        let number = sender.next_request.to_be_bytes();
        let mut key = [0; 32];
        key[..8].copy_from_slice(&number);
        let order = OrderId::new(UnixMicros::new(1), key[..10].try_into().unwrap());
        let cancel = Cancel {
            brand: "b".into(),
            order: Bytes::copy_from_slice(order.as_bytes()),
            key: Bytes::copy_from_slice(&key),
        };
        sender.submit(at(0), brand, order, to_idc::Kind::Cancel(cancel), BODY).unwrap();
    }
}

/// Returns the requests of a brand that are on a link.
pub(super) fn in_flight(sender: &Sender, brand: BrandIndex) -> Vec<(RequestId, LinkId)> {
    let mut out: Vec<(RequestId, LinkId)> = sender
        .requests
        .iter()
        .filter(|(_, request)| request.brand == brand)
        .filter_map(|(id, request)| match request.place {
            RequestState::InFlight { link, .. } => Some((*id, link)),
            _ => None,
        })
        .collect();
    out.sort_unstable();
    out
}

#[test]
fn beside_a_flood_a_brands_share_of_the_reserve_goes_at_once() {
    let mut sender = sender_of(&[1, 1], &[80]);
    flood(&mut sender, SHOES, 200);
    assert_eq!(in_flight(&sender, SHOES).len(), 70, "all except the reserve");
    flood(&mut sender, TEA, 7);
    assert_eq!(in_flight(&sender, TEA).len(), 5, "half of the reserve");
    // What leaves the window goes to the reserve again, and then to both by turns.
    for (id, link) in in_flight(&sender, SHOES).into_iter().take(9) {
        sender.handle_answer(at(0), link, settled(id));
    }
    assert_eq!((in_flight(&sender, SHOES).len(), in_flight(&sender, TEA).len()), (63, 7));
}

#[test]
fn without_another_brand_or_in_a_small_window_nothing_is_kept() {
    for (weights, window) in [(&[5][..], 80), (&[1, 1][..], 7)] {
        let mut sender = sender_of(weights, &[window]);
        flood(&mut sender, SHOES, 100);
        assert_eq!(in_flight(&sender, SHOES).len(), window as usize);
    }
}

#[test]
fn each_brand_waits_only_above_its_share_of_the_reserve() {
    for seed in 0..30 {
        let mut dice = Dice(seed);
        let weights: Vec<usize> = (0..2 + dice.usize_below(5)).map(|_| 1 + dice.usize_below(4)).collect();
        let windows: Vec<u32> =
            (0..1 + dice.usize_below(3)).map(|_| 400 + dice.usize_below(400) as u32).collect();
        let reserve: usize = windows.iter().map(|window| *window as usize / 8).sum();
        let mut sender = sender_of(&weights, &windows);
        for step in 0..100 {
            let brand = BrandIndex(dice.usize_below(weights.len()));
            if dice.usize_below(2) == 0 {
                let most = [5, 50, 500][dice.usize_below(3)];
                flood(&mut sender, brand, dice.usize_below(most));
            } else {
                for (id, link) in in_flight(&sender, brand) {
                    if dice.usize_below(2) == 0 {
                        sender.handle_answer(at(0), link, settled(id));
                    }
                }
            }
            drain(&mut sender);
            for (index, weight) in weights.iter().enumerate() {
                let brand = BrandIndex(index);
                let waiting = sender.queues.of(RequestClass::Write).waiting_of(brand, &[]);
                let share = reserve * weight / weights.iter().sum::<usize>();
                assert!(
                    waiting == 0 || in_flight(&sender, brand).len() >= share,
                    "seed {seed}, step {step}, weights {weights:?}, windows {windows:?}: {waiting} of brand {index} wait"
                );
            }
        }
    }
}
