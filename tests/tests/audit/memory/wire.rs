//! A connection to the storefront on which the test controls each byte. It stays open afterwards.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::common::PATIENCE;

/// Pause between two pieces, so that the agent probably reads them apart. No test depends on it.
const BETWEEN: Duration = Duration::from_millis(20);

/// A connection, and the bytes received on it that are not consumed yet.
pub(crate) struct Wire {
    stream: TcpStream,
    came: Vec<u8>,
}

impl Wire {
    pub(crate) async fn open(to: SocketAddr) -> Result<Wire> {
        let stream = TcpStream::connect(to).await?;
        stream.set_nodelay(true)?;
        Ok(Wire { stream, came: Vec::new() })
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(bytes).await?)
    }

    /// Sends pieces one after the other, with a pause after each.
    pub(crate) async fn send_pieces<'a>(&mut self, pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<()> {
        for piece in pieces {
            self.send(piece).await?;
            sleep(BETWEEN).await;
        }
        Ok(())
    }

    /// Waits for the next whole answer. Returns its status and body.
    pub(crate) async fn answer(&mut self) -> Result<(u16, Vec<u8>)> {
        loop {
            if let Some((status, body, length)) = whole(&self.came)? {
                self.came.drain(..length);
                return Ok((status, body));
            }
            self.more().await?;
        }
    }

    /// Waits for the given number of bytes and returns them.
    pub(crate) async fn take(&mut self, length: usize) -> Result<Vec<u8>> {
        while self.came.len() < length {
            self.more().await?;
        }
        Ok(self.came.drain(..length).collect())
    }

    async fn more(&mut self) -> Result<()> {
        let read = timeout(PATIENCE, self.stream.read_buf(&mut self.came)).await.context("no answer")??;
        ensure!(read > 0, "the agent closed the connection");
        Ok(())
    }
}

/// Returns status, body and total length of the HTTP/1.1 answer at the start of `text`, or `None`
/// if it is incomplete.
fn whole(text: &[u8]) -> Result<Option<(u16, Vec<u8>, usize)>> {
    let Some(end) = text.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&text[..end])?.to_ascii_lowercase();
    let status = head.split(' ').nth(1).and_then(|digits| digits.parse().ok()).context("no status")?;
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let Some(length) = length else { bail!("no length: {head}") };
    let (start, length) = (end + 4, length.parse::<usize>()?);
    Ok(text.get(start..start + length).map(|body| (status, body.to_vec(), start + length)))
}
