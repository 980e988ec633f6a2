//! The thread that writes tiles and checkpoints, so that no entry waits for them.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use bridge_protocol::audit::folder::CHECKPOINT;
use bridge_protocol::audit::growing_tree::File;
use tokio::sync::mpsc;

use super::disk::Disk;
use super::noted::Notes;
use super::opened_folder::OpenedFolder;

/// A checkpoint, and the files that it needs and that are not out yet.
pub(super) struct Publication {
    /// Entries under the checkpoint.
    pub(super) size: u64,
    /// Files that are full.
    pub(super) full: Vec<File>,
    /// Files of the edge.
    pub(super) edge: Vec<File>,
    /// The signed note.
    pub(super) checkpoint: String,
}

/// Reaches the thread. At most one publication is under way.
pub(super) struct Publisher {
    /// Where publications go; dropping it ends the thread.
    pub(super) publish: SyncSender<Publication>,
    /// What came of them.
    pub(super) published: mpsc::Receiver<Published>,
}

/// What came of a publication: its size, or itself and what the disk said.
pub(super) type Published = Result<u64, (Publication, io::Error)>;

/// Starts the thread. What it has published it hands on to be noted, and does not wait for that.
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

/// First everything that the checkpoint covers, then the checkpoint: the folder verifies at every moment. What went to another
/// folder, since the log's own was moved meanwhile, is not published.
fn publish(disk: &Disk, home: &OpenedFolder, publication: &Publication) -> io::Result<()> {
    home.check()?;
    disk.write(&named(&publication.full), &named(&publication.edge))?;
    home.check()?;
    disk.write(&[], &[(CHECKPOINT.to_owned(), publication.checkpoint.as_bytes())])?;
    home.check()?;
    // What was partial is now the beginning of what is full. The checkpoint is out, so what stays in its way does no harm.
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
