//! Frames: a length of 4 bytes (big-endian), then that many bytes.
//!
//! The decoder never allocates for a length that it has not accepted. A peer that announces 4 GiB
//! costs four bytes.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;

/// Bytes of the length before every frame.
pub const HEADER_BYTES: usize = 4;

/// Largest frame on an order lane: an order body of 256 KiB as protobuf, with its sealed part and
/// framing.
pub const ORDER_FRAME_BYTES_MAX: usize = 1024 * 1024;

/// Largest order body that fits into such a frame. Its protobuf form is not longer than the JSON,
/// and the additions are much smaller than the body.
pub const ORDER_BODY_BYTES_MAX: usize = ORDER_FRAME_BYTES_MAX / 2;

/// Largest frame on the feed lane: a page of [`FEED_PAGE_BYTES`], or one row of the largest size.
pub const FEED_FRAME_BYTES_MAX: usize = 2 * 1024 * 1024;

/// A page on the feed lane ends with the row that reaches this size.
pub const FEED_PAGE_BYTES: usize = 256 * 1024;

/// Largest row on the feed lane.
pub const FEED_ROW_BYTES_MAX: usize = 1024 * 1024;

/// Largest frame on the control lane: a hello with its key manifest.
pub const CONTROL_FRAME_BYTES_MAX: usize = 64 * 1024;

/// Reasons why a frame cannot be read. The peer is at fault, and its link ends.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The announced length is above the lane's limit.
    #[error("a frame of {announced} bytes was announced, the limit on this lane is {max}")]
    TooLarge {
        /// Bytes that the peer announced.
        announced: u64,
        /// Bytes that this lane allows.
        max: usize,
    },
    /// The frame is complete, but it is no message of this lane.
    #[error("a frame of {len} bytes is not a message of this lane")]
    NotAMessage {
        /// Bytes in the frame.
        len: usize,
    },
}

/// Appends one message as a frame to `out`.
///
/// # Errors
///
/// Fails with [`FrameError::TooLarge`] if the message does not fit `max` bytes. `out` is then
/// unchanged.
pub fn encode(message: &impl Message, max: usize, out: &mut BytesMut) -> Result<(), FrameError> {
    let len = message.encoded_len();
    match u32::try_from(len) {
        Ok(header) if len <= max => {
            out.reserve(HEADER_BYTES + len);
            out.put_u32(header);
            message.encode_raw(out);
            Ok(())
        }
        _ => Err(FrameError::TooLarge { announced: len as u64, max }),
    }
}

/// Returns one message as the bytes of one frame.
///
/// # Errors
///
/// Fails with [`FrameError::TooLarge`] if the message does not fit `max` bytes.
pub fn to_bytes(message: &impl Message, max: usize) -> Result<Bytes, FrameError> {
    let mut out = BytesMut::new();
    encode(message, max, &mut out)?;
    Ok(out.freeze())
}

/// Reads the payload of one frame as a message.
///
/// # Errors
///
/// Fails with [`FrameError::NotAMessage`] if the payload is no message of this type.
pub fn decode<M: Message + Default>(payload: Bytes) -> Result<M, FrameError> {
    let len = payload.len();
    M::decode(payload).map_err(|_| FrameError::NotAMessage { len })
}

/// Splits a byte stream into frames.
#[derive(Debug)]
pub struct FrameDecoder {
    /// Bytes that were received and not yet returned; shorter than `HEADER_BYTES + max` plus one
    /// read.
    buffer: BytesMut,
    /// Largest payload that this lane allows.
    max: usize,
}

impl FrameDecoder {
    /// Makes a decoder for a lane whose frames have at most `max` bytes.
    pub fn new(max: usize) -> Self {
        Self { buffer: BytesMut::new(), max }
    }

    /// Returns the buffer that the shell reads into. [`Self::next_frame`] takes from its front.
    pub fn buffer_mut(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// Returns the length of the next frame's payload, or `None` until its length has arrived.
    ///
    /// # Errors
    ///
    /// Fails with [`FrameError::TooLarge`] if the length is above the lane's limit.
    pub fn announced(&self) -> Result<Option<usize>, FrameError> {
        let Some(header) = self.buffer.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
        let announced = u32::from_be_bytes(*header) as usize;
        if announced > self.max {
            return Err(FrameError::TooLarge { announced: announced as u64, max: self.max });
        }
        Ok(Some(announced))
    }

    /// Returns the payload of the next whole frame, or `None` until enough bytes have arrived.
    ///
    /// # Errors
    ///
    /// Fails with [`FrameError::TooLarge`] if the length is above the lane's limit.
    pub fn next_frame(&mut self) -> Result<Option<Bytes>, FrameError> {
        let Some(announced) = self.announced()? else { return Ok(None) };
        if self.buffer.len() < HEADER_BYTES + announced {
            return Ok(None);
        }
        self.buffer.advance(HEADER_BYTES);
        Ok(Some(self.buffer.split_to(announced).freeze()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::control::{Control, Heartbeat};

    fn heartbeat() -> Control {
        Control::from(Heartbeat { clock_micros: 7, window: 9 })
    }

    #[test]
    fn a_frame_arrives_whole_however_the_bytes_are_cut() {
        let bytes = to_bytes(&heartbeat(), CONTROL_FRAME_BYTES_MAX).unwrap();
        let mut decoder = FrameDecoder::new(CONTROL_FRAME_BYTES_MAX);
        for (i, byte) in bytes.iter().enumerate() {
            assert_eq!(decoder.next_frame().unwrap(), None, "after {i} bytes");
            decoder.buffer_mut().put_u8(*byte);
        }
        let payload = decoder.next_frame().unwrap().unwrap();
        assert_eq!(decode::<Control>(payload).unwrap(), heartbeat());
    }

    #[test]
    fn an_announced_4_gib_is_refused_from_its_four_bytes() {
        let mut decoder = FrameDecoder::new(ORDER_FRAME_BYTES_MAX);
        decoder.buffer_mut().put_u32(u32::MAX);
        let refused = decoder.next_frame().unwrap_err();
        assert_eq!(
            refused,
            FrameError::TooLarge { announced: u64::from(u32::MAX), max: ORDER_FRAME_BYTES_MAX }
        );
        assert!(decoder.buffer_mut().capacity() < 1024, "memory was allocated for the frame");
    }

    #[test]
    fn a_message_above_the_limit_is_not_written_at_all() {
        let mut out = BytesMut::new();
        assert!(encode(&heartbeat(), 1, &mut out).is_err());
        assert!(out.is_empty());
    }

    #[test]
    fn garbage_in_a_frame_is_an_error_and_no_panic() {
        let garbage = Bytes::from_static(&[0xff; 40]);
        assert_eq!(decode::<Control>(garbage).unwrap_err(), FrameError::NotAMessage { len: 40 });
    }
}
