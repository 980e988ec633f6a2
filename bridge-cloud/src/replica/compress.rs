//! Compressed forms of answers, made on a low-priority thread after the answer itself is served. No
//! request and no bootstrap waits for them.

use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::answer::{CachedAnswer, Item, PreparedRow};

/// Pages of the feed that wait. Answers of further pages stay uncompressed until they change again.
const WAITING_MAX: usize = 4_096;

/// A body below this size fits into one packet uncompressed.
const BYTES_MIN: usize = 256;

/// Quality of Brotli. It takes about gzip's time for 15 % fewer bytes; quality 11 takes a hundred
/// times as long.
const BROTLI_QUALITY: u32 = 5;

/// Window of Brotli: 4 MiB, larger than any body.
const BROTLI_WINDOW: u32 = 22;

/// Size of the output buffer.
const BUFFER_BYTES: usize = 4_096;

/// Passes rows to the compressing thread. Dropping it ends the thread.
#[derive(Debug)]
pub struct Compressor(SyncSender<Arc<[PreparedRow]>>);

impl Compressor {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// Fails if the system has no thread.
    pub fn start() -> io::Result<Self> {
        let (sender, pages) = sync_channel(WAITING_MAX);
        std::thread::Builder::new().name("compress".to_owned()).spawn(move || work(&pages))?;
        Ok(Self(sender))
    }

    /// Has the answers of these rows compressed later.
    pub fn compress(&self, rows: &Arc<[PreparedRow]>) {
        let wants = |row: &PreparedRow| matches!(row.item, Some(Item::Product(_) | Item::Tree(_)));
        if rows.iter().any(wants) {
            let _served_as_it_is = self.0.try_send(rows.clone());
        }
    }
}

fn work(pages: &Receiver<Arc<[PreparedRow]>>) {
    // On Linux this changes only the calling thread. If it fails, the usual priority works too.
    let _as_it_is = rustix::process::setpriority_process(None, 19);
    for page in pages {
        for row in &*page {
            match &row.item {
                Some(Item::Product(product)) => pack(&product.answer),
                Some(Item::Tree(answer)) => pack(answer),
                Some(Item::Category(_) | Item::Stock(_)) | None => {}
            }
        }
    }
}

fn pack(answer: &CachedAnswer) {
    if answer.body().len() >= BYTES_MIN {
        answer.pack(gzip(answer.body()).ok(), brotli(answer.body()).ok());
    }
}

fn gzip(body: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 2), Compression::default());
    encoder.write_all(body)?;
    encoder.finish()
}

fn brotli(body: &[u8]) -> io::Result<Vec<u8>> {
    let mut packed = Vec::with_capacity(body.len() / 2);
    let mut encoder = brotli::CompressorWriter::new(&mut packed, BUFFER_BYTES, BROTLI_QUALITY, BROTLI_WINDOW);
    encoder.write_all(body)?;
    encoder.flush()?;
    drop(encoder);
    Ok(packed)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn both_forms_read_back_as_the_body() {
        let body = "신발 shoes ".repeat(200).into_bytes();
        let answer = CachedAnswer::new(body.clone());
        pack(&answer);
        let packed = answer.packed().unwrap();
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(&packed.gzip.as_ref().unwrap().body[..])
            .read_to_end(&mut unpacked)
            .unwrap();
        assert_eq!(unpacked, body);
        let mut unpacked = Vec::new();
        let brotli = &packed.brotli.as_ref().unwrap().body[..];
        brotli::Decompressor::new(brotli, BUFFER_BYTES).read_to_end(&mut unpacked).unwrap();
        assert_eq!(unpacked, body);
    }

    #[test]
    fn a_body_that_fits_a_packet_stays_as_it_is() {
        let answer = CachedAnswer::new(vec![b' '; BYTES_MIN - 1]);
        pack(&answer);
        assert!(answer.packed().is_none());
    }
}
