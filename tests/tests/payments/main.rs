//! Payments against a gateway that misbehaves: the adapter, the service with its reconciler, webhooks.

// Said to be tests, which all of this is, so that what clippy.toml allows in tests is allowed here.
#[cfg(test)]
mod gateway;
