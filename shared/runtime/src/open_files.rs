//! Limit of open files of this process. Each connection is one, so a process without free ones
//! cannot accept a connection.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files that every agent needs: its log, the audit log, sockets of the tunnel, files that are read
/// again, the admin listener.
const OF_AN_AGENT: usize = 64;

/// Raises the limit of open files to the largest that the system allows, and returns it.
pub fn raise() -> usize {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::warn!(%error, "raise the number of open files to the system's limit");
    }
    may_open()
}

/// Returns the current limit of open files.
pub fn may_open() -> usize {
    getrlimit(Resource::Nofile)
        .current
        .map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
}

/// Returns the part of `may_open` that is left for callers, if the agent needs `more` files than
/// every agent does. It is at least a quarter, because the agent's own files are seldom all in use.
pub fn left_for_callers(may_open: usize, more: usize) -> usize {
    may_open.saturating_sub(OF_AN_AGENT + more).max(may_open / 4)
}

/// Returns a note for the operator if the limit is below the agent's need.
pub fn note(may_open: usize, more: usize) -> Option<String> {
    let needed = OF_AN_AGENT + more;
    (may_open < needed).then(|| {
        format!(
            "this process may open {may_open} files, and may need {needed}: raise LimitNOFILE= or `ulimit -n`"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_allowed_open_files_are_taken_and_some_left_for_callers() {
        let all = getrlimit(Resource::Nofile).maximum;
        raise();
        assert_eq!(getrlimit(Resource::Nofile).current, all);
        assert_eq!(left_for_callers(1_024, 40), 920);
        assert_eq!((left_for_callers(100, 40), left_for_callers(4, 40)), (25, 1));
        assert_eq!(left_for_callers(usize::MAX, 40), usize::MAX - 104);
        assert_eq!(note(104, 40), None);
        assert!(note(103, 40).is_some_and(|note| note.contains("103 files, and may need 104")));
    }
}
