//! The sealed personal data in its canonical form: accepted bytes are equal to their own encoding,
//! so no two forms mean the same.

use bridge_protocol::domain::{Personal, PersonalData, PersonalField};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::demand;
use crate::tools::fuzz::hunt::{Target, Verdict};
use crate::tools::fuzz::mutate;

/// `PersonalData::from_bytes`.
pub(super) const TARGET: Target = Target { name: "personal", corpus, change, check };

fn corpus() -> Vec<Vec<u8>> {
    let data = |fields: &[(PersonalField, &str)]| {
        let mut data = PersonalData::default();
        for (field, value) in fields {
            data.set(*field, Personal::new((*value).to_owned()));
        }
        data.to_bytes().to_vec()
    };
    let all = PersonalField::ALL.map(|field| (field, field.column()));
    vec![
        data(&[]),
        data(&[
            (PersonalField::DeliveryAddress, "서울 중구 1\n2층"),
            (PersonalField::CustomerName, "김하나"),
        ]),
        data(&all),
    ]
}

/// Changes the number of a field or a byte of a length, at a likely position.
fn change(rng: &mut ChaCha8Rng, input: &[u8], _: &[u8]) -> Vec<u8> {
    let mut out = input.to_vec();
    let zeros: Vec<usize> =
        (0..out.len().saturating_sub(4)).filter(|at| out[at + 1..at + 4] == [0; 3]).collect();
    if !zeros.is_empty() {
        let at = zeros[rng.random_range(0..zeros.len())];
        if rng.random() {
            out[at] = rng.random_range(0..12);
        } else {
            out[at + 1..at + 5].copy_from_slice(&(mutate::number(rng) as u32).to_be_bytes());
        }
    }
    out
}

fn check(input: &[u8]) -> Result<Verdict, String> {
    let Ok(data) = PersonalData::from_bytes(input) else { return Ok(Verdict::Refused) };
    demand(data.to_bytes().as_slice() == input, "the data is not in its canonical form")?;
    demand(data.iter().count() <= PersonalField::ALL.len(), "a field was read twice")?;
    Ok(Verdict::Accepted)
}
