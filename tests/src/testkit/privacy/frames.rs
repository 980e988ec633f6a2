//! The agents' frames before TLS: their messages, and the place of a match in them.
//!
//! The relay of `frame_tap` keeps one file for each lane and direction. This code describes a place
//! in such a file so that a developer can find the cause. It also counts the orders, which shows
//! that the relay has kept the frames.

use std::fs;
use std::io;
use std::path::Path;

use bridge_protocol::wire::order::{Envelope, ToCloud, ToIdc, to_cloud, to_idc};
use bytes::Bytes;
use prost::Message as _;

use crate::testkit::search::{Hit, Needles};

/// Contents of the frames of one lane and direction.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct LaneFrames {
    pub(super) bytes: u64,
    /// Orders sent to the data centre.
    pub(super) orders: u64,
    pub(super) found: u64,
    /// Places of the first matches.
    pub(super) leaks: Vec<String>,
}

/// A frame, and the position of its payload in the file.
struct Frame {
    number: usize,
    begins: u64,
    payload: Bytes,
}

/// Searches the frames in a file. The file's name contains the link, lane and direction.
pub(super) fn search(needles: &Needles, path: &Path) -> io::Result<LaneFrames> {
    let text = Bytes::from(fs::read(path)?);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // Turns the file's name into "link, lane, direction".
    let name = name.replace('.', ", ").replace('-', " ");
    let frames = cut(&text);
    let is_asked = name.ends_with("cloud to idc") && !name.contains("control") && !name.contains("feed");
    let orders = if is_asked { frames.iter().filter(|frame| frame.order().is_some()).count() } else { 0 };
    let seen = needles.find(&text);
    let leaks = seen.first.iter().map(|hit| place(&name, &frames, *hit)).collect();
    Ok(LaneFrames { bytes: seen.length, orders: orders as u64, found: seen.hits, leaks })
}

/// Splits a lane's bytes into frames: four bytes of length, big-endian, then as many bytes. A last
/// frame that is cut short counts as well.
fn cut(text: &Bytes) -> Vec<Frame> {
    let mut frames = Vec::new();
    let mut at = 0;
    while let Some(length) = text.get(at..).and_then(|rest| rest.first_chunk()) {
        let begins = at + 4;
        let end = (begins + u32::from_be_bytes(*length) as usize).min(text.len());
        frames.push(Frame {
            number: frames.len() + 1,
            begins: begins as u64,
            payload: text.slice(begins..end),
        });
        at = end;
    }
    frames
}

/// Describes a place: the lane and direction, the frame, the message, and the field if it is known.
fn place(lane: &str, frames: &[Frame], hit: Hit) -> String {
    let Hit { at, form } = hit;
    let Some(frame) = frames.iter().rev().find(|frame| frame.begins <= at) else {
        return format!("{lane}: byte {at}, {form}");
    };
    let within = at - frame.begins;
    let message = frame.message(lane, within);
    format!("{lane}: frame {}{message}, byte {within} of {}, {form}", frame.number, frame.payload.len())
}

impl Frame {
    /// Returns the order in a frame to the data centre.
    fn order(&self) -> Option<Envelope> {
        match ToIdc::decode(self.payload.clone()).ok()?.kind? {
            to_idc::Kind::Place(envelope) => Some(envelope),
            _ => None,
        }
    }

    /// Returns the message's name and, for an order, the field that contains the byte. Returns an
    /// empty text on other lanes.
    fn message(&self, lane: &str, within: u64) -> String {
        let is_asked = lane.contains("order") || lane.contains("payment");
        if is_asked && lane.ends_with("cloud to idc") {
            let kind = ToIdc::decode(self.payload.clone()).ok().and_then(|message| message.kind);
            let name = match &kind {
                Some(to_idc::Kind::Place(_)) => "Place",
                Some(to_idc::Kind::Cancel(_)) => "Cancel",
                Some(to_idc::Kind::Ask(_)) => "Ask",
                Some(to_idc::Kind::Pay(_)) => "Pay",
                Some(to_idc::Kind::Refund(_)) => "Refund",
                Some(to_idc::Kind::AskPayment(_)) => "AskPayment",
                None => "of no known kind",
            };
            let field = match &kind {
                Some(to_idc::Kind::Place(envelope)) => self.field(envelope, within),
                _ => "",
            };
            return format!(" ({name}{field})");
        }
        if is_asked {
            let kind = ToCloud::decode(self.payload.clone()).ok().and_then(|message| message.kind);
            let name = match kind {
                Some(to_cloud::Kind::Settled(_)) => "Settled",
                Some(to_cloud::Kind::Refused(_)) => "Refused",
                Some(to_cloud::Kind::State(_)) => "State",
                Some(to_cloud::Kind::Payment(_)) => "Payment",
                None => "of no known kind",
            };
            return format!(" ({name})");
        }
        String::new()
    }

