//! The kinds of values that settings have, and how each is written.
//!
//! Always holds: a value in the file, in a variable and in a flag is read by the same parser; a
//! parser's error says what it expected, without naming the setting. Never does: defaults.

use std::net::SocketAddr;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::Url;
use toml::Value;
use trow_api::pattern::Pattern;
use trow_api::pull::{Host, InvalidHost};

/// A setting's type. Variables and flags arrive as strings, so every type reads strings.
pub(super) trait Setting: Sized {
    /// # Errors
    /// What was expected, to be shown after the setting's name.
    fn read(value: &Value) -> Result<Self, String>;
}

/// A size in bytes, written as `"64MiB"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

/// A rate in bytes per second, written as `"100MiB/s"`; `"0"` is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteRate(pub u64);

/// A share of a whole in percent, written as `"90%"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Percent(pub u8);

/// What a read of a name gets when there is no quorum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WithoutQuorum {
    /// The last applied state, with a warning.
    Stale,
    /// 503.
    Refuse,
}

fn text<'a>(value: &'a Value, expected: &str) -> Result<&'a str, String> {
    value.as_str().ok_or_else(|| format!("expected {expected} as a string, found {}", value.type_str()))
}

impl Setting for String {
    fn read(value: &Value) -> Result<Self, String> {
        text(value, "text").map(str::to_owned)
    }
}

impl Setting for PathBuf {
    fn read(value: &Value) -> Result<Self, String> {
        match text(value, "a path")? {
            "" => Err("expected a path, found nothing".to_owned()),
            path => Ok(path.into()),
        }
    }
}

impl Setting for bool {
    fn read(value: &Value) -> Result<Self, String> {
        match value {
            Value::Boolean(value) => Ok(*value),
            Value::String(text) if text == "true" => Ok(true),
            Value::String(text) if text == "false" => Ok(false),
            _ => Err("expected true or false".to_owned()),
        }
    }
}

impl Setting for u64 {
    fn read(value: &Value) -> Result<Self, String> {
        let number = match value {
            Value::Integer(number) => u64::try_from(*number).ok(),
            Value::String(text) => text.parse().ok(),
            _ => None,
        };
        number.ok_or_else(|| "expected a whole number, 0 or more".to_owned())
    }
}

impl Setting for SocketAddr {
    fn read(value: &Value) -> Result<Self, String> {
        let text = text(value, "an address")?;
        let error = || {
            format!(
                "expected an IP address and a port such as \"127.0.0.1:5000\" or \"[::]:5000\", not {text:?}"
            )
        };
        match text.strip_prefix("localhost:") {
            Some(port) => Ok(SocketAddr::from(([127, 0, 0, 1], port.parse().map_err(|_| error())?))),
            None => text.parse().map_err(|_| error()),
        }
    }
}

impl Setting for Duration {
    fn read(value: &Value) -> Result<Self, String> {
        duration(text(value, "a duration such as \"10m\"")?)
    }
}

