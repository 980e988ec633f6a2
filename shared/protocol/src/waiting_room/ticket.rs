//! Tickets: 130 characters that bind a customer to an entrant number of a launch.
//!
//! ```text
//! text        base64url without padding of these 97 bytes
//! byte  0     version: 1
//!       1     id of the verifier key, 4 bytes
//!       5     entrant number, 4 bytes, big-endian
//!       9     issued at, 8 bytes, big-endian: microseconds since 1970-01-01T00:00:00Z
//!      17     subject tag, 16 bytes
//!      33     Ed25519 signature (RFC 8032), 64 bytes
//! signed      the line `bridge ticket v1`, the line `<brand>/<launch>`, and bytes 0 to 32
//! ```
//!
//! Brand and launch are not in the text, because a key is of one launch: its id leads to the key,
//! and the key's name is `<brand>/<launch>`. The signature covers both.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;

use super::EntrantNumber;
use super::launch_id::{LaunchId, LaunchName};
use super::launch_keys::SubjectTag;
use crate::domain::{Brand, UnixMicros};
use crate::note::{NoteSigner, NoteVerifier};

const VERSION: u8 = 1;
const FACTS_BYTES: usize = 33;
const BYTES: usize = FACTS_BYTES + 64;

/// Characters of a ticket.
pub const TEXT_BYTES: usize = (BYTES * 4).div_ceil(3);

/// The facts of a ticket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    /// The launch that it is for.
    pub launch: LaunchId,
    /// Number of the entrant.
    pub entrant: EntrantNumber,
    /// Tag of the customer.
    pub subject: SubjectTag,
    /// Time at which the number was given, by the IDC agent's clock.
    pub issued_at: UnixMicros,
}

/// A ticket whose signature was checked, and that is for the expected launch. Only [`verify`] makes
/// one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedTicket(Ticket);

impl VerifiedTicket {
    /// Returns the certified facts.
    pub fn ticket(&self) -> &Ticket {
        &self.0
    }

    /// Returns true if the ticket is of the customer with this tag. Somebody else's ticket admits
    /// nobody.
    pub fn is_of(&self, subject: SubjectTag) -> bool {
        self.0.subject == subject
    }
}

/// Reasons to refuse a ticket. The sender is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// The text does not have the form of a ticket.
    #[error("the text is no ticket")]
    Malformed,
    /// No known key has the ticket's key id: its launch has ended long ago, or never was.
    #[error("the ticket names a key that is not known here")]
    UnknownKey,
    /// The signature does not fit.
    #[error("the ticket is not signed by the key that it names")]
    Forged,
    /// The ticket is good, and of another brand.
    #[error("the ticket is of another brand")]
    OtherBrand,
    /// The ticket is good, and of another launch of the brand.
    #[error("the ticket is of another launch")]
    OtherLaunch,
}

impl Ticket {
    /// Signs the ticket. Returns its text, always the same for the same facts and key.
    ///
    /// The signer must be the one of the ticket's launch (`launch_keys::ticket_signer`), else
    /// nobody accepts the ticket.
    pub fn sign(&self, signer: &NoteSigner) -> String {
        let facts = self.facts(signer.verifier().id());
        let signature = signer.sign(&signed_message(&self.launch.to_string(), &facts));
        BASE64URL.encode([facts.as_slice(), &signature].concat())
    }

    fn facts(&self, key: [u8; 4]) -> Vec<u8> {
        let Self { launch: _, entrant, subject, issued_at } = self;
        let (entrant, issued_at) = (entrant.0.to_be_bytes(), issued_at.get().to_be_bytes());
        [[VERSION].as_slice(), &key, &entrant, &issued_at, &subject.0].concat()
    }
}

/// Verifies a ticket of any launch of a brand whose key is known.
///
/// # Errors
///
/// Fails if the text is no ticket, its key is not known, its signature does not fit, or it is of
/// another brand.
pub fn verify(text: &str, keys: &[NoteVerifier], brand: &Brand) -> Result<VerifiedTicket, TicketError> {
    let ticket = read(text, keys)?;
    if ticket.launch.brand == *brand { Ok(VerifiedTicket(ticket)) } else { Err(TicketError::OtherBrand) }
}

