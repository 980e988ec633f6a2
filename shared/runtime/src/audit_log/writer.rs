//! The thread that owns the log: it makes entries durable round by round, and hands what is new to the publisher.
//!
//! Whatever has queued while the last fsync ran is the next round, so one fsync serves everyone who waits. After an error
//! nothing is acknowledged until the journal has been cut back to what is known to be durable and has room again. While
//! nothing can be published entries go on, until so many wait for it that memory would grow with them.

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

/// Appends in one round.
const ROUND_MAX: usize = 1_024;

/// A segment that is longer is followed by another, so that what is published can be given up.
const SEGMENT_BYTES: u64 = 8 << 20;

/// A segment that is as long is not written on before the next one can be begun: whoever reads it has it in memory.
const SEGMENT_BYTES_MAX: u64 = 2 * SEGMENT_BYTES;

/// Zeros that are written ahead in a segment, some ten rounds of a busy log. A round over them changes no length and takes no
/// new room: the disk writes it in one place, and cannot be full in between.
const AHEAD_BYTES: usize = 256 << 10;

/// Full files that wait for the publisher. Beyond it, appends wait as well: 16 MiB are some 30,000 entries.
const FILES_WAITING: usize = 128;

/// Full files that wait for a publisher that fails, those that it has tried among them. Beyond it, appends are refused.
const FILES_STUCK: usize = 2 * FILES_WAITING;

/// Between two looks at a disk that is full or broken.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(200);

/// Between two looks at whether the folder is in its place, while nothing is written to it.
const LOOK_AROUND_EVERY: Duration = Duration::from_secs(1);

/// The longest time between a publication that failed and the next try.
const PUBLISH_AGAIN_WITHIN: Duration = Duration::from_secs(1);

/// What the system writes at once: a sector or several.
const PAGE_BYTES: u64 = 4_096;

/// Room that a disk must have before the log is written again: some rounds, and the tiles over them.
const ROOM: u64 = 1 << 20;

/// The thread's state.
pub(super) struct Writer {
    disk: Disk,
    home: OpenedFolder,
    signer: NoteSigner,
    growing: GrowingTree,
    /// Full files that are not out yet.
    full: Vec<File>,
    /// Entries under the last checkpoint that is out.
    published: u64,
    publisher: Publisher,
    /// The publication under way, if there is one.
    publishing: Option<Publishing>,
    /// What the log was under the checkpoints that are out.
    earlier: History,
    pace: WriterIntervals,
    publish_at: Instant,
    /// When the publication under way takes too long; `None` if none is, or if that was told.
    late_at: Option<Instant>,
    /// Why the last publication failed, or takes too long.
    stuck: Option<String>,
    /// Segments before the one that is written: the first entry and the one after the last.
    older: Vec<(u64, u64)>,
    segment: Segment,
    /// A round's bytes; kept for its room.
    bytes: Vec<u8>,
    /// The leaf hashes of its entries; so as well.
    leaves: Vec<Hash>,
    /// The size of a checkpoint that is out, which the journal says with the next round: an older one that is put back is
    /// found from then on.
    mark: Option<u64>,
    /// When to look again at a journal that cannot be written, and why it cannot.
    broken: Option<(Instant, String)>,
    /// When to look whether the folder is in its place.
    look_around_at: Instant,
    standing: watch::Sender<LogState>,
    metrics: Arc<Metrics>,
    busy: Arc<Watchdog>,
    _lock: Lock,
}

/// A publication under way.
struct Publishing {
    /// The full files in it.
    full: usize,
    /// What its checkpoint says.
    is: EarlierRoot,
}

/// How often it publishes, and how long the disk may take.
#[derive(Clone, Copy)]
pub(super) struct WriterIntervals {
    /// Between two checkpoints while there is something new.
    pub(super) publish_every: Duration,
    /// For what is asked of the disk.
    pub(super) within: Duration,
}

/// The segment of the journal that is written.
struct Segment {
    first: u64,
    file: DiskFile,
    /// Which file that is.
    id: FileId,
    /// Bytes of it that are durable; nothing after them counts.
    length: u64,
    /// The bytes up to here are there, and zeros after `length`.
    ahead: u64,
    seals: journal::Writer,
}

