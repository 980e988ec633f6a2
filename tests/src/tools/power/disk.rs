//! The content of a disk after a power loss, rebuilt from its recording.
//!
//! File contents and names are separate, as on a real disk. Each sector of a file has the content
//! of some change, no older than the last fsync that covers it. So a write can be torn at sectors,
//! and an older content can appear if a later one is lost. Of the name changes that no fsync of
//! their folder covers, any may be kept and any may be lost. A rename is one change.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::fate::Fate;
use super::record::{Event, Recording, SyncEnd};

/// Bytes that a disk writes as a whole or not at all.
const SECTOR_BYTES: u64 = 512;

/// Bytes that the operating system writes at once.
const PAGE_BYTES: u64 = 4_096;

/// Rule for the durability of a changed name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    /// A name is durable once its folder is synced. POSIX promises no more.
    ByFolder,
    /// Names become durable in the order of the changes, with any fsync, as in the journals of
    /// ext4, XFS and others.
    InOrder,
}

/// Number of a file or folder. It is unique, although the file system reuses its own numbers.
type Node = usize;

const ROOT: Node = 0;

/// The files and folders that are left, by path.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Tree(BTreeMap<String, LeftPath>);

/// The file or folder that is left at one path.
#[derive(Debug, PartialEq, Eq)]
enum LeftPath {
    Folder { mode: u32 },
    File { mode: u32, bytes: Vec<u8> },
}

/// State of a disk at a moment.
struct Disk<'r> {
    recording: &'r Recording,
    /// Current nodes by the file system's own number.
    numbers: HashMap<u64, Node>,
    nodes: Vec<NodeState>,
    /// Names as the processes see them.
    names: HashMap<Node, BTreeMap<String, Node>>,
    changes: Vec<NameChange>,
    /// True while the changes are those from before the recording, which are durable.
    was_there: bool,
    /// Result of each fsync that ended before the moment.
    ends: HashMap<u64, SyncEnd>,
}

#[derive(Default)]
struct NodeState {
    is_folder: bool,
    mode: u32,
    /// Changes of the file, as indices of events.
    done: Vec<usize>,
}

/// A change of names: it removes a name, adds one, or both.
struct NameChange {
    gone: Option<(Node, String)>,
    given: Option<(Node, String, Node)>,
    durable: bool,
}

/// A page of a file.
#[derive(Default)]
struct Page {
    /// All changes before this event are durable.
    floor: usize,
    /// True if the operating system would write the page with the next fsync.
    dirty: bool,
}

impl Tree {
    /// Computes the content of the disk after a power loss.
    ///
    /// # Errors
    ///
    /// Fails if the recording is not consistent.
    pub fn after(recording: &Recording, names: Names, fate: &mut Fate) -> Result<Self> {
        let disk = Disk::until(recording, fate.at, names)?;
        let left = disk.names_left(names, fate);
        let mut tree = Self::default();
        disk.gather(ROOT, String::new(), &left, fate, &mut tree);
        Ok(tree)
    }

    /// Writes the files and folders to an empty folder.
    ///
    /// # Errors
    ///
    /// Fails if they cannot be written.
    pub fn write(&self, root: &Path) -> Result<()> {
        for (path, left) in &self.0 {
            let place = root.join(path.trim_start_matches('/'));
            let mode = match left {
                LeftPath::Folder { mode } => fs::create_dir_all(&place).map(|()| mode),
                LeftPath::File { mode, bytes } => fs::write(&place, bytes).map(|()| mode),
            };
            let mode = mode.with_context(|| format!("write {}", place.display()))?;
            fs::set_permissions(&place, Permissions::from_mode(*mode))?;
        }
        Ok(())
    }

    /// Returns the bytes of a file.
    #[must_use]
    pub fn file(&self, path: &str) -> Option<&[u8]> {
        match self.0.get(path) {
            Some(LeftPath::File { bytes, .. }) => Some(bytes),
            _ => None,
        }
    }

    /// Returns all paths, including that of the disk's own folder.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

impl<'r> Disk<'r> {
    /// Applies all events before this one.
    fn until(recording: &'r Recording, end: usize, names: Names) -> Result<Self> {
        let events = recording.events.get(..end).context("the recording is shorter")?;
        let ends = events.iter().filter_map(|event| match event {
            Event::SyncEnded { id, end } => Some((*id, *end)),
            _ => None,
        });
        let mut disk = Self {
            recording,
            numbers: HashMap::new(),
            nodes: Vec::new(),
            names: HashMap::new(),
            changes: Vec::new(),
            was_there: false,
            ends: ends.collect(),
        };
        for (event, done) in events.iter().enumerate() {
            disk.was_there = event < recording.begin;
            disk.apply(event, done, names).with_context(|| format!("event {event}: {done:?}"))?;
        }
        Ok(disk)
    }

