//! Durations: texts with a unit, within a range.

use std::time::Duration;

/// What a duration may be, both ends included.
#[derive(Debug, Clone, Copy)]
pub(in crate::settings) struct Range {
    least: Duration,
    most: Duration,
}

impl Range {
    /// From a millisecond on: where zero would mean "never works".
    pub(in crate::settings) const fn up_to(most: Duration) -> Self {
        Self {
            least: Duration::from_millis(1),
            most,
        }
    }

    /// From zero on.
    pub(in crate::settings) const fn zero_to(most: Duration) -> Self {
        Self {
            least: Duration::ZERO,
            most,
        }
    }

    pub(in crate::settings) const fn between(least: Duration, most: Duration) -> Self {
        Self { least, most }
    }
}

pub(super) const HOUR: Duration = Duration::from_secs(3600);
pub(super) const DAY: Duration = Duration::from_secs(24 * 3600);
/// Ten years: what is longer is a mistake.
pub(super) const AGE: Duration = Duration::from_secs(3650 * 24 * 3600);

const UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Reads a duration such as `1h30m`; the error is problem and hint.
pub(super) fn parse(text: &str, range: Range) -> Result<Duration, (String, String)> {
    let hint = || format!("write {} to {}", written(range.least), written(range.most));
    match milliseconds(text).map(Duration::from_millis) {
        Some(duration) if duration < range.least => {
            Err((format!("\"{text}\" is too short"), hint()))
        }
        Some(duration) if duration <= range.most => Ok(duration),
        _ => Err((format!("\"{text}\" is too long"), hint())),
    }
}

/// A duration as one would write it.
pub(super) fn written(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (unit, size) in UNITS {
        let count = rest / size;
        rest %= size;
        if count > 0 {
            text.push_str(&format!("{count}{unit}"));
        }
    }
    if text.is_empty() {
        text.push_str("0s");
    }
    format!("\"{text}\"")
}

/// `None` where it does not fit into a number. The text has the schema's
/// pattern by now: digits and unit, over and over.
fn milliseconds(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut sum = 0_u64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (count, tail) = rest.split_at(digits);
        let unit_end = tail
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let (_, size) = UNITS.into_iter().find(|(name, _)| *name == unit)?;
        sum = sum.checked_add(count.parse::<u64>().ok()?.checked_mul(size)?)?;
        rest = tail;
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written_alike() {
        for (text, millis) in [
            ("500ms", 500),
            ("10s", 10_000),
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("3d", 259_200_000),
            ("1d2h3m4s5ms", 93_784_005),
        ] {
            let parsed = parse(text, Range::up_to(AGE)).unwrap();
            assert_eq!(parsed.as_millis(), millis, "{text}");
            assert_eq!(written(parsed), format!("\"{text}\""));
        }
    }

    #[test]
    fn absurd_durations_are_refused_with_the_range() {
        for text in [
            "0s",
            "4000d",
            "99999999999999999999s",
            "18446744073709551615d",
        ] {
            let (problem, hint) = parse(text, Range::up_to(AGE)).unwrap_err();
            assert!(problem.contains(text), "{problem}");
            assert_eq!(hint, "write \"1ms\" to \"3650d\"");
        }
        assert_eq!(parse("0s", Range::zero_to(HOUR)), Ok(Duration::ZERO));
    }
}
