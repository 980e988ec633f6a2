//! An authority in a directory: its key, the certificates that it signed, its revocation list, and
//! the agents' files.
//!
//! ```text
//! DIR/ca.pem, ca.key          the authority itself
//! DIR/crl.pem                 revoked certificates: the only record of them
//! DIR/issued/SERIAL.pem       every certificate ever issued: the only record of them
//! DIR/ROLE-NAME.pem, .key     the newest certificate and key of an agent, to be copied to it
//! ```
//!
//! Role: the steps of each command, in order. Neighbours: `ca` signs, `files` writes. Every fact is
//! stored only once, so that no two copies can disagree.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::files::{self, Readers};
use crate::identity::AgentIdentity;
use crate::validity::{backdated, days_after, rfc3339};
use crate::{
    Ca, CertsError, Crl, DEFAULT_AGENT_DAYS, DEFAULT_CA_DAYS, DEFAULT_CRL_DAYS, DEFAULT_TRUST_DOMAIN,
    Inspection, Issued, Revoked, Role, Serial, Validity, inspect,
};

/// Options for a new authority.
#[derive(Clone, Debug)]
pub struct InitOptions {
    /// Trust domain of all identities.
    pub trust_domain: String,
    /// Validity of its own certificate, in days.
    pub days: u32,
    /// Replaces an existing authority. Certificates of the old one are not trusted by the new one.
    pub force: bool,
}

impl Default for InitOptions {
    fn default() -> Self {
        Self { trust_domain: DEFAULT_TRUST_DOMAIN.to_owned(), days: DEFAULT_CA_DAYS, force: false }
    }
}

/// Options for a certificate.
#[derive(Clone, Debug)]
pub struct IssueOptions {
    /// Validity in days from now.
    pub days: u32,
    /// Start of the validity; by default five minutes ago.
    pub not_before: Option<SystemTime>,
    /// End of the validity; overrides `days`.
    pub not_after: Option<SystemTime>,
    /// Replaces the agent's certificate and key files.
    pub force: bool,
}

impl Default for IssueOptions {
    fn default() -> Self {
        Self { days: DEFAULT_AGENT_DAYS, not_before: None, not_after: None, force: false }
    }
}

impl IssueOptions {
    fn validity(&self, now: SystemTime) -> Result<Validity, CertsError> {
        let not_before = self.not_before.map_or_else(|| backdated(now), Ok)?;
        let not_after = self.not_after.map_or_else(|| days_after(now, self.days), Ok)?;
        Validity::new(not_before, not_after)
    }
}

/// Result of [`Authority::renew`].
#[derive(Debug)]
pub struct Renewal {
    /// The new certificate and key.
    pub issued: Issued,
    /// The agent's older certificates that are still valid. They stay valid until they expire or
    /// are revoked.
    pub still_valid: Vec<Inspection>,
}

/// Result of [`Authority::revoke`].
#[derive(Debug)]
pub struct Revocation {
    /// Newly revoked certificates; empty if all of the agent's were on the list.
    pub newly_revoked: Vec<Serial>,
    /// The new list.
    pub crl: Crl,
}

/// A certificate authority in a directory.
#[derive(Debug)]
pub struct Authority {
    dir: PathBuf,
    ca: Ca,
}

impl Authority {
    /// Makes a new authority with an empty revocation list in `dir`, which is created if it is
    /// missing.
    ///
    /// # Errors
    ///
    /// Fails if the options are invalid, if there is an authority and `force` is not set, or if a
    /// file cannot be written.
    pub fn init(dir: impl AsRef<Path>, options: &InitOptions) -> Result<Self, CertsError> {
        let now = SystemTime::now();
        let ca = Ca::generate(&options.trust_domain, Validity::days(now, options.days)?)?;
        let authority = Self { dir: dir.as_ref().to_owned(), ca };
        let issued_dir = authority.issued_dir();
        fs::create_dir_all(&issued_dir).map_err(CertsError::io("create", &issued_dir))?;
        let _lock = files::lock(&authority.dir)?;
        let (certificate, key, crl) =
            (authority.ca_path(), ca_key_path(&authority.dir), authority.crl_path());
        files::refuse_existing(&[&certificate, &key, &crl], options.force).map_err(|error| match error {
            CertsError::Exists { path } => CertsError::AuthorityExists { path },
            other => other,
        })?;
        files::write(&key, &authority.ca.key_pem(), Readers::Owner)?;
        files::write(&certificate, authority.ca.certificate_pem(), Readers::Everyone)?;
        authority.write_crl(1, &[], now, DEFAULT_CRL_DAYS)?;
        Ok(authority)
    }

