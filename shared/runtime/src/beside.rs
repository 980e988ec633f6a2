//! What stands beside an audit log's key, and what it is called.
//!
//! It is called after the key: beside `audit.key` stands `audit.seen`. Beside a key file with another ending, or with none, its
//! whole name stands before that, so that two keys in one folder share nothing: `log.idc` has `log.idc.seen`. A version before
//! left out every ending.

use std::path::{Path, PathBuf};

/// The usual ending of a key's file. It is left out of the names of what stands beside it.
const ENDING: &str = "key";

/// What stands beside a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beside {
    /// How far the log had come.
    Seen,
    /// What was logged last.
    Last,
    /// The socket for commands.
    Socket,
    /// The key until it is whole.
    Unfinished,
}

impl Beside {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Seen, Self::Last, Self::Socket, Self::Unfinished];

    /// The ending of its name.
    pub fn ending(self) -> &'static str {
        match self {
            Self::Seen => "seen",
            Self::Last => "last",
            Self::Socket => "sock",
            Self::Unfinished => "new",
        }
    }

    /// Where it stands.
    pub fn of(self, key_file: &Path) -> PathBuf {
        with(&without_ending(key_file).unwrap_or_else(|| key_file.to_owned()), self.ending())
    }

    /// Where a version before had it, if that was elsewhere.
    pub fn before(self, key_file: &Path) -> Option<PathBuf> {
        let before = key_file.with_extension(self.ending());
        (before != self.of(key_file) && before != key_file).then_some(before)
    }
}

/// The one file that, if it is a key as well, has the same beside it: `log` for `log.key`, and the other way round.
pub fn shared_with(key_file: &Path) -> PathBuf {
    without_ending(key_file).unwrap_or_else(|| with(key_file, ENDING))
}

fn without_ending(key_file: &Path) -> Option<PathBuf> {
    key_file.extension().is_some_and(|ending| ending == ENDING).then(|| key_file.with_extension(""))
}

fn with(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.to_owned().into_os_string();
    name.push(".");
    name.push(ending);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_in_one_folder_share_nothing_that_stands_beside_them() {
        let keys = ["k/audit.key", "k/log.cloud", "k/log.idc", "k/bare", "k/.key", "k/a.b"];
        let of = |key: &str| Beside::ALL.map(|what| what.of(Path::new(key)));
        let places = keys.iter().flat_map(|key| [vec![PathBuf::from(key)], of(key).to_vec()].concat());
        let mut places: Vec<PathBuf> = places.collect();
        let all = places.len();
        places.sort();
        places.dedup();
        assert_eq!(places.len(), all, "{places:?}");
        for (key, other) in [("k/log", "k/log.key"), ("k/log.key", "k/log"), ("k/log.idc", "k/log.idc.key")] {
            assert_eq!(shared_with(Path::new(key)), Path::new(other));
            assert_eq!(of(key), of(other));
        }
    }

    #[test]
    fn files_beside_the_usual_key_keep_names_and_others_are_found() {
        assert_eq!(Beside::Seen.of(Path::new("k/audit.key")), Path::new("k/audit.seen"));
        assert_eq!(Beside::Socket.of(Path::new("audit.key")), Path::new("audit.sock"));
        assert_eq!(Beside::Seen.before(Path::new("k/audit.key")), None);
        let before = Beside::Seen.before(Path::new("k/log.idc"));
        assert_eq!(before.as_deref(), Some(Path::new("k/log.seen")));
    }
}
