//! Which settings have no effect in this version.
//!
//! Always holds: a setting that is accepted and ignored is said to be ignored when it is set to
//! anything but its default.

use super::reader::Reader;
use super::tree::Config;

/// Sections and keys of capabilities that this version does not have.
const LATER: &[&str] = &["gc.interval", "scrub."];

/// Whether the setting belongs to a capability that this version does not have.
pub(super) fn is_later(key: &str) -> bool {
    LATER.iter().any(|later| key.starts_with(later) || Some(key) == later.strip_suffix('.'))
}

/// Those of the settings that change something which has no effect.
pub(super) fn without(reader: &Reader) -> Vec<String> {
    let later = reader.set().filter(|key| is_later(key));
    // What no setting at all is read as.
    let defaults = with(reader, "");
    later.filter(|key| with(reader, key) != defaults).map(str::to_owned).collect()
}

/// The configuration with only this setting given.
fn with(reader: &Reader, key: &str) -> Config {
    Config::read(&mut reader.only(key))
}