    fn apply(&mut self, event: usize, done: &Event, names: Names) -> Result<()> {
        match done {
            Event::Made { node, mode, path } => self.make(*node, *mode, path, false)?,
            Event::FolderMade { node, mode, path } => self.make(*node, *mode, path, true)?,
            Event::Removed { path } => {
                let gone = self.place(path)?;
                self.change(Some(gone), None);
            }
            Event::Renamed { from, to } => {
                let (gone, node) = (self.place(from)?, self.find(from)?);
                let (folder, name) = self.place(to)?;
                self.change(Some(gone), Some((folder, name, node)));
            }
            Event::Linked { from, to } => {
                let (node, (folder, name)) = (self.find(from)?, self.place(to)?);
                self.change(None, Some((folder, name, node)));
            }
            Event::Written { node, .. } | Event::Cut { node, .. } | Event::Room { node, .. } => {
                let node = self.number(*node)?;
                self.nodes[node].done.push(event);
            }
            Event::SyncBegun { node, id } => {
                let node = self.number(*node)?;
                self.nodes[node].done.push(event);
                if self.ends.get(id) == Some(&SyncEnd::Done) {
                    let covers = |change: &NameChange| match (&change.given, &change.gone) {
                        _ if names == Names::InOrder => true,
                        (Some((folder, ..)), _) | (None, Some((folder, _))) => *folder == node,
                        (None, None) => true,
                    };
                    self.changes
                        .iter_mut()
                        .filter(|change| covers(change))
                        .for_each(|change| change.durable = true);
                }
            }
            Event::SyncEnded { .. } | Event::Acknowledged { .. } => {}
        }
        Ok(())
    }

    fn make(&mut self, number: u64, mode: u32, path: &str, is_folder: bool) -> Result<()> {
        let node = self.nodes.len();
        self.nodes.push(NodeState { is_folder, mode, done: Vec::new() });
        self.numbers.insert(number, node);
        if is_folder {
            self.names.insert(node, BTreeMap::new());
        }
        if !path.is_empty() {
            let (folder, name) = self.place(path)?;
            self.change(None, Some((folder, name, node)));
        }
        Ok(())
    }

    fn change(&mut self, gone: Option<(Node, String)>, given: Option<(Node, String, Node)>) {
        let change = NameChange { gone, given, durable: self.was_there };
        change.apply(&mut self.names);
        self.changes.push(change);
    }

    fn number(&self, number: u64) -> Result<Node> {
        self.numbers.get(&number).copied().with_context(|| format!("no file has the number {number}"))
    }

    fn find(&self, path: &str) -> Result<Node> {
        let mut parts = path.split('/').filter(|part| !part.is_empty());
        let found = parts.try_fold(ROOT, |folder, name| self.names.get(&folder)?.get(name).copied());
        found.with_context(|| format!("there is no {path}"))
    }

    /// Splits a path into its folder's node and the name.
    fn place(&self, path: &str) -> Result<(Node, String)> {
        let (folder, name) = path.rsplit_once('/').context("a path without a folder")?;
        Ok((self.find(folder)?, name.to_owned()))
    }

    /// Draws the names that are left in each folder.
    fn names_left(&self, names: Names, fate: &mut Fate) -> HashMap<Node, BTreeMap<String, Node>> {
        let mut left = HashMap::new();
        let certain = self.changes.iter().rposition(|change| change.durable).map_or(0, |last| last + 1);
        let in_order = certain + fate.names_in_order(self.changes.len() - certain);
        for (at, change) in self.changes.iter().enumerate() {
            let is_kept = match names {
                Names::ByFolder => change.durable || fate.keeps_name(),
                Names::InOrder => at < in_order,
            };
            if is_kept {
                change.apply(&mut left);
            }
        }
        left
    }

    fn gather(
        &self,
        node: Node,
        path: String,
        names: &HashMap<Node, BTreeMap<String, Node>>,
        fate: &mut Fate,
        tree: &mut Tree,
    ) {
        let NodeState { is_folder, mode, .. } = self.nodes[node];
        if !is_folder {
            tree.0.insert(path, LeftPath::File { mode, bytes: self.content(node, fate) });
            return;
        }
        for (name, inside) in names.get(&node).into_iter().flatten() {
            self.gather(*inside, format!("{path}/{name}"), names, fate, tree);
        }
        tree.0.insert(path, LeftPath::Folder { mode });
    }

