//! What an operator does and sees: agents that are set up, watched, killed, rotated and traced, on a database that is slow
//! or gone.

mod command_line;
#[path = "../common/mod.rs"]
mod common;
mod database_down;
mod in_nobodys_way;
mod keys;
mod kills;
mod operations;
mod settings;
mod traces;
mod two_hosts;
