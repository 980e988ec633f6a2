//! Things that are logged when they change: the configuration and the sealing keys, by their digests.
//!
//! What was logged last stands in a small file beside the log's key. If it is lost, the next start logs both once more.

use std::fs;
use std::path::{Path, PathBuf};

use bridge_protocol::audit::Event;
use bridge_protocol::audit::entry::{Configuration, Digest};

use super::AuditLog;

/// What was logged last.
pub struct Last {
    path: PathBuf,
}

impl Last {
    /// Beside the log's key.
    pub fn beside(key_file: &Path) -> Self {
        Self { path: key_file.with_extension("last") }
    }

    /// Logs the configuration, if it is another one than before.
    pub fn configuration(&self, log: &AuditLog, effective: &str) {
        let digest = Digest::of(effective.as_bytes());
        self.changed(log, "configuration", digest, Event::ConfigurationChanged(Configuration { digest }));
    }

    /// Logs sealing keys, if they are others than before.
    pub fn keys<'id>(&self, log: &AuditLog, manifest: &[u8], ids: impl Iterator<Item = &'id [u8]>) {
        self.changed(log, "keys", Digest::of(manifest), Event::keys_changed(manifest, ids));
    }

    /// Logs the sealing keys of a peer, if they are others than before.
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
        let known = fs::read_to_string(&self.path).unwrap_or_default();
        if known.lines().any(|known| known == line) {
            return;
        }
        log.record(event);
        let others = known.lines().filter(|known| known.split(' ').next() != Some(what));
        let text: String = others.chain([line.as_str()]).flat_map(|line| [line, "\n"]).collect();
        if let Err(error) = fs::write(&self.path, text) {
            tracing::warn!(%error, path = %self.path.display(), "remember what was logged last: it is logged again");
        }
    }
}
