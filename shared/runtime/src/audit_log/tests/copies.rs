//! Tests of copies of a log's folder, and of folders that others made. Commands on them must end,
//! and name the fault.

use std::os::unix::fs::symlink;

use bridge_protocol::audit::verify::{verify_copied, verify_growing};

use super::*;

async fn log_of(root: &Path, size: u64) {
    let (log, closer) = open(root);
    log.append(&(0..size).map(entry).collect::<Vec<_>>()).await.unwrap();
    closer.close().await.unwrap();
}

#[tokio::test]
async fn a_users_pipe_or_endless_file_is_named_and_not_waited_for() {
    let root = tempfile::tempdir().unwrap();
    log_of(root.path(), 600).await;
    let key = load_key(&root.path().join("audit.key")).unwrap();
    for name in ["checkpoint", "tile/entries/001", "tile/0/000", "journal/00000000000000000000", "lock"] {
        for kind in ["pipe", "device", "sparse"] {
            let copy = copy(root.path());
            let disk = Disk::new(copy.path().join("audit"));
            let path = disk.path(name);
            fs::remove_file(&path).unwrap();
            match kind {
                "pipe" => assert!(Command::new("mkfifo").arg(&path).status().unwrap().success()),
                "device" => symlink("/dev/zero", &path).unwrap(),
                _ => fs::File::create(&path).unwrap().set_len(1 << 40).unwrap(),
            }
            if name == "lock" {
                assert!(disk.is_copy(), "{kind}");
                continue;
            }
            let say =
                |verified: Result<Verified, _>| verified.map_err(|error| format!("{error}")).unwrap_err();
            for said in [
                say(verify(&disk, key.verifier(), None)),
                say(verify_copied(&disk, key.verifier(), None)),
                say(verify_growing(&disk, key.verifier(), None)),
            ] {
                assert!(said.contains(name), "{kind}: {said}");
                let why = if kind == "sparse" { "has more than" } else { "is not a regular file" };
                assert!(said.contains(why), "{kind} {name}: {said}");
            }
        }
    }
}

/// Returns a folder as `audit copy` makes it, with tiles and a checkpoint.
fn only_tiles(root: &Path) -> TempDir {
    let copy = copy(root);
    fs::remove_dir_all(copy.path().join("audit/journal")).unwrap();
    fs::remove_file(copy.path().join("audit/lock")).unwrap();
    copy
}

#[tokio::test]
async fn a_tile_that_was_removed_from_a_copy_or_emptied_is_named() {
    let root = tempfile::tempdir().unwrap();
    log_of(root.path(), 600).await;
    let key = load_key(&root.path().join("audit.key")).unwrap();
    let tiles = Disk::new(root.path().join("audit")).list().unwrap();
    let tiles: Vec<_> = tiles.into_iter().filter(|path| path.starts_with("tile/")).collect();
    let last = ["tile/entries/002.p/88", "tile/0/002.p/88", "tile/1/000.p/2"];
    assert!(last.iter().all(|last| tiles.iter().any(|tile| tile == last)), "{tiles:?}");
    for tile in tiles {
        for emptied in [false, true] {
            let spoil = |copy: &Path| {
                let path = copy.join("audit").join(&tile);
                if emptied { fs::write(path, "").unwrap() } else { fs::remove_file(path).unwrap() }
            };
            // A copy of one moment must have everything.
            let whole = only_tiles(root.path());
            assert!(verify_copied(&Disk::new(whole.path().join("audit")), key.verifier(), None).is_ok());
            spoil(whole.path());
            let found =
                verify_copied(&Disk::new(whole.path().join("audit")), key.verifier(), None).unwrap_err();
            assert!(found.to_string().contains(&tile), "{tile} {emptied}: {found}");
            // A copy of a live log may lack its end, which is reported.
            let live = copy(root.path());
            spoil(live.path());
            match verify_copied(&Disk::new(live.path().join("audit")), key.verifier(), None) {
                Ok(verified) => {
                    assert!(last.contains(&&tile[..]), "{tile} is not the last of its kind");
                    assert_eq!((verified.checkpoint.size, verified.lacks), (600, vec![tile.clone()]));
                }
                Err(found) => {
                    assert!(!last.contains(&&tile[..]), "{tile}: {found}");
                    assert!(found.to_string().contains(&tile), "{tile} {emptied}: {found}");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_volumes_own_root_files_beside_the_log_are_ignored() {
    let root = tempfile::tempdir().unwrap();
    let dir = config(root.path()).dir;
    let strange = dir.join("lost+found/deep");
    fs::create_dir_all(&strange).unwrap();
    fs::write(strange.join("#12"), "a file that a repair has found").unwrap();
    fs::set_permissions(dir.join("lost+found"), fs::Permissions::from_mode(0o000)).unwrap();
    log_of(root.path(), 300).await;
    log_of(root.path(), 1).await;
    let files = Disk::new(&dir).list().unwrap();
    assert!(files.iter().all(|path| !path.contains("lost+found")), "{files:?}");
    assert_eq!(verified(root.path()).checkpoint.size, 301);
    fs::set_permissions(dir.join("lost+found"), fs::Permissions::from_mode(0o700)).unwrap();
}
