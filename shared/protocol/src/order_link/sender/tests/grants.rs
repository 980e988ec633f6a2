//! Tests of limits that agents grant, each on its own link, and of agents that take no orders.

use super::windows::{flood, in_flight, sender_of};
use super::*;

const SHOES: BrandIndex = BrandIndex(0);
const TEA: BrandIndex = BrandIndex(1);

/// Returns the number of a brand's requests on the links A and B.
fn on_links(sender: &Sender, brand: BrandIndex) -> [usize; 2] {
    let out = in_flight(sender, brand);
    [A, B].map(|link| out.iter().filter(|(_, on)| *on == link).count())
}

fn waiting(sender: &Sender, brand: BrandIndex) -> usize {
    sender.queues.of(RequestClass::Write).waiting_of(brand, &[])
}

#[test]
fn a_grant_is_spent_on_its_link_alone() {
    let mut sender = sender_of(&[1, 1], &[7, 7]);
    sender.handle_grants(at(0), A, [(SHOES, 2)]);
    flood(&mut sender, SHOES, 12);
    assert_eq!((on_links(&sender, SHOES), waiting(&sender, SHOES)), ([2, 7], 3));
    flood(&mut sender, TEA, 4);
    assert_eq!((on_links(&sender, TEA), waiting(&sender, TEA)), ([4, 0], 0));
    let (first, _) = *in_flight(&sender, SHOES).iter().find(|(_, link)| *link == A).unwrap();
    sender.handle_answer(at(0), A, settled(first));
    assert_eq!((on_links(&sender, SHOES), waiting(&sender, SHOES)), ([2, 7], 2));
    sender.handle_grants(at(0), A, [(SHOES, 3), (TEA, 1)]);
    assert_eq!((on_links(&sender, SHOES), waiting(&sender, SHOES)), ([3, 7], 1));
    flood(&mut sender, TEA, 1);
    assert_eq!(
        (on_links(&sender, TEA), waiting(&sender, TEA)),
        ([4, 0], 1),
        "a lower limit takes nothing back"
    );
    sender.handle_grants(at(0), A, []);
    assert_eq!((waiting(&sender, SHOES), waiting(&sender, TEA)), (1, 1), "the windows are full");
}

#[test]
fn a_new_link_begins_without_the_limits_of_one_that_is_gone() {
    let mut sender = sender_of(&[1, 1], &[7, 7]);
    sender.handle_grants(at(0), A, [(SHOES, 1)]);
    sender.handle_grants(at(0), B, [(SHOES, 1)]);
    flood(&mut sender, SHOES, 4);
    assert_eq!(on_links(&sender, SHOES), [1, 1]);
    sender.handle_link_down(at(0), A);
    assert_eq!((on_links(&sender, SHOES), waiting(&sender, SHOES)), ([0, 1], 3));
    sender.handle_link_up(at(0), A, 1, 7);
    assert_eq!((on_links(&sender, SHOES), waiting(&sender, SHOES)), ([3, 1], 0));
}

#[test]
fn an_agent_that_takes_no_orders_gets_none_while_another_takes_them() {
    let mut sender = sender_of(&[1], &[8, 2]);
    sender.handle_stopped(at(0), A, true);
    flood(&mut sender, SHOES, 5);
    assert_eq!(
        (on_links(&sender, SHOES), waiting(&sender, SHOES)),
        ([0, 2], 3),
        "although the other is full"
    );
    sender.handle_stopped(at(0), B, true);
    assert_eq!((on_links(&sender, SHOES), waiting(&sender, SHOES)), ([3, 2], 0), "both are away");
    sender.handle_stopped(at(0), B, false);
    sender.handle_link_open(at(0), B, false);
    flood(&mut sender, SHOES, 1);
    assert_eq!(on_links(&sender, SHOES), [4, 2], "the other takes nothing either");
}

#[test]
fn an_agent_that_refused_is_tried_again_after_a_second() {
    let mut sender = sender_of(&[1], &[8, 1]);
    flood(&mut sender, SHOES, 2);
    assert_eq!(on_links(&sender, SHOES), [1, 1]);
    let (refused_one, _) = *in_flight(&sender, SHOES).iter().find(|(_, link)| *link == A).unwrap();
    sender.handle_answer(at(1), A, refused(refused_one, Refusal::DatabaseDown));
    flood(&mut sender, SHOES, 1);
    assert_eq!(
        (on_links(&sender, SHOES), waiting(&sender, SHOES)),
        ([0, 1], 2),
        "both wait for the other agent"
    );
    assert_eq!(sender.next_timeout(), Some(at(1) + AWAY_FOR));
    sender.handle_timeout(at(1) + AWAY_FOR);
    assert_eq!((on_links(&sender, SHOES), waiting(&sender, SHOES)), ([2, 1], 0));
}