/// What the thread wakes up for.
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
                    // Without it memory would grow: the agent ends with its log, and is started again.
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

    /// Everything that queued: one write, one fsync, then everyone is told.
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

    /// A new segment begins where the last one ends. If it cannot be made, the last one goes on, up to a length.
    fn next_segment(&mut self) -> io::Result<()> {
        let segment = Segment::start(&self.disk, &self.growing)?;
        // It was made by its path, which may lead elsewhere by now.
        self.home.check()?;
        let ended = std::mem::replace(&mut self.segment, segment);
        self.older.push((ended.first, self.segment.first));
        Ok(())
    }

    /// Whether the folder and the journal are where the log's files are looked for.
    fn in_place(&mut self) -> io::Result<()> {
        self.look_around_at = Instant::now() + LOOK_AROUND_EVERY;
        self.segment.in_place(&self.disk, &self.home)
    }

    /// What is to be published now. Under load that is up to the last full bundle: the partial files of more would be written
    /// to be removed a moment later.
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
                // What lies before is under a checkpoint that is out. In order, so that what is left has no gap.
                let given_up = self.older.iter().take_while(|(first, end)| {
                    *end <= size && self.disk.remove(&journal::path(*first)).is_ok()
                });
                let given_up = given_up.count();
                self.older.drain(..given_up);
            }
            Err((publication, error)) => {
                let later = std::mem::replace(&mut self.full, publication.full);
                self.full.extend(later);
                // As often as ever, but neither without a pause nor only after the hour that `publish_every` may be.
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

    /// A publication has failed, or takes too long; it is tried again, and the journal holds what is durable.
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

    /// Why nothing is taken now.
    fn obstacle(&self) -> Option<String> {
        let under_way = self.publishing.as_ref().map_or(0, |publishing| publishing.full);
        let stuck = self.full.len() + under_way >= FILES_STUCK;
        match (&self.broken, &self.stuck) {
            (Some((_, why)), _) => Some(why.clone()),
            (None, Some(why)) if stuck => Some(format!("nothing of it can be published: {why}")),
            _ => None,
        }
    }

    /// Tells how it stands, where that has changed.
    fn tell(&self) {
        let (obstacle, unpublished) = (self.obstacle(), self.stuck.clone());
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
            let changed = standing.obstacle != obstacle || standing.unpublished != unpublished;
            (standing.obstacle, standing.unpublished) = (obstacle, unpublished);
            changed
        });
    }

    /// Publishes what is durable. Without room that is left to the next start.
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

/// Whoever runs on this processor and is about to append goes first. On a busy machine rounds are fewer and larger for it; on
/// an idle one there is nobody, and it costs a system call.
fn wait_for_others(queue: &mut mpsc::Receiver<Append>, round: &mut Vec<Append>) {
    std::thread::yield_now();
    while round.len() < ROUND_MAX
        && let Ok(append) = queue.try_recv()
    {
        round.push(append);
    }
}

impl Segment {
    /// Begins where the log has come to.
    fn start(disk: &Disk, growing: &GrowingTree) -> io::Result<Self> {
        let first = growing.size();
        let (head, seals) = Header { first, root: growing.root() }.encode();
        let file = disk.start(&journal::path(first), &head)?;
        let length = head.len() as u64;
        Ok(Self { first, id: FileId::of(&file)?, file, length, ahead: length, seals })
    }

    /// Whether the folder is in its place, and this in it: what is written to a file without a name, or in a folder that was
    /// moved away, is where nobody looks for it.
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

    /// Writes a round, with zeros behind it if it comes to where there are none. What is not where it is looked for afterwards
    /// was not written.
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
            // Nobody is told of it, so it is not to be there; if this fails too, `cut_back` comes before the next round.
            self.end();
            return Err(error);
        }
        self.ahead = self.ahead.max(self.length + bytes.len() as u64);
        self.length = length;
        self.seals = seals;
        Ok(())
    }

    /// Takes away what lies behind the last round. Where that cannot be, whoever reads the segment does it.
    fn end(&mut self) {
        self.ahead = self.length;
        let _later = self.file.set_len(self.length);
    }

    /// Back to what is known to be durable, where there is room to go on. Opened again: after a failed fsync the old handle would
    /// not tell of what it lost. And the sectors that the last durable round shares with the lost one are written again, since
    /// the system takes them for written and the disk may have them half.
    fn cut_back(&mut self, disk: &Disk) -> io::Result<()> {
        let file = disk.open(&journal::path(self.first))?;
        self.rewrite_end(&file)?;
        file.set_len(self.length)?;
        self.ahead = self.length;
        match fallocate(&file, FallocateFlags::KEEP_SIZE, self.length, ROOM) {
            // It is there. What it was asked for with is given back: the tiles need their part of it.
            Ok(()) => file.set_len(self.length)?,
            // A file system that cannot promise room: the next round finds out.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
            Err(error) => return Err(error.into()),
        }
        file.sync_data()?;
        self.file = file;
        Ok(())
    }

    /// Reads what is to be durable, finds it as it was written, and writes its last page once more.
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
