//! Skipped tests: counted, named, and compared with what this machine really lacks.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::io::{self, Write as _};
use std::path::Path;

use anyhow::{Context, Result, bail};
use bridge_skips::{Lack, Machine, Skip};

/// The skipped tests of one step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Skips(Vec<Skip>);

impl Skips {
    /// Reads the skipped tests from the file that the tests wrote, if there is one.
    pub(super) fn read(file: &Path) -> Result<Skips> {
        if !file.exists() {
            return Ok(Skips::default());
        }
        let mut skips = Skip::read(file).context("read which tests were skipped")?;
        skips.sort();
        Ok(Skips(skips))
    }

    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// Prints each skipped test.
    pub(super) fn tell(&self) -> io::Result<()> {
        let mut out = io::stdout().lock();
        for Skip { lack, test, why } in &self.0 {
            writeln!(out, "skipped for want of {lack}: {test}: {why}")?;
        }
        Ok(())
    }

    /// Fails if a test was skipped although the machine has what it needs.
    pub(super) fn judge(&self, machine: &Machine) -> Result<()> {
        let not_excused: Vec<_> =
            self.0.iter().filter(|skip| !skip.lack.is_missing_on(machine)).map(said).collect();
        if not_excused.is_empty() {
            return Ok(());
        }
        bail!(
            "{} skipped, and this machine excuses none of them: {}",
            tests(not_excused.len()),
            not_excused.join("; ")
        )
    }
}

/// The number of skipped tests by what they lack.
impl Display for Skips {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut by_lack: BTreeMap<Lack, usize> = BTreeMap::new();
        for skip in &self.0 {
            *by_lack.entry(skip.lack).or_default() += 1;
        }
        let wants: Vec<_> =
            by_lack.iter().map(|(lack, count)| format!("{count} for want of {lack}")).collect();
        write!(f, "{} skipped ({})", tests(self.count()), wants.join(", "))
    }
}

fn said(skip: &Skip) -> String {
    format!("{} for want of {}", skip.test, skip.lack)
}

fn tests(count: usize) -> String {
    if count == 1 { "1 test".to_owned() } else { format!("{count} tests") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERYTHING: Machine = Machine {
        capabilities: u64::MAX,
        loop_devices: true,
        tun: true,
        core_dumps: true,
        data: true,
        languages: true,
    };

    fn skips(lacks: &[Lack]) -> Skips {
        let skip = |lack: &Lack| Skip { lack: *lack, test: "a_test".to_owned(), why: "none here".to_owned() };
        Skips(lacks.iter().map(skip).collect())
    }

    #[test]
    fn a_skip_passes_only_on_a_machine_that_lacks_the_thing() {
        let skipped = skips(&[Lack::Data, Lack::Data]);
        assert!(skipped.judge(&Machine { data: false, ..EVERYTHING }).is_ok());
        let error = skipped.judge(&EVERYTHING).expect_err("the data are there").to_string();
        assert!(error.starts_with("2 tests skipped, and this machine excuses none"), "{error}");
        assert!(error.contains("a_test for want of ../shared/data"), "{error}");
        assert!(skips(&[]).judge(&EVERYTHING).is_ok());
    }

    #[test]
    fn skips_are_counted_by_what_is_missing() {
        let text = skips(&[Lack::Data, Lack::Mounts, Lack::Data]).to_string();
        assert_eq!(text, "3 tests skipped (1 for want of the right to mount, 2 for want of ../shared/data)");
    }

    #[test]
    fn a_tests_skip_reaches_its_step_and_no_file_means_none() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let file = dir.path().join("skips");
        assert_eq!(Skips::read(&file)?, Skips::default());
        std::fs::write(&file, "../shared/data\ta_test\tnone here\n")?;
        assert_eq!(Skips::read(&file)?, skips(&[Lack::Data]));
        Ok(())
    }
}
