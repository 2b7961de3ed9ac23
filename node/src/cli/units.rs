//! Sizes, times and numbers of things as people say them.

/// A size as people say it: `1.5 GiB`.
pub fn human_bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// A number of things whose plural takes an s: `1 round`, `3 rounds`.
pub fn counted(count: u64, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// A time as people say it: `9 min 40 s`.
pub fn human_duration(ms: u64) -> String {
    let seconds = ms / 1000;
    let (days, hours, minutes) = (seconds / 86400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes, seconds % 60) {
        (0, 0, 0, 0) => "less than 1 s".to_owned(),
        (0, 0, 0, seconds) => format!("{seconds} s"),
        (0, 0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (0, hours, minutes, _) => format!("{hours} h {minutes} min"),
        (1, hours, ..) => format!("1 day {hours} h"),
        (days, hours, ..) => format!("{days} days {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_one_decimal() {
        assert_eq!(human_bytes(1023), "1023 B");
        assert_eq!(human_bytes(1536), "1.5 KiB");
        assert_eq!(human_bytes(64 << 30), "64.0 GiB");
    }

    #[test]
    fn times_are_said_as_people_say_them() {
        for (ms, said) in [
            (999, "less than 1 s"),
            (12_999, "12 s"),
            (580_000, "9 min 40 s"),
            (3 * 3_600_000, "3 h 0 min"),
            (86_400_000, "1 day 0 h"),
            (200_000_000, "2 days 7 h"),
        ] {
            assert_eq!(human_duration(ms), said);
        }
    }
}
