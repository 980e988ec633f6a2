//! The project's commands, each a folder and a program of its name in `src/bin`; `cargo simulate` is in `sim`, the payment
//! gateway to test with in `testkit::sandbox`, since tests run both.

// How each of them ends.
pub mod command;

// The whole bridge takes a launch.
pub mod demo;

// What it costs, beside what a user has today.
pub mod measure;
pub mod plot;

// What a power loss leaves, and what has to be in it.
pub mod power;

// What breaks it, while it is under load.
pub mod faults;

// A line for programs that are started by hand.
pub mod wan;

// What looks for the input that breaks a parser.
pub mod fuzz;

// What is checked before a change is taken.
pub mod verify;
