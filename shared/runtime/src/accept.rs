//! Accepting connections as long as the agent lives. Errors are waited out.

use std::io;
use std::time::Duration;

use tokio::time::sleep;

/// Pause after an error. The usual error is too many open files, which other tasks close.
const AGAIN_AFTER: Duration = Duration::from_millis(50);

/// Returns the next connection. Errors before it are logged once.
pub async fn next<T, F>(whose: &'static str, mut accept: impl FnMut() -> F) -> T
where
    F: Future<Output = io::Result<T>>,
{
    let mut said = false;
    loop {
        match accept().await {
            Ok(accepted) => return accepted,
            Err(error) => {
                if !std::mem::replace(&mut said, true) {
                    tracing::warn!(%error, whose, "accept a connection: it is tried again");
                }
                sleep(AGAIN_AFTER).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn too_many_open_files_are_waited_out() {
        let mut tries = 0;
        let accepted = next("a test's", || {
            tries += 1;
            let too_many = || io::Error::from_raw_os_error(24);
            std::future::ready(if tries < 3 { Err(too_many()) } else { Ok("a connection") })
        });
        assert_eq!(accepted.await, "a connection");
        assert_eq!(tries, 3);
    }
}
