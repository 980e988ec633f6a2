//! Check of the owner of a folder that a process writes to. The agent must be able to open the
//! files that the process leaves there.
//!
//! If root ran a command beside an agent of another user, or started the agent once by hand, it
//! would leave root's files, and the agent's next start would fail. So the process is refused
//! before it has made any.

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

/// The system's list of users.
const USERS: &str = "/etc/passwd";

/// Root. Its folders may be shared, and then permissions decide.
const ROOT: u32 = 0;

/// The folder belongs to another user than the process.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{} belongs to {owner}, but this is run by {process}: an agent of {owner} could not open the files that it leaves there. \
     Run it as {owner}, such as with `runuser -u {owner} -- ...`. If the agent is to run as {process} from now on, give it \
     all its folders, with `chown -R`", path.display()
)]
pub struct WrongOwner {
    path: PathBuf,
    owner: User,
    process: User,
}

/// A user, shown by name if the system knows one.
#[derive(Debug, PartialEq, Eq)]
pub struct User(u32);

impl User {
    /// Returns the user of this process.
    pub fn of_this_process() -> Self {
        Self(geteuid().as_raw())
    }
}

/// Refuses to write into a folder or file of another user. For a missing path, its nearest existing
/// folder counts.
///
/// # Errors
///
/// Fails if the folder belongs to another user.
pub fn check(path: &Path) -> Result<(), WrongOwner> {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let found = absolute.ancestors().find_map(|path| Some((path, fs::metadata(path).ok()?)));
    let Some((path, metadata)) = found else { return Ok(()) };
    judge(metadata.uid(), User::of_this_process().0).map_err(|(owner, process)| WrongOwner {
        path: path.to_owned(),
        owner,
        process,
    })
}

fn judge(owner: u32, process: u32) -> Result<(), (User, User)> {
    if owner == process || owner == ROOT { Ok(()) } else { Err((User(owner), User(process))) }
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let users = fs::read_to_string(USERS).unwrap_or_default();
        let name = users.lines().find_map(|line| {
            let mut fields = line.split(':');
            let (name, _, user) = (fields.next()?, fields.next()?, fields.next()?);
            (user.parse() == Ok(self.0)).then_some(name)
        });
        match name {
            Some(name) => f.write_str(name),
            None => write!(f, "#{}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_users_folder_is_refused_and_roots_is_left_to_permissions() {
        assert!(judge(990, 990).is_ok() && judge(0, 990).is_ok() && judge(0, 0).is_ok());
        assert_eq!(judge(990, 0), Err((User(990), User(0))));
        assert_eq!(judge(990, 1_000), Err((User(990), User(1_000))));
        assert_eq!(
            (User(0).to_string(), User(4_000_000_000).to_string()),
            ("root".into(), "#4000000000".into())
        );
        let ours = tempfile::tempdir().unwrap();
        assert_eq!(check(ours.path()), Ok(()));
        assert_eq!(check(&ours.path().join("nobody's")), Ok(()));
    }
}
