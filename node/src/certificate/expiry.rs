//! When a certificate ends, said in time.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

use crate::config::Section;

/// How long before its end a certificate is warned about.
const SOON: i64 = 14 * 24 * 3600;
/// How often that is said.
const REMIND: Duration = Duration::from_secs(24 * 3600);

/// The time in which a certificate counts, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Expiry {
    from: i64,
    to: i64,
}

impl Expiry {
    /// Of a certificate in DER, if it is one.
    pub(super) fn of(certificate: &[u8]) -> Option<Self> {
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
        let validity = parsed.validity();
        Some(Expiry { from: validity.not_before.timestamp(), to: validity.not_after.timestamp() })
    }

    /// What is to be said of it at `now`.
    fn remark(self, now: i64) -> Option<&'static str> {
        match self {
            Expiry { to, .. } if to <= now => Some("has expired: clients refuse it"),
            Expiry { from, .. } if from > now => Some("does not count yet"),
            Expiry { to, .. } if to - now < SOON => Some("expires soon"),
            _ => None,
        }
    }

    /// Says what is to be said of it now.
    pub(super) fn warn(self, of: Section) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        if let Some(remark) = self.remark(i64::try_from(now.as_secs()).unwrap_or(i64::MAX)) {
            let (what, cert, key) = (of.certificate(), of.cert(), of.key());
            tracing::warn!(expires = %self, "{what} {remark}; put a new one in the place of {cert} and {key}, which are read again");
        }
    }
}

impl fmt::Display for Expiry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = time::OffsetDateTime::from_unix_timestamp(self.to).ok();
        let text = time.and_then(|t| t.format(&time::format_description::well_known::Rfc3339).ok());
        f.write_str(text.as_deref().unwrap_or("at no time that can be written"))
    }
}

/// Warns now and once a day until `closing`.
pub(super) async fn remind(closing: CancellationToken, of: Section, expiry: impl Fn() -> Expiry) {
    loop {
        expiry().warn(of);
        tokio::select! {
            () = closing.cancelled() => return,
            () = tokio::time::sleep(REMIND) => {}
        }
    }
}

/// Shows when the webhook's certificate expires.
pub const WEBHOOK_EXPIRY: &str = "trow_webhook_certificate_expiry_timestamp_seconds";

/// Registers `trow_tls_certificate_expiry_timestamp_seconds`, or [`WEBHOOK_EXPIRY`].
pub(super) fn register(
    registry: &mut Registry,
    of: Section,
    expiry: impl Fn() -> Expiry + Send + Sync + 'static,
) {
    registry.register_collector(Box::new(Shown(of, expiry)));
}

struct Shown<F>(Section, F);

impl<F> fmt::Debug for Shown<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shown(..)")
    }
}

impl<F: Fn() -> Expiry + Send + Sync + 'static> Collector for Shown<F> {
    fn encode(&self, mut out: DescriptorEncoder) -> Result<(), fmt::Error> {
        let (name, help) = match self.0 {
            Section::Server => (
                "trow_tls_certificate_expiry_timestamp_seconds",
                "When the client listener's certificate expires, in seconds since 1970",
            ),
            Section::Webhook => {
                (WEBHOOK_EXPIRY, "When the webhook's certificate expires, in seconds since 1970")
            }
        };
        ConstGauge::new((self.1)().to).encode(out.encode_descriptor(name, help, None, MetricType::Gauge)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expiry_is_said_two_weeks_ahead() {
        let (day, now) = (24 * 3600, 1_000_000_000);
        let says = |from: i64, to: i64| {
            let remark = Expiry { from: now + from * day, to: now + to * day }.remark(now);
            remark.map(|text| text.rsplit(' ').next().unwrap())
        };
        assert_eq!(says(-1, 90), None);
        assert_eq!(says(-1, 14), None);
        assert_eq!(says(-1, 13), Some("soon"));
        assert_eq!(says(-2, -1), Some("it"));
        assert_eq!(says(-2, 0), Some("it"));
        assert_eq!(says(1, 90), Some("yet"));
    }
}
