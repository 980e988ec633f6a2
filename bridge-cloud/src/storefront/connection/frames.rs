//! Frames of HTTP/2 (RFC 9113 section 4.1) as they pass: where one ends, and whether one held something of a body.
//!
//! h2 reads into one buffer and uses it again from its begin once it is full. Until then what a body's frame left stays in
//! it, so the rest of the buffer is filled for it: with a frame of a type that nobody knows, which every receiver must pass
//! over (section 5.5). Pure: bytes come in as they were read, in whatever pieces.

/// What a caller of HTTP/2 says first (section 3.4).
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const HEAD_BYTES: usize = 9;

/// What a frame may have behind its head, unless a receiver allows more (section 6.5.2).
const PAYLOAD_MAX: usize = 1 << 14;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
/// No standard has this type.
const FILLER: u8 = 0xf0;
const END_HEADERS: u8 = 4;

/// Follows the frames of one connection, from its preface on.
#[derive(Debug)]
pub(super) struct Frames {
    /// Bytes of the preface, or of a frame's payload, that are still to come.
    left: usize,
    head: [u8; HEAD_BYTES],
    /// So much of the head is there.
    head_length: usize,
    /// Only more headers may come next.
    is_in_headers: bool,
    /// Something of a body has passed, and may still be in the receiver's buffer.
    is_dirty: bool,
    /// What passes is of a body.
    is_in_data: bool,
    /// Bytes of bodies that have passed since they were asked for.
    data: usize,
    filler: Option<Filler>,
}

/// A frame of ours, as far as it did not fit yet.
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
    /// Takes what was read.
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

    /// A frame's head is there.
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

    /// How many bytes of bodies have passed since this was asked.
    pub(super) fn data(&mut self) -> usize {
        std::mem::take(&mut self.data)
    }

    /// How many of the next `room` bytes are ours, while the caller says nothing: the head of a frame, then zeros.
    ///
    /// After an answer of `room` the receiver begins again with its buffer.
    pub(super) fn fill(&mut self, room: &mut [u8]) -> usize {
        if !self.is_due() && !self.is_filling() {
            return 0;
        }
        let filler = self.filler.get_or_insert_with(|| Filler::of(room.len()));
        let filled = filler.write(room);
        if filler.head_left + filler.payload_left == 0 {
            self.filler = None;
        }
        // Where a frame cannot be so long, the next one goes on.
        self.is_dirty &= filled < room.len();
        filled
    }

    /// Whether the receiver's buffer is to be filled, and can be: no frame of the caller's is under way.
    pub(super) fn is_due(&self) -> bool {
        self.is_dirty && self.left == 0 && self.head_length == 0 && !self.is_in_headers
    }

    /// Whether a frame of ours has begun and not ended: nothing of the caller's may come before that.
    pub(super) fn is_filling(&self) -> bool {
        self.filler.is_some()
    }
}

impl Filler {
    /// As long as `room` is, if a frame can be.
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

    /// The frames that a receiver with a buffer of so many bytes reads of what is filled in.
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
