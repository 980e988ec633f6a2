//! Tests of published draws with known answers. An independent program made the files in
//! `shared/protocol/vectors/draw/` from the texts in `docs/launch.md`, and the script of that page
//! must agree with them as well.

use super::super::EntrantNumber;
use super::super::draw::Commitments;
use super::super::halves::SecretHalf;
use super::*;
use crate::dice::Dice;

macro_rules! vector {
    ($name:literal, $file:literal) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/vectors/draw/", $name, "/", $file))
    };
}

macro_rules! vectors {
    ($($name:literal),*) => {
        [$((
            vector!($name, "draw.json"),
            vector!($name, "entrants.txt"),
            vector!($name, "places.txt"),
        )),*]
    };
}

/// Draws with their entrants and places.
const VECTORS: [(&str, &str, &str); 8] =
    vectors!("nobody", "one", "two", "three", "five", "beacon", "hundred", "thousand");

fn draw(json: &str) -> PublishedDraw {
    serde_json::from_str(json).unwrap()
}

fn tag(digits: &str) -> SubjectTag {
    SubjectTag(std::array::from_fn(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).unwrap()))
}

#[test]
fn every_draw_of_the_vectors_gives_the_known_places() {
    for (json, entrants, places) in VECTORS {
        let draw = draw(json);
        assert_eq!(draw.verify(), Ok(()), "{}", draw.launch);
        assert_eq!(draw.verify_entrants(entrants.lines().map(tag)), Ok(()), "{}", draw.launch);
        let permutation = draw.permutation();
        let line = |entrant| format!("{entrant} {}\n", permutation.place_of(EntrantNumber(entrant)).0);
        assert_eq!((0..draw.count).map(line).collect::<String>(), places, "{}", draw.launch);
        let written = serde_json::to_string_pretty(&draw).unwrap() + "\n";
        assert_eq!(written, json, "{}", draw.launch);
    }
}

#[test]
fn a_million_places_are_those_of_the_other_program() {
    let draw = draw(vector!("million", "draw.json"));
    assert_eq!((draw.verify(), draw.count), (Ok(()), 1_000_003));
    let tag = |number: u32| {
        let hash: [u8; 32] = Sha256::digest(format!("entrant {number}\n")).into();
        SubjectTag(std::array::from_fn(|at| hash[at]))
    };
    assert_eq!(draw.verify_entrants((0..draw.count).map(tag)), Ok(()));
    let (permutation, mut places) = (draw.permutation(), Sha256::new());
    for entrant in 0..draw.count {
        places.update(format!("{entrant} {}\n", permutation.place_of(EntrantNumber(entrant)).0));
    }
    assert_eq!(hex::encode(&places.finalize()), vector!("million", "places.sha256").trim());
}

#[test]
fn the_steps_of_a_draw_give_the_published_one() {
    let expected = draw(vector!("five", "draw.json"));
    let launch = LaunchId::for_test(&expected.brand, &expected.launch);
    let mut commitments = Commitments::new(launch.clone());
    for side in &expected.sides {
        let known =
            side.half.map_or(side.commitment, |half| SecretHalf::new(half).commitment(&launch, &side.name));
        commitments.commit(side.name.clone(), known).unwrap();
    }
    let mut list = EntrantList::default();
    vector!("five", "entrants.txt").lines().for_each(|line| list.push(tag(line)));
    let mut closed = commitments.close(list.close().unwrap());
    for side in &expected.sides {
        side.half.iter().for_each(|half| closed.reveal(&side.name, *half).unwrap());
    }
    assert_eq!(closed.withheld().map(SideName::as_str).collect::<Vec<_>>(), ["cloud/b"]);
    assert_eq!(closed.finish(None).unwrap(), expected);
}

#[test]
fn each_false_claim_of_a_draw_is_found() {
    let good = draw(vector!("beacon", "draw.json"));
    let fault = |change: &dyn Fn(&mut PublishedDraw)| {
        let mut draw = good.clone();
        change(&mut draw);
        draw.verify().unwrap_err()
    };
    assert_eq!(fault(&|draw| draw.seed[31] ^= 1), DrawFault::Seed);
    assert_eq!(fault(&|draw| draw.root[0] ^= 1), DrawFault::Seed);
    assert_eq!(fault(&|draw| draw.count += 1), DrawFault::Seed);
    assert_eq!(fault(&|draw| draw.sides.swap(0, 1)), DrawFault::Seed);
    assert_eq!(fault(&|draw| drop(draw.sides.remove(0))), DrawFault::Seed);
    assert_eq!(fault(&|draw| draw.beacon = None), DrawFault::Seed);
    assert_eq!(fault(&|draw| draw.sides[0].commitment[0] ^= 1), DrawFault::Seed, "of a withheld half");
    let changed = fault(&|draw| draw.sides[1].commitment[0] ^= 1);
    assert_eq!(changed, DrawFault::Commitment(good.sides[1].name.clone()));
    assert_eq!(fault(&|draw| draw.sides[1].half = None), DrawFault::NothingRevealed);
    assert_eq!(fault(&|draw| draw.launch = "Other".to_owned()), DrawFault::Form);
    assert_eq!(fault(&|draw| draw.format = "bridge-draw-v2".to_owned()), DrawFault::Form);
    assert_eq!(fault(&|draw| draw.permutation = "random".to_owned()), DrawFault::Form);
    assert_eq!(fault(&|draw| draw.count = ENTRANTS_MAX + 1), DrawFault::Form);
    let other_launch = fault(&|draw| draw.launch = "other".to_owned());
    assert_eq!(other_launch, DrawFault::Commitment(good.sides[1].name.clone()));
}

#[test]
fn entrants_that_were_added_removed_or_moved_are_found() {
    let draw = draw(vector!("hundred", "draw.json"));
    let tags: Vec<SubjectTag> = vector!("hundred", "entrants.txt").lines().map(tag).collect();
    let checked = |tags: &[SubjectTag]| draw.verify_entrants(tags.iter().copied());
    assert_eq!(checked(&tags), Ok(()));
    assert_eq!(checked(&tags[1..]), Err(DrawFault::Entrants));
    assert_eq!(checked(&[tags.as_slice(), &tags[..1]].concat()), Err(DrawFault::Entrants));
    for seed in 0..20 {
        let (mut moved, mut dice) = (tags.clone(), Dice(seed));
        let (a, b) = (dice.below(100) as usize, dice.below(100) as usize);
        moved.swap(a, b);
        assert_eq!(checked(&moved).is_ok(), a == b, "seed {seed}");
    }
}

#[test]
fn what_is_not_in_the_form_of_a_draw_is_refused() {
    let json = vector!("five", "draw.json");
    let reads = |from: &str, to: &str| {
        assert!(json.contains(from), "{from}");
        serde_json::from_str::<PublishedDraw>(&json.replacen(from, to, 1)).is_ok()
    };
    assert!(reads("shoes", "shoes"));
    assert!(!reads("\"count\": 5", "\"count\": -5"));
    assert!(!reads("\"count\": 5", "\"count\": 5, \"more\": 1"));
    assert!(!reads("ac047cb8", "AC047CB8"));
    assert!(!reads("ac047cb8", "ac047cb"));
    assert!(!reads("ac047cb8", "ac047cbx"));
    assert!(!reads("idc/seoul", "idc seoul"));
    assert!(!reads("null", "\"\""));
}
