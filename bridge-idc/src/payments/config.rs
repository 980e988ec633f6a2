//! Section `[payments]` of the configuration: the gateway, and the limits of the work with it.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bridge_runtime::config::{BasePaths, Kind, Reader, Secret, Setting};
use http::Uri;

use super::gateway::toss::{BadSecretKey, Toss};
use super::service::PaymentLimits;

/// Grace period after the gateway's time-out before another agent may take over a row. It is longer
/// than this agent's transactions may take.
const MARGIN: Duration = Duration::from_secs(30);

/// Kind of gateway.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum GatewayKind {
    /// No gateway: payments are not offered.
    #[default]
    Off,
    /// Toss Payments.
    Toss,
    /// The sandbox on this machine, which speaks the protocol of Toss Payments.
    Sandbox,
}

/// Section `[payments]`.
pub struct PaymentsConfig {
    /// Kind of gateway.
    pub gateway: GatewayKind,
    /// URL of the gateway.
    pub base_url: GatewayUrl,
    /// Secret key of the gateway, from `secret_key_file`.
    pub secret_key: Option<Secret>,
    /// Most payments that are received and not yet answered, over all links.
    pub window_max: usize,
    /// Limits of the work with the gateway.
    pub limits: PaymentLimits,
    /// Address on which the gateway's webhooks are taken.
    pub webhook_listen: Option<SocketAddr>,
}

impl PaymentsConfig {
    /// Reads the section. The reader records every mistake.
    pub fn read(reader: &mut Reader) -> Self {
        let mut section = reader.section("payments");
        let words =
            [("off", GatewayKind::Off), ("toss", GatewayKind::Toss), ("sandbox", GatewayKind::Sandbox)];
        let config = Self {
            gateway: section.choice("gateway", "off", &words),
            base_url: section.or("base_url", "https://api.tosspayments.com"),
            secret_key: section.optional("secret_key_file"),
            window_max: section.number("window", 1..=65_536, 256),
            limits: PaymentLimits {
                calls_max: section.number("calls_max", 1..=4_096, 64),
                doubts_max: section.number("doubts_max", 1..=1_024, 16),
                timeout: section.within("timeout", "100ms"..="60s", "10s"),
                margin: MARGIN,
                retry_first: section.within("retry_first", "10ms"..="1h", "1s"),
                retry_max: section.within("retry_max", "10ms"..="24h", "10m"),
                alarm_after: section.within("alarm_after", "1s"..="24h", "10m"),
            },
            webhook_listen: section.optional("webhook_listen"),
        };
        if config.gateway != GatewayKind::Off && config.secret_key.is_none() {
            section.refuse("secret_key_file", "must name the file of the gateway's secret key");
        }
        if config.gateway == GatewayKind::Sandbox && !config.base_url.is_loopback {
            section.refuse(
                "base_url",
                "must be on this machine for a sandbox, such as \"http://127.0.0.1:9090\"",
            );
        }
        if config.limits.retry_max < config.limits.retry_first {
            section.refuse("retry_max", "must not be shorter than payments.retry_first");
        }
        config
    }

    /// Returns the adapter of the gateway, or `None` without a gateway.
    ///
    /// # Errors
    ///
    /// Fails if the secret key cannot be part of a header.
    pub fn adapter(&self) -> Result<Option<Toss>, BadSecretKey> {
        match (self.gateway, &self.secret_key) {
            (GatewayKind::Off, _) | (_, None) => Ok(None),
            (GatewayKind::Toss | GatewayKind::Sandbox, Some(key)) => {
                Toss::new(&self.base_url.url, key.expose(), self.limits.timeout).map(Some)
            }
        }
    }
}

/// URL of a gateway: encrypted, except on this machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GatewayUrl {
    url: String,
    is_loopback: bool,
}

impl Setting for GatewayUrl {
    const KIND: Kind = Kind::Text;
    const EXPECTED: &'static str =
        "an https:// URL without user, query or fragment; http:// is for a loopback address alone";

    fn placeholder() -> Self {
        Self::default()
    }

    /// No message repeats the text, because it may contain a key.
    fn parse(text: &str, _: &BasePaths) -> Result<Self, String> {
        let wrong = || format!("must be {}", Self::EXPECTED);
        let url: Uri = text.parse().map_err(|_| wrong())?;
        let host = url.host().ok_or_else(wrong)?;
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        let is_loopback = host == "localhost" || address.is_ok_and(|address| address.is_loopback());
        let is_plain = url.query().is_none() && !text.contains(['@', '#']);
        match url.scheme_str() {
            Some("https") if is_plain => Ok(Self { url: text.to_owned(), is_loopback }),
            Some("http") if is_plain && is_loopback => Ok(Self { url: text.to_owned(), is_loopback }),
            _ => Err(wrong()),
        }
    }
}
