//! Times between a request and its answer, kept in bounded memory.

use std::time::Duration;

/// Each power of two is divided into this many steps, so that a quantile is
/// off by less than 2 %.
const STEPS: usize = 64;
const STEP_BITS: u32 = STEPS.trailing_zeros();
/// Powers of two above the first `STEPS` microseconds, up to an hour.
const DOUBLINGS: usize = 26;

/// How often which time was seen, to the microsecond below 64 µs and to 1/64
/// above.
#[derive(Debug, Clone)]
pub struct Latencies {
    counts: Vec<u64>,
    total: u64,
    max: Duration,
}

impl Default for Latencies {
    fn default() -> Self {
        Self {
            counts: vec![0; STEPS * (DOUBLINGS + 1)],
            total: 0,
            max: Duration::ZERO,
        }
    }
}

impl Latencies {
    /// Counts one time.
    pub fn record(&mut self, latency: Duration) {
        let bucket = bucket(latency).min(self.counts.len() - 1);
        self.counts[bucket] += 1;
        self.total += 1;
        self.max = self.max.max(latency);
    }

    /// Counts what `other` counted, too.
    pub fn merge(&mut self, other: &Self) {
        for (ours, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *ours += theirs;
        }
        self.total += other.total;
        self.max = self.max.max(other.max);
    }

    /// The time that the share `quantile` (0 to 1) of all stayed at or below;
    /// zero where there is none.
    pub fn quantile(&self, quantile: f64) -> Duration {
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "counts stay far below 2^52"
        )]
        let rank = (self.total as f64 * quantile).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return upper_end(bucket).min(self.max);
            }
        }
        self.max
    }

    /// The longest time; zero where there is none.
    pub fn max(&self) -> Duration {
        self.max
    }
}

fn bucket(latency: Duration) -> usize {
    let micros = u32::try_from(latency.as_micros()).unwrap_or(u32::MAX);
    let shift = (u32::BITS - micros.leading_zeros()).saturating_sub(STEP_BITS + 1);
    shift as usize * STEPS + (micros >> shift) as usize
}

fn upper_end(bucket: usize) -> Duration {
    let shift = (bucket / STEPS).saturating_sub(1);
    let step = bucket - shift * STEPS;
    Duration::from_micros((((step as u64) + 1) << shift) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_right_within_two_percent() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.quantile(0.99), Duration::ZERO);
        for micros in 1..=100_000 {
            latencies.record(Duration::from_micros(micros));
        }
        for (quantile, exact) in [
            (0.0, 1.0),
            (0.0005, 50.0),
            (0.5, 50_000.0),
            (0.99, 99_000.0),
        ] {
            let micros = latencies.quantile(quantile).as_secs_f64() * 1e6;
            let error = (micros - exact) / exact;
            assert!(
                (0.0..0.02).contains(&error),
                "{quantile}: {micros} for {exact}"
            );
        }
        assert_eq!(latencies.quantile(1.0), Duration::from_micros(100_000));
        let mut merged = Latencies::default();
        merged.record(Duration::from_secs(1));
        merged.merge(&latencies);
        assert_eq!(merged.quantile(0.5), latencies.quantile(0.5));
        assert_eq!(merged.max(), Duration::from_secs(1));
        assert_eq!(latencies.max(), Duration::from_micros(100_000));
    }

    #[test]
    fn every_time_has_its_bucket() {
        for micros in (0..32).flat_map(|bit| [(1_u64 << bit) - 1, 1 << bit, (1 << bit) + 1]) {
            let time = Duration::from_micros(micros);
            let end = upper_end(bucket(time));
            assert!(end >= time && end.as_micros() <= time.as_micros() * 65 / 64 + 1);
        }
        let mut latencies = Latencies::default();
        latencies.record(Duration::from_secs(1_000_000));
        assert_eq!(latencies.max(), Duration::from_secs(1_000_000));
    }
}
