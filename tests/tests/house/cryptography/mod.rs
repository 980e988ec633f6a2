//! Tests the cryptography from the outside. No two plaintexts are encrypted under one key and
//! nonce. Bridge's formats and the algorithms below them give the published or independently
//! calculated bytes.

// All of this is test code. The attribute makes clippy.toml's exceptions for tests apply.
#[cfg(test)]
mod building_blocks;
#[cfg(test)]
mod compositions;
#[cfg(test)]
mod keys_apart;
#[cfg(test)]
mod vectors;
