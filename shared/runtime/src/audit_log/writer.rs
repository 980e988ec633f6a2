//! The thread that owns the log: makes entries durable round by round, and passes new files to the
//! publisher.
//!
//! All entries that queued during the last fsync form the next round, so one fsync serves all
//! waiting callers. After an error nothing is acknowledged until the journal is cut back to its
//! durable part and the disk has room again. While nothing can be published, entries are still
//! taken, until so many wait for it that memory would grow without limit.

use std::fs::File as DiskFile;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::time::Duration;

use bridge_protocol::audit::Checkpoint;
use bridge_protocol::audit::earlier::{EarlierRoot, History};
use bridge_protocol::audit::growing_tree::{Edge, File, GrowingTree};
use bridge_protocol::audit::journal::{self, Header, Reader};
use bridge_protocol::merkle::{Hash, leaf_hash};
use bridge_protocol::note::NoteSigner;
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};

use super::disk::{Disk, Lock, of};
use super::opened_folder::{FileId, OpenedFolder};
use super::publisher::{Publication, Published, Publisher};
use super::recover::Recovered;
use super::watchdog::Watchdog;
use super::{Append, AuditError, LogState, Logged};
use crate::telemetry::metrics::Metrics;

/// Most appends in one round.
const ROUND_MAX: usize = 1_024;

/// A segment that is longer is followed by another one, so that published entries can be removed
/// from the journal.
const SEGMENT_BYTES: u64 = 8 << 20;

/// A segment of this length is not continued if no next one can be begun, because readers load a
/// whole segment into memory.
const SEGMENT_BYTES_MAX: u64 = 2 * SEGMENT_BYTES;

/// Zeros that are written ahead in a segment: room for about ten rounds of a busy log. A round over
/// them changes no length and needs no new room. So the disk writes at one place and cannot become
/// full.
const AHEAD_BYTES: usize = 256 << 10;

/// Full files that wait for the publisher. Above it, appends wait too: 16 MiB are about 30,000
/// entries.
const FILES_WAITING: usize = 128;

/// Full files that wait for a failing publisher, including those that it tried. Above it, appends
/// are refused.
const FILES_STUCK: usize = 2 * FILES_WAITING;

/// Interval at which a full or broken disk is tried again.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(200);

/// Interval at which the folder's place is checked while nothing is written.
const LOOK_AROUND_EVERY: Duration = Duration::from_secs(1);

/// Longest pause between a failed publication and the next attempt.
const PUBLISH_AGAIN_WITHIN: Duration = Duration::from_secs(1);

/// Unit of the system's writes: one or several sectors.
const PAGE_BYTES: u64 = 4_096;

/// Free space that the disk must have before the log is written again: for some rounds and their
/// tiles.
const ROOM: u64 = 1 << 20;

/// The thread's state.
pub(super) struct Writer {
    disk: Disk,
    home: OpenedFolder,
    signer: NoteSigner,
    growing: GrowingTree,
    /// Full files that are not published yet.
    full: Vec<File>,
    /// Number of entries under the last published checkpoint.
    published: u64,
    publisher: Publisher,
    /// The pending publication, if there is one.
    publishing: Option<Publishing>,
    /// Earlier sizes that were published.
    earlier: History,
    pace: WriterIntervals,
    publish_at: Instant,
    /// Time at which the pending publication takes too long; `None` if none is pending or it was
    /// already reported.
    late_at: Option<Instant>,
    /// Reason why the last publication failed or takes too long.
    stuck: Option<String>,
    /// Segments before the current one: first entry, and the entry after the last one.
    older: Vec<(u64, u64)>,
    segment: Segment,
    /// Bytes of a round; the buffer is reused.
    bytes: Vec<u8>,
    /// Leaf hashes of the current round; the buffer is reused.
    leaves: Vec<Hash>,
    /// Size of a published checkpoint, to be written with the next round. From then on, an older
    /// checkpoint that is put back is found.
    mark: Option<u64>,
    /// Time of the next attempt with a journal that cannot be written, and the reason.
    broken: Option<(Instant, String)>,
    /// Time of the next check of the folder's place.
    look_around_at: Instant,
    standing: watch::Sender<LogState>,
    metrics: Arc<Metrics>,
    busy: Arc<Watchdog>,
    _lock: Lock,
}

/// A pending publication.
struct Publishing {
    /// Number of its full files.
    full: usize,
    /// Size and root of its checkpoint.
    is: EarlierRoot,
}

