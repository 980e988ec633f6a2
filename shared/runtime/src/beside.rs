//! Files beside an audit log's key, and their names.
//!
//! Their names derive from the key's: beside `audit.key` is `audit.seen`. If the key's file has
//! another ending or none, its whole name comes first, so that two keys in one folder share no
//! file: `log.idc` has `log.idc.seen`. An earlier version left out every ending.

use std::path::{Path, PathBuf};

/// Usual ending of a key's file. The names of the files beside it leave it out.
const ENDING: &str = "key";

/// Kind of a file beside a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beside {
    /// The log's last checkpoint.
    Seen,
    /// The digests that were logged last.
    Last,
    /// The socket for commands.
    Socket,
    /// The key before it is whole.
    Unfinished,
}

impl Beside {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Seen, Self::Last, Self::Socket, Self::Unfinished];

    /// Returns the ending of its name.
    pub fn ending(self) -> &'static str {
        match self {
            Self::Seen => "seen",
            Self::Last => "last",
            Self::Socket => "sock",
            Self::Unfinished => "new",
        }
    }

    /// Returns its path.
    pub fn of(self, key_file: &Path) -> PathBuf {
        with(&without_ending(key_file).unwrap_or_else(|| key_file.to_owned()), self.ending())
    }

    /// Returns the path that an earlier version used, if it differs.
    pub fn before(self, key_file: &Path) -> Option<PathBuf> {
        let before = key_file.with_extension(self.ending());
        (before != self.of(key_file) && before != key_file).then_some(before)
    }
}

/// Returns the only file that, if it is a key, has the same files beside it: `log` for `log.key`,
/// and the reverse.
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
