//! Types of settings, and their syntax.
//!
//! A [`Setting`] is parsed from one scalar. The reader handles lists, choices and numbers with a
//! range.

use std::fmt;
use std::fs::File;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::Uri;

/// TOML type of a scalar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A quoted text.
    Text,
    /// An integer in decimal.
    Integer,
    /// `true` or `false`.
    Boolean,
}

/// Base of relative paths and of credentials.
#[derive(Default)]
pub struct BasePaths {
    /// Folder of the configuration file.
    pub(super) folder: PathBuf,
    /// systemd's `$CREDENTIALS_DIRECTORY`.
    pub(super) credentials: Option<PathBuf>,
}

impl BasePaths {
    /// Resolves a path of the configuration, which is relative to the folder of its file.
    ///
    /// # Errors
    ///
    /// Fails if the text is empty.
    pub fn resolve(&self, text: &str) -> Result<PathBuf, String> {
        if text.is_empty() {
            return Err("must not be empty".to_owned());
        }
        Ok(self.folder.join(text))
    }
}

/// A type that can be read from a scalar of the configuration.
pub trait Setting: Sized {
    /// TOML type of the scalar.
    const KIND: Kind;
    /// Expected form for mistakes, such as `a duration such as "10s"`.
    const EXPECTED: &'static str;
    /// Smallest and largest value of this type, if it has an order. Most settings have narrower
    /// bounds.
    const BOUNDS: Option<RangeInclusive<&'static str>> = None;

    /// Returns a value for one that could not be read. It never leaves the reader, because `finish`
    /// then fails.
    fn placeholder() -> Self;

    /// Reads the value.
    ///
    /// # Errors
    ///
    /// Returns the mistake in the form `must be ..., is ...`.
    fn parse(text: &str, place: &BasePaths) -> Result<Self, String>;
}

fn expected<T: Setting>(text: &str) -> String {
    format!("must be {}, is {text:?}", T::EXPECTED)
}

impl Setting for String {
    const KIND: Kind = Kind::Text;
    const EXPECTED: &'static str = "a text";

    fn placeholder() -> Self {
        Self::new()
    }

    fn parse(text: &str, _: &BasePaths) -> Result<Self, String> {
        if text.is_empty() { Err("must not be empty".to_owned()) } else { Ok(text.to_owned()) }
    }
}

impl Setting for bool {
    const KIND: Kind = Kind::Boolean;
    const EXPECTED: &'static str = "true or false";

    fn placeholder() -> Self {
        false
    }

    fn parse(text: &str, _: &BasePaths) -> Result<Self, String> {
        text.parse().map_err(|_| expected::<Self>(text))
    }
}

impl Setting for SocketAddr {
    const KIND: Kind = Kind::Text;
    const EXPECTED: &'static str = "an IP address with a port, such as \"127.0.0.1:8080\"";

    fn placeholder() -> Self {
        Self::from(([0, 0, 0, 0], 0))
    }

    fn parse(text: &str, _: &BasePaths) -> Result<Self, String> {
        text.parse().map_err(|_| expected::<Self>(text))
    }
}

/// A path that need not exist yet.
impl Setting for PathBuf {
    const KIND: Kind = Kind::Text;
    const EXPECTED: &'static str = "a path";

    fn placeholder() -> Self {
        Self::new()
    }

    fn parse(text: &str, place: &BasePaths) -> Result<Self, String> {
        place.resolve(text)
    }
}

/// A file that can be opened now. So a missing file is reported with the other mistakes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputFile(PathBuf);

impl InputFile {
    /// Returns its path.
    pub fn into_path(self) -> PathBuf {
        self.0
    }
}

impl Setting for InputFile {
    const KIND: Kind = Kind::Text;
    const EXPECTED: &'static str = "the path of a file that exists";

    fn placeholder() -> Self {
        Self(PathBuf::new())
    }

    fn parse(text: &str, place: &BasePaths) -> Result<Self, String> {
        let path = place.resolve(text)?;
        readable(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        Ok(Self(path))
    }
}

fn readable(path: &Path) -> std::io::Result<()> {
    let is_file = File::open(path)?.metadata()?.is_file();
    if is_file { Ok(()) } else { Err(std::io::Error::other("it is not a regular file")) }
}

/// Every duration in the configuration is a limit. So zero is refused, and more than a day is taken
/// as a wrong unit.
impl Setting for Duration {
    const KIND: Kind = Kind::Text;
    const EXPECTED: &'static str = "a duration from \"1ms\" to \"24h\", in ms, s, m or h, such as \"10s\"";
    const BOUNDS: Option<RangeInclusive<&'static str>> = Some("1ms"..="24h");

    fn placeholder() -> Self {
        Self::ZERO
    }

    fn parse(text: &str, _: &BasePaths) -> Result<Self, String> {
        let units = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];
        let milliseconds = scaled(text, &units).filter(|value| (1..=24 * 3_600_000).contains(value));
        milliseconds.map(Self::from_millis).ok_or_else(|| expected::<Self>(text))
    }
}