/// Verifies a ticket of one launch.
///
/// # Errors
///
/// Fails as [`verify`] does, and if the ticket is of another launch of the brand.
pub fn verify_for(
    text: &str,
    keys: &[NoteVerifier],
    launch: &LaunchId,
) -> Result<VerifiedTicket, TicketError> {
    let verified = verify(text, keys, &launch.brand)?;
    if verified.0.launch == *launch { Ok(verified) } else { Err(TicketError::OtherLaunch) }
}

fn read(text: &str, keys: &[NoteVerifier]) -> Result<Ticket, TicketError> {
    // The length first: a text of any size is no reason to decode it.
    if text.len() != TEXT_BYTES {
        return Err(TicketError::Malformed);
    }
    let bytes = BASE64URL.decode(text).map_err(|_| TicketError::Malformed)?;
    let (facts, signature) = bytes.split_first_chunk::<FACTS_BYTES>().ok_or(TicketError::Malformed)?;
    let mut rest = facts.as_slice();
    let (Some([VERSION]), Some(key), Some(entrant), Some(issued_at), Some(subject)) =
        (take::<1>(&mut rest), take::<4>(&mut rest), take(&mut rest), take(&mut rest), take(&mut rest))
    else {
        return Err(TicketError::Malformed);
    };
    let mut known = keys.iter().filter(|verifier| verifier.id() == key).peekable();
    if known.peek().is_none() {
        return Err(TicketError::UnknownKey);
    }
    // Ids are short, so two keys may share one.
    let signs = |verifier: &&NoteVerifier| {
        verifier.verify(&signed_message(verifier.name(), facts), signature).is_ok()
    };
    let signer = known.find(signs).ok_or(TicketError::Forged)?;
    Ok(Ticket {
        launch: launch_of(signer).ok_or(TicketError::UnknownKey)?,
        entrant: EntrantNumber(u32::from_be_bytes(entrant)),
        subject: SubjectTag(subject),
        issued_at: UnixMicros::new(i64::from_be_bytes(issued_at)),
    })
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (first, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*first)
}

/// Returns the launch that a key is of, or `None` if the key is not one for tickets.
fn launch_of(key: &NoteVerifier) -> Option<LaunchId> {
    let (brand, name) = key.name().split_once('/')?;
    Some(LaunchId { brand: Brand::new(brand).ok()?, name: LaunchName::new(name).ok()? })
}

/// Returns the bytes to sign. The first line separates this signature from others.
fn signed_message(launch: &str, facts: &[u8]) -> Vec<u8> {
    [b"bridge ticket v1\n", launch.as_bytes(), b"\n", facts].concat()
}

#[cfg(test)]
mod tests {
    use super::super::launch_keys::{SubjectKey, ticket_signer};
    use super::*;
    use crate::dice::Dice;

    fn signer(brand: &str, name: &str) -> NoteSigner {
        ticket_signer(&LaunchId::for_test(brand, name), &[7; 32]).unwrap()
    }

    fn keys(launches: &[(&str, &str)]) -> Vec<NoteVerifier> {
        launches.iter().map(|(brand, name)| signer(brand, name).verifier().clone()).collect()
    }

    fn ticket(entrant: u32) -> Ticket {
        let launch = LaunchId::for_test("shoes", "aj1");
        let subject = SubjectKey::derive(&launch, &[7; 32]).tag("c-8842");
        Ticket {
            launch,
            entrant: EntrantNumber(entrant),
            subject,
            issued_at: UnixMicros::new(1_795_343_485_000_001),
        }
    }

    #[test]
    fn a_ticket_of_any_facts_is_read_back() {
        let seed = 14;
        let mut dice = Dice(seed);
        let keys = keys(&[("hats", "aj1"), ("shoes", "aj2"), ("shoes", "aj1")]);
        for case in 0..200 {
            let facts = Ticket {
                entrant: EntrantNumber(dice.next() as u32),
                subject: SubjectTag(std::array::from_fn(|_| dice.next() as u8)),
                issued_at: UnixMicros::new(dice.next() as i64),
                ..ticket(0)
            };
            let text = facts.sign(&signer("shoes", "aj1"));
            assert_eq!(text, facts.sign(&signer("shoes", "aj1")), "seed {seed}, case {case}");
            assert!(text.len() == TEXT_BYTES && TEXT_BYTES == 130);
            assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
            let verified = verify_for(&text, &keys, &facts.launch);
            assert_eq!(verified.unwrap().ticket(), &facts, "seed {seed}, case {case}");
        }
    }

