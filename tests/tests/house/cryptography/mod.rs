//! The cryptography from the outside: no two things are encrypted under one key and nonce, what is composed here gives the
//! bytes that were calculated elsewhere, and what it is composed of gives the answers that standards and others publish.

// Said to be tests, which all of this is, so that what clippy.toml allows in tests is allowed here.
#[cfg(test)]
mod building_blocks;
#[cfg(test)]
mod compositions;
#[cfg(test)]
mod keys_apart;
#[cfg(test)]
mod vectors;
