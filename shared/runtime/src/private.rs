//! Whether a file keeps a secret: one rule for every token, password and key, whoever reads it.
//!
//! Mode bits are not access. systemd gives a credential to the service's user by an access list, which shows as bits of the
//! group; Kubernetes gives a secret to a pod by the pod's group (`fsGroup`), as `root:GROUP 0440`. So in the folder of
//! credentials, which systemd guards, bits of the group mean nothing; anywhere else a group may read that this process is in,
//! if the file is root's or its own. Everybody else is kept out everywhere.

use std::ffi::OsStr;
use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;
use rustix::process::{getegid, geteuid, getgroups};

/// Where systemd says that a service's credentials are.
pub const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

/// Why a file is not taken for a secret. The path is not in it, since somebody may have pasted the secret there.
#[derive(Debug, thiserror::Error)]
pub enum NotPrivate {
    /// It cannot be read at all.
    #[error("cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    /// A folder, a device, a pipe.
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
        /// Whose it is.
        owner: u32,
        /// Its group.
        group: u32,
    },
}

/// Opens a secret's file, if nobody else can read it.
pub fn open(path: &Path) -> Result<File, NotPrivate> {
    open_beside(path, std::env::var_os(CREDENTIALS).as_deref())
}

/// Opens a regular file to read it, whoever else may. Nothing else is waited for: a named pipe without a writer would never open.
pub(crate) fn open_regular(path: &Path) -> Result<(File, Metadata), NotPrivate> {
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    // Of the opened file, not of its path: it cannot be swapped in between.
    let metadata = file.metadata()?;
    if metadata.is_file() { Ok((file, metadata)) } else { Err(NotPrivate::NotAFile) }
}

/// As [`open`], with the folder of credentials from elsewhere than the environment.
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

/// Who reads.
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
    // Root is in every group that it likes.
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
            // As `chmod 600` has it, and as systemd has a credential: 0400 and an access list, which shows as 0440.
            (0o600, BRIDGE, BRIDGE, &bridge, false, true),
            (0o400, OTHER, OTHER, &bridge, false, true),
            (0o440, ROOT, ROOT, &bridge, true, true),
            (0o440, ROOT, ROOT, &bridge, false, false),
            (0o444, ROOT, ROOT, &bridge, true, false),
            // As Kubernetes has a secret of a pod with an `fsGroup`, and of one without a user.
            (0o440, ROOT, BRIDGE, &bridge, false, true),
            (0o440, ROOT, 2_000, &bridge, false, true),
            (0o640, BRIDGE, BRIDGE, &bridge, false, true),
            (0o440, ROOT, 2_000, &root, false, true),
            // Of another group, of another owner, or open to more than reading.
            (0o440, ROOT, OTHER, &bridge, false, false),
            (0o440, OTHER, BRIDGE, &bridge, false, false),
            (0o660, ROOT, BRIDGE, &bridge, false, false),
            (0o640, OTHER, OTHER, &root, false, false),
            // Kubernetes without a `defaultMode`.
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
            // No Kubernetes and no group has this mode.
            fs::set_permissions(path, fs::Permissions::from_mode(0o470)).unwrap();
        }
        let credentials = Some(inside.as_os_str());
        assert!(open_beside(&inside.join("token"), credentials).is_ok());
        let refused = open_beside(&outside, credentials).err().unwrap();
        assert!(matches!(refused, NotPrivate::Exposed { mode: 0o470, .. }), "{refused}");
        let roundabout = inside.join("../token");
        assert!(matches!(open_beside(&roundabout, credentials), Err(NotPrivate::Exposed { .. })));
        assert!(matches!(open_beside(&inside, credentials), Err(NotPrivate::NotAFile)));
        // Whoever opens a pipe to read waits for somebody who writes.
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        assert!(matches!(open_beside(&pipe, credentials), Err(NotPrivate::NotAFile)));
    }
}
