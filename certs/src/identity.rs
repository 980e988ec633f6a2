//! Identity in a certificate: the role and name of an agent in a trust domain, written as a SPIFFE
//! ID.
//!
//! Role: checked forms of the user's input. Neighbours: `ca` puts the SPIFFE ID into a certificate,
//! and `authority` names files after the agent. It never decides which agents may link: that is the
//! agents' allow-list.

use std::fmt;

use bridge_protocol::domain::identity::Role;

use crate::CertsError;

/// Name of the trust root that all identities of one bridge share, such as `bridge.internal`.
///
/// 1 to 255 of `a-z 0-9 . - _` (SPIFFE-ID standard, section 2.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustDomain(String);

impl TrustDomain {
    const SCHEME: &str = "spiffe://";
    const LENGTH_MAX: usize = 255;

    /// Checks a trust domain's name.
    ///
    /// # Errors
    ///
    /// Fails if the name is not allowed.
    pub fn parse(name: &str) -> Result<Self, CertsError> {
        let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_');
        if (1..=Self::LENGTH_MAX).contains(&name.len()) && name.bytes().all(allowed) {
            Ok(Self(name.to_owned()))
        } else {
            Err(CertsError::TrustDomain { name: name.to_owned() })
        }
    }

    /// Returns the SPIFFE ID of the trust domain itself, which its authority's certificate contains
    /// (X509-SVID, section 3.2).
    pub(crate) fn spiffe_id(&self) -> String {
        format!("{}{self}", Self::SCHEME)
    }

    /// Reads the text that [`Self::spiffe_id`] writes.
    pub(crate) fn from_spiffe_id(id: &str) -> Option<Self> {
        Self::parse(id.strip_prefix(Self::SCHEME)?).ok()
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One agent: its role, and a name that is unique within the role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AgentIdentity {
    pub(crate) role: Role,
    name: String,
}

impl AgentIdentity {
    /// The length of a DNS label. It also fits a certificate's common name (RFC 5280,
    /// `ub-common-name`).
    const NAME_LENGTH_MAX: usize = 63;

    pub(crate) fn new(role: Role, name: &str) -> Result<Self, CertsError> {
        let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
        // A leading dash would look like an option on a command line.
        if (1..=Self::NAME_LENGTH_MAX).contains(&name.len())
            && name.bytes().all(allowed)
            && !name.starts_with('-')
        {
            Ok(Self { role, name: name.to_owned() })
        } else {
            Err(CertsError::AgentName { name: name.to_owned() })
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn spiffe_id(&self, trust_domain: &TrustDomain) -> String {
        format!("{}/{}/{}", trust_domain.spiffe_id(), self.role, self.name)
    }

    /// Returns the name of its files without the extension.
    pub(crate) fn file_stem(&self) -> String {
        format!("{}-{}", self.role, self.name)
    }
}

impl fmt::Display for AgentIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.role, self.name)
    }
}

#[cfg(test)]
mod tests {
    use bridge_protocol::domain::identity::SpiffeId;

    use super::*;

    #[test]
    fn an_agent_name_is_1_to_63_lower_case_letters_digits_dashes() {
        let long = "a".repeat(63);
        for good in ["a", "0", "seoul-1", "a-", &long] {
            assert!(AgentIdentity::new(Role::Cloud, good).is_ok(), "{good:?} is refused");
        }
        let too_long = "a".repeat(64);
        for bad in ["", "-a", "Seoul", "a b", "a/b", "..", "a.b", "서울", "a\n", "a\0", &too_long] {
            let error = AgentIdentity::new(Role::Idc, bad).unwrap_err();
            assert!(matches!(error, CertsError::AgentName { .. }), "{bad:?} gives {error:?}");
        }
    }

    #[test]
    fn a_trust_domain_follows_the_spiffe_standard() {
        let long = "a".repeat(255);
        for good in ["bridge.internal", "a", "x_y-z.0", &long] {
            assert!(TrustDomain::parse(good).is_ok(), "{good:?} is refused");
        }
        let too_long = "a".repeat(256);
        for bad in ["", "Bridge", "a/b", "a:1", "user@a", "a b", "%41", &too_long] {
            assert!(TrustDomain::parse(bad).is_err(), "{bad:?} is accepted");
        }
    }

    #[test]
    fn an_agent_s_spiffe_id_is_trust_domain_role_and_name() {
        let domain = TrustDomain::parse("shop.example").unwrap();
        let id = AgentIdentity::new(Role::Idc, "pangyo").unwrap().spiffe_id(&domain);
        assert_eq!(id, "spiffe://shop.example/idc/pangyo");
        let read: SpiffeId = id.parse().unwrap();
        assert_eq!((read.trust_domain(), read.role(), read.name()), ("shop.example", Role::Idc, "pangyo"));
        assert_eq!(TrustDomain::from_spiffe_id("spiffe://shop.example"), Some(domain));
        assert_eq!(TrustDomain::from_spiffe_id("spiffe://shop.example/idc/pangyo"), None);
    }
}
