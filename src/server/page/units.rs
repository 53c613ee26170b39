//! Numbers, sizes and times, as people read them.

use std::time::Duration;

use jiff::Timestamp;

/// Digits in groups of three.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A number with its noun, in the plural unless it is one.
pub(super) fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

/// A size in bytes, in the largest binary unit that leaves a whole digit.
pub(super) fn bytes(number: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if number < 1024 {
        return format!("{number} B");
    }
    let mut rest = number;
    let mut unit = 0;
    while rest >= 1024 * 1024 && unit + 1 < UNITS.len() {
        rest /= 1024;
        unit += 1;
    }
    let (whole, tenth) = (rest / 1024, rest % 1024 * 10 / 1024);
    if whole >= 100 {
        format!("{whole} {}", UNITS[unit])
    } else {
        format!("{whole}.{tenth} {}", UNITS[unit])
    }
}

/// A span, in its two largest units.
pub(super) fn span(span: Duration) -> String {
    let millis = span.as_millis();
    if millis < 1_000 {
        return format!("{millis} ms");
    }
    if millis < 10_000 {
        return format!("{}.{:02} s", millis / 1_000, millis % 1_000 / 10);
    }
    coarse(span.as_secs())
}

/// Milliseconds, with as many digits as tell something.
pub(super) fn millis(value: f64) -> String {
    match value {
        value if value < 10.0 => format!("{value:.1} ms"),
        value if value < 1_000.0 => format!("{value:.0} ms"),
        value => format!("{:.2} s", value / 1_000.0),
    }
}

fn coarse(seconds: u64) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let mut rest = seconds;
    let mut words: Vec<String> = Vec::new();
    for (size, name) in UNITS {
        if rest >= size {
            words.push(format!("{} {name}", rest / size));
            rest %= size;
            // Who reads minutes past ten does not want the seconds.
            if words.len() == 2 || (size == 60 && seconds >= 600) {
                break;
            }
        } else if !words.is_empty() {
            break;
        }
    }
    if words.is_empty() {
        words.push("0 s".to_owned());
    }
    words.join(" ")
}

/// How far `at` is from `now`, in words.
pub(super) fn age(now: Timestamp, at: Timestamp) -> String {
    let gap = between(at, now);
    if at <= now {
        format!("{} ago", coarse(gap.as_secs()))
    } else {
        format!("in {}", coarse(gap.as_secs()))
    }
}

/// The time between two moments, whichever is first.
pub(super) fn between(one: Timestamp, other: Timestamp) -> Duration {
    one.duration_since(other).unsigned_abs()
}

/// UTC to the millisecond, for people.
pub(super) fn stamp(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S%.3f UTC").to_string()
}

/// UTC, RFC 3339 to the millisecond, for programs.
pub(super) fn rfc3339(at: Timestamp) -> String {
    format!("{at:.3}")
}

/// Hours and minutes, UTC.
pub(super) fn clock(at: Timestamp) -> String {
    at.strftime("%H:%M").to_string()
}

/// `part` of `whole` in per cent, never rounded up to all of it.
pub(super) fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "–".to_owned();
    }
    let thousandths = u128::from(part) * 1_000 / u128::from(whole);
    if thousandths == 1_000 {
        "100 %".to_owned()
    } else {
        format!("{}.{} %", thousandths / 10, thousandths % 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(counted(1, "event", "events"), "1 event");
        assert_eq!(counted(1_000, "event", "events"), "1,000 events");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1024), "1.0 KiB");
        assert_eq!(bytes(1_048_575), "1023 KiB");
        assert_eq!(bytes(1_048_576), "1.0 MiB");
        assert_eq!(bytes(5 << 40), "5.0 TiB");
        assert_eq!(percent(0, 0), "–");
        assert_eq!(percent(9_999, 10_000), "99.9 %");
        assert_eq!(percent(7, 7), "100 %");
    }

    #[test]
    fn spans_and_ages_read_well() {
        let of = |millis| span(Duration::from_millis(millis));
        assert_eq!(of(0), "0 ms");
        assert_eq!(of(999), "999 ms");
        assert_eq!(of(1_234), "1.23 s");
        assert_eq!(of(75_000), "1 min 15 s");
        assert_eq!(of(11 * 60_000 + 1_000), "11 min");
        assert_eq!(of(3_600_000), "1 h");
        assert_eq!(of(90_061_000), "1 d 1 h");
        let now: Timestamp = "2026-11-24T10:00:00Z".parse().unwrap();
        let at = |seconds| now + jiff::SignedDuration::from_secs(seconds);
        assert_eq!(age(now, now), "0 s ago");
        assert_eq!(age(now, at(-90)), "1 min 30 s ago");
        assert_eq!(age(now, at(5)), "in 5 s");
        assert_eq!(stamp(now), "2026-11-24 10:00:00.000 UTC");
        assert_eq!(rfc3339(now), "2026-11-24T10:00:00.000Z");
    }
}