/// A range of durations, written as `"500ms..800ms"`.
impl Setting for Range<Duration> {
    fn read(value: &Value) -> Result<Self, String> {
        let text = text(value, "a range of durations")?;
        let (low, high) = text
            .split_once("..")
            .ok_or_else(|| format!("expected a range such as \"500ms..800ms\", not {text:?}"))?;
        let (low, high) = (duration(low)?, duration(high)?);
        if low >= high {
            return Err(format!("the range {text:?} is empty: the first duration must be the shorter one"));
        }
        Ok(low..high)
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let days = humantime::parse_duration(text);
    days.map_err(|_| format!("expected a duration such as \"10m\", \"2s\" or \"150ms\", not {text:?}"))
}

impl Setting for ByteSize {
    fn read(value: &Value) -> Result<Self, String> {
        let text = text(value, "a size such as \"64MiB\"")?;
        let size = bytes(text);
        size.map(ByteSize)
            .ok_or_else(|| format!("expected a size such as \"64MiB\" or \"2GiB\", not {text:?}"))
    }
}

impl Setting for ByteRate {
    fn read(value: &Value) -> Result<Self, String> {
        let text = text(value, "a rate such as \"100MiB/s\"")?;
        let rate = if text == "0" { Some(0) } else { text.strip_suffix("/s").and_then(bytes) };
        let error = || format!("expected a rate such as \"100MiB/s\", or \"0\" for no limit, not {text:?}");
        rate.map(ByteRate).ok_or_else(error)
    }
}

fn bytes(text: &str) -> Option<u64> {
    const UNITS: &[(&str, u64)] = &[
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("TiB", 1 << 40),
        ("KB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("TB", 1_000_000_000_000),
        ("B", 1),
    ];
    let (digits, unit) = UNITS.iter().find_map(|(name, unit)| Some((text.strip_suffix(name)?, *unit)))?;
    digits.trim().parse::<u64>().ok()?.checked_mul(unit)
}

impl Setting for Percent {
    fn read(value: &Value) -> Result<Self, String> {
        let text = text(value, "a share such as \"90%\"")?;
        let percent = text.strip_suffix('%').and_then(|digits| digits.parse().ok()).filter(|p| *p <= 100);
        percent.map(Percent).ok_or_else(|| format!("expected a share such as \"90%\", not {text:?}"))
    }
}

impl Setting for WithoutQuorum {
    fn read(value: &Value) -> Result<Self, String> {
        match text(value, "\"stale\" or \"refuse\"")? {
            "stale" => Ok(WithoutQuorum::Stale),
            "refuse" => Ok(WithoutQuorum::Refuse),
            other => Err(format!("expected \"stale\" or \"refuse\", not {other:?}")),
        }
    }
}

/// A list; in a variable its items are separated by commas.
impl Setting for Vec<String> {
    fn read(value: &Value) -> Result<Self, String> {
        match value {
            Value::Array(items) => items
                .iter()
                .map(|item| {
                    item.as_str().map(str::to_owned).ok_or_else(|| "expected a list of strings".to_owned())
                })
                .collect(),
            Value::String(list) => Ok(list
                .split(',')
                .map(str::trim)
                .filter(|item| !item.is_empty())
                .map(str::to_owned)
                .collect()),
            _ => Err("expected a list of strings".to_owned()),
        }
    }
}

/// A registry, written as clients call it.
impl Setting for Host {
    fn read(value: &Value) -> Result<Self, String> {
        text(value, "a registry's host")?.parse().map_err(|error: InvalidHost| error.to_string())
    }
}

impl Setting for Url {
    fn read(value: &Value) -> Result<Self, String> {
        let text = text(value, "an address such as \"https://registry.example.com\"")?;
        let url: Option<Url> = text.parse().ok();
        let plain = |url: &Url| {
            matches!(url.scheme(), "https" | "http")
                && url.has_host()
                && url.username().is_empty()
                && url.password().is_none()
                && url.query().is_none()
                && url.fragment().is_none()
        };
        url.filter(plain).ok_or_else(|| {
            "expected an https:// or http:// address of a host, with a path if need be and nothing else"
                .to_owned()
        })
    }
}

impl Setting for Vec<Pattern> {
    fn read(value: &Value) -> Result<Self, String> {
        let texts: Vec<String> = Setting::read(value)?;
        let (mut patterns, mut wrong) = (Vec::new(), Vec::new());
        for text in &texts {
            match text.parse::<Pattern>() {
                Ok(pattern) => patterns.push(pattern),
                Err(error) => wrong.push(format!("{text:?}: {error}")),
            }
        }
        // Every one that is wrong is named, with what is wrong with it.
        if wrong.is_empty() { Ok(patterns) } else { Err(wrong.join("; ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: Setting>(text: &str) -> Result<T, String> {
        T::read(&Value::String(text.to_owned()))
    }

    #[test]
    fn units_are_read_and_required() {
        assert_eq!(read("64MiB"), Ok(ByteSize(64 << 20)));
        assert_eq!(read("1TB"), Ok(ByteSize(1_000_000_000_000)));
        assert_eq!(read("100MiB/s"), Ok(ByteRate(100 << 20)));
        assert_eq!(read("0"), Ok(ByteRate(0)));
        assert_eq!(read("90%"), Ok(Percent(90)));
        assert_eq!(read("150ms"), Ok(Duration::from_millis(150)));
        for bad in ["64", "MiB", "-1MiB", "99999999999TiB", "1.5GiB", ""] {
            assert!(read::<ByteSize>(bad).is_err(), "{bad:?}");
        }
        assert!(read::<Percent>("101%").is_err());
        assert!(read::<Duration>("10").is_err());
        assert!(read::<ByteRate>("100MiB").is_err());
    }

    #[test]
    fn a_range_must_not_be_empty() {
        assert_eq!(read("500ms..1s"), Ok(Duration::from_millis(500)..Duration::from_secs(1)));
        assert!(read::<Range<Duration>>("1s..500ms").is_err());
        assert!(read::<Range<Duration>>("1s").is_err());
    }

    #[test]
    fn an_address_has_an_ip_and_a_port() {
        assert!(read::<SocketAddr>("[::]:5000").is_ok());
        assert_eq!(read("localhost:5000"), Ok(SocketAddr::from(([127, 0, 0, 1], 5000))));
        for bad in ["5000", ":5000", "example.org:5000", "127.0.0.1", "127.0.0.1:70000"] {
            assert!(read::<SocketAddr>(bad).is_err(), "{bad:?}");
        }
    }
}
