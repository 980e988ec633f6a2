//! The rule for files that keep a secret, the same for every token, password and key.
//!
//! Mode bits alone do not show access. systemd gives a service's user access to a credential by an
//! access list, which appears as group bits. Kubernetes gives a pod access to a secret by the pod's
//! group (`fsGroup`), as `root:GROUP 0440`.
//!
//! So group bits do not matter in the folder of credentials, which systemd guards. In other
//! folders, a group may read if this process is in it and the file belongs to root or to this
//! process. All others must have no access anywhere.

use std::ffi::OsStr;
use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;
use rustix::process::{getegid, geteuid, getgroups};

/// Variable in which systemd gives the folder of a service's credentials.
pub const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

/// Reasons to refuse a file for a secret. The path is left out, because the user may have pasted
/// the secret there.
#[derive(Debug, thiserror::Error)]
pub enum NotPrivate {
    /// It cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    /// It is a folder, a device or a pipe.
    #[error("is not a regular file")]
    NotAFile,
    /// Others can read or write it.
    #[error(
        "is open to others (mode {mode:04o}, owner {owner}, group {group}): chmod 600 it; in Kubernetes mount it with \
         `defaultMode: 0440`; under systemd give it by `LoadCredential=`. Replace the secret if others may have read it"
    )]
    Exposed {
        /// Its permission bits.
        mode: u32,
        /// User id of its owner.
        owner: u32,
        /// Group id of the file.
        group: u32,
    },
}

/// Opens a secret's file.
///
/// # Errors
///
/// Fails if it cannot be read, is no regular file, or is open to others.
pub fn open(path: &Path) -> Result<File, NotPrivate> {
    open_beside(path, std::env::var_os(CREDENTIALS).as_deref())
}

/// Opens a regular file for reading, even if others can read it. It does not block: opening a named
/// pipe without a writer would.
pub(crate) fn open_regular(path: &Path) -> Result<(File, Metadata), NotPrivate> {
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    // The metadata is that of the opened file, so that the file cannot be swapped in between.
    let metadata = file.metadata()?;
    if metadata.is_file() { Ok((file, metadata)) } else { Err(NotPrivate::NotAFile) }
}

/// Does the same as [`open`] with a given folder of credentials.
pub(crate) fn open_beside(path: &Path, credentials: Option<&OsStr>) -> Result<File, NotPrivate> {
    let (file, metadata) = open_regular(path)?;
    let is_credential = credentials.is_some_and(|folder| is_inside(path, Path::new(folder)));
    let (mode, owner, group) = (metadata.mode() & 0o7777, metadata.uid(), metadata.gid());
    if is_private(mode, owner, group, &Process::this()?, is_credential) {
        Ok(file)
    } else {
        Err(NotPrivate::Exposed { mode, owner, group })
    }
}

fn is_inside(path: &Path, folder: &Path) -> bool {
    let inside = |path: &Path| Ok::<_, io::Error>(path.canonicalize()?.starts_with(folder.canonicalize()?));
    inside(path).unwrap_or(false)
}

/// The reading process.
struct Process {
    user: u32,
    groups: Vec<u32>,
}

impl Process {
    fn this() -> io::Result<Self> {
        let mut groups = vec![getegid().as_raw()];
        groups.extend(getgroups()?.into_iter().map(|group| group.as_raw()));
        Ok(Self { user: geteuid().as_raw(), groups })
    }
}

fn is_private(mode: u32, owner: u32, group: u32, process: &Process, is_credential: bool) -> bool {
    // Root has access to every group's files.
    let of_group = || process.user == 0 || process.groups.contains(&group);
    let of_owner = || owner == 0 || owner == process.user;
    match (mode & 0o007, mode & 0o070) {
        (0, 0) => true,
        (0, _) if is_credential => true,
        (0, 0o040) => of_owner() && of_group(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_group_reads_what_it_was_given_and_others_nothing() {
        const ROOT: u32 = 0;
        const BRIDGE: u32 = 990;
        const OTHER: u32 = 1_000;
        let bridge = Process { user: BRIDGE, groups: vec![BRIDGE, 2_000] };
        let root = Process { user: ROOT, groups: vec![ROOT] };
        for (mode, owner, group, process, is_credential, expected) in [
            // A file after `chmod 600`, and a systemd credential, which has mode 0400 and an access
            // list. The list makes it appear as 0440.
            (0o600, BRIDGE, BRIDGE, &bridge, false, true),
            (0o400, OTHER, OTHER, &bridge, false, true),
            (0o440, ROOT, ROOT, &bridge, true, true),
            (0o440, ROOT, ROOT, &bridge, false, false),
            (0o444, ROOT, ROOT, &bridge, true, false),
            // Secrets in Kubernetes, in a pod with `fsGroup` and in one without a user.
            (0o440, ROOT, BRIDGE, &bridge, false, true),
            (0o440, ROOT, 2_000, &bridge, false, true),
            (0o640, BRIDGE, BRIDGE, &bridge, false, true),
            (0o440, ROOT, 2_000, &root, false, true),
            // Files of another group or owner, or with more than read access.
            (0o440, ROOT, OTHER, &bridge, false, false),
            (0o440, OTHER, BRIDGE, &bridge, false, false),
            (0o660, ROOT, BRIDGE, &bridge, false, false),
            (0o640, OTHER, OTHER, &root, false, false),
            // Secrets in Kubernetes without a `defaultMode`.
            (0o644, ROOT, BRIDGE, &bridge, false, false),
            (0o604, BRIDGE, BRIDGE, &bridge, false, false),
        ] {
            let is = is_private(mode, owner, group, process, is_credential);
            assert_eq!(is, expected, "{mode:o} {owner}:{group} {is_credential}");
        }
    }

    #[test]
    fn a_credential_is_one_that_lies_in_the_folder_of_credentials() {
        let folder = tempfile::tempdir().unwrap();
        let (inside, outside) = (folder.path().join("credentials"), folder.path().join("token"));
        fs::create_dir(&inside).unwrap();
        for path in [&outside, &inside.join("token")] {
            fs::write(path, "hunter2").unwrap();
            // Neither the rule for Kubernetes nor the group rule allows this mode.
            fs::set_permissions(path, fs::Permissions::from_mode(0o470)).unwrap();
        }
        let credentials = Some(inside.as_os_str());
        assert!(open_beside(&inside.join("token"), credentials).is_ok());
        let refused = open_beside(&outside, credentials).err().unwrap();
        assert!(matches!(refused, NotPrivate::Exposed { mode: 0o470, .. }), "{refused}");
        let roundabout = inside.join("../token");
        assert!(matches!(open_beside(&roundabout, credentials), Err(NotPrivate::Exposed { .. })));
        assert!(matches!(open_beside(&inside, credentials), Err(NotPrivate::NotAFile)));
        // A read of a pipe would wait for a writer.
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        assert!(matches!(open_beside(&pipe, credentials), Err(NotPrivate::NotAFile)));
    }
}