    /// Decoded fields share the frame's memory, so their addresses give their places in the frame.
    fn field(&self, envelope: &Envelope, within: u64) -> &'static str {
        let fields = [("terms", &envelope.terms), ("ciphertext", &envelope.ciphertext)];
        let is_in = |bytes: &Bytes| {
            let begins = (bytes.as_ptr().addr()).wrapping_sub(self.payload.as_ptr().addr()) as u64;
            (begins..begins + bytes.len() as u64).contains(&within)
        };
        match fields.into_iter().find(|(_, bytes)| is_in(bytes)) {
            Some(("terms", _)) => ", its terms",
            Some(_) => ", its ciphertext",
            None => "",
        }
    }
}

#[cfg(test)]
mod tests {
    use bridge_protocol::wire::frame::{ORDER_FRAME_BYTES_MAX, to_bytes};
    use bridge_protocol::wire::order::Cancel;

    use super::*;

    fn frame(kind: to_idc::Kind) -> Bytes {
        let message =
            ToIdc { request: 1, kind: Some(kind), sequence: 1, trace: None, remaining_millis: None };
        to_bytes(&message, ORDER_FRAME_BYTES_MAX).expect("small")
    }

    #[test]
    fn a_value_is_named_by_lane_direction_frame_message_and_field() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let path = dir.path().join("link-002.order-3.cloud-to-idc");
        let cancel = frame(to_idc::Kind::Cancel(Cancel::default()));
        let order = |ciphertext: &'static [u8], terms: &'static [u8]| {
            let (ciphertext, terms) = (Bytes::from_static(ciphertext), Bytes::from_static(terms));
            frame(to_idc::Kind::Place(Envelope { ciphertext, terms, ..Envelope::default() }))
        };
        let sealed = order(b"\x93\xf1\x02\x77\x12\x99\x00\xee", b"shoes");
        let leaks =
            [order(b"..Ada of Lovelace Road", b"shoes"), order(b"sealed", b"  QWRhIG9mIExvdmVsYWNlIFJvYWQ=")];
        fs::write(&path, [cancel, sealed, leaks.concat().into()].concat()).expect("written");
        let kept = search(&Needles::new(["Ada of Lovelace Road"]), &path).expect("readable");
        assert_eq!((kept.orders, kept.found), (3, 2));
        let [first, second] = &kept.leaks[..] else { panic!("{kept:?}") };
        assert!(
            first.starts_with("link 002, order 3, cloud to idc: frame 3 (Place, its ciphertext), byte "),
            "{first}"
        );
        assert!(first.ends_with(", plain"), "{first}");
        assert!(
            second.contains("frame 4 (Place, its terms), byte ") && second.ends_with(", base64"),
            "{second}"
        );
    }

    #[test]
    fn what_is_cut_short_or_no_message_is_named_all_the_same() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let path = dir.path().join("link-001.control.idc-to-cloud");
        fs::write(&path, b"\0\0\x01\0Ada of Lovelace Road").expect("written");
        let kept = search(&Needles::new(["Ada of Lovelace Road"]), &path).expect("readable");
        assert_eq!(kept.leaks, ["link 001, control, idc to cloud: frame 1, byte 0 of 20, plain"]);
        fs::write(&path, b"").expect("written");
        assert_eq!(
            search(&Needles::new(["Ada of Lovelace Road"]), &path).expect("readable"),
            LaneFrames::default()
        );
    }
}