#[test]
fn an_order_that_one_agent_cannot_commit_waits_for_anothers_grant() {
    let mut sender = sender_of(&[1], &[8, 8]);
    sender.handle_grants(at(0), B, [(SHOES, 1)]);
    flood(&mut sender, SHOES, 2);
    let [(on_a, A), (on_b, B)] = in_flight(&sender, SHOES)[..] else { panic!("one on each") };
    drain(&mut sender);
    sender.handle_answer(at(1), A, refused(on_a, Refusal::DatabaseDown));
    assert_eq!((on_links(&sender, SHOES), waiting(&sender, SHOES)), ([0, 1], 1));
    assert_eq!(drain(&mut sender), Vec::<String>::new(), "its caller is not told that there is no database");
    sender.handle_answer(at(1), B, settled(on_b));
    assert_eq!(in_flight(&sender, SHOES), [(on_a, B)]);
    sender.handle_answer(at(1), B, refused(on_a, Refusal::DatabaseDown));
    assert!(drain(&mut sender).contains(&format!("{} Refused(DatabaseDown)", on_a.0)), "no agent works");
}

#[test]
fn writes_that_nobody_waits_for_leave_half_of_a_grant() {
    let mut sender = sender_of(&[1], &[100]);
    (sender.limits.settling_max, sender.limits.resend_after) = (1_000, at(600));
    sender.handle_grants(at(0), A, [(SHOES, 8)]);
    let mut seen = Vec::new();
    for _ in 0..4 {
        flood(&mut sender, SHOES, 20);
        seen.push(in_flight(&sender, SHOES).len());
        // All callers are told that the outcome is unknown, or that nothing was sent.
        sender.handle_timeout(at(10));
        assert_eq!(waiting(&sender, SHOES), 0);
    }
    assert_eq!(seen, [8, 12, 16, 16]);
    let (first, _) = in_flight(&sender, SHOES)[0];
    sender.handle_answer(at(10), A, settled(first));
    flood(&mut sender, SHOES, 20);
    assert_eq!(in_flight(&sender, SHOES).len(), 16);
}

/// No agent gets more than it grants. A request waits only if each agent that works has as many as
/// it grants, or its window has no room.
#[test]
fn grants_are_kept_and_nothing_waits_beside_one_that_is_free() {
    for seed in 0..60 {
        let mut dice = Dice(seed);
        let weights: Vec<usize> = (0..1 + dice.usize_below(4)).map(|_| dice.weight()).collect();
        let windows: Vec<u32> =
            (0..1 + dice.usize_below(3)).map(|_| 20 + dice.usize_below(60) as u32).collect();
        let mut sender = sender_of(&weights, &windows);
        let brand = |dice: &mut Dice| BrandIndex(dice.usize_below(weights.len()));
        let counts = |sender: &Sender| -> Vec<Vec<usize>> {
            let of = |brand| {
                let out = in_flight(sender, BrandIndex(brand));
                sender.links.keys().map(|link| out.iter().filter(|(_, on)| on == link).count()).collect()
            };
            (0..weights.len()).map(of).collect()
        };
        for step in 0..200 {
            let (link, before) = (LinkId(1 + dice.below(windows.len() as u64)), counts(&sender));
            match dice.usize_below(5) {
                0 => {
                    let brands = (0..weights.len()).filter(|_| dice.usize_below(2) == 0).collect::<Vec<_>>();
                    let granted: Vec<_> =
                        brands.into_iter().map(|brand| (BrandIndex(brand), dice.below(20) as u32)).collect();
                    sender.handle_grants(at(0), link, granted);
                }
                1 => sender.handle_stopped(at(0), link, dice.usize_below(3) == 0),
                2 | 3 => flood(&mut sender, brand(&mut dice), dice.usize_below(40)),
                _ => {
                    for (id, link) in in_flight(&sender, brand(&mut dice)) {
                        if dice.usize_below(2) == 0 {
                            sender.handle_answer(at(0), link, settled(id));
                        }
                    }
                }
            }
            drain(&mut sender);
            let after = counts(&sender);
            for (index, brand) in after.iter().enumerate() {
                for (slot, (link, known)) in sender.links.iter().enumerate() {
                    let granted = known.granted_to(BrandIndex(index)).unwrap_or(usize::MAX);
                    let most = granted.max(before[index][slot]);
                    assert!(
                        brand[slot] <= most,
                        "seed {seed}, step {step}: {link} has {} of {most}",
                        brand[slot]
                    );
                }
            }
            let any_works = sender.links.values().any(|link| !link.is_away(at(0)));
            for index in (0..weights.len()).map(BrandIndex).filter(|brand| waiting(&sender, *brand) > 0) {
                let used = sender.window_use(index);
                let may_go = sender.links.values().any(|link| {
                    link.has_room(RequestClass::Write, used) && !(any_works && link.is_away(at(0)))
                });
                assert!(!may_go, "seed {seed}, step {step}: {index:?} waits beside a free link");
            }
        }
    }
}
