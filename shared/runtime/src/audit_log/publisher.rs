//! The thread that writes tiles and checkpoints, so that no entry waits for them.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use bridge_protocol::audit::folder::CHECKPOINT;
use bridge_protocol::audit::growing_tree::File;
use tokio::sync::mpsc;

use super::disk::Disk;
use super::noted::Notes;
use super::opened_folder::OpenedFolder;

/// A checkpoint, with the files that it needs and that are not written yet.
pub(super) struct Publication {
    /// Number of entries under the checkpoint.
    pub(super) size: u64,
    /// Full files.
    pub(super) full: Vec<File>,
    /// Partial files.
    pub(super) edge: Vec<File>,
    /// The signed note.
    pub(super) checkpoint: String,
}

/// Handle of the thread. At most one publication is pending.
pub(super) struct Publisher {
    /// Sender of publications. Dropping it ends the thread.
    pub(super) publish: SyncSender<Publication>,
    /// Receiver of their results.
    pub(super) published: mpsc::Receiver<Published>,
}

/// Result of a publication: its size, or the publication with the disk's error.
pub(super) type Published = Result<u64, (Publication, io::Error)>;

/// Starts the thread. It hands each published checkpoint to `notes` without waiting for it to be
/// written.
pub(super) fn start(disk: Disk, home: OpenedFolder, notes: Notes) -> io::Result<Publisher> {
    let (publish, publications) = sync_channel(1);
    let (done, published) = mpsc::channel(1);
    std::thread::Builder::new()
        .name("audit-publish".to_owned())
        .spawn(move || run(&disk, &home, &notes, &publications, &done))?;
    Ok(Publisher { publish, published })
}

fn run(
    disk: &Disk,
    home: &OpenedFolder,
    notes: &Notes,
    publications: &Receiver<Publication>,
    done: &mpsc::Sender<Published>,
) {
    while let Ok(publication) = publications.recv() {
        let size = publication.size;
        let published = publish(disk, home, &publication);
        if published.is_ok() {
            notes.keep(publication.checkpoint.as_bytes().to_vec());
        }
        let published = published.map(|()| size).map_err(|error| (publication, error));
        if done.blocking_send(published).is_err() {
            return;
        }
    }
}

/// Writes everything that the checkpoint covers first, then the checkpoint, so that the folder
/// verifies at every moment. Files that went to another folder, because the log's own was moved,
/// are not published.
fn publish(disk: &Disk, home: &OpenedFolder, publication: &Publication) -> io::Result<()> {
    home.check()?;
    disk.write(&named(&publication.full), &named(&publication.edge))?;
    home.check()?;
    disk.write(&[], &[(CHECKPOINT.to_owned(), publication.checkpoint.as_bytes())])?;
    home.check()?;
    // The full tiles now replace these partial ones. The checkpoint is published, so a folder that
    // cannot be removed does no harm.
    for (tile, _) in &publication.full {
        if let Err(error) = disk.remove_folder(&format!("{tile}.p")) {
            tracing::warn!(%error, %tile, "remove what was a tile's beginning from the audit log");
        }
    }
    Ok(())
}

fn named(files: &[File]) -> Vec<(String, &[u8])> {
    files.iter().map(|(tile, bytes)| (tile.to_string(), &bytes[..])).collect()
}
