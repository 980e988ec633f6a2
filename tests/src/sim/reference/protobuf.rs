//! A decoder for the part of Protocol Buffers (encoding of 2024) that the order lanes use: varints
//! and length-delimited values.

/// Value of one field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
}

/// Returns the fields of a message with their tags, in their order. `None` in place of a field
/// means that the bytes are not a message; it is the last item.
pub(super) fn fields(mut bytes: &[u8]) -> impl Iterator<Item = Option<(u64, Value<'_>)>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let field = field(&mut bytes);
        if field.is_none() {
            bytes = &[];
        }
        Some(field)
    })
}

fn field<'a>(bytes: &mut &'a [u8]) -> Option<(u64, Value<'a>)> {
    let head = varint(bytes)?;
    let value = match head & 7 {
        0 => Value::Varint(varint(bytes)?),
        2 => {
            let length = usize::try_from(varint(bytes)?).ok()?;
            let (value, rest) = bytes.split_at_checked(length)?;
            *bytes = rest;
            Value::Bytes(value)
        }
        _ => return None,
    };
    Some((head >> 3, value))
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

impl<'a> Value<'a> {
    pub(super) fn bytes(self) -> Option<&'a [u8]> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            Self::Varint(_) => None,
        }
    }

    pub(super) fn number(self) -> Option<u64> {
        match self {
            Self::Varint(number) => Some(number),
            Self::Bytes(_) => None,
        }
    }

    /// Returns an `int64` (two's complement).
    pub(super) fn integer(self) -> Option<i64> {
        self.number().map(u64::cast_signed)
    }

    pub(super) fn text(self) -> Option<String> {
        String::from_utf8(self.bytes()?.to_vec()).ok()
    }

    pub(super) fn array<const N: usize>(self) -> Option<[u8; N]> {
        self.bytes()?.try_into().ok()
    }
}