/// Interval of publications, and the longest time for the disk.
#[derive(Clone, Copy)]
pub(super) struct WriterIntervals {
    /// Time between two checkpoints while there are new entries.
    pub(super) publish_every: Duration,
    /// Longest time of a disk operation.
    pub(super) within: Duration,
}

/// The current segment of the journal.
struct Segment {
    first: u64,
    file: DiskFile,
    /// Identity of its file.
    id: FileId,
    /// Length of its durable part in bytes. Bytes after it do not count.
    length: u64,
    /// Length of the file's written part. From `length` on it has zeros.
    ahead: u64,
    seals: journal::Writer,
}

/// Reason why the thread wakes up.
enum WakeReason {
    Appends,
    Published(Published),
    PublishNow,
    PublishLate,
    LookAgain,
    LookAround,
    Close,
}

impl Writer {
    #[expect(clippy::too_many_arguments, reason = "each is one part of the log, put together in one place")]
    pub(super) fn new(
        disk: Disk,
        home: OpenedFolder,
        recovered: Recovered,
        signer: NoteSigner,
        publisher: Publisher,
        pace: WriterIntervals,
        standing: watch::Sender<LogState>,
        metrics: Arc<Metrics>,
        busy: Arc<Watchdog>,
        lock: Lock,
    ) -> io::Result<Self> {
        let Recovered { growing, published, earlier, full, older, last } = recovered;
        let segment = match last {
            Some((first, length, seals)) => {
                let file = disk.open(&journal::path(first))?;
                Segment { first, id: FileId::of(&file)?, file, length, ahead: length, seals }
            }
            None => Segment::start(&disk, &growing)?,
        };
        metrics.audit_writable.set(1);
        metrics.audit_publishable.set(1);
        Ok(Self {
            disk,
            home,
            signer,
            growing,
            full,
            published,
            publisher,
            publishing: None,
            earlier,
            pace,
            publish_at: Instant::now(),
            late_at: None,
            stuck: None,
            older,
            segment,
            bytes: Vec::new(),
            leaves: Vec::new(),
            mark: None,
            broken: None,
            look_around_at: Instant::now() + LOOK_AROUND_EVERY,
            standing,
            metrics,
            busy,
            _lock: lock,
        })
    }

    /// Runs until the log is closed.
    pub(super) fn run(mut self, queue: mpsc::Receiver<Append>, closed: oneshot::Receiver<()>) {
        match tokio::runtime::Builder::new_current_thread().enable_time().build() {
            Ok(runtime) => runtime.block_on(self.serve(queue, closed)),
            Err(error) => self.break_down(&error),
        }
    }

    async fn serve(&mut self, mut queue: mpsc::Receiver<Append>, mut closed: oneshot::Receiver<()>) {
        let mut round = Vec::with_capacity(ROUND_MAX);
        let mut closing = false;
        loop {
            let news = self.growing.size() > self.published;
            let publishing = self.publishing.is_some();
            let hold = publishing && self.stuck.is_none() && self.full.len() >= FILES_WAITING;
            let look_at = self.broken.as_ref().map(|(at, _)| *at);
            let woken = tokio::select! {
                biased;
                published = self.publisher.published.recv() => match published {
                    Some(published) => WakeReason::Published(published),
                    // Without the publisher memory would grow. So the agent ends with its log, and
                    // is started again.
                    None => return tracing::error!("the thread that publishes the audit log has ended"),
                },
                () = sleep_until(self.publish_at), if news && !publishing => WakeReason::PublishNow,
                () = sleep_until(self.late_at.unwrap_or(self.publish_at)), if self.late_at.is_some() => WakeReason::PublishLate,
                () = sleep_until(look_at.unwrap_or(self.publish_at)), if look_at.is_some() => WakeReason::LookAgain,
                () = sleep_until(self.look_around_at), if look_at.is_none() => WakeReason::LookAround,
                taken = queue.recv_many(&mut round, ROUND_MAX), if !hold => {
                    if taken == 0 { WakeReason::Close } else { WakeReason::Appends }
                }
                _ = &mut closed, if !closing => {
                    closing = true;
                    queue.close();
                    continue;
                }
            };
            self.busy.begin();
            match woken {
                WakeReason::Appends => {
                    wait_for_others(&mut queue, &mut round);
                    self.round(&mut round);
                }
                WakeReason::Published(published) => self.take_published(published),
                WakeReason::PublishNow => match self.in_place() {
                    Ok(()) => self.publish(self.due()),
                    Err(error) => {
                        self.publish_at = Instant::now() + LOOK_AGAIN_AFTER;
                        self.break_down(&error);
                    }
                },
                WakeReason::PublishLate => {
                    self.late_at = None;
                    self.be_stuck(format!("the disk has not answered for {:?}", self.pace.within));
                }
                WakeReason::LookAgain => self.look_again(),
                WakeReason::LookAround => {
                    if let Err(error) = self.in_place() {
                        self.break_down(&error);
                    }
                }
                WakeReason::Close => break,
            }
            self.busy.end();
        }
        self.busy.end();
        self.finish().await;
    }

