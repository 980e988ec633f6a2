//! Personal data: the part of an order that is sealed.
//!
//! Values are zeroised when dropped. They have no `Debug` and no `Display`, so a log line with one
//! does not compile. Names of fields may be printed.

use zeroize::Zeroizing;

/// A personal value.
///
/// ```compile_fail,E0277
/// let name = bridge_protocol::domain::Personal::new("a name".to_owned());
/// println!("{name:?}");
/// ```
/// ```compile_fail,E0277
/// let name = bridge_protocol::domain::Personal::new("a name".to_owned());
/// println!("{name}");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Personal(Zeroizing<String>);

impl Personal {
    /// Takes ownership of a value.
    pub fn new(value: String) -> Self {
        Self(Zeroizing::new(value))
    }

    /// Returns the value. Only encryption and `personal show` use it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// Kind of a personal value. The number is in the sealed bytes; the name is the column in the
/// vault's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum PersonalField {
    /// The customer's name.
    CustomerName = 1,
    /// The customer's phone number.
    CustomerPhone = 2,
    /// The customer's e-mail address.
    CustomerEmail = 3,
    /// The recipient's name.
    DeliveryName = 4,
    /// The phone number for the delivery.
    DeliveryPhone = 5,
    /// The postal code.
    DeliveryPostalCode = 6,
    /// The address, its lines joined by line feeds.
    DeliveryAddress = 7,
    /// The country, as an ISO 3166-1 alpha-2 code.
    DeliveryCountry = 8,
    /// A note for the driver.
    DeliveryNote = 9,
}

impl PersonalField {
    /// Every field, in the order of its number.
    pub const ALL: [Self; 9] = [
        Self::CustomerName,
        Self::CustomerPhone,
        Self::CustomerEmail,
        Self::DeliveryName,
        Self::DeliveryPhone,
        Self::DeliveryPostalCode,
        Self::DeliveryAddress,
        Self::DeliveryCountry,
        Self::DeliveryNote,
    ];

    /// Returns the vault's column for this field.
    pub const fn column(self) -> &'static str {
        match self {
            Self::CustomerName => "customer_name",
            Self::CustomerPhone => "customer_phone",
            Self::CustomerEmail => "customer_email",
            Self::DeliveryName => "delivery_name",
            Self::DeliveryPhone => "delivery_phone",
            Self::DeliveryPostalCode => "delivery_postal_code",
            Self::DeliveryAddress => "delivery_address",
            Self::DeliveryCountry => "delivery_country",
            Self::DeliveryNote => "delivery_note",
        }
    }
}

/// The personal values of one order: at most one for each field, in the order of the fields.
///
/// ```compile_fail,E0277
/// println!("{:?}", bridge_protocol::domain::PersonalData::default());
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct PersonalData(Vec<(PersonalField, Personal)>);

/// The bytes are not personal data. The error says nothing of their content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the sealed part is not in the form of personal data")]
pub struct NotPersonalData;

impl PersonalData {
    /// Sets a field. A second value replaces the first.
    pub fn set(&mut self, field: PersonalField, value: Personal) {
        match self.0.binary_search_by_key(&field, |(known, _)| *known) {
            Ok(at) => self.0[at].1 = value,
            Err(at) => self.0.insert(at, (field, value)),
        }
    }

    /// Returns the fields that are set, in order.
    pub fn iter(&self) -> impl Iterator<Item = (PersonalField, &Personal)> {
        self.0.iter().map(|(field, value)| (*field, value))
    }

    /// Returns the canonical bytes. Each field is its number (1 byte), its length (4 bytes,
    /// big-endian) and its UTF-8 text.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        // All memory is reserved first: a vector that grows leaves copies that are not zeroised.
        let len = self.0.iter().map(|(_, value)| 5 + value.expose().len()).sum();
        let mut bytes = Zeroizing::new(Vec::with_capacity(len));
        for (field, value) in &self.0 {
            let value = value.expose().as_bytes();
            bytes.push(*field as u8);
            bytes.extend_from_slice(&u32::try_from(value.len()).unwrap_or(u32::MAX).to_be_bytes());
            bytes.extend_from_slice(value);
        }
        bytes
    }

    /// Reads canonical bytes: fields in order, each at most once, and no bytes after them.
    ///
    /// # Errors
    ///
    /// Fails if the bytes are in any other form.
    pub fn from_bytes(mut bytes: &[u8]) -> Result<Self, NotPersonalData> {
        let mut data = Self::default();
        while let Some((number, rest)) = bytes.split_first() {
            let field =
                PersonalField::ALL.into_iter().find(|f| *f as u8 == *number).ok_or(NotPersonalData)?;
            if data.0.last().is_some_and(|(last, _)| *last >= field) {
                return Err(NotPersonalData);
            }
            let (len, rest) = rest.split_first_chunk::<4>().ok_or(NotPersonalData)?;
            let (value, rest) =
                rest.split_at_checked(u32::from_be_bytes(*len) as usize).ok_or(NotPersonalData)?;
            let value = std::str::from_utf8(value).map_err(|_| NotPersonalData)?;
            data.0.push((field, Personal::new(value.to_owned())));
            bytes = rest;
        }
        Ok(data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> PersonalData {
        let mut data = PersonalData::default();
        data.set(PersonalField::DeliveryAddress, Personal::new("서울 중구 1\n2층".into()));
        data.set(PersonalField::CustomerName, Personal::new("김하나".into()));
        data
    }

    #[test]
    fn personal_data_is_read_back_from_its_canonical_bytes() {
        assert!(PersonalData::from_bytes(&sample().to_bytes()) == Ok(sample()));
    }

    #[test]
    fn every_other_form_is_refused_without_a_word_about_its_content() {
        let good = sample().to_bytes();
        let twice = [good.as_slice(), good.as_slice()].concat();
        for bad in [&good[..good.len() - 1], &[99, 0, 0, 0, 0], &[1, 0xff, 0xff, 0xff, 0xff], &twice[..]] {
            assert!(PersonalData::from_bytes(bad) == Err(NotPersonalData));
        }
    }
}
