//! The waiting room of a launch: everything that both agents, a storefront and an auditor must
//! compute alike, as pure code.
//!
//! ```text
//! entering    a customer reference -> subject tag -> entrant number -> signed ticket
//! closed      all subject tags, in the order of their numbers -> root and count
//! drawn       the committed halves of all sides, root, count -> seed -> a place for each number
//! selling     the front moves over the places; a place that it passes is admitted
//! ```
//!
//! Nothing here knows how the facts travel or where they are stored. Late entrants need no case of
//! their own: the place of an entrant number behind the draw is the number itself.

/// Names of launches.
pub mod launch_id;

/// Launches as data: their terms with every check, and their states.
pub mod launch;

/// The keys of a launch: for subject tags and for tickets.
pub mod launch_keys;

/// Tickets: signed by a launch's key, verified without asking anybody.
pub mod ticket;

/// The entrants: root and count of their tags.
pub mod entrants;

/// Halves of a seed, and the commitments to them.
pub mod halves;

/// Places by a keyed permutation of the entrant numbers.
pub mod permutation;

/// Published draws: their JSON form, and the check of all that they claim.
pub mod published_draw;

/// The draw, step by step: commitments, closing, halves, seed.
pub mod draw;

/// Admission: the front, claimed and expired places, sessions, and the units that they hold.
pub mod front;

/// Places that the front has passed, with their states.
mod passed;

/// Pace of the front, as it was in the last half minute.
pub mod pace;

/// The estimated wait, and the time of the next poll.
pub mod wait;

/// Hexadecimal digits in published files.
mod hex;

/// A simulated launch: people with clients that poll, no-shows, and a rate that is halved.
#[cfg(test)]
mod simulation;

/// Number of an entrant of a launch: 0 for the first one. Numbers have no gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntrantNumber(pub u32);

/// A place in the queue of a launch: the number of places in front of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PlaceNumber(pub u32);

/// Most entrants of one launch.
pub const ENTRANTS_MAX: u32 = 1 << 24;
