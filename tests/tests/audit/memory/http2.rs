//! Sends orders over HTTP/2 frame by frame (RFC 9113): small frames, padding, bodies that the agent
//! does not read, and a reset stream.

use anyhow::{Result, ensure};

use super::wire::Wire;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;

/// The client's side of an HTTP/2 connection.
pub(crate) struct Http2 {
    wire: Wire,
    stream: u32,
}

impl Http2 {
    pub(crate) async fn open(mut wire: Wire) -> Result<Http2> {
        wire.send(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await?;
        // The client neither acknowledges nor follows the agent's settings. Nothing here is large
        // enough to exceed them.
        Ok(Http2 { wire, stream: 1 })
    }

    /// Posts a body in padded frames of the given number of bytes. Returns the stream of the
    /// answer.
    pub(crate) async fn post(
        &mut self,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
        frames: usize,
    ) -> Result<u32> {
        let stream = self.begin(path, headers).await?;
        let pieces: Vec<_> = body.chunks(frames).collect();
        let framed = pieces.iter().enumerate().map(|(index, piece)| {
            let end = if index + 1 == pieces.len() { END_STREAM } else { 0 };
            let padded = [&[7], *piece, &[0; 7]].concat();
            frame(DATA, PADDED | end, stream, &padded)
        });
        let framed: Vec<_> = framed.collect();
        self.wire.send_pieces(framed.iter().map(Vec::as_slice)).await?;
        Ok(stream)
    }

    /// Posts a part of a body and resets the stream.
    pub(crate) async fn post_and_reset(
        &mut self,
        path: &str,
        headers: &[(&str, &str)],
        part: &[u8],
    ) -> Result<()> {
        let stream = self.begin(path, headers).await?;
        let cancel = 8u32.to_be_bytes();
        self.wire.send_pieces([&frame(DATA, 0, stream, part)[..], &frame(RESET, 0, stream, &cancel)]).await
    }

    async fn begin(&mut self, path: &str, headers: &[(&str, &str)]) -> Result<u32> {
        let stream = self.stream;
        self.stream += 2;
        let known = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "bridge")];
        let block: Vec<u8> =
            known.iter().chain(headers).flat_map(|(name, value)| literal(name, value)).collect();
        self.wire.send(&frame(HEADERS, END_HEADERS, stream, &block)).await?;
        Ok(stream)
    }

    /// Waits for the end of the answer on a stream. Returns its body.
    pub(crate) async fn answer(&mut self, wanted: u32) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let head = self.wire.take(9).await?;
            let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
            let (kind, flags) = (head[3], head[4]);
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            let payload = self.wire.take(length).await?;
            ensure!(kind != RESET || stream != wanted, "the stream was reset: {payload:?}");
            if kind == DATA && stream == wanted {
                body.extend_from_slice(&payload);
            }
            if matches!(kind, DATA | HEADERS) && stream == wanted && flags & END_STREAM != 0 {
                return Ok(body);
            }
        }
    }

    /// Waits until the agent has read everything that was sent.
    pub(crate) async fn ping(&mut self) -> Result<()> {
        self.wire.send(&frame(PING, 0, 0, &[0; 8])).await?;
        loop {
            let head = self.wire.take(9).await?;
            let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
            self.wire.take(length).await?;
            if head[3] == PING {
                return Ok(());
            }
        }
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or_default().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Returns a header field without compression (RFC 7541 section 6.2.2).
fn literal(name: &str, value: &str) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap_or_default()], text.as_bytes()].concat();
    [vec![0], text(name), text(value)].concat()
}