    /// Writes all queued entries with one fsync, then answers all callers.
    fn round(&mut self, round: &mut Vec<Append>) {
        let written = match self.obstacle() {
            Some(obstacle) => Err(AuditError::Unwritable(obstacle)),
            None => self.write(round).map_err(|error| {
                self.break_down(&error);
                AuditError::Unwritable(error.to_string())
            }),
        };
        let mut first = self.growing.size();
        let mut leaves = self.leaves.iter().copied();
        for Append { entries, durable } in round.drain(..) {
            let end = match &written {
                Ok(()) => {
                    for (entry, leaf) in entries.iter().zip(&mut leaves) {
                        self.growing.append(entry, leaf, &mut self.full);
                    }
                    self.metrics.audit_entries.inc_by(entries.len() as u64);
                    Ok(first)
                }
                Err(error) => Err(error.clone()),
            };
            first = self.growing.size();
            let _caller_gone = durable.send(Logged { end, entries });
        }
        let size = self.growing.size();
        self.standing.send_if_modified(|standing| std::mem::replace(&mut standing.size, size) != size);
        self.metrics.set_audit_unpublished(size - self.published);
        if self.stuck.is_some() {
            self.tell();
        }
        if written.is_ok()
            && self.segment.length > SEGMENT_BYTES
            && let Err(error) = self.next_segment()
        {
            tracing::warn!(%error, "begin a segment of the audit log's journal");
            if self.segment.length > SEGMENT_BYTES_MAX {
                self.break_down(&error);
            }
        }
    }

    fn write(&mut self, round: &[Append]) -> io::Result<()> {
        let entries = || round.iter().flat_map(|append| append.entries.iter());
        self.leaves.clear();
        self.leaves.extend(entries().map(leaf_hash));
        self.bytes.clear();
        let mut seals = self.segment.seals.clone();
        seals.round(self.mark, entries().zip(&self.leaves), &mut self.bytes);
        self.segment.write(&mut self.bytes, seals, &self.disk, &self.home)?;
        self.look_around_at = Instant::now() + LOOK_AROUND_EVERY;
        self.mark = None;
        self.metrics.audit_rounds.inc();
        Ok(())
    }

    /// Begins a new segment after the last one. If it cannot be made, the last one is continued up
    /// to a limit.
    fn next_segment(&mut self) -> io::Result<()> {
        let segment = Segment::start(&self.disk, &self.growing)?;
        // The segment was made by its path, which may lead to another folder now.
        self.home.check()?;
        let ended = std::mem::replace(&mut self.segment, segment);
        self.older.push((ended.first, self.segment.first));
        Ok(())
    }

    /// Checks that the folder and the journal are at their places.
    fn in_place(&mut self) -> io::Result<()> {
        self.look_around_at = Instant::now() + LOOK_AROUND_EVERY;
        self.segment.in_place(&self.disk, &self.home)
    }

    /// Returns the state to publish. Under load it is the one at the last full bundle: partial
    /// files beyond it would be removed a moment later.
    fn due(&self) -> Edge {
        let full = Some(self.growing.when_last_full()).filter(|edge| edge.size > self.published);
        full.unwrap_or_else(|| self.growing.now())
    }

    fn publish(&mut self, Edge { size, root, files }: Edge) {
        let now = Instant::now();
        self.publish_at = now + self.pace.publish_every;
        let origin = self.signer.verifier().name().to_owned();
        let checkpoint = Checkpoint { origin, size, root };
        let Ok(checkpoint) = checkpoint.sign_after(&self.earlier, &self.signer) else { return };
        let publication = Publication { size, full: std::mem::take(&mut self.full), edge: files, checkpoint };
        let under_way = Publishing { full: publication.full.len(), is: EarlierRoot { size, root } };
        self.publishing = self.publisher.publish.send(publication).ok().map(|()| under_way);
        self.late_at = self.publishing.as_ref().map(|_| now + self.pace.within);
    }

