//! Personal data: the part of an order that is sealed. Values are zeroised when dropped and have no `Debug` and no
//! `Display`, so none compiles into a log line. The names of the fields may be printed; their values never are.

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

    /// The value, for encryption and for `personal show` alone.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// Which personal value; the number stands in sealed bytes, the column's name in the vault's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum PersonalField {
    /// The customer's name.
    CustomerName = 1,
    /// The customer's phone number.
    CustomerPhone = 2,
    /// The customer's e-mail address.
    CustomerEmail = 3,
    /// Who takes the parcel.
    DeliveryName = 4,
    /// The phone number for the delivery.
    DeliveryPhone = 5,
    /// The postal code.
    DeliveryPostalCode = 6,
    /// The address, its lines joined by line feeds.
    DeliveryAddress = 7,
    /// The country.
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

    /// The vault's column for this field.
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

/// The personal values of one order: at most one a field, in the order of the fields.
///
/// ```compile_fail,E0277
/// println!("{:?}", bridge_protocol::domain::PersonalData::default());
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct PersonalData(Vec<(PersonalField, Personal)>);

/// Bytes that are no personal data; says nothing of what they hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the sealed part is not in the form of personal data")]
pub struct NotPersonalData;

impl PersonalData {
    /// Sets a field; a second value for it replaces the first.
    pub fn set(&mut self, field: PersonalField, value: Personal) {
        match self.0.binary_search_by_key(&field, |(known, _)| *known) {
            Ok(at) => self.0[at].1 = value,
            Err(at) => self.0.insert(at, (field, value)),
        }
    }

    /// The fields that are set, in order.
    pub fn iter(&self) -> impl Iterator<Item = (PersonalField, &Personal)> {
        self.0.iter().map(|(field, value)| (*field, value))
    }

    /// The canonical bytes: for each field its number, its length as 4 bytes big-endian, its UTF-8.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        // Sized exactly before it is filled: a vector that grows leaves copies behind that nobody zeroises.
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

    /// Reads the canonical bytes, and nothing but those: fields in order, each at most once, no rest.
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
