//! The agent's identity: certificate, key, CA and revocation list, read from files and read again
//! when they change.
//!
//! `Identity` owns the current material and publishes it through a watch. The transport uses it for
//! every handshake, and the tunnel checks its live links again when it changes. `transport` parses
//! the files; this file never does. Unusable material never replaces usable material.

use std::future::ready;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bridge_protocol::domain::identity::{Role, SpiffeId};
use tokio::sync::watch;

use crate::clock::{UnixSeconds, shown, unix_now};
use crate::config::TunnelConfig;
use crate::expiry::Expiry;
use crate::private::{self, NotPrivate};
use crate::reloaded_files::{self, ReloadedFiles, Stamp};
use crate::telemetry::metrics::{Expiring, FilesReread, Metrics};
use crate::transport::credentials::{self, Credentials, Part, Pem};
use crate::transport::peer_verifier::PeerVerifier;

pub use crate::transport::credentials::CredentialsError;

/// Reasons why there is no identity at the start, or why a new one is refused.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Unreadable {
        /// Path of the file.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// The private key is no regular file, or others can read it.
    #[error("{} {error}", path.display())]
    NotPrivate {
        /// Path of the file.
        path: PathBuf,
        /// The reason, and the remedy.
        error: NotPrivate,
    },
    /// The content of a file is wrong.
    #[error("{} {error}", path.display())]
    Wrong {
        /// Path of the file.
        path: PathBuf,
        /// The fault, and the remedy.
        error: CredentialsError,
    },
    /// The certificate is for the other role.
    #[error(
        "the certificate is that of {id}, and this agent is of the role {role}: set tunnel.certificate to one issued for it"
    )]
    WrongRole {
        /// Identity in the certificate.
        id: SpiffeId,
        /// Role of this agent.
        role: Role,
    },
    /// The new certificate is for another agent.
    #[error(
        "the certificate is that of {id}, and this agent runs as {runs_as}: put back its own; restart the agent if it is meant"
    )]
    Renamed {
        /// Identity in the certificate.
        id: SpiffeId,
        /// Identity of this agent since its start.
        runs_as: SpiffeId,
    },
}

/// Paths of the four files, and the required owner.
#[derive(Debug)]
struct Files {
    role: Role,
    /// Identity of this agent since its start; `None` before.
    runs_as: Option<SpiffeId>,
    certificate: PathBuf,
    key: PathBuf,
    ca: PathBuf,
    crl: PathBuf,
}

/// The agent's current identity.
#[derive(Debug)]
pub(crate) struct Identity {
    files: ReloadedFiles<Files>,
    current: watch::Sender<Arc<Credentials>>,
}

impl Identity {
    /// Reads the files of the configuration. The errors are for the operator who starts the agent.
    pub(crate) fn load(config: &TunnelConfig, role: Role) -> Result<Self, IdentityError> {
        let mut files = Files::of(config, role);
        let stamps = reloaded_files::Files::stamps(&files);
        let credentials = Arc::new(files.read(unix_now())?);
        files.runs_as = Some(credentials.id().clone());
        warn_if_refusable(&credentials);
        Ok(Self { files: ReloadedFiles::new(files, stamps), current: watch::Sender::new(credentials) })
    }

    /// Returns all faults of the files at once, each with its setting.
    pub(crate) fn faults(config: &TunnelConfig, role: Role) -> Vec<(&'static str, IdentityError)> {
        Files::of(config, role).faults(unix_now())
    }

    /// Returns why the agent would refuse its own certificate; `None` if it would not, or if the
    /// files have faults.
    pub(crate) fn refusal_of_itself(config: &TunnelConfig, role: Role) -> Option<String> {
        let credentials = Files::of(config, role).read(unix_now()).ok()?;
        PeerVerifier::verify_own(Arc::new(credentials)).err().map(|refusal| refusal.to_string())
    }

    /// Returns the identity in the certificate.
    pub(crate) fn id(&self) -> SpiffeId {
        self.current.borrow().id().clone()
    }

    /// Returns the material with its later changes.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Arc<Credentials>> {
        self.current.subscribe()
    }

    /// Makes [`Self::keep_current`] read the files now, changed or not.
    pub(crate) fn reload(&self) {
        self.files.reload();
    }

    /// Returns why the material in the files is not in use.
    pub(crate) fn note(&self) -> Option<String> {
        self.files.note()
    }

    /// Returns the expiries of the material in use.
    pub(crate) fn expiries(&self) -> Vec<Expiry> {
        let current = self.current.borrow().clone();
        let file = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let ends = [
            (Expiring::Certificate, current.id().to_string(), current.not_after()),
            (Expiring::Ca, file(&self.files.files().ca), current.cas_end()),
            (Expiring::RevocationList, file(&self.files.files().crl), current.crls_end()),
        ];
        let ends = ends.into_iter().filter(|(.., ends_at)| *ends_at < UnixSeconds::MAX);
        ends.map(|(what, name, ends_at)| Expiry { what, name, ends_at }).collect()
    }

    /// Reads the files again after each change. It runs until it is dropped.
    pub(crate) async fn keep_current(&self, metrics: &Metrics) {
        let take = |credentials| {
            self.take(credentials);
            ready(Ok(()))
        };
        self.files.keep(metrics, take).await;
    }

    fn take(&self, credentials: Credentials) {
        let until = shown(credentials.not_after());
        tracing::info!(identity = %credentials.id(), valid_until = %until, "certificate, CA and revocation list read again");
        let credentials = Arc::new(credentials);
        warn_if_refusable(&credentials);
        self.current.send_replace(credentials);
    }
}

