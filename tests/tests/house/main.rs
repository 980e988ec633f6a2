//! What is tested without an agent: the project's own rules, its documents and commands, its cryptography from the outside,
//! and the simulation on itself.

mod commands;
mod cryptography;
mod documents;
mod measure;
mod simulation;
mod tidy;
