//! The project's commands. Each is a folder or file here, and a program of the same name in
//! `src/bin`. `cargo simulate` is in `sim`, and the payment gateway for tests is in
//! `testkit::sandbox`, since tests also run both.

// Exit codes and error messages of all commands.
pub mod command;

// `cargo demo`: a launch on a whole bridge.
pub mod demo;

// `cargo measure`: Bridge's costs, beside those of what a user has today.
pub mod measure;
pub mod plot;

// `cargo power-loss`: power losses, and a check that no acknowledged data is lost.
pub mod power;

// `cargo faults`: faults of the environment under load.
pub mod faults;

// `cargo wan`: a line for programs that are started by hand.
pub mod wan;

// `cargo fuzz`: a search for an input that breaks a parser.
pub mod fuzz;

// `cargo verify`: all checks before a change is accepted.
pub mod verify;
