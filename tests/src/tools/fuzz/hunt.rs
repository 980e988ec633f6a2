//! The search: it makes case after case from a seed, checks each, and shrinks a finding.
//!
//! A case depends on the seed and its number alone, so any case can be made again. `mutate` changes
//! inputs. `targets` define the code under test and its rules.

use std::cell::{Cell, RefCell};
use std::panic;
use std::sync::Once;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::mutate;

/// Most bytes of a case. Twice as many hexadecimal digits still fit into one argument of a command.
const INPUT_BYTES_MAX: usize = 32 * 1024;
/// Most changes to a corpus entry. After more changes, parsers would reject nearly every input at
/// once.
const CHANGES_MAX: u32 = 4;
/// Most inputs that are tried while a finding is shrunk.
const SHRINK_TRIES_MAX: u32 = 4_000;

/// A function that changes an input. The last argument is another input to copy from.
pub(super) type Change = fn(&mut ChaCha8Rng, &[u8], &[u8]) -> Vec<u8>;

/// Code that reads bytes from a peer, a file or a user.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    /// Name on the command line.
    pub(super) name: &'static str,
    /// Returns valid inputs. Every case begins as one of them.
    pub(super) corpus: fn() -> Vec<Vec<u8>>,
    /// A change that knows the format.
    pub(super) change: Change,
    /// Reads an input and checks the rules that hold for every input. An error is a finding, and so
    /// is a panic.
    pub(super) check: fn(&[u8]) -> Result<Verdict, String>,
}

/// Reaction of the code under test to an input. Both are right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The input was accepted.
    Accepted,
    /// The input was refused with an error.
    Refused,
}

/// Counts of a search without a finding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Number of cases.
    pub(super) cases: u64,
    /// Number of accepted cases.
    pub(super) accepted: u64,
}

/// An input that breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    /// Number of the case.
    pub(super) case: u64,
    /// Description of the error.
    pub(super) problem: String,
    /// The smallest input with an error that was found.
    pub(super) input: Vec<u8>,
}

/// Checks the cases 0, 1, .. of a seed until `go_on` returns false for the next number, or a case
/// has an error.
///
/// # Errors
///
/// Fails with the finding.
pub(super) fn hunt(target: &Target, seed: u64, mut go_on: impl FnMut(u64) -> bool) -> Result<Tally, Finding> {
    let corpus = (target.corpus)();
    let mut tally = Tally::default();
    while go_on(tally.cases) {
        let input = case(target, &corpus, seed, tally.cases);
        match judge(target, &input) {
            Ok(Verdict::Accepted) => tally.accepted += 1,
            Ok(Verdict::Refused) => {}
            Err(problem) => return Err(shrink(target, Finding { case: tally.cases, problem, input })),
        }
        tally.cases += 1;
    }
    Ok(tally)
}

/// Checks one input.
///
/// # Errors
///
/// Fails with the error that it shows. A panic is an error.
pub(super) fn judge(target: &Target, input: &[u8]) -> Result<Verdict, String> {
    catch_panics_of_this_thread();
    WATCHED.set(true);
    let verdict = panic::catch_unwind(|| (target.check)(input));
    WATCHED.set(false);
    verdict.unwrap_or_else(|_| Err(CAUGHT.take()))
}

/// Makes the case `number` of a seed: a corpus entry after at most [`CHANGES_MAX`] changes.
fn case(target: &Target, corpus: &[Vec<u8>], seed: u64, number: u64) -> Vec<u8> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(number);
    let pick = |rng: &mut ChaCha8Rng| corpus[rng.random_range(0..corpus.len())].clone();
    let mut input = pick(&mut rng);
    for _ in 0..rng.random_range(0..=CHANGES_MAX) {
        let other = pick(&mut rng);
        let change = if rng.random_ratio(2, 3) { target.change } else { mutate::bytes as Change };
        input = change(&mut rng, &input, &other);
        input.truncate(INPUT_BYTES_MAX);
    }
    input
}

/// Removes ever smaller pieces while the rest still has any error.
fn shrink(target: &Target, mut finding: Finding) -> Finding {
    let mut tries = 0;
    let mut piece = finding.input.len() / 2;
    while piece > 0 {
        let mut at = 0;
        while at + piece <= finding.input.len() && tries < SHRINK_TRIES_MAX {
            tries += 1;
            let without = [&finding.input[..at], &finding.input[at + piece..]].concat();
            match judge(target, &without) {
                Err(problem) => finding = Finding { problem, input: without, ..finding },
                Ok(_) => at += piece,
            }
        }
        piece /= 2;
    }
    finding
}

thread_local! {
    /// True while this thread checks an input.
    static WATCHED: Cell<bool> = const { Cell::new(false) };
    /// Message of this thread's last panic.
    static CAUGHT: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Sets a panic hook. It records panics during a check instead of printing them, and passes all
/// others on.
fn catch_panics_of_this_thread() {
    static HOOKED: Once = Once::new();
    HOOKED.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if WATCHED.get() {
                CAUGHT.set(panic.to_string());
            } else {
                before(panic);
            }
        }));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A parser with two bugs: one panics, the other accepts what it should refuse.
    const PLANTED: Target = Target {
        name: "planted",
        corpus: || vec![b"length=0004;name=kim;".to_vec(), b"length=0007;name=suzuki;".to_vec()],
        change: mutate::bytes,
        check: |input| match input {
            [.., b'=', b';'] => panic!("an empty name was not thought of"),
            _ if input.windows(2).any(|pair| pair == b"==") => Err("took a name twice".to_owned()),
            _ if input.ends_with(b";") => Ok(Verdict::Accepted),
            _ => Ok(Verdict::Refused),
        },
    };

    #[test]
    fn a_planted_bug_is_found_cut_down_and_found_again() {
        let finding = hunt(&PLANTED, 1, |case| case < 100_000).expect_err("a bug that nobody finds");
        assert!(finding.input == b"==" || finding.input == b"=;", "not cut down: {finding:?}");
        assert_eq!(judge(&PLANTED, &finding.input), Err(finding.problem.clone()));
        assert_eq!(hunt(&PLANTED, 1, |case| case < 100_000), Err(finding));
    }

    #[test]
    fn a_panic_is_a_finding_that_says_what_and_where() {
        let problem = judge(&PLANTED, b"name=;").expect_err("a panic");
        assert!(
            problem.contains("an empty name was not thought of") && problem.contains("hunt.rs"),
            "{problem}"
        );
        assert_eq!(judge(&PLANTED, b"name=kim;"), Ok(Verdict::Accepted), "and the next case is judged");
    }

    #[test]
    fn another_seed_makes_other_cases() {
        let corpus = (PLANTED.corpus)();
        let cases = |seed| (0..50).map(|number| case(&PLANTED, &corpus, seed, number)).collect::<Vec<_>>();
        assert_eq!(cases(1), cases(1));
        assert_ne!(cases(1), cases(2));
    }
}
