//! Tests of what an operator does and sees: agents that are set up, watched and traced, whose keys
//! are rotated, and whose database is slow or gone.
//!
//! Tests start in alphabetical order, so a module with long tests has a name that comes early.

mod accepted_settings;
mod agents;
mod command_line;
#[path = "../common/mod.rs"]
mod common;
mod database_down;
mod in_nobodys_way;
mod keys;
mod traces;
mod transports;
mod two_hosts;
mod wan;
