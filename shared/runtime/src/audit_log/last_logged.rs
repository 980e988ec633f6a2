//! Facts that are logged when they change: the configuration and the sealing keys, by their
//! digests.
//!
//! A small file beside the log's key has the digests that were logged last. If it is lost, the next
//! start logs both again.

use std::io;
use std::path::Path;

use bridge_protocol::audit::Event;
use bridge_protocol::audit::entry::{Configuration, Digest};

use super::AuditLog;
use super::disk::read_at_most;
use super::noted::{self, Notes};
use crate::beside::Beside;

/// Limit of the file's size: it has a line for each peer.
const BYTES_MAX: u64 = 4 << 20;

/// Digests that were logged last.
pub struct LastLogged(Notes);

impl LastLogged {
    /// Reads the file beside the log's key, and starts the thread that keeps it.
    ///
    /// # Errors
    ///
    /// Fails if the system has no thread for it.
    pub fn beside(key_file: &Path) -> io::Result<Self> {
        let path = Beside::Last.of(key_file);
        // A lost or malformed file has no digests.
        let known = read_at_most(&path, BYTES_MAX).unwrap_or_default();
        let told = path.display().to_string();
        let mut was_failing = false;
        let (notes, _) = noted::start("audit-last", path, known, move |written| {
            if let (Err(error), false) = (written, was_failing) {
                tracing::warn!(%error, path = told, "remember what was logged last: the next start logs it again");
            }
            was_failing = written.is_err();
        })?;
        Ok(Self(notes))
    }

    /// Logs the configuration if it has changed.
    pub fn configuration(&self, log: &AuditLog, effective: &str) {
        let digest = Digest::of(effective.as_bytes());
        self.changed(log, "configuration", digest, Event::ConfigurationChanged(Configuration { digest }));
    }

    /// Logs the sealing keys if they have changed.
    pub fn keys<'id>(&self, log: &AuditLog, manifest: &[u8], ids: impl Iterator<Item = &'id [u8]>) {
        self.changed(log, "keys", Digest::of(manifest), Event::keys_changed(manifest, ids));
    }

    /// Logs the sealing keys of a peer if they have changed.
    pub fn keys_of<'id>(
        &self,
        peer: &str,
        log: &AuditLog,
        manifest: &[u8],
        ids: impl Iterator<Item = &'id [u8]>,
    ) {
        let what = format!("keys:{peer}");
        self.changed(log, &what, Digest::of(manifest), Event::keys_changed(manifest, ids));
    }

    fn changed(&self, log: &AuditLog, what: &str, digest: Digest, event: Event) {
        let line = format!("{what} {}", digest.to_hex());
        let is_news = |text: &mut Vec<u8>| {
            let known = String::from_utf8_lossy(text).into_owned();
            if known.lines().any(|known| known == line) {
                return false;
            }
            let others = known.lines().filter(|known| known.split(' ').next() != Some(what));
            *text =
                others.chain([line.as_str()]).flat_map(|line| [line, "\n"]).collect::<String>().into_bytes();
            true
        };
        if self.0.change(is_news) {
            log.record(event);
        }
    }
}