    /// Draws the content that is left of a file.
    fn content(&self, node: Node, fate: &mut Fate) -> Vec<u8> {
        let (pages, length_floor) = self.pages(node);
        let file = fate.file();
        let length_until = fate.until(file, length_floor);
        let mut sectors: HashMap<u64, usize> = HashMap::new();
        let mut until = |sector: u64, fate: &mut Fate| {
            let floor = pages.get(&(sector * SECTOR_BYTES / PAGE_BYTES)).map_or(0, |page| page.floor);
            *sectors.entry(sector).or_insert_with(|| fate.until(file, floor))
        };
        let (mut content, mut length, mut length_left) = (Vec::<u8>::new(), 0, 0);
        for event in &self.nodes[node].done {
            let (from, to, bytes) = match &self.recording.events[*event] {
                Event::Written { at, bytes, .. } => {
                    let bytes = self.recording.slice(bytes);
                    length = u64::max(length, at + bytes.len() as u64);
                    (*at, at + bytes.len() as u64, bytes)
                }
                Event::Cut { length: cut, .. } => {
                    length = *cut;
                    (*cut, content.len() as u64, &[][..])
                }
                Event::Room { length: room, .. } => {
                    length = length.max(*room);
                    (0, 0, &[][..])
                }
                _ => continue,
            };
            if *event < length_until {
                length_left = length;
            }
            if content.len() < to as usize {
                content.resize(to as usize, 0);
            }
            let mut at = from;
            while at < to {
                let sector = at / SECTOR_BYTES;
                let end = to.min((sector + 1) * SECTOR_BYTES);
                if *event < until(sector, fate) {
                    let place = &mut content[at as usize..end as usize];
                    match bytes.get((at - from) as usize..(end - from) as usize) {
                        Some(bytes) => place.copy_from_slice(bytes),
                        None => place.fill(0),
                    }
                }
                at = end;
            }
        }
        content.resize(length_left as usize, 0);
        content
    }

    /// Returns the event up to which each page of a file, and its length, are durable.
    fn pages(&self, node: Node) -> (HashMap<u64, Page>, usize) {
        let (mut pages, mut length, mut length_floor) = (HashMap::<u64, Page>::new(), 0, 0);
        let mut begun = self.recording.begin;
        for event in &self.nodes[node].done {
            if *event >= begun {
                // All changes from before the recording are durable.
                pages.values_mut().for_each(|page| page.reach(begun));
                (length_floor, begun) = (begun, usize::MAX);
            }
            match &self.recording.events[*event] {
                Event::Written { at, bytes, durable, .. } => {
                    let end = at + bytes.len() as u64;
                    for page in at / PAGE_BYTES..end.div_ceil(PAGE_BYTES) {
                        let page = pages.entry(page).or_default();
                        page.dirty = true;
                        if *durable {
                            page.reach(event + 1);
                            length_floor = event + 1;
                        }
                    }
                    length = length.max(end);
                }
                Event::Cut { length: cut, .. } => {
                    for page in cut / PAGE_BYTES..u64::div_ceil(length, PAGE_BYTES) {
                        pages.entry(page).or_default().dirty = true;
                    }
                    length = *cut;
                }
                Event::Room { length: room, .. } => length = length.max(*room),
                Event::SyncBegun { id, .. } => match self.ends.get(id) {
                    Some(SyncEnd::Done) => {
                        pages.values_mut().filter(|page| page.dirty).for_each(|page| page.reach(*event));
                        length_floor = *event;
                    }
                    // After a failed fsync, the operating system treats the pages as written.
                    Some(SyncEnd::Failed) => pages.values_mut().for_each(|page| page.dirty = false),
                    Some(SyncEnd::Lied) | None => {}
                },
                _ => {}
            }
        }
        if begun != usize::MAX {
            pages.values_mut().for_each(|page| page.reach(begun));
            length_floor = begun;
        }
        (pages, length_floor)
    }
}

impl NameChange {
    fn apply(&self, names: &mut HashMap<Node, BTreeMap<String, Node>>) {
        if let Some((folder, name)) = &self.gone
            && let Some(names) = names.get_mut(folder)
        {
            let node = self.given.as_ref().map(|(_, _, node)| node);
            // The old name of a rename may belong to another file by now.
            if node.is_none_or(|node| names.get(name) == Some(node)) {
                names.remove(name);
            }
        }
        if let Some((folder, name, node)) = &self.given {
            names.entry(*folder).or_default().insert(name.clone(), *node);
        }
    }
}

impl Page {
    fn reach(&mut self, event: usize) {
        *self = Self { floor: event, dirty: false };
    }
}