    #[test]
    fn a_ticket_has_the_bytes_that_another_program_gives() {
        // From a program in Python that shares no code with this one. `docs/launch.md` shows both.
        let page = include_str!("../../../../docs/launch.md");
        let (key, text) =
            (signer("shoes", "aj1").verifier().to_string(), ticket(3).sign(&signer("shoes", "aj1")));
        assert!(page.contains(&format!("\n{key}\n{text}\n")), "{key}\n{text}");
    }

    #[test]
    fn each_reason_to_refuse_a_ticket_has_its_error() {
        let text = ticket(3).sign(&signer("shoes", "aj1"));
        let all = keys(&[("shoes", "aj1"), ("shoes", "aj2"), ("hats", "aj1")]);
        let checked = |text: &str, keys: &[NoteVerifier], brand: &str, name: &str| {
            verify_for(text, keys, &LaunchId::for_test(brand, name)).map(|ticket| ticket.0)
        };
        assert_eq!(checked(&text, &all, "shoes", "aj1"), Ok(ticket(3)));
        assert_eq!(checked(&text, &all[1..], "shoes", "aj1"), Err(TicketError::UnknownKey));
        assert_eq!(checked(&text, &all, "hats", "aj1"), Err(TicketError::OtherBrand));
        assert_eq!(checked(&text, &all, "shoes", "aj2"), Err(TicketError::OtherLaunch));
        for bad in
            ["", "x", &text[1..], &format!("{text}A"), &text.replace(&text[..1], "+"), &"Z".repeat(130)]
        {
            assert_eq!(checked(bad, &all, "shoes", "aj1"), Err(TicketError::Malformed), "{bad:?}");
        }
        // Signed by the key of another launch, under this launch's key id.
        let facts = ticket(3).facts(all[0].id());
        let stolen = signer("shoes", "aj2").sign(&signed_message("shoes/aj1", &facts));
        let forged = BASE64URL.encode([facts.as_slice(), &stolen].concat());
        assert_eq!(checked(&forged, &all, "shoes", "aj1"), Err(TicketError::Forged));
    }

    #[test]
    fn no_character_of_a_ticket_can_be_changed() {
        let text = ticket(3).sign(&signer("shoes", "aj1"));
        let keys = keys(&[("shoes", "aj1")]);
        for at in 0..text.len() {
            for character in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_=".chars() {
                let mut changed = text.clone();
                changed.replace_range(at..=at, &character.to_string());
                let verified = verify_for(&changed, &keys, &ticket(3).launch);
                assert!(verified.is_err() || changed == text, "{character} at {at}");
            }
        }
    }

    #[test]
    fn a_ticket_is_of_its_customer_alone() {
        let launch = LaunchId::for_test("shoes", "aj1");
        let (subjects, text) =
            (SubjectKey::derive(&launch, &[7; 32]), ticket(3).sign(&signer("shoes", "aj1")));
        let verified = verify(&text, &keys(&[("shoes", "aj1")]), &launch.brand).unwrap();
        assert!(verified.is_of(subjects.tag("c-8842")) && !verified.is_of(subjects.tag("c-8843")));
    }

    #[test]
    fn a_key_that_is_not_of_a_launch_signs_no_ticket() {
        let idc = NoteSigner::new("idc.example", &[7; 32]).unwrap();
        let facts = ticket(3).facts(idc.verifier().id());
        let signature = idc.sign(&signed_message("idc.example", &facts));
        let text = BASE64URL.encode([facts.as_slice(), &signature].concat());
        let keys = [idc.verifier().clone()];
        assert_eq!(verify(&text, &keys, &ticket(3).launch.brand), Err(TicketError::UnknownKey));
    }
}