/// Rate of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BitRate {
    bits_per_second: u64,
}

impl BitRate {
    /// Makes a rate from bits per second.
    pub const fn from_bits_per_second(bits_per_second: u64) -> Self {
        Self { bits_per_second }
    }

    /// Returns the rate in bytes per second.
    pub const fn bytes_per_second(self) -> u64 {
        self.bits_per_second / 8
    }
}

impl Setting for BitRate {
    const KIND: Kind = Kind::Text;
    const EXPECTED: &'static str = "a rate in kbit/s, Mbit/s or Gbit/s, such as \"50 Mbit/s\"";
    const BOUNDS: Option<RangeInclusive<&'static str>> = Some("1 kbit/s"..="1000 Gbit/s");

    fn placeholder() -> Self {
        Self::from_bits_per_second(0)
    }

    fn parse(text: &str, _: &BasePaths) -> Result<Self, String> {
        let units = [("kbit/s", 1_000), ("Mbit/s", 1_000_000), ("Gbit/s", 1_000_000_000)];
        let bits = scaled(text, &units).filter(|bits| (1_000..=1_000_000_000_000).contains(bits));
        bits.map(Self::from_bits_per_second).ok_or_else(|| expected::<Self>(text))
    }
}

/// Size in memory or on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize {
    bytes: usize,
}

impl ByteSize {
    /// Makes a size from bytes.
    pub const fn from_bytes(bytes: usize) -> Self {
        Self { bytes }
    }

    /// Returns the size in bytes.
    pub const fn bytes(self) -> usize {
        self.bytes
    }
}

impl Setting for ByteSize {
    const KIND: Kind = Kind::Text;
    const EXPECTED: &'static str = "a size in KiB, MiB or GiB, such as \"8 MiB\"";
    const BOUNDS: Option<RangeInclusive<&'static str>> = Some("1 KiB"..="1024 GiB");

    fn placeholder() -> Self {
        Self::from_bytes(0)
    }

    fn parse(text: &str, _: &BasePaths) -> Result<Self, String> {
        let bytes = scaled(text, &[("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)])
            .filter(|bytes| (1 << 10..=1 << 40).contains(bytes));
        let bytes = bytes.and_then(|bytes| usize::try_from(bytes).ok());
        bytes.map(Self::from_bytes).ok_or_else(|| expected::<Self>(text))
    }
}

/// A peer to dial: a name or address, and a port. A name is resolved again at each attempt.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DialTarget {
    /// DNS name or IP address; IPv6 without brackets.
    pub host: String,
    /// UDP and TCP port.
    pub port: u16,
}

impl fmt::Display for DialTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl Setting for DialTarget {
    const KIND: Kind = Kind::Text;
    const EXPECTED: &'static str = "a host with a port, such as \"bridge.example.com:7443\"";

    fn placeholder() -> Self {
        Self { host: String::new(), port: 0 }
    }

    fn parse(text: &str, _: &BasePaths) -> Result<Self, String> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(Self { host: address.ip().to_string(), port: address.port() });
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(|| expected::<Self>(text))?;
        let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        match port.parse() {
            Ok(port) if port > 0 && !host.is_empty() && host.chars().all(named) => {
                Ok(Self { host: host.to_owned(), port })
            }
            _ => Err(expected::<Self>(text)),
        }
    }
}

/// Address of an OpenTelemetry collector for OTLP over HTTP, which its documentation calls the
/// endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CollectorUrl(String);

impl CollectorUrl {
    /// Returns the address for traces (OTLP 1.x, section "OTLP/HTTP Request").
    pub fn traces(&self) -> String {
        format!("{}/v1/traces", self.0)
    }
}

impl Setting for CollectorUrl {
    const KIND: Kind = Kind::Text;
    const EXPECTED: &'static str =
        "the address of an OpenTelemetry collector, without TLS, such as \"http://127.0.0.1:4318\"";

    fn placeholder() -> Self {
        Self(String::new())
    }

    fn parse(text: &str, _: &BasePaths) -> Result<Self, String> {
        let url: Uri = text.parse().map_err(|_| expected::<Self>(text))?;
        let is_plain = url.scheme_str() == Some("http") && url.query().is_none();
        // Passwords and incomplete addresses are refused. `check --print-config` shows this text.
        let is_host =
            url.authority().is_some_and(|host| !host.as_str().contains('@') && !host.host().is_empty());
        if is_plain && is_host {
            Ok(Self(text.trim_end_matches('/').to_owned()))
        } else {
            Err(expected::<Self>(text))
        }
    }
}

/// Rule of [`is_name`] for mistakes.
pub(super) const NAME_RULE: &str = "must be a name of 1 to 32 lower-case letters, digits and hyphens";

/// Returns true if a text can name an agent or a brand. The name must fit into a path, a URL, an
/// environment variable and a label.
pub(super) fn is_name(text: &str) -> bool {
    (1..=32).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// Reads a number with a unit, such as `"50 Mbit/s"`, and multiplies by the unit's factor. A space
/// before the unit is optional.
fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}
