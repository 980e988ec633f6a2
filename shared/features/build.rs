//! Does nothing: crates that macros are made with are united only below a build script.

fn main() {}
