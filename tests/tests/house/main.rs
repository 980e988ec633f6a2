//! Tests that need no agent: the project's rules, documents and commands, its cryptography from the
//! outside, and the simulation itself.

mod commands;
mod cryptography;
mod documents;
#[cfg(test)]
mod launch_document;
mod measure;
mod simulation;
mod tidy;
