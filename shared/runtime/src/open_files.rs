//! How many files this process may have open. A connection is one, and who has none left can accept nobody.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What an agent keeps for itself: its log, the audit log, sockets of the tunnel, files that are read again, the admin listener.
const OF_AN_AGENT: usize = 64;

/// Raises what may be open at a time to what the system lets this process have; how many files that is.
pub fn raise() -> usize {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::warn!(%error, "raise the number of open files to the system's limit");
    }
    may_open()
}

/// How many may be open at a time now.
pub fn may_open() -> usize {
    getrlimit(Resource::Nofile)
        .current
        .map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
}

/// How many of `may_open` are left for callers, of an agent that needs `more` than every agent does. A quarter at least: what
/// an agent keeps for itself is seldom all in use.
pub fn left_for_callers(may_open: usize, more: usize) -> usize {
    may_open.saturating_sub(OF_AN_AGENT + more).max(may_open / 4)
}

/// What an operator is told if there are fewer than the agent needs.
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