    fn take_published(&mut self, published: Published) {
        let publishing = self.publishing.take();
        self.late_at = None;
        match published {
            Ok(size) => {
                self.published = size;
                if let Some(Publishing { is, .. }) = publishing {
                    self.earlier.add(is);
                }
                if self.stuck.take().is_some() {
                    tracing::info!("the audit log is published again");
                    self.tell();
                }
                self.standing.send_modify(|standing| standing.published = size);
                self.metrics.set_audit_unpublished(self.growing.size() - size);
                self.mark = Some(size);
                // The segments before are covered by the published checkpoint. They are removed in
                // order, so that the rest has no gap.
                let given_up = self.older.iter().take_while(|(first, end)| {
                    *end <= size && self.disk.remove(&journal::path(*first)).is_ok()
                });
                let given_up = given_up.count();
                self.older.drain(..given_up);
            }
            Err((publication, error)) => {
                let later = std::mem::replace(&mut self.full, publication.full);
                self.full.extend(later);
                // The pause is the usual interval, but neither zero nor as long as `publish_every`
                // may be.
                let again_after = self.pace.publish_every.clamp(LOOK_AGAIN_AFTER, PUBLISH_AGAIN_WITHIN);
                self.publish_at = Instant::now() + again_after;
                self.be_stuck(error.to_string());
            }
        }
    }

    fn break_down(&mut self, error: &io::Error) {
        let obstacle = match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::NOSPC | Errno::DQUOT | Errno::FBIG) => {
                format!("no room: {error}; free some, it goes on by itself")
            }
            _ => error.to_string(),
        };
        self.broken = Some((Instant::now() + LOOK_AGAIN_AFTER, obstacle));
        self.tell();
    }

    fn look_again(&mut self) {
        let looked = self.in_place().and_then(|()| self.segment.cut_back(&self.disk));
        let looked = looked.and_then(|()| match self.segment.length {
            ..=SEGMENT_BYTES_MAX => Ok(()),
            _ => self.next_segment(),
        });
        match looked {
            Ok(()) => {
                self.broken = None;
                self.tell();
            }
            Err(still) => self.break_down(&still),
        }
    }

    /// Handles a publication that failed or takes too long. It is tried again, and the journal has
    /// the durable entries.
    fn be_stuck(&mut self, why: String) {
        self.metrics.audit_publish_errors.inc();
        if self.stuck.as_ref() != Some(&why) {
            tracing::warn!(
                why,
                "publish the audit log: it is tried again, the journal holds what is durable"
            );
        }
        self.stuck = Some(why);
        self.tell();
    }

    /// Returns the number of full files that are not published.
    fn files_waiting(&self) -> usize {
        self.full.len() + self.publishing.as_ref().map_or(0, |publishing| publishing.full)
    }

    /// Returns why no entries are taken now.
    fn obstacle(&self) -> Option<String> {
        let stuck = self.files_waiting() >= FILES_STUCK;
        match (&self.broken, &self.stuck) {
            (Some((_, why)), _) => Some(why.clone()),
            (None, Some(why)) if stuck => Some(format!("nothing of it can be published: {why}")),
            _ => None,
        }
    }

    /// Reports the state if it has changed.
    fn tell(&self) {
        let (obstacle, unpublished) = (self.obstacle(), self.stuck.clone());
        let is_filling = unpublished.is_some() && self.files_waiting() >= FILES_STUCK / 2;
        let was_writable = self.standing.borrow().obstacle.is_none();
        match (&obstacle, was_writable) {
            (Some(obstacle), true) => {
                tracing::error!(
                    obstacle,
                    "the audit log cannot be written: nothing new is taken until it can"
                );
            }
            (None, false) => tracing::info!("the audit log can be written again"),
            _ => {}
        }
        self.metrics.audit_writable.set(i64::from(obstacle.is_none()));
        self.metrics.audit_publishable.set(i64::from(unpublished.is_none()));
        self.standing.send_if_modified(|standing| {
            let changed = standing.obstacle != obstacle
                || standing.unpublished != unpublished
                || standing.is_filling != is_filling;
            (standing.obstacle, standing.unpublished, standing.is_filling) =
                (obstacle, unpublished, is_filling);
            changed
        });
    }

    /// Publishes the durable entries. If the disk has no room, the next start does it.
    async fn finish(&mut self) {
        if self.publishing.is_some()
            && let Some(published) = self.publisher.published.recv().await
        {
            self.take_published(published);
        }
        if self.growing.size() > self.published && self.in_place().is_ok() {
            self.publish(self.growing.now());
            if let Some(published) = self.publisher.published.recv().await {
                self.take_published(published);
            }
        }
        if self.mark.is_some()
            && self.broken.is_none()
            && let Err(error) = self.write(&[])
        {
            tracing::warn!(%error, "say in the audit log's journal that its last checkpoint is out");
        }
        self.segment.end();
    }
}

