//! Runs the script of `docs/launch.md` on known draws, and checks the examples of the page.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use bridge_protocol::domain::Brand;
use bridge_protocol::note::NoteVerifier;
use bridge_protocol::waiting_room::launch_id::{LaunchId, LaunchName};
use bridge_protocol::waiting_room::published_draw::PublishedDraw;
use bridge_protocol::waiting_room::ticket;
use bridge_skips::{Lack, is_installed, skipped};
use sha2::{Digest as _, Sha256};

/// Most lines of the script: an auditor reads it before running it.
const SCRIPT_LINES_MAX: usize = 60;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn vectors() -> PathBuf {
    root().join("shared/protocol/vectors/draw")
}

/// Returns the only block of the page in this language.
fn block(language: &str) -> String {
    let page = fs::read_to_string(root().join("docs/launch.md")).unwrap();
    let fence = format!("\n```{language}\n");
    let mut blocks = page.split(&fence).skip(1);
    let block = blocks.next().unwrap().split("```").next().unwrap().to_owned();
    assert_eq!(blocks.count(), 0, "one block in {language}");
    block
}

/// The script of the page in a folder of its own.
struct Script {
    folder: tempfile::TempDir,
}

impl Script {
    /// Returns `None` on a machine without Python.
    fn extract() -> Option<Script> {
        if !is_installed("python3") {
            skipped(Lack::Languages, "there is no python3");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("verify_draw.py"), block("python")).unwrap();
        Some(Script { folder })
    }

    fn run(&self, draw: &Path, entrants: &Path) -> Output {
        let script = self.folder.path().join("verify_draw.py");
        Command::new("python3").arg(script).args([draw, entrants]).output().unwrap()
    }

    /// Runs it on a draw with a change. Returns its complaint.
    fn complaint(&self, vector: &str, change: impl Fn(&mut serde_json::Value)) -> String {
        let folder = vectors().join(vector);
        let mut draw = serde_json::from_slice(&fs::read(folder.join("draw.json")).unwrap()).unwrap();
        change(&mut draw);
        let changed = self.folder.path().join("draw.json");
        fs::write(&changed, draw.to_string()).unwrap();
        let output = self.run(&changed, &folder.join("entrants.txt"));
        assert_eq!(output.status.success(), output.stderr.is_empty());
        String::from_utf8(output.stderr).unwrap()
    }
}

#[test]
fn the_script_of_the_page_gives_the_known_places() {
    let Some(script) = Script::extract() else { return };
    let mut checked = 0;
    for folder in fs::read_dir(vectors()).unwrap().map(|entry| entry.unwrap().path()) {
        let Ok(places) = fs::read_to_string(folder.join("places.txt")) else { continue };
        let output = script.run(&folder.join("draw.json"), &folder.join("entrants.txt"));
        assert!(output.status.success(), "{folder:?}: {output:?}");
        assert_eq!(String::from_utf8(output.stdout).unwrap(), places, "{folder:?}");
        checked += 1;
    }
    assert_eq!(checked, 8);
}

#[test]
fn the_script_recomputes_a_million_places() {
    let Some(script) = Script::extract() else { return };
    let entrants = script.folder.path().join("entrants.txt");
    let line = |number: u32| {
        let hash = Sha256::digest(format!("entrant {number}\n"));
        hash[..16].iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n"
    };
    fs::write(&entrants, (0..1_000_003).map(line).collect::<String>()).unwrap();
    let folder = vectors().join("million");
    let output = script.run(&folder.join("draw.json"), &entrants);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let digest: String = Sha256::digest(&output.stdout).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(digest, fs::read_to_string(folder.join("places.sha256")).unwrap().trim());
}

#[test]
fn the_script_names_each_false_claim() {
    let Some(script) = Script::extract() else { return };
    let other = serde_json::Value::String("0".repeat(64));
    assert_eq!(script.complaint("five", |_| {}), "");
    assert_eq!(script.complaint("five", |draw| draw["seed"] = other.clone()), "FALSE: the seed\n");
    assert_eq!(script.complaint("five", |draw| draw["count"] = 4.into()), "FALSE: the seed\n");
    let half = script.complaint("five", |draw| draw["sides"][0]["half"] = other.clone());
    assert_eq!(half, "FALSE: the commitment of idc/seoul\n");
    let withheld = script.complaint("one", |draw| draw["sides"][0]["half"] = serde_json::Value::Null);
    assert_eq!(withheld, "FALSE: no half was revealed\n");
    assert_eq!(script.complaint("five", |draw| draw["format"] = other.clone()), "FALSE: the form\n");
    let folder = vectors();
    let output = script.run(&folder.join("hundred/draw.json"), &folder.join("five/entrants.txt"));
    assert_eq!(output.stderr, b"FALSE: root or count of the entrants\n");
    assert!(!output.status.success() && output.stdout.is_empty());
}

#[test]
fn the_script_is_short_enough_to_be_read() {
    let script = block("python");
    assert!(script.lines().count() <= SCRIPT_LINES_MAX, "{} lines", script.lines().count());
    let imports: Vec<&str> = script.lines().filter(|line| line.contains("import ")).collect();
    assert_eq!(imports, ["import hashlib, hmac, json, math, struct, sys"], "the standard library alone");
}

#[test]
fn the_draw_and_the_ticket_of_the_page_are_good() {
    let draw: PublishedDraw = serde_json::from_str(&block("json")).unwrap();
    assert_eq!((draw.verify(), draw.count), (Ok(()), 5));
    let ticket_block = block("ticket");
    let [key, text] = ticket_block.lines().collect::<Vec<_>>()[..] else { panic!("{ticket_block}") };
    let key = NoteVerifier::parse(key).unwrap();
    let (brand, name) = key.name().split_once('/').unwrap();
    let launch = LaunchId { brand: Brand::new(brand).unwrap(), name: LaunchName::new(name).unwrap() };
    let verified = ticket::verify_for(text, std::slice::from_ref(&key), &launch).unwrap();
    assert_eq!(verified.ticket().entrant.0, 3);
}
