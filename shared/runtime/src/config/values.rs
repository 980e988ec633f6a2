//! The types a setting can have, and how each is written.
//!
//! A [`Setting`] is parsed from one scalar; lists, choices and numbers with a range are the reader's business.

use std::fmt;
use std::fs::File;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::Uri;

/// What TOML calls a scalar's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A quoted text.
    Text,
    /// An integer, here always in decimal.
    Integer,
    /// `true` or `false`.
    Boolean,
}

/// What a relative path and a credential are relative to.
#[derive(Default)]
pub struct BasePaths {
    /// The folder of the configuration file.
    pub(super) folder: PathBuf,
    /// systemd's `$CREDENTIALS_DIRECTORY`.
    pub(super) credentials: Option<PathBuf>,
}

impl BasePaths {
    /// A path as the configuration means it: relative to the folder of its file.
    pub fn resolve(&self, text: &str) -> Result<PathBuf, String> {
        if text.is_empty() {
            return Err("must not be empty".to_owned());
        }
        Ok(self.folder.join(text))
    }
}

/// A type that a scalar in the configuration can be read as.
pub trait Setting: Sized {
    /// The TOML type it is written in.
    const KIND: Kind;
    /// What a mistake says is expected, such as `a duration such as "10s"`.
    const EXPECTED: &'static str;
    /// The smallest and the largest value of this type, if it has an order. A setting mostly has narrower bounds of its own.
    const BOUNDS: Option<RangeInclusive<&'static str>> = None;

    /// Stands in for a value that could not be read. It never leaves the reader, whose `finish` fails.
    fn placeholder() -> Self;

    /// Reads it, or says what is wrong: `must be ..., is ...`.
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

/// A file that can be opened now, so that a missing one is reported with the other mistakes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputFile(PathBuf);

impl InputFile {
    /// Where it is.
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

/// Every duration here is a limit of some kind, so zero is none of them, and more than a day is a slip of the unit.
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

/// How fast a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BitRate {
    bits_per_second: u64,
}

impl BitRate {
    /// From bits a second.
    pub const fn from_bits_per_second(bits_per_second: u64) -> Self {
        Self { bits_per_second }
    }

    /// In bytes a second.
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

/// A size in memory or on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize {
    bytes: usize,
}

impl ByteSize {
    /// From bytes.
    pub const fn from_bytes(bytes: usize) -> Self {
        Self { bytes }
    }

    /// In bytes.
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

/// A peer to dial: a name or an address, and a port. Names are resolved by whoever dials, again and again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DialTarget {
    /// DNS name or IP address, IPv6 without its brackets.
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

/// Where an OpenTelemetry collector takes OTLP over HTTP: the address that its own documentation calls the endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CollectorUrl(String);

impl CollectorUrl {
    /// Where it takes traces (OTLP 1.x, section "OTLP/HTTP Request").
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
        // Neither a password nor half an address: what stands there is shown by `check --print-config`.
        let is_host =
            url.authority().is_some_and(|host| !host.as_str().contains('@') && !host.host().is_empty());
        if is_plain && is_host {
            Ok(Self(text.trim_end_matches('/').to_owned()))
        } else {
            Err(expected::<Self>(text))
        }
    }
}

/// What [`is_name`] wants, as a mistake says it.
pub(super) const NAME_RULE: &str = "must be a name of 1 to 32 lower-case letters, digits and hyphens";

/// Whether a text can name an agent or a brand: it has to fit into a path, a URL, an environment variable and a label.
pub(super) fn is_name(text: &str) -> bool {
    (1..=32).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// `"50 Mbit/s"` with its unit's factor applied; a space before the unit is optional.
fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}