/// Lets other tasks on this processor append first. On a busy machine this makes rounds fewer and
/// larger. On an idle machine it costs one system call.
fn wait_for_others(queue: &mut mpsc::Receiver<Append>, round: &mut Vec<Append>) {
    std::thread::yield_now();
    while round.len() < ROUND_MAX
        && let Ok(append) = queue.try_recv()
    {
        round.push(append);
    }
}

impl Segment {
    /// Begins a segment at the log's present end.
    fn start(disk: &Disk, growing: &GrowingTree) -> io::Result<Self> {
        let first = growing.size();
        let (head, seals) = Header { first, root: growing.root() }.encode();
        let file = disk.start(&journal::path(first), &head)?;
        let length = head.len() as u64;
        Ok(Self { first, id: FileId::of(&file)?, file, length, ahead: length, seals })
    }

    /// Checks that the folder is at its place and has this segment. Readers would not find data in
    /// an unlinked file or in a folder that was moved away.
    fn in_place(&self, disk: &Disk, home: &OpenedFolder) -> io::Result<()> {
        home.check()?;
        let path = disk.path(&journal::path(self.first));
        match self.id.is_at(&path) {
            Ok(true) => Ok(()),
            Ok(false) => Err(of(
                &path,
                &io::Error::other("is another file than the one that is written: put that back"),
            )),
            Err(error) => Err(of(&path, &error)),
        }
    }

    /// Writes a round, with new zeros after it if it passes the end of the old ones. If the file is
    /// not at its place afterwards, the round counts as not written.
    fn write(
        &mut self,
        bytes: &mut Vec<u8>,
        seals: journal::Writer,
        disk: &Disk,
        home: &OpenedFolder,
    ) -> io::Result<()> {
        let length = self.length + bytes.len() as u64;
        if length > self.ahead {
            bytes.resize(bytes.len() + AHEAD_BYTES, 0);
        }
        let written = self.file.write_all_at(bytes, self.length).and_then(|()| self.file.sync_data());
        if let Err(error) = written.and_then(|()| self.in_place(disk, home)) {
            // Nobody was told of the round, so it must not stay. If this fails too, `cut_back` runs
            // before the next round.
            self.end();
            return Err(error);
        }
        self.ahead = self.ahead.max(self.length + bytes.len() as u64);
        self.length = length;
        self.seals = seals;
        Ok(())
    }

    /// Cuts off everything after the last round. If that fails, readers skip it.
    fn end(&mut self) {
        self.ahead = self.length;
        let _later = self.file.set_len(self.length);
    }

    /// Cuts the file back to its durable part, if the disk has room to continue.
    ///
    /// The file is opened again: after a failed fsync the old handle would not report lost data.
    /// The sectors that the last durable round shares with the lost one are written again: the
    /// system believes that they are written, but the disk may have only half of them.
    fn cut_back(&mut self, disk: &Disk) -> io::Result<()> {
        let file = disk.open(&journal::path(self.first))?;
        self.rewrite_end(&file)?;
        file.set_len(self.length)?;
        self.ahead = self.length;
        match fallocate(&file, FallocateFlags::KEEP_SIZE, self.length, ROOM) {
            // The room exists. It is released again, because the tiles need a part of it.
            Ok(()) => file.set_len(self.length)?,
            // The file system cannot reserve room. The next round shows if there is some.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
            Err(error) => return Err(error.into()),
        }
        file.sync_data()?;
        self.file = file;
        Ok(())
    }

    /// Reads the durable part, checks it, and writes its last page again.
    fn rewrite_end(&self, file: &DiskFile) -> io::Result<()> {
        let mut bytes = vec![0; usize::try_from(self.length).map_err(io::Error::other)?];
        file.read_exact_at(&mut bytes, 0)?;
        let (_, mut reader) = Reader::open(&bytes).map_err(io::Error::other)?;
        while reader.next_round().map_err(io::Error::other)?.is_some() {}
        let from = self.length - self.length % PAGE_BYTES;
        let page = bytes.get(usize::try_from(from).map_err(io::Error::other)?..).unwrap_or_default();
        file.write_all_at(page, from)
    }
}
