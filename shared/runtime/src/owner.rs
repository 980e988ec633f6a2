//! Whose folder a command writes to: what it leaves there, the agent must be able to open.
//!
//! A command that root gives beside an agent of its own user would leave files of root's, and the agent's next start would fail
//! on them. So it is refused before it has made any.

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

/// Where the system has its users.
const USERS: &str = "/etc/passwd";

/// Root, whose folders may be everybody's: permissions say whose.
const ROOT: u32 = 0;

/// The folder is another user's than who runs the command.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{} belongs to {owner}, and {process} runs this: what it left there, the agent could not open. Run it as {owner}, such as \
     with `runuser -u {owner} -- ...`", path.display()
)]
pub struct WrongOwner {
    path: PathBuf,
    owner: User,
    process: User,
}

/// A user, by name where the system knows one.
#[derive(Debug, PartialEq, Eq)]
struct User(u32);

/// Refuses to write into a folder (or to a file) that is another user's. One that is not there would be made in the
/// nearest folder that is.
pub fn check(path: &Path) -> Result<(), WrongOwner> {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let found = absolute.ancestors().find_map(|path| Some((path, fs::metadata(path).ok()?)));
    let Some((path, metadata)) = found else { return Ok(()) };
    judge(metadata.uid(), geteuid().as_raw()).map_err(|(owner, process)| WrongOwner {
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
