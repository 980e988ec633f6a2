//! The programs that the tests need beside Rust: PostgreSQL's server, openssl, HTTP clients, and
//! the servers that Bridge is compared with.

use crate::testkit::machine::{self, Need, NotReady};
use crate::testkit::postgres::Postgres;
use crate::testkit::tied;
use crate::tools::measure;

const PROGRAMS: [Need; 6] = [
    Need { program: tied::WORDS[0], package: "util-linux" },
    Need { program: "openssl", package: "openssl" },
    Need { program: "curl", package: "curl" },
    Need { program: "h2load", package: "nghttp2-client" },
    // A WAN of IP packets needs both.
    Need { program: "ip", package: "iproute2" },
    Need { program: "perl", package: "perl-base" },
];

/// Installs missing programs, and checks that PostgreSQL starts.
pub(super) async fn make_ready() -> Result<(), NotReady> {
    machine::make_ready(&[&PROGRAMS[..], &measure::NEEDS].concat()).await?;
    // PostgreSQL is installed on demand. It is stopped at once, because every test starts its own.
    Postgres::start().await.map(drop).map_err(|error| match error.downcast() {
        Ok(not_ready) => not_ready,
        Err(error) => NotReady(format!("{error:#}")),
    })
}