/// Warns if the agent would refuse its own certificate. It may still run, because its peers may
/// have another CA, but usually it is a mistake.
fn warn_if_refusable(credentials: &Arc<Credentials>) {
    if let Err(refusal) = PeerVerifier::verify_own(credentials.clone()) {
        let identity = credentials.id();
        tracing::warn!(%identity, reason = ?refusal.reason, "under tunnel.ca and tunnel.crl this agent itself would be refused: {refusal}");
    }
}

impl reloaded_files::Files for Files {
    type Content = Credentials;
    type Error = IdentityError;
    const KIND: FilesReread = FilesReread::Certificates;

    fn stamps(&self) -> Vec<Stamp> {
        [&self.certificate, &self.key, &self.ca, &self.crl].map(|path| reloaded_files::stamp(path)).into()
    }

    fn read(&self) -> Result<Credentials, IdentityError> {
        Self::read(self, unix_now())
    }
}

impl Files {
    fn of(config: &TunnelConfig, role: Role) -> Self {
        Self {
            role,
            runs_as: None,
            certificate: config.certificate.clone(),
            key: config.key.clone(),
            ca: config.ca.clone(),
            crl: config.crl.clone(),
        }
    }

    fn path(&self, part: Part) -> &Path {
        match part {
            Part::Certificate => &self.certificate,
            Part::Key => &self.key,
            Part::Ca => &self.ca,
            Part::Crl => &self.crl,
        }
    }

    fn wrong(&self, (part, error): (Part, CredentialsError)) -> IdentityError {
        IdentityError::Wrong { path: self.path(part).to_owned(), error }
    }

    /// Does the checks of [`Self::read`], and goes on after a fault.
    fn faults(&self, now: UnixSeconds) -> Vec<(&'static str, IdentityError)> {
        let mut faults = Vec::new();
        let mut content = |part: Part| {
            let is_private = if part == Part::Key { private::open(&self.key).map(drop) } else { Ok(()) };
            let content = is_private.map_err(|error| unusable(&self.key, error));
            let content = content.and_then(|()| read(self.path(part)));
            content.map_err(|error| faults.push((part, error))).ok()
        };
        let contents = Part::ALL.map(&mut content);
        let (id, wrong) = credentials::faults(contents.each_ref().map(Option::as_deref), now);
        faults.extend(wrong.into_iter().map(|fault| (fault.0, self.wrong(fault))));
        let owner = id.map(|id| self.check_owner(&id));
        faults.extend(owner.and_then(Result::err).map(|error| (Part::Certificate, error)));
        faults.into_iter().map(|(part, error)| (part.setting(), error)).collect()
    }

    /// The same checks apply at the start and later.
    fn read(&self, now: UnixSeconds) -> Result<Credentials, IdentityError> {
        private::open(&self.key).map_err(|error| unusable(&self.key, error))?;
        let [certificate, key, ca, crl] =
            [read(&self.certificate)?, read(&self.key)?, read(&self.ca)?, read(&self.crl)?];
        let pem = Pem { certificate: &certificate, key: &key, ca: &ca, crl: &crl };
        let credentials = Credentials::from_pem(&pem, now).map_err(|fault| self.wrong(fault))?;
        self.check_owner(credentials.id())?;
        Ok(credentials)
    }

    fn check_owner(&self, id: &SpiffeId) -> Result<(), IdentityError> {
        if id.role() != self.role {
            return Err(IdentityError::WrongRole { id: id.clone(), role: self.role });
        }
        match &self.runs_as {
            Some(runs_as) if runs_as != id => {
                Err(IdentityError::Renamed { id: id.clone(), runs_as: runs_as.clone() })
            }
            _ => Ok(()),
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, IdentityError> {
    let (mut file, _) = private::open_regular(path).map_err(|error| unusable(path, error))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)
        .map_err(|error| IdentityError::Unreadable { path: path.to_owned(), error })?;
    Ok(bytes)
}

fn unusable(path: &Path, error: NotPrivate) -> IdentityError {
    let path = path.to_owned();
    match error {
        NotPrivate::Unreadable(error) => IdentityError::Unreadable { path, error },
        error => IdentityError::NotPrivate { path, error },
    }
}
