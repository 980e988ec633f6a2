//! HTTP/2 frames as they pass (RFC 9113 section 4.1): their ends, and if one contained a part of a
//! body.
//!
//! h2 reads into one buffer and starts again at its beginning when it is full. Until then the
//! remains of a body's frame stay in it. So the rest of the buffer is filled with a frame of an
//! unknown type, which every receiver must ignore (section 5.5). The code is pure: bytes come in as
//! they were read, in pieces of any size.

/// First bytes of an HTTP/2 client (section 3.4).
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const HEAD_BYTES: usize = 9;

/// Largest payload of a frame, unless the receiver allows more (section 6.5.2).
const PAYLOAD_MAX: usize = 1 << 14;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
/// A frame type that no standard defines.
const FILLER: u8 = 0xf0;
const END_HEADERS: u8 = 4;

/// Follows the frames of one connection, from its preface on.
#[derive(Debug)]
pub(super) struct Frames {
    /// Remaining bytes of the preface or of a frame's payload.
    left: usize,
    head: [u8; HEAD_BYTES],
    /// Bytes of the head that have arrived.
    head_length: usize,
    /// Set within a block of headers, where only its next frame may follow.
    is_in_headers: bool,
    /// Set if a part of a body has passed and may still be in the receiver's buffer.
    is_dirty: bool,
    /// Set while a body's payload passes.
    is_in_data: bool,
    /// Bytes of bodies that passed since the last call of [`Self::data`].
    data: usize,
    filler: Option<Filler>,
}

/// The rest of a filler frame that did not fit yet.
#[derive(Debug)]
struct Filler {
    bytes: [u8; HEAD_BYTES],
    head_left: usize,
    payload_left: usize,
}

impl Default for Frames {
    fn default() -> Self {
        Self {
            left: PREFACE.len(),
            head: [0; HEAD_BYTES],
            head_length: 0,
            is_in_headers: false,
            is_dirty: false,
            is_in_data: false,
            data: 0,
            filler: None,
        }
    }
}

impl Frames {
    /// Takes bytes that were read.
    pub(super) fn take(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (wanted, is_head) =
                if self.left > 0 { (self.left, false) } else { (HEAD_BYTES - self.head_length, true) };
            let (here, rest) = bytes.split_at(wanted.min(bytes.len()));
            bytes = rest;
            if !is_head {
                self.left -= here.len();
                self.data += if self.is_in_data { here.len() } else { 0 };
                continue;
            }
            let room = self.head.iter_mut().skip(self.head_length);
            room.zip(here).for_each(|(room, byte)| *room = *byte);
            self.head_length += here.len();
            if self.head_length == HEAD_BYTES {
                self.begin();
            }
        }
    }

    /// Handles a complete head.
    fn begin(&mut self) {
        let [a, b, c, kind, flags, ..] = self.head;
        self.left = u32::from_be_bytes([0, a, b, c]) as usize;
        self.head_length = 0;
        self.is_in_data = kind == DATA;
        self.is_dirty |= self.is_in_data && self.left > 0;
        if matches!(kind, HEADERS | CONTINUATION) {
            self.is_in_headers = flags & END_HEADERS == 0;
        }
    }

    /// Returns the bytes of bodies that passed since the last call.
    pub(super) fn data(&mut self) -> usize {
        std::mem::take(&mut self.data)
    }

    /// Fills the next `room` bytes while the caller sends nothing: the head of a frame, then zeros.
    /// Returns the number of bytes.
    ///
    /// If it fills all of `room`, the receiver starts again at the beginning of its buffer.
    pub(super) fn fill(&mut self, room: &mut [u8]) -> usize {
        if !self.is_due() && !self.is_filling() {
            return 0;
        }
        let filler = self.filler.get_or_insert_with(|| Filler::of(room.len()));
        let filled = filler.write(room);
        if filler.head_left + filler.payload_left == 0 {
            self.filler = None;
        }
        // If a frame cannot be that long, another one follows.
        self.is_dirty &= filled < room.len();
        filled
    }

    /// Returns true if the receiver's buffer must be filled and can be: no frame of the caller is
    /// incomplete.
    pub(super) fn is_due(&self) -> bool {
        self.is_dirty && self.left == 0 && self.head_length == 0 && !self.is_in_headers
    }

    /// Returns true if a filler frame is incomplete. No byte of the caller may come before its end.
    pub(super) fn is_filling(&self) -> bool {
        self.filler.is_some()
    }
}

impl Filler {
    /// Makes a filler as long as `room`, if a frame can be that long.
    fn of(room: usize) -> Self {
        let payload = room.saturating_sub(HEAD_BYTES).min(PAYLOAD_MAX);
        let [.., a, b, c] = (payload as u64).to_be_bytes();
        Self { bytes: [a, b, c, FILLER, 0, 0, 0, 0, 0], head_left: HEAD_BYTES, payload_left: payload }
    }

    fn write(&mut self, room: &mut [u8]) -> usize {
        let head = self.head_left.min(room.len());
        let from = HEAD_BYTES - self.head_left;
        room[..head].copy_from_slice(&self.bytes[from..from + head]);
        self.head_left -= head;
        let payload = self.payload_left.min(room.len() - head);
        room[head..head + payload].fill(0);
        self.payload_left -= payload;
        head + payload
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        [&[0, 0, payload.len() as u8, kind, flags, 0, 0, 0, 1], payload].concat()
    }

    /// Returns the filler frames that a receiver reads whose buffer has this size.
    fn filled(frames: &mut Frames, mut room: usize, buffer: usize) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            let mut bytes = vec![7; room];
            let length = frames.fill(&mut bytes);
            all.extend_from_slice(&bytes[..length]);
            if length == 0 {
                return all;
            }
            room = if length == room { buffer } else { room - length };
        }
    }

    #[test]
    fn a_body_is_followed_by_frames_that_fill_the_buffer_alone() {
        let body = frame(DATA, 1, b"Kim");
        for room in [1, 8, 9, 10, 8_000, 16_393, 16_394, 16_400, 40_000] {
            let mut frames = Frames::default();
            frames.take(&[PREFACE, &frame(4, 0, &[]), &frame(HEADERS, END_HEADERS, b"h")].concat());
            assert_eq!(filled(&mut frames, room, 8_192), [0_u8; 0]);
            frames.take(&body);
            assert_eq!((frames.data(), frames.data()), (3, 0));
            let filler = filled(&mut frames, room, 8_192);
            assert!(filler.len() >= room, "{} of {room}", filler.len());
            let mut rest = &filler[..];
            while let Some((head, more)) = rest.split_first_chunk::<9>() {
                assert_eq!(head[3..], [FILLER, 0, 0, 0, 0, 0]);
                rest = &more[u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize..];
            }
            assert_eq!(rest, [0_u8; 0]);
            assert_eq!(filled(&mut frames, room, 8_192), [0_u8; 0], "once");
        }
    }

    #[test]
    fn nothing_is_inserted_into_a_frame_or_a_block_of_headers() {
        let text =
            [PREFACE, &frame(DATA, 0, b"Kim"), &frame(HEADERS, 0, b"a"), &frame(CONTINUATION, 4, b"b")]
                .concat();
        let at_rest: Vec<_> = (0..=text.len())
            .filter(|end| {
                let mut frames = Frames::default();
                text[..*end].iter().for_each(|byte| frames.take(&[*byte]));
                frames.fill(&mut [0; 100]) > 0
            })
            .collect();
        assert_eq!(at_rest, [PREFACE.len() + 12, text.len()]);
    }
}
