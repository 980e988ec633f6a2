//! The serial number of a certificate, by which a revocation list names it.
//!
//! Role: one form for signing, listing, printing and file names. Neighbours: `ca` makes it, `crl`
//! lists it. It is never reused and never derived from the agent.

use std::fmt;

use rcgen::SerialNumber;
use serde::{Serialize, Serializer};

/// A certificate's serial number, printed as lower-case hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Serial(Vec<u8>);

impl Serial {
    /// Makes a serial of 16 octets from the operating system's generator. This is below the limit
    /// of RFC 5280 (20), and nobody can guess the next one.
    pub(crate) fn random() -> Self {
        let mut octets: [u8; 16] = rand::random();
        // Positive and without leading zeros, so that every encoding and every file name has the
        // same length.
        octets[0] = octets[0] & 0x7f | 0x40;
        Self(octets.to_vec())
    }

    /// Reads the content octets of a DER integer. They start with a zero if the top bit would mean
    /// a negative number.
    pub(crate) fn from_der(octets: &[u8]) -> Self {
        let zeros = octets.iter().take_while(|&&octet| octet == 0).count();
        Self(octets[zeros..].to_vec())
    }

    pub(crate) fn to_rcgen(&self) -> SerialNumber {
        SerialNumber::from_slice(&self.0)
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

impl Serialize for Serial {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_random_serial_is_positive_and_always_16_octets() {
        for _ in 0..1000 {
            let Serial(octets) = Serial::random();
            assert_eq!(octets.len(), 16);
            assert!((0x40..0x80).contains(&octets[0]), "{octets:02x?}");
        }
    }

    #[test]
    fn the_padding_of_a_der_integer_is_not_part_of_a_serial() {
        assert_eq!(Serial::from_der(&[0, 0xff, 0x01]).to_string(), "ff01");
        assert_eq!(Serial::from_der(&[0x7f]), Serial::from_der(&[0, 0x7f]));
    }
}
