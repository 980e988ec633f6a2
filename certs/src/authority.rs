//! An authority in a directory: what it signed, what it revoked, and the files it hands out.
//!
//! ```text
//! DIR/ca.pem, ca.key          the authority itself
//! DIR/crl.pem                 what is revoked: the only record of it
//! DIR/issued/SERIAL.pem       every certificate ever issued: the only record of it
//! DIR/ROLE-NAME.pem, .key     the newest certificate and key of an agent, to be given to it
//! ```
//!
//! Role: the steps of each command, in order. Neighbours: `ca` signs, `files` writes. It keeps no second copy of a fact that
//! could come to disagree with the first.

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

/// How to make an authority.
#[derive(Clone, Debug)]
pub struct InitOptions {
    /// What all identities start with.
    pub trust_domain: String,
    /// Days its own certificate holds.
    pub days: u32,
    /// Replace an authority that is there already: nothing it ever signed is trusted by the new one.
    pub force: bool,
}

impl Default for InitOptions {
    fn default() -> Self {
        Self { trust_domain: DEFAULT_TRUST_DOMAIN.to_owned(), days: DEFAULT_CA_DAYS, force: false }
    }
}

/// How to issue a certificate.
#[derive(Clone, Debug)]
pub struct IssueOptions {
    /// Days it holds, counted from now.
    pub days: u32,
    /// Starts then, and not five minutes ago.
    pub not_before: Option<SystemTime>,
    /// Ends then, whatever `days` says.
    pub not_after: Option<SystemTime>,
    /// Replace the agent's certificate and key files.
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

/// What [`Authority::renew`] did.
#[derive(Debug)]
pub struct Renewal {
    /// The new certificate and key.
    pub issued: Issued,
    /// The agent's older certificates that are still good: they stay so until they end or are revoked.
    pub still_valid: Vec<Inspection>,
}

/// What [`Authority::revoke`] did.
#[derive(Debug)]
pub struct Revocation {
    /// The certificates that entered the list now; empty if all of the agent's were on it.
    pub newly_revoked: Vec<Serial>,
    /// The list as it is now.
    pub crl: Crl,
}

/// A certificate authority that lives in a directory.
#[derive(Debug)]
pub struct Authority {
    dir: PathBuf,
    ca: Ca,
}

impl Authority {
    /// Makes a new authority, with an empty revocation list, in `dir`, which is created if it is not there.
    pub fn init(dir: impl AsRef<Path>, options: &InitOptions) -> Result<Self, CertsError> {
        let now = SystemTime::now();
        let ca = Ca::generate(&options.trust_domain, Validity::days(now, options.days)?)?;
        let authority = Self { dir: dir.as_ref().to_owned(), ca };
        let issued_dir = authority.issued_dir();
        fs::create_dir_all(&issued_dir).map_err(CertsError::io("create", &issued_dir))?;
        let _lock = files::lock(&authority.dir)?;
        let (certificate, key, crl) =
            (authority.ca_path(), ca_key_path(&authority.dir), authority.crl_path());
        files::refuse_existing(&[&certificate, &key, &crl], options.force)?;
        files::write(&key, &authority.ca.key_pem(), Readers::Owner)?;
        files::write(&certificate, authority.ca.certificate_pem(), Readers::Everyone)?;
        authority.write_crl(1, &[], now, DEFAULT_CRL_DAYS)?;
        Ok(authority)
    }

    /// Takes up the authority in `dir`.
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
    pub fn issue(&self, role: Role, name: &str, options: &IssueOptions) -> Result<Issued, CertsError> {
        let agent = AgentIdentity::new(role, name)?;
        let _lock = files::lock(&self.dir)?;
        self.issue_to(&agent, options)
    }

    /// Issues the next certificate, with a new key, to an agent that has one, and replaces the files; the old one stays
    /// valid until it ends, so that the agent may change over when it likes. Does not renew what is revoked.
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

    /// Revokes every certificate an agent ever got, and signs the list that says so.
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

    /// Signs the revocation list again, as it is, so that the next one is due `days` from now.
    pub fn refresh_crl(&self, days: u32) -> Result<Crl, CertsError> {
        let _lock = files::lock(&self.dir)?;
        let Crl { number, revoked, .. } = self.crl()?;
        self.write_crl(number.saturating_add(1), &revoked, SystemTime::now(), days)
    }

    /// The revocation list as it is.
    pub fn crl(&self) -> Result<Crl, CertsError> {
        let path = self.crl_path();
        let crl = Crl::from_pem(&files::read(&path)?).map_err(|error| error.in_file(&path))?;
        if crl.issuer == self.ca.name() {
            Ok(crl)
        } else {
            Err(CertsError::malformed("this is the revocation list of another authority").in_file(&path))
        }
    }

    /// The authority itself, for what no directory should keep.
    pub fn ca(&self) -> &Ca {
        &self.ca
    }

    /// Where the authority's certificate lies: what agents trust.
    pub fn ca_path(&self) -> PathBuf {
        ca_path(&self.dir)
    }

    /// Where the revocation list lies.
    pub fn crl_path(&self) -> PathBuf {
        self.dir.join("crl.pem")
    }

    /// Where an agent's newest certificate lies.
    pub fn certificate_path(&self, role: Role, name: &str) -> Result<PathBuf, CertsError> {
        Ok(self.agent_file(&AgentIdentity::new(role, name)?, "pem"))
    }

    /// Where an agent's newest private key lies.
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
        // The record comes first: no certificate is ever out there that revoking its agent would miss.
        let record = self.issued_dir().join(format!("{}.pem", issued.serial));
        files::write(&record, &issued.certificate_pem, Readers::Everyone)?;
        files::write(&key, &issued.key_pem, Readers::Owner)?;
        files::write(&certificate, &issued.certificate_pem, Readers::Everyone)?;
        Ok(issued)
    }

    /// All that this authority ever issued to an agent, oldest first; never empty.
    fn issued_to(&self, agent: &AgentIdentity) -> Result<Vec<Inspection>, CertsError> {
        let spiffe_id = agent.spiffe_id(self.ca.trust_domain());
        let now = SystemTime::now();
        let issued_dir = self.issued_dir();
        let mut found = Vec::new();
        for entry in fs::read_dir(&issued_dir).map_err(CertsError::io("list", &issued_dir))? {
            let path = entry.map_err(CertsError::io("list", &issued_dir))?.path();
            if path.extension().is_some_and(|extension| extension == "pem") {
                // A record that cannot be read is an error and not skipped: it might be the one to revoke.
                let certificate = inspect(&path, None, now)?;
                // The records of an authority that `init --force` replaced are still here.
                if certificate.issuer == self.ca.name() && certificate.spiffe_id.as_ref() == Some(&spiffe_id)
                {
                    found.push(certificate);
                }
            }
        }
        // Directories have no order of their own, and a list that people read should.
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
