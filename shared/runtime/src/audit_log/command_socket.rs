//! A Unix socket beside the log's key. A command that runs beside the agent uses it to log an
//! entry.
//!
//! The folder has one writer. A command that shows personal data, or that decides an unknown
//! payment, asks the running agent to log this. The command does nothing before the entry is
//! durable. Only the agent's own user can open the socket. The account in the entry comes from the
//! kernel.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bridge_protocol::audit::entry::ENTRY_BYTES_MAX;
use bridge_protocol::audit::{Entry, Event};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

use rustix::process::getuid;

use super::{AuditError, AuditLog, OpenError, account, within};
use crate::accept;
use crate::beside::Beside;
use crate::clock;
use crate::config::AuditConfig;
use crate::telemetry::metrics::Metrics;

/// Timeout of a command: longer than any working disk needs for an entry.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Greatest age of a command's entry that an agent accepts. A command that waited longer gives up
/// soon. So an agent that was stopped and continues does not log an entry that its command gave up.
const TAKEN_WITHIN: Duration = Duration::from_secs(5);
const _: () = assert!(TAKEN_WITHIN.as_secs() < ANSWER_WITHIN.as_secs());

/// Longest wait at the end until the socket is removed from the volume of the log's key.
const REMOVE_WITHIN: Duration = Duration::from_secs(1);

/// Opening a log takes this many disk operations in a row, each of which may take
/// `audit.write_within`.
const OPEN_TIMES: u32 = 6;

/// Answer for a durable entry.
const DURABLE: &[u8] = b"durable\n";

/// Reasons why a command's entry is not in the log.
#[derive(Debug, thiserror::Error)]
pub enum CommandSocketError {
    /// The log cannot be opened, and no agent answers.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The log cannot be written.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// No agent runs, and the disk does not answer.
    #[error(
        "the disk of the audit log in {} does not answer, and nothing was done that the log must have first. Look at the volume, then \
         give the command again; its entry may be in the log already", .0.display()
    )]
    Late(PathBuf),
    /// The agent has the log but does not answer.
    #[error(
        "the running agent has the audit log and does not answer, so nothing was done that the log must have first; once it goes on, \
         it takes nothing of this command. Look whether the agent is stopped or its machine is busy, then give the command again"
    )]
    Silent,
    /// The agent did not confirm that the entry is durable.
    #[error("the running agent did not log it: {0}")]
    Refused(String),
}

/// The agent's side. Dropping it removes the socket.
pub struct CommandSocket {
    path: PathBuf,
    task: tokio::task::JoinHandle<()>,
}

impl CommandSocket {
    /// Opens the command socket of a log. Without it, commands beside the agent are refused if they
    /// must log an entry.
    ///
    /// # Errors
    ///
    /// Fails if the socket cannot be made.
    pub fn open(config: &AuditConfig, log: &AuditLog) -> io::Result<Self> {
        let path = path(config);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        let log = log.clone();
        let task = tokio::spawn(async move {
            // Commands are handled one after another: they are rare, and each is short.
            loop {
                let (stream, _) = accept::next("a command's", || listener.accept()).await;
                if let Ok(Err(error)) = timeout(ANSWER_WITHIN, answer(stream, &log)).await {
                    tracing::warn!(%error, "a command's audit entry");
                }
            }
        });
        Ok(Self { path, task })
    }
}

impl Drop for CommandSocket {
    fn drop(&mut self) {
        self.task.abort();
        let path = self.path.clone();
        let (removed, is_removed) = std::sync::mpsc::channel();
        // A separate thread does it, because the key's volume may not answer. A socket that is left
        // does no harm.
        let _left = std::thread::Builder::new().name("audit-door".to_owned()).spawn(move || {
            let _gone = std::fs::remove_file(path);
            let _nobody_waits = removed.send(());
        });
        let _left = is_removed.recv_timeout(REMOVE_WITHIN);
    }
}

/// Appends a command's entry through the running agent, or directly if none runs.
///
/// # Errors
///
/// Fails if the entry is not known to be durable. The command must then do nothing.
pub async fn append_for_command(config: &AuditConfig, entry: &Entry) -> Result<(), CommandSocketError> {
    match UnixStream::connect(path(config)).await {
        Ok(stream) => {
            let asked = timeout(ANSWER_WITHIN, ask(stream, entry)).await;
            let refused = match asked {
                Ok(Ok(answer)) if answer == DURABLE => return Ok(()),
                Ok(Ok(answer)) => String::from_utf8_lossy(&answer).trim().to_owned(),
                Ok(Err(error)) => error.to_string(),
                Err(_elapsed) => return Err(CommandSocketError::Silent),
            };
            Err(CommandSocketError::Refused(refused))
        }
        Err(_nobody_there) => append_alone(config, entry).await,
    }
}

/// Appends while no agent runs. Ends in time even if the disk does not answer.
async fn append_alone(config: &AuditConfig, entry: &Entry) -> Result<(), CommandSocketError> {
    let late = |_| CommandSocketError::Late(config.dir.clone());
    let at = config.clone();
    let open = move || AuditLog::open(&at, Arc::new(Metrics::default()));
    let opened = within(OPEN_TIMES * config.write_within, open).await;
    let (log, closer) = opened.map_err(late)??;
    let event = account::given_by(entry.event.clone(), getuid().as_raw());
    let appended = log.append(&[Entry::new(entry.at, event)]).await;
    closer.close().await.map_err(late)?;
    match appended {
        Ok(_) => Ok(()),
        Err(AuditError::Late) => Err(late(AuditError::Late)),
        Err(error) => Err(error.into()),
    }
}

async fn answer(mut stream: UnixStream, log: &AuditLog) -> io::Result<()> {
    let uid = stream.peer_cred()?.uid();
    let mut bytes = Vec::new();
    (&mut stream).take(ENTRY_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).await?;
    let said = match Entry::parse(&bytes) {
        Ok(Entry { at, .. }) if clock::now().since(at) > TAKEN_WITHIN => {
            "it was asked for too long ago, and the command has given up".to_owned()
        }
        Ok(Entry { at, event }) if is_of_a_command(&event) => {
            match log.append(&[Entry::new(at, account::given_by(event, uid))]).await {
                Ok(_) => return stream.write_all(DURABLE).await,
                Err(error) => error.to_string(),
            }
        }
        Ok(_) | Err(_) => "not an entry that a command may log".to_owned(),
    };
    stream.write_all(said.as_bytes()).await
}

/// Returns true for entries that a command may log. Only the agent itself logs its other events.
fn is_of_a_command(event: &Event) -> bool {
    matches!(event, Event::PersonalShown(_) | Event::PaymentResolved(_) | Event::PaymentCommitted(_))
}

async fn ask(mut stream: UnixStream, entry: &Entry) -> io::Result<Vec<u8>> {
    let bytes = entry.encode().map_err(io::Error::other)?;
    stream.write_all(&bytes).await?;
    stream.shutdown().await?;
    let mut answer = Vec::new();
    stream.take(ENTRY_BYTES_MAX as u64).read_to_end(&mut answer).await?;
    Ok(answer)
}

fn path(config: &AuditConfig) -> PathBuf {
    Beside::Socket.of(&config.key_file)
}
