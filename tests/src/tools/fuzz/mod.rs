//! `cargo fuzz`: changed inputs for all code that reads bytes from a peer, a file or a user.
//!
//! It runs on stable Rust, without coverage. Instead, `mutate` and each of the `targets` know the
//! formats, so that changed inputs reach the rules behind the parsers. Every case depends on the
//! seed alone. A finding is printed with the command that repeats it.

mod hunt;
mod mutate;
mod targets;

use std::fmt::Write as _;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use clap::Parser;
use clap::builder::PossibleValuesParser;

use hunt::{Finding, Target, Verdict, hunt, judge};

/// Options of `cargo fuzz`.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "cargo fuzz",
    about = "Hunts for an input that breaks a parser; exits with 1 if it finds one"
)]
pub struct Options {
    /// Fuzz only this target [default: each of them in turn].
    #[arg(long, value_parser = PossibleValuesParser::new(targets::ALL.map(|target| target.name)))]
    target: Option<String>,

    /// Seconds to fuzz each target.
    #[arg(long, value_name = "N", default_value_t = 10)]
    seconds: u64,

    /// Seed of all cases [default: a random one].
    #[arg(long, value_name = "N")]
    seed: Option<u64>,

    /// Check this one input instead, given in hexadecimal digits.
    #[arg(long, value_name = "HEX", requires = "target", conflicts_with_all = ["seconds", "seed"], value_parser = from_hex)]
    input: Option<Input>,
}

/// An input from the command line.
#[derive(Clone, Debug)]
struct Input(Vec<u8>);

/// Fuzzes, reports on `out`, and returns true if there was no finding.
///
/// # Errors
///
/// Fails if `out` cannot be written to.
pub fn run(options: &Options, out: &mut impl Write) -> io::Result<bool> {
    let chosen = |target: &&Target| options.target.as_deref().is_none_or(|name| name == target.name);
    let seed = options.seed.unwrap_or_else(rand::random);
    let mut clean = true;
    for target in targets::ALL.iter().filter(chosen) {
        clean &= match &options.input {
            Some(Input(input)) => say_verdict(target, input, out)?,
            None => fuzz(target, seed, Duration::from_secs(options.seconds), out)?,
        };
    }
    Ok(clean)
}

fn fuzz(target: &Target, seed: u64, time: Duration, out: &mut impl Write) -> io::Result<bool> {
    write!(out, "{:<10} seed {seed}: ", target.name)?;
    out.flush()?;
    let start = Instant::now();
    match hunt(target, seed, |_| start.elapsed() < time) {
        Ok(tally) => {
            writeln!(out, "{} cases, {} of them accepted, nothing found", tally.cases, tally.accepted)?;
            Ok(true)
        }
        Err(Finding { case, problem, input }) => {
            let (name, hex) = (target.name, to_hex(&input));
            writeln!(out, "case {case} is wrong: {problem}")?;
            writeln!(out, "  input    {:?}", String::from_utf8_lossy(&input))?;
            writeln!(out, "  in hex   {hex}")?;
            writeln!(out, "  repeat   cargo fuzz --target {name} --input {hex}")?;
            writeln!(out, "  history  cargo fuzz --target {name} --seed {seed}")?;
            Ok(false)
        }
    }
}

fn say_verdict(target: &Target, input: &[u8], out: &mut impl Write) -> io::Result<bool> {
    let verdict = judge(target, input);
    match &verdict {
        Ok(Verdict::Accepted) => writeln!(out, "{}: accepted, as it should be", target.name)?,
        Ok(Verdict::Refused) => writeln!(out, "{}: refused, as it should be", target.name)?,
        Err(problem) => writeln!(out, "{}: {problem}", target.name)?,
    }
    Ok(verdict.is_ok())
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        let _infallible = write!(hex, "{byte:02x}");
        hex
    })
}

fn from_hex(digits: &str) -> Result<Input, String> {
    let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let byte = |[high, low]: &[u8; 2]| u8::try_from(digit(*high)? << 4 | digit(*low)?).ok();
    let bytes: Option<Vec<u8>> = pairs.iter().map(byte).collect();
    bytes.filter(|_| rest.is_empty()).map(Input).ok_or_else(|| "not pairs of hexadecimal digits".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_good_input_is_accepted_so_that_changes_begin_behind_the_door() {
        for target in targets::ALL {
            for input in (target.corpus)() {
                let verdict = judge(&target, &input);
                assert_eq!(
                    verdict,
                    Ok(Verdict::Accepted),
                    "{}: {:?}",
                    target.name,
                    String::from_utf8_lossy(&input)
                );
            }
        }
    }

    #[test]
    fn every_target_survives_hundreds_of_cases_accepting_and_refusing_some() {
        for target in targets::ALL {
            let tally = hunt(&target, 1, |case| case < 300)
                .unwrap_or_else(|found| panic!("{}: {found:?}", target.name));
            assert!((1..tally.cases).contains(&tally.accepted), "{}: {tally:?}", target.name);
        }
    }

    #[test]
    fn an_input_is_given_as_it_was_printed() {
        let options = |hex: &str| Options::try_parse_from(["fuzz", "--target", "personal", "--input", hex]);
        assert_eq!(options(&to_hex(&[0, 1, 0xab])).expect("hex").input.expect("it is given").0, [0, 1, 0xab]);
        assert!(options("0").is_err() && options("zz").is_err() && options("+1").is_err());
        let mut out = Vec::new();
        assert!(run(&options("01ffffffff").expect("hex"), &mut out).expect("a vector takes everything"));
        assert_eq!(String::from_utf8_lossy(&out), "personal: refused, as it should be\n");
    }
}
