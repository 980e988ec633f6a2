//! Search for planted personal values in the memory of a running process, as a debugger or a dump
//! would show it.
//!
//! The search reads all present pages of a process through `/proc`: stacks, heap, and memory that
//! the allocator keeps for later. A page that was never touched contains nothing. The search takes
//! root or CAP_SYS_PTRACE, since the agents forbid access to their memory.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;

use rustix::process::Pid;

use crate::testkit::search::{Form, Needles, SearchHits};

/// Number of pages whose state is read at once.
const PAGES: u64 = 512;
/// Bits in a word of `/proc/PID/pagemap`: the page is in memory, or in swap.
const THERE: u64 = 1 << 63 | 1 << 62;

/// Matches in a process's memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryHits {
    /// Number of searched bytes.
    pub length: u64,
    /// Number of matches.
    pub hits: u64,
    /// The mappings with a match.
    pub places: Vec<Region>,
}

/// A mapping with a match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// The mapping's line in `/proc/PID/maps`.
    pub mapping: String,
    /// Number of matches in it.
    pub hits: u64,
    /// Form of the first match.
    pub form: Option<Form>,
}

impl Region {
    /// Returns true if the mapping contains this address, such as one on a stack.
    pub fn holds(&self, address: u64) -> bool {
        readable(&self.mapping).is_some_and(|(start, end)| (start..end).contains(&address))
    }
}

/// Searches all memory of a process.
///
/// # Errors
///
/// Fails with `PermissionDenied` if this user may not read it, and if there is no such process.
pub fn search(needles: &Needles, process: Pid) -> io::Result<MemoryHits> {
    let proc = format!("/proc/{}", process.as_raw_nonzero());
    let maps = fs::read_to_string(format!("{proc}/maps"))?;
    let memory = File::open(format!("{proc}/mem"))?;
    let pages = File::open(format!("{proc}/pagemap"))?;
    let mut found = MemoryHits { length: 0, hits: 0, places: Vec::new() };
    for line in maps.lines() {
        let Some((start, end)) = readable(line) else { continue };
        let SearchHits { length, hits, first } =
            needles.search_stream(&mut Mapping::new(&memory, &pages, start, end))?;
        found.length += length;
        found.hits += hits;
        if hits > 0 {
            let form = first.first().map(|hit| hit.form);
            found.places.push(Region { mapping: line.to_owned(), hits, form });
        }
    }
    Ok(found)
}

/// Returns the start and end of a readable mapping. The kernel's own mappings cannot be read.
fn readable(line: &str) -> Option<(u64, u64)> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let is_readable = fields.next()?.starts_with('r') && !line.contains("[v");
    let address = |digits| u64::from_str_radix(digits, 16).ok();
    Some((address(start)?, address(end)?)).filter(|_| is_readable)
}

/// The present pages of a mapping, one after the other. Absent pages are left out.
struct Mapping<'a> {
    memory: &'a File,
    pages: &'a File,
    page: u64,
    at: u64,
    end: u64,
    /// State of each page from `known_from` on: true if the page is present.
    known: Vec<bool>,
    known_from: u64,
}

impl<'a> Mapping<'a> {
    fn new(memory: &'a File, pages: &'a File, start: u64, end: u64) -> Self {
        let page = rustix::param::page_size() as u64;
        Self { memory, pages, page, at: start, end, known: Vec::new(), known_from: start }
    }

    /// Returns the start of the next present page.
    fn next(&mut self) -> io::Result<Option<u64>> {
        while self.at < self.end {
            let index = ((self.at - self.known_from) / self.page) as usize;
            match self.known.get(index) {
                Some(true) => return Ok(Some(self.at)),
                Some(false) => self.at = self.known_from + (index as u64 + 1) * self.page,
                None => self.learn()?,
            }
        }
        Ok(None)
    }

    fn learn(&mut self) -> io::Result<()> {
        let first = self.at / self.page;
        let count = PAGES.min(self.end.div_ceil(self.page) - first);
        let mut words = vec![0; count as usize * 8];
        self.pages.read_exact_at(&mut words, first * 8)?;
        let (words, _) = words.as_chunks::<8>();
        self.known = words.iter().map(|word| u64::from_ne_bytes(*word) & THERE != 0).collect();
        self.known_from = first * self.page;
        Ok(())
    }
}

impl Read for Mapping<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let Some(at) = self.next()? else { return Ok(0) };
        let left = self.page - at % self.page;
        let length = into.len().min(left as usize);
        match self.memory.read_at(&mut into[..length], at) {
            Ok(read) => {
                self.at += read as u64;
                Ok(read)
            }
            // The range was unmapped after its mapping was read.
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => {
                self.at = self.end;
                Ok(0)
            }
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_value_in_a_process_is_found_and_another_is_not() {
        let value = |seed: u32| -> String {
            (0..40).filter_map(|index| char::from_u32(97 + index * seed % 23)).collect()
        };
        let mut held = Command::new("cat");
        held.env("HELD", value(5)).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut held = held.spawn().expect("cat starts");
        // Once the child has written a byte, its memory is that of `cat`: `exec` has happened.
        held.stdin.as_mut().expect("a pipe").write_all(b"x").expect("cat reads");
        held.stdout.as_mut().expect("a pipe").read_exact(&mut [0]).expect("cat writes");
        let found =
            |value: &str| search(&Needles::new([value]), Pid::from_child(&held)).expect("ours to read");
        let (there, not_there) = (found(&value(5)), found(&value(7)));
        assert!(there.hits > 0 && !there.places.is_empty() && there.length > 100_000, "{there:?}");
        assert_eq!((not_there.hits, not_there.places), (0, Vec::new()));
        drop(held.stdin.take());
        held.wait().expect("cat ends");
    }

    #[test]
    fn a_line_tells_where_a_mapping_is_and_its_readability() {
        assert_eq!(readable("1000-3000 rw-p 00000000 00:00 0  [heap]"), Some((0x1000, 0x3000)));
        assert_eq!(readable("1000-3000 ---p 00000000 00:00 0"), None);
        assert_eq!(readable("1000-3000 r--p 00000000 00:00 0  [vvar]"), None);
    }
}
