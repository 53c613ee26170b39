//! Times that people write, and how far away they are.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// A time on the command line: an instant, or so long ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// This instant.
    At(Timestamp),
    /// So long before now.
    Ago(SignedDuration),
}

impl When {
    /// The instant that is meant, where it is `now`.
    pub fn instant(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(at) => at,
            Self::Ago(span) => now.saturating_sub(span).unwrap_or(Timestamp::MIN),
        }
    }
}

impl std::str::FromStr for When {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(at) = text.parse::<Timestamp>() {
            return Ok(Self::At(at));
        }
        // A day begins at midnight UTC, as all times here are UTC.
        let is_date = text.len() == "2026-11-24".len();
        if let Ok(at) = format!("{text}T00:00:00Z").parse::<Timestamp>()
            && is_date
        {
            return Ok(Self::At(at));
        }
        ago(text).map(Self::Ago).ok_or_else(|| {
            "write a time like 2026-11-24T08:00:00Z or 2026-11-24, or how long ago, like 15m, 2h or 2d"
                .to_owned()
        })
    }
}

fn ago(text: &str) -> Option<SignedDuration> {
    let unit = text.chars().next_back()?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 60 * 60,
        'd' => 24 * 60 * 60,
        'w' => 7 * 24 * 60 * 60,
        _ => return None,
    };
    let number = &text[..text.len() - 1];
    if !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: i64 = number.parse().ok()?;
    number.checked_mul(seconds).map(SignedDuration::from_secs)
}

/// An instant to the second: `2026-11-24 17:03:11Z`.
pub fn absolute(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}

/// An instant to the millisecond: `2026-11-24 17:03:11.042Z`.
pub fn precise(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S.%3fZ").to_string()
}

/// How far away an instant is: `3 min ago`, `in 2 h`, `now`.
pub fn relative(at: Timestamp, now: Timestamp) -> String {
    let distance = now.duration_since(at);
    let rough = rough(distance.unsigned_abs());
    match distance.as_secs() {
        0 => "now".to_owned(),
        1.. => format!("{rough} ago"),
        _ => format!("in {rough}"),
    }
}

/// A duration in one unit, as people say it: `3 min`, `2 h`, `5 d`.
fn rough(span: Duration) -> String {
    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    match span.as_secs() {
        seconds if seconds < MINUTE => format!("{seconds} s"),
        seconds if seconds < HOUR => format!("{} min", seconds / MINUTE),
        seconds if seconds < 2 * DAY => format!("{} h", seconds / HOUR),
        seconds => format!("{} d", seconds / DAY),
    }
}

/// How long something took: `4 ms`, `1.25 s`, `2 min 5 s`, `3 h 4 min`.
pub fn took(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0 => format!("{} ms", span.as_millis()),
        1..10 => format!("{:.2} s", span.as_secs_f64()),
        10..60 => format!("{:.1} s", span.as_secs_f64()),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..172_800 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn times_are_read_as_people_write_them() {
        let now = at("2026-11-24T17:00:00Z");
        for (written, meant) in [
            ("15m", "2026-11-24T16:45:00Z"),
            ("2h", "2026-11-24T15:00:00Z"),
            ("2d", "2026-11-22T17:00:00Z"),
            ("1w", "2026-11-17T17:00:00Z"),
            ("30s", "2026-11-24T16:59:30Z"),
            ("2026-11-20", "2026-11-20T00:00:00Z"),
            ("2026-11-20T08:00:00+08:00", "2026-11-20T00:00:00Z"),
        ] {
            let when: When = written.parse().unwrap();
            assert_eq!(when.instant(now), at(meant), "{written}");
        }
        for wrong in [
            "",
            "m",
            "15",
            "15 m",
            "-2h",
            "soon",
            "2é",
            "2026-13-01",
            "99999999999999999999d",
        ] {
            assert!(wrong.parse::<When>().is_err(), "{wrong}");
        }
        let long_ago: When = "9999999999d".parse().unwrap();
        assert_eq!(long_ago.instant(now), Timestamp::MIN);
    }

    #[test]
    fn distances_are_said_in_one_unit() {
        let now = at("2026-11-24T17:03:11.500Z");
        for (then, said) in [
            ("2026-11-24T17:03:11Z", "now"),
            ("2026-11-24T17:02:31Z", "40 s ago"),
            ("2026-11-24T17:00:00Z", "3 min ago"),
            ("2026-11-24T15:00:00Z", "2 h ago"),
            ("2026-11-20T15:00:00Z", "4 d ago"),
            ("2026-11-24T17:10:12Z", "in 7 min"),
        ] {
            assert_eq!(relative(at(then), now), said);
        }
        assert_eq!(absolute(now), "2026-11-24 17:03:11Z");
        assert_eq!(precise(now), "2026-11-24 17:03:11.500Z");
    }

    #[test]
    fn durations_show_what_matters() {
        for (millis, said) in [
            (4, "4 ms"),
            (1_250, "1.25 s"),
            (12_340, "12.3 s"),
            (125_000, "2 min 5 s"),
            (11_040_000, "3 h 4 min"),
            (200_000_000, "2 d 7 h"),
        ] {
            assert_eq!(took(Duration::from_millis(millis)), said);
        }
    }
}