    /// Opens the authority in `dir`.
    ///
    /// # Errors
    ///
    /// Fails if there is no authority, or if its files cannot be read.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, CertsError> {
        let dir = dir.as_ref();
        let (certificate, key) = (ca_path(dir), ca_key_path(dir));
        if !certificate.exists() && !key.exists() {
            return Err(CertsError::NoAuthority { dir: dir.to_owned() });
        }
        let key_pem = zeroize::Zeroizing::new(files::read(&key)?);
        let ca = Ca::from_pem(&files::read(&certificate)?, &key_pem).map_err(|error| error.in_file(dir))?;
        Ok(Self { dir: dir.to_owned(), ca })
    }

    /// Issues an agent's certificate with a new key, and writes both.
    ///
    /// # Errors
    ///
    /// Fails if the name or the validity is invalid, if the files exist and `force` is not set, or
    /// if a file cannot be written.
    pub fn issue(&self, role: Role, name: &str, options: &IssueOptions) -> Result<Issued, CertsError> {
        let agent = AgentIdentity::new(role, name)?;
        let _lock = files::lock(&self.dir)?;
        self.issue_to(&agent, options)
    }

    /// Issues the next certificate, with a new key, to an agent that has one, and replaces its
    /// files. The old certificate stays valid until it expires, so that the agent can change over
    /// at any time.
    ///
    /// # Errors
    ///
    /// Fails if the agent never had a certificate, if all its certificates are revoked, or if a
    /// file cannot be written.
    pub fn renew(&self, role: Role, name: &str, options: &IssueOptions) -> Result<Renewal, CertsError> {
        let now = SystemTime::now();
        let agent = AgentIdentity::new(role, name)?;
        let _lock = files::lock(&self.dir)?;
        let crl = self.crl()?;
        let mut unrevoked = self.issued_to(&agent)?;
        unrevoked.retain(|certificate| !crl.lists(&certificate.serial));
        if unrevoked.is_empty() {
            return Err(CertsError::Revoked { agent: agent.to_string() });
        }
        let issued = self.issue_to(&agent, &IssueOptions { force: true, ..options.clone() })?;
        unrevoked.retain(|certificate| now <= certificate.validity.not_after());
        Ok(Renewal { issued, still_valid: unrevoked })
    }

    /// Revokes every certificate that an agent ever got, and signs the new list.
    ///
    /// # Errors
    ///
    /// Fails if the agent never had a certificate, or if a file cannot be read or written.
    pub fn revoke(&self, role: Role, name: &str) -> Result<Revocation, CertsError> {
        let now = SystemTime::now();
        let agent = AgentIdentity::new(role, name)?;
        let _lock = files::lock(&self.dir)?;
        let Crl { number, mut revoked, .. } = self.crl()?;
        let mut newly_revoked: Vec<Serial> =
            self.issued_to(&agent)?.into_iter().map(|certificate| certificate.serial).collect();
        newly_revoked.retain(|serial| revoked.iter().all(|known| known.serial != *serial));
        revoked.extend(newly_revoked.iter().map(|serial| Revoked { serial: serial.clone(), at: now }));
        let crl = self.write_crl(number.saturating_add(1), &revoked, now, DEFAULT_CRL_DAYS)?;
        Ok(Revocation { newly_revoked, crl })
    }

    /// Signs the revocation list again without changes. The next one is due in `days`.
    ///
    /// # Errors
    ///
    /// Fails if the list cannot be read or written.
    pub fn refresh_crl(&self, days: u32) -> Result<Crl, CertsError> {
        let _lock = files::lock(&self.dir)?;
        let Crl { number, revoked, .. } = self.crl()?;
        self.write_crl(number.saturating_add(1), &revoked, SystemTime::now(), days)
    }

    /// Returns the current revocation list.
    ///
    /// # Errors
    ///
    /// Fails if the list cannot be read or belongs to another authority.
    pub fn crl(&self) -> Result<Crl, CertsError> {
        let path = self.crl_path();
        let crl = Crl::from_pem(&files::read(&path)?).map_err(|error| error.in_file(&path))?;
        if crl.issuer == self.ca.name() {
            Ok(crl)
        } else {
            Err(CertsError::malformed("this is the revocation list of another authority").in_file(&path))
        }
    }

    /// Returns the authority in memory, for certificates that no directory keeps.
    pub fn ca(&self) -> &Ca {
        &self.ca
    }

    /// Returns the path of the authority's certificate, which agents trust.
    pub fn ca_path(&self) -> PathBuf {
        ca_path(&self.dir)
    }

    /// Returns the path of the revocation list.
    pub fn crl_path(&self) -> PathBuf {
        self.dir.join("crl.pem")
    }

    /// Returns the path of an agent's newest certificate.
    ///
    /// # Errors
    ///
    /// Fails if the name is invalid.
    pub fn certificate_path(&self, role: Role, name: &str) -> Result<PathBuf, CertsError> {
        Ok(self.agent_file(&AgentIdentity::new(role, name)?, "pem"))
    }

    /// Returns the path of an agent's newest private key.
    ///
    /// # Errors
    ///
    /// Fails if the name is invalid.
    pub fn key_path(&self, role: Role, name: &str) -> Result<PathBuf, CertsError> {
        Ok(self.agent_file(&AgentIdentity::new(role, name)?, "key"))
    }

    fn issue_to(&self, agent: &AgentIdentity, options: &IssueOptions) -> Result<Issued, CertsError> {
        let now = SystemTime::now();
        if self.ca.validity().not_after() < now {
            return Err(CertsError::AuthorityExpired { end: rfc3339(self.ca.validity().not_after_utc()) });
        }
        let (certificate, key) = (self.agent_file(agent, "pem"), self.agent_file(agent, "key"));
        files::refuse_existing(&[&certificate, &key], options.force)?;
        let issued = self.ca.issue_to(agent, options.validity(now)?)?;
        // The record is written first. So every certificate in use has a record, and revoking its
        // agent cannot miss it.
        let record = self.issued_dir().join(format!("{}.pem", issued.serial));
        files::write(&record, &issued.certificate_pem, Readers::Everyone)?;
        files::write(&key, &issued.key_pem, Readers::Owner)?;
        files::write(&certificate, &issued.certificate_pem, Readers::Everyone)?;
        Ok(issued)
    }

    /// Returns all certificates of this authority for an agent, oldest first. It is an error if
    /// there are none.
    fn issued_to(&self, agent: &AgentIdentity) -> Result<Vec<Inspection>, CertsError> {
        let spiffe_id = agent.spiffe_id(self.ca.trust_domain());
        let now = SystemTime::now();
        let issued_dir = self.issued_dir();
        let mut found = Vec::new();
        for entry in fs::read_dir(&issued_dir).map_err(CertsError::io("list", &issued_dir))? {
            let path = entry.map_err(CertsError::io("list", &issued_dir))?.path();
            if path.extension().is_some_and(|extension| extension == "pem") {
                // An unreadable record is an error and not skipped: it might be the one to revoke.
                let certificate = inspect(&path, None, now)?;
                // The records of an authority that `init --force` replaced are still here.
                if certificate.issuer == self.ca.name() && certificate.spiffe_id.as_ref() == Some(&spiffe_id)
                {
                    found.push(certificate);
                }
            }
        }
        // Directories have no order, and a list for people should have one.
        found.sort_by_key(|certificate| certificate.validity.not_before());
        if found.is_empty() { Err(CertsError::NeverIssued { agent: agent.to_string() }) } else { Ok(found) }
    }

    fn write_crl(
        &self,
        number: u64,
        revoked: &[Revoked],
        now: SystemTime,
        days: u32,
    ) -> Result<Crl, CertsError> {
        let pem = self.ca.sign_crl(number, revoked, Validity::new(now, days_after(now, days)?)?)?;
        files::write(&self.crl_path(), &pem, Readers::Everyone)?;
        Crl::from_pem(&pem)
    }

    fn issued_dir(&self) -> PathBuf {
        self.dir.join("issued")
    }

    fn agent_file(&self, agent: &AgentIdentity, extension: &str) -> PathBuf {
        self.dir.join(format!("{}.{extension}", agent.file_stem()))
    }
}

fn ca_path(dir: &Path) -> PathBuf {
    dir.join("ca.pem")
}

fn ca_key_path(dir: &Path) -> PathBuf {
    dir.join("ca.key")
}
