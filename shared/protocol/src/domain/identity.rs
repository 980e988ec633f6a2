//! An agent's identity: its role, and its name from its certificate.

use std::fmt;
use std::str::FromStr;

/// Role of an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// The agent beside the storefront.
    Cloud,
    /// The agent beside the database.
    Idc,
}

impl Role {
    /// Reads the text that [`Self::as_str`] writes.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Cloud, Self::Idc].into_iter().find(|role| role.as_str() == text)
    }

    /// Returns the role as a SPIFFE ID has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cloud => "cloud",
            Self::Idc => "idc",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An agent's name in its certificate: `spiffe://<trust-domain>/cloud|idc/<name>`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SpiffeId {
    trust_domain: String,
    role: Role,
    name: String,
}

impl SpiffeId {
    /// Returns the trust domain, which names the CA.
    pub fn trust_domain(&self) -> &str {
        &self.trust_domain
    }

    /// Returns the agent's role.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Returns the agent's name, unique among agents of its role.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}/{}/{}", self.trust_domain, self.role, self.name)
    }
}

impl FromStr for SpiffeId {
    type Err = SpiffeIdError;

    fn from_str(text: &str) -> Result<Self, SpiffeIdError> {
        let rest = text.strip_prefix("spiffe://").ok_or(SpiffeIdError::NotAnAgent)?;
        let mut parts = rest.split('/');
        let (Some(trust_domain), Some(role), Some(name), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(SpiffeIdError::NotAnAgent);
        };
        let role = Role::parse(role).ok_or(SpiffeIdError::NotAnAgent)?;
        if !is_segment(trust_domain) || !is_segment(name) {
            return Err(SpiffeIdError::NotAnAgent);
        }
        Ok(Self { trust_domain: trust_domain.to_owned(), role, name: name.to_owned() })
    }
}

/// Returns true if the SPIFFE specification (SPIFFE-ID sections 2.1 and 2.2) allows the text as a
/// trust domain or a path segment.
fn is_segment(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    (1..=255).contains(&text.len()) && text.bytes().all(allowed) && text != "." && text != ".."
}

/// Reasons why a certificate names no agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SpiffeIdError {
    /// It has no URI SAN.
    #[error("names no agent, it has no SPIFFE ID")]
    Missing,
    /// It has more than one URI SAN.
    #[error("names no agent, it has more than one URI")]
    Several,
    /// Its URI is not the SPIFFE ID of an agent.
    #[error("names no agent, its URI is not spiffe://<trust-domain>/cloud|idc/<name>")]
    NotAnAgent,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spiffe_id_is_read_and_written_back() {
        let text = "spiffe://bridge.example/idc/seoul-1";
        let id: SpiffeId = text.parse().unwrap();
        assert_eq!((id.trust_domain(), id.role(), id.name()), ("bridge.example", Role::Idc, "seoul-1"));
        assert_eq!(id.to_string(), text);
    }

    #[test]
    fn what_names_no_agent_is_refused() {
        for text in [
            "",
            "https://bridge.example/idc/a",
            "spiffe://bridge.example/idc",
            "spiffe://bridge.example/idc/a/b",
            "spiffe://bridge.example/dba/a",
            "spiffe:///idc/a",
            "spiffe://bridge.example/idc/",
            "spiffe://bridge.example/idc/..",
            "spiffe://bridge.example/idc/a\nb",
        ] {
            assert_eq!(text.parse::<SpiffeId>(), Err(SpiffeIdError::NotAnAgent), "{text:?}");
        }
    }
}
